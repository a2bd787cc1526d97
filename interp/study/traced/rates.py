"""How often answers hold the outcome: emojis, or what else is traced."""

from interp.base.outcomes import Asked
from interp.behaviour.generate import Response
from interp.behaviour.occurrences import matches
from interp.models import load_tokenizer
from interp.study.models import TraitModels
from interp.text.emoji.rates import EmojiRates, measure


def rates(models: TraitModels, answers: list[Response]) -> EmojiRates:
    """Rates of one model's answers."""
    c = models.config
    asked = Asked.parse(c.outcome)
    tokenizer = load_tokenizer(c.base, c.trust_remote_code) if asked.kind == "ids" else None
    return measure(
        [a.text for a in answers], topics=[a.topic for a in answers],
        matches=matches(asked, answers, tokenizer), outcome=asked.name,
    )  # fmt: skip
