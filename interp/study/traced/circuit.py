"""Which circuit carries a contrast: of two voices in the tuned model, or of two models on one text.

A circuit is chosen on half of the topics and judged on the other half.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.base.errors import InputError
from interp.base.stats import halves
from interp.behaviour.generate import Response
from interp.readout import Question
from interp.readout.run import Run
from interp.study.models import TraitModels
from interp.study.traced.contrasts import MIN_GAP, model_runs, onsets, voice_pairs, voice_runs
from interp.traces import circuits
from interp.traces.circuits import Circuit, CircuitScores, Faithfulness

FAITHFUL = 0.9
"""The circuit that is drawn carries this share of the contrast."""
WITHIN = 0.1
"""Scores add up to the gap but for this share of it, or say that they do not."""
DRAWS = 5
"""Random circuits beside each."""


def edges(
    models: TraitModels,
    tuned: list[Response],
    contrast: str,
    factor: str,
    base: list[Response] | None = None,
) -> CircuitScores:
    """Scores of all edges, between the runs of the half that chooses."""
    runs, ask = _asked(models, (contrast, factor), base, tuned, judge=False)
    return circuits.discover(*runs, within=WITHIN, ask=ask)


def circuit(
    models: TraitModels,
    tuned: list[Response],
    scores: CircuitScores,
    contrast: str,
    factor: str,
    base: list[Response] | None = None,
) -> Circuit:
    """The smallest circuit that carries 90 % of the contrast, on the half that chooses."""
    runs, ask = _asked(models, (contrast, factor), base, tuned, judge=False)
    found, _ = circuits.smallest(scores, *runs, targets=(FAITHFUL,), ask=ask)
    return found[0]


def judged(
    models: TraitModels,
    tuned: list[Response],
    scores: CircuitScores,
    found: Circuit,
    contrast: str,
    factor: str,
    base: list[Response] | None = None,
) -> Faithfulness:
    """How faithful that circuit is on the other half, beside random ones."""
    runs, ask = _asked(models, (contrast, factor), base, tuned, judge=True)
    made = circuits.faithfulness(found, *runs, complement=True, ask=ask)
    return circuits.beside_chance(made, scores, *runs, draws=DRAWS, ask=ask)


def curve(
    models: TraitModels,
    tuned: list[Response],
    scores: CircuitScores,
    contrast: str,
    factor: str,
    base: list[Response] | None = None,
) -> Faithfulness:
    """How faithful circuits of every size are, on the half that judges, beside random ones."""
    runs, ask = _asked(models, (contrast, factor), base, tuned, judge=True)
    made = circuits.curve(scores, *runs, ask=ask)
    return circuits.beside_chance(made, scores, *runs, draws=DRAWS, ask=ask)


def _asked(
    models: TraitModels,
    what: tuple[str, str],
    base: list[Response] | None,
    tuned: list[Response],
    *,
    judge: bool,
) -> tuple[tuple[Run, Run], Question]:
    """The runs of one half of the topics, and what they are asked.

    Args:
        what: contrast and factor.
    """
    contrast, factor = what
    if contrast == "model":
        prompts = onsets(models, tuned)
        rows, topics = _half(models, prompts.topics, judge)
        runs = model_runs(models, prompts, rows)
    else:
        pairs = voice_pairs(models, base or [], tuned)
        rows, topics = _half(models, pairs.topics, judge)
        runs = voice_runs(models, pairs, rows)
    ask = Question(
        metric=models.outcome.metric(factor), topics=topics, min_gap=MIN_GAP,
        seed=models.config.seed, progress=models.progress,
    )  # fmt: skip
    return runs, ask


def _half(
    models: TraitModels, topics: Sequence[str], judge: bool
) -> tuple[Bool[Tensor, " batch"], list[str]]:
    """The prompts of the half that judges, or of that which chooses, and their topics.

    Raises:
        InputError: if there is one topic only.
    """
    half = halves(topics, len(topics), models.config.seed)[judge]
    if not half.any():
        raise InputError("one topic cannot choose a circuit and judge it too; ask about more")
    return torch.from_numpy(half), [topic for topic, use in zip(topics, half, strict=True) if use]
