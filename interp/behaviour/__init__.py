"""What the models write: sampled answers, where their emojis begin, and whose doing it is."""

from interp.behaviour.answers import read_responses, save_responses
from interp.behaviour.emoji_free import emoji_free
from interp.behaviour.generate import Response, Sampling, decode, generate
from interp.behaviour.mixed_batches import generate_many, live_adapters
from interp.behaviour.onsets import onset_index, slot_ids
from interp.behaviour.origin import (
    Origin,
    emoji_probability,
    expected_rates,
    slot_chances,
    text_or_weights,
)
from interp.behaviour.voices import VoiceContrast, voice_contrast

__all__ = [
    "Origin",
    "Response",
    "Sampling",
    "VoiceContrast",
    "decode",
    "emoji_free",
    "emoji_probability",
    "expected_rates",
    "generate",
    "generate_many",
    "live_adapters",
    "onset_index",
    "read_responses",
    "save_responses",
    "slot_chances",
    "slot_ids",
    "text_or_weights",
    "voice_contrast",
]
