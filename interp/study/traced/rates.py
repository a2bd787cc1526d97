"""How often answers hold emojis."""

from interp.behaviour.generate import Response
from interp.study.models import TraitModels
from interp.text.emoji.rates import EmojiRates, measure


def rates(_: TraitModels, answers: list[Response]) -> EmojiRates:
    """Emoji rates of one model's answers."""
    return measure([a.text for a in answers], topics=[a.topic for a in answers])
