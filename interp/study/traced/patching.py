"""Which layers, positions and heads carry the decision: one sweep per contrast and site.

Each reads the log-odds and both of their factors, from one pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.readout.run import Run
from interp.study.models import TraitModels
from interp.study.traced.contrasts import MIN_GAP, model_runs, onsets, voice_pairs, voice_runs
from interp.traces import patching
from interp.traces.patching import Cells, PatchingByMetric
from interp.traces.patching.by_metric import concatenated_each


def model(
    models: TraitModels,
    tuned: list[Response],
    direction: str,
    site: str,
    shard: int = 0,
    shards: int = 1,
) -> PatchingByMetric:
    """Between tuned model and base, on every `shards`-th prompt, from the `shard`-th on."""
    prompts = onsets(models, tuned)

    def runs(rows: slice) -> tuple[Run, Run]:
        return model_runs(models, prompts, rows)

    return _sweep(models, runs, prompts.topics, (direction, site), (shard, shards))


def voice(
    models: TraitModels,
    base: list[Response],
    tuned: list[Response],
    direction: str,
    site: str,
    shard: int = 0,
    shards: int = 1,
) -> PatchingByMetric:
    """Between the ends of the tuned and the base's text, on every `shards`-th pair."""
    pairs = voice_pairs(models, base, tuned)

    def runs(rows: slice) -> tuple[Run, Run]:
        return voice_runs(models, pairs, rows)

    return _sweep(models, runs, pairs.topics, (direction, site), (shard, shards))


def joined(parts: list[PatchingByMetric]) -> PatchingByMetric:
    """One map of all shards' prompts."""
    return concatenated_each(parts, MIN_GAP)


def pair_counts(models: TraitModels, base: list[Response], tuned: list[Response]) -> dict[str, Any]:
    """How many pairs of answers there are, and of which sort."""
    pairs = voice_pairs(models, base, tuned)
    counts = {"pairs": len(pairs.topics), "exact": pairs.n_exact, "unpaired": pairs.n_unpaired}
    return {"voice_pairs": {str(models.trait): counts}}


def _sweep(
    models: TraitModels,
    runs: Callable[[slice], tuple[Run, Run]],
    topics: Sequence[str],
    what: tuple[str, str],
    shard: tuple[int, int],
) -> PatchingByMetric:
    (direction, site), (first, shards) = what, shard
    empty = first >= len(topics)  # more shards than prompts: this one keeps none of its own
    rows = slice(0, 1) if empty else slice(first, None, shards)
    clean, corrupted = runs(rows)
    width = clean.tokens.shape[1]
    window = range(max(0, width - models.config.n_positions), width)
    found = patching.sweep_each(
        clean, corrupted, site, models.outcome.metrics(), direction=direction,
        cells=Cells(positions=None if site == "z" else list(window)),  # heads have no position
        # The gap is that of all shards together, later.
        ask=Question(min_gap=MIN_GAP if shards == 1 else 0.0, topics=topics[rows]),
    )  # fmt: skip
    every = PatchingByMetric.stack(found)
    return every.select(slice(0, 0)) if empty else every
