"""Which circuit carries the contrast between two voices."""

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.readout.run import Run
from interp.study.models import TraitModels
from interp.study.traced.contrasts import MIN_GAP, voice_pairs, voice_runs
from interp.traces import circuits
from interp.traces.circuits import Circuit, CircuitScores, Faithfulness

FAITHFUL = 0.9
"""The circuit that is drawn carries this share of the contrast."""


def edges(models: TraitModels, base: list[Response], tuned: list[Response]) -> CircuitScores:
    """Scores of all edges between the runs of the voice contrast."""
    runs, ask = _asked(models, base, tuned)
    return circuits.discover(*runs, ask=ask)


def curve(
    models: TraitModels, base: list[Response], tuned: list[Response], scores: CircuitScores
) -> Faithfulness:
    """How faithful circuits of every size are."""
    runs, ask = _asked(models, base, tuned)
    return circuits.curve(scores, *runs, ask=ask)


def circuit(
    models: TraitModels, base: list[Response], tuned: list[Response], scores: CircuitScores
) -> Circuit:
    """The smallest circuit that carries 90 % of the contrast."""
    runs, ask = _asked(models, base, tuned)
    found, _ = circuits.smallest(scores, *runs, targets=(FAITHFUL,), ask=ask)
    return found[0]


def _asked(
    models: TraitModels, base: list[Response], tuned: list[Response]
) -> tuple[tuple[Run, Run], Question]:
    pairs = voice_pairs(models, base, tuned)
    ask = Question(
        metric=models.outcome.at_one.metric(), topics=pairs.topics, min_gap=MIN_GAP,
        progress=models.progress,
    )  # fmt: skip
    return voice_runs(models, pairs), ask
