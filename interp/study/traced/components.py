"""Which components write the difference of base and tuned model where the text ends."""

from interp.behaviour.generate import Response
from interp.readout import Question, SlotPrompts
from interp.study.models import TraitModels
from interp.study.traced.contrasts import MIN_GAP, model_runs, onsets
from interp.traces import adapters, patching
from interp.traces import attribution as attributed
from interp.traces.adapters import Directions, RankReadings
from interp.traces.attribution import Attribution
from interp.traces.patching import ScreenResult

VERIFIED = 20
"""Nodes and directions that an estimate chooses, and that are then measured exactly."""


def attribution(models: TraitModels, tuned: list[Response]) -> Attribution:
    """What each attention and MLP writes along the direction that the log-odds are read from."""
    prompts = onsets(models, tuned)
    return attributed.compare(*model_runs(models, prompts), ask=_ask(models, prompts))


def screen(models: TraitModels, tuned: list[Response]) -> ScreenResult:
    """Every node by gradient, the strongest and as many others exactly."""
    prompts = onsets(models, tuned)
    return patching.screen(
        *model_runs(models, prompts), top_k=VERIFIED, n_random=VERIFIED,
        ask=_ask(models, prompts),
    )  # fmt: skip


def directions(models: TraitModels, tuned: list[Response]) -> Directions:
    """The rank directions of the adapter's matrices, the strongest measured exactly."""
    prompts = onsets(models, tuned)
    return adapters.directions(
        models.pair, prompts.batch, top_k=VERIFIED, ask=_ask(models, prompts)
    )


def ranks(models: TraitModels, tuned: list[Response]) -> RankReadings:
    """Where each rank of the adapter fires, and what it writes."""
    return adapters.ranks(models.pair, onsets(models, tuned).batch)


def _ask(models: TraitModels, prompts: SlotPrompts) -> Question:
    return Question(
        metric=models.outcome.metric(), topics=prompts.topics, min_gap=MIN_GAP,
        seed=models.config.seed, progress=models.progress,
    )  # fmt: skip
