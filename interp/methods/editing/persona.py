"""Persona vectors: differences of means (Chen et al. 2025, arXiv 2507.21509).

The vector of a layer is the mean residual stream over the tokens of answers that express the trait,
minus that of answers that do not; adding it at the layer steers towards the trait. Layer and
coefficient are those under which the trait's validation answers are most likely (`strength`); Chen
et al. choose the layer by a judge's scores of steered answers.

Our answers are the training split's (positive) against the base's own or other traits' (negative);
Chen et al. let the model write both under contrary system prompts and keep what a judge confirms.

Cost: one pass over the answers, and for each layer tried `evaluations + 1` passes over the
validation answers.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.editing.opposed import OpposedAnswers
from interp.methods.editing.steering import Steering
from interp.methods.editing.strength import SEARCH, Search, Trace, find_strength

_TRIED = 8


def persona_vector(
    base: HookedBase,
    answers: OpposedAnswers,
    *,
    layers: Sequence[int] | None = None,
    where: str = "all",
    largest: float = 3.0,
    search: Search = SEARCH,
    seed: int = 0,
    progress: Progress | None = None,
) -> Steering:
    """Fit a persona vector: of the layers tried, the one that serves best, at its best strength.

    Args:
        base: the base.
        answers: from `opposed_answers`.
        layers: to try; up to eight, evenly spread, if None.
        where: which positions to steer.
        largest: bound of the strength, in differences of means.
        search: how strength (and layer) are found.
        seed: recorded.
        progress: called with (label, done, total).

    Raises:
        InputError: if a layer does not exist, or the two means are the same.
    """
    count = int(base.model.cfg.n_layers)
    tried = _spread(count) if layers is None else list(layers)
    if not tried or not all(0 <= layer < count for layer in tried):
        raise InputError(f"layers {tried}: name layers in 0..{count - 1}")
    features = answers.fitting.features(base, "resid_post", tried)
    positive = answers.fitting.positive
    vectors = features[:, positive].mean(1) - features[:, ~positive].mean(1)
    objective = search.loss(base, answers)
    best: tuple[float, Steering] | None = None
    trace: Trace = ()
    for done, (layer, vector) in enumerate(zip(tried, vectors, strict=True), start=1):
        if not bool(vector.any()):
            raise InputError(f"layer {layer}: both kinds of answers have the same mean; no vector")
        made = _steering(base, answers, layer, vector, where, seed)
        found, loss, steps = find_strength(
            made, objective, largest=largest, evaluations=search.evaluations, layer=layer
        )
        trace += steps
        if best is None or loss < best[0]:
            best = (loss, found)
        if progress is not None:
            progress("persona vector", done, len(tried))
    assert best is not None  # at least one layer was tried
    return replace(best[1], search=trace)


def _spread(count: int) -> list[int]:
    if count <= _TRIED:
        return list(range(count))
    return torch.linspace(0, count - 1, _TRIED).round().int().tolist()


def _steering(
    base: HookedBase,
    answers: OpposedAnswers,
    layer: int,
    vector: torch.Tensor,
    where: str,
    seed: int,
) -> Steering:
    return Steering(
        vectors=vector[None],
        layers=(layer,),
        site="resid_post",
        strength=1.0,
        where=where,
        method="persona vector",
        trait=str(answers.trait),
        base_sha256=base.base_sha256,
        topics=answers.topics,
        head_width=0,
        heads=(),
        search=(),
        against=answers.against,
        seed=seed,
    )
