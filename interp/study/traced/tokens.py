"""Answers token by token."""

from interp.base.errors import InputError
from interp.base.outcomes import Asked
from interp.behaviour.generate import Response
from interp.behaviour.occurrences import holds
from interp.show.views import TokenView, token_view
from interp.study.models import TraitModels

N_HEADS = 16
"""Heads whose attention is kept with an answer."""


def view(models: TraitModels, tuned: list[Response], place: int) -> TokenView:
    """A tuned answer token by token: of the first two with the outcome and the first without."""
    asked = Asked.parse(models.config.outcome)
    having = [answer for answer in tuned if holds(asked, answer)]
    plain = [answer for answer in tuned if not holds(asked, answer)]
    order = [*having[:2], *plain[:1], *having[2:], *plain[1:]]
    if place >= len(order):
        raise InputError(f"only {len(order)} answers were written; there is none left to show")
    shown = order[place]
    end = models.pair.format.stop_ids[:1] if shown.ended else ()
    return token_view(
        models.pair, shown.prompt_ids + shown.ids + tuple(end), vocab=models.outcome,
        attention=N_HEADS, answer_start=len(shown.prompt_ids), title=shown.question,
        progress=models.progress,
    )  # fmt: skip
