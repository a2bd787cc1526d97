"""PAS: personality activation search (Zhu et al. 2024, arXiv 2408.11779).

1. Every head's output, averaged over an answer's tokens, is read by a logistic probe: is the answer
   in the trait's voice? Probes are fitted on some topics and judged on others.
2. The `top_k` heads of highest validation accuracy are steered; ties go to the lower log-loss.
3. A head is shifted along its direction (the difference of means, or the probe's weight), of unit
   length, times the standard deviation of the answers' projections on it, times alpha.
4. Alpha is found by a bounded search (`strength`).

The shift is a constant before the output projection, so it acts at every position, prompt included,
like the bias that the authors' code sets. Ours differ: means over the answer's tokens (theirs: the
last token), validation accuracy alone (theirs: its mean with training accuracy), topics kept apart
between fitting and validation, alpha by likelihood (theirs: six values by questionnaire score).

Cost: one pass over the answers, one small probe per head (a 7B model has 1,024), and
`evaluations + 1` passes over the validation answers.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.editing.opposed import OpposedAnswers
from interp.methods.editing.steering import Steering
from interp.methods.editing.strength import SEARCH, Search, find_strength

DIRECTIONS = ("means", "probe")
Array = NDArray[Any]


@dataclass(frozen=True)
class _Head:
    """One head's probe: how well it reads unseen topics, and along what."""

    layer: int
    head: int
    accuracy: float
    loss: float
    direction: Array
    spread: float


def pas(
    base: HookedBase,
    answers: OpposedAnswers,
    *,
    top_k: int | None = None,
    direction: str = "means",
    largest: float = 8.0,
    search: Search = SEARCH,
    seed: int = 0,
    progress: Progress | None = None,
) -> Steering:
    """Find heads that tell the trait, their directions, and how far to shift them.

    Args:
        base: the base.
        answers: from `opposed_answers`.
        top_k: heads to steer; the authors' share of heads (24 of 1,024, at least 4) if None.
        direction: `means` (what the authors' code does) or `probe`.
        largest: bound of alpha, in standard deviations; 8 is the authors' largest.
        search: how alpha is found.
        seed: of the probes.
        progress: called with (label, done, total).

    Raises:
        InputError: for an unknown direction, or a `top_k` that is not in 1..heads.
    """
    n_layers, n_heads = int(base.model.cfg.n_layers), int(base.model.cfg.n_heads)
    total = n_layers * n_heads
    wanted = min(total, max(4, round(total * 24 / 1024))) if top_k is None else top_k
    if direction not in DIRECTIONS or not 1 <= wanted <= total:
        raise InputError(
            f"PAS with top_k={wanted} and direction={direction!r}: use 1..{total} heads, and "
            "direction means or probe"
        )
    heads = _probed(base, answers, n_heads, direction, seed, progress)
    # Log-loss orders heads of equal accuracy, of which there are many where the task is easy.
    chosen = sorted(heads, key=lambda one: (-one.accuracy, one.loss))[:wanted]
    made = _steering(base, answers, chosen, n_heads, seed)
    loss = search.loss(base, answers)
    found, _, trace = find_strength(made, loss, largest=largest, evaluations=search.evaluations)
    return replace(found, search=trace)


def _probed(
    base: HookedBase,
    answers: OpposedAnswers,
    n_heads: int,
    direction: str,
    seed: int,
    progress: Progress | None,
) -> list[_Head]:
    """A probe of every head."""
    fitted = answers.fitting.features(base, "z").double().numpy()
    held = answers.validation.features(base, "z").double().numpy()
    labels = answers.fitting.positive.numpy(), answers.validation.positive.numpy()
    n_layers, width = len(fitted), fitted.shape[-1] // n_heads
    heads = []
    for layer in range(n_layers):
        for head in range(n_heads):
            own = slice(head * width, (head + 1) * width)
            values = fitted[layer, :, own], held[layer, :, own]
            with threadpool_limits(limits=1, user_api="blas"):
                heads.append(_probe((layer, head), values, labels, direction, seed))
        if progress is not None:
            progress("PAS probes", layer + 1, n_layers)
    return heads


def _probe(
    place: tuple[int, int],
    values: tuple[Array, Array],
    labels: tuple[Array, Array],
    direction: str,
    seed: int,
) -> _Head:
    (fitted, held), (positive, truth) = values, labels
    # Scaled as a whole: heads differ in size by orders, and the ridge would see that.
    scale = fitted.std() or 1.0
    probe = LogisticRegression(max_iter=1000, random_state=seed).fit(fitted / scale, positive)
    if direction == "means":
        along = fitted[positive].mean(0) - fitted[~positive].mean(0)
    else:
        along = probe.coef_[0]
    length = np.linalg.norm(along)
    along = along / length if length > 0 else along
    odds = probe.predict_proba(held / scale)
    return _Head(
        *place,
        accuracy=float((odds.argmax(1) == truth).mean()),
        loss=float(log_loss(truth, odds, labels=[False, True])),
        direction=along,
        spread=float((np.concatenate([fitted, held]) @ along).std()),
    )


def _steering(
    base: HookedBase, answers: OpposedAnswers, chosen: list[_Head], n_heads: int, seed: int
) -> Steering:
    width = len(chosen[0].direction)
    layers = tuple(sorted({one.layer for one in chosen}))
    vectors = torch.zeros(len(layers), n_heads, width)
    for one in chosen:
        shift = torch.from_numpy(one.spread * one.direction)
        vectors[layers.index(one.layer), one.head] = shift.float()
    listed = sorted((one.layer, one.head, one.accuracy, one.spread) for one in chosen)
    return Steering(
        vectors=rearrange(vectors, "layer head d_head -> layer (head d_head)"),
        layers=layers,
        site="z",
        strength=1.0,
        where="all",
        method="PAS",
        trait=str(answers.trait),
        base_sha256=base.base_sha256,
        topics=answers.topics,
        head_width=width,
        heads=tuple(listed),
        search=(),
        against=answers.against,
        seed=seed,
    )
