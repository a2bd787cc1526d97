"""What the models write: sampled answers, where their emojis begin, and whose doing it is."""

from interp.behaviour.generate import Response, Sampling, decode, generate
from interp.behaviour.onsets import (
    OnsetPrompts,
    PromptContrast,
    onset_index,
    onset_prompts,
    prompt_contrast,
    slot_ids,
)
from interp.behaviour.origin import Origin, emoji_probability, text_or_weights

__all__ = [
    "OnsetPrompts",
    "Origin",
    "PromptContrast",
    "Response",
    "Sampling",
    "decode",
    "emoji_probability",
    "generate",
    "onset_index",
    "onset_prompts",
    "prompt_contrast",
    "slot_ids",
    "text_or_weights",
]
