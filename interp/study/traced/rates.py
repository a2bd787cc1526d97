"""How often answers hold emojis."""

from interp.behaviour.generate import Response
from interp.emoji.rates import EmojiRates, measure
from interp.study.models import TraitModels


def rates(_: TraitModels, answers: list[Response]) -> EmojiRates:
    """Emoji rates of one model's answers."""
    return measure([answer.text for answer in answers])
