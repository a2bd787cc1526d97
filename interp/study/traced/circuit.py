"""Which circuit carries the contrast between prompts."""

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.readout.run import Run
from interp.study.models import TraitModels
from interp.study.traced.contrasts import MIN_GAP, prompt_pairs, prompt_runs
from interp.traces import circuits
from interp.traces.circuits import Circuit, CircuitScores, Faithfulness

FAITHFUL = 0.9
"""The circuit that is drawn carries this share of the contrast."""


def edges(models: TraitModels, base: list[Response], tuned: list[Response]) -> CircuitScores:
    """Scores of all edges between the runs of the prompt contrast."""
    return circuits.discover(
        *_runs(models, base, tuned),
        metric=models.outcome.at_one.metric(),
        ask=Question(min_gap=MIN_GAP, progress=models.progress),
    )


def curve(
    models: TraitModels, base: list[Response], tuned: list[Response], scores: CircuitScores
) -> Faithfulness:
    """How faithful circuits of every size are."""
    return circuits.curve(scores, *_runs(models, base, tuned), ask=_question(models))


def circuit(
    models: TraitModels, base: list[Response], tuned: list[Response], scores: CircuitScores
) -> Circuit:
    """The smallest circuit that carries 90 % of the contrast."""
    found, _ = circuits.smallest(
        scores, *_runs(models, base, tuned), targets=(FAITHFUL,), ask=_question(models)
    )
    return found[0]


def _runs(models: TraitModels, base: list[Response], tuned: list[Response]) -> tuple[Run, Run]:
    return prompt_runs(models, prompt_pairs(models, base, tuned))


def _question(models: TraitModels) -> Question:
    return Question(
        metric=models.outcome.at_one.metric(), min_gap=MIN_GAP, progress=models.progress
    )
