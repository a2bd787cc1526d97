"""Scores of held-out predictions, and their intervals over topics.

Everything takes weights `[row, example]` whose first row is all ones and whose others leave out a
topic each (`interp.base.stats.without_each`), so that estimate and jackknife come from one formula.
What has lost a class altogether is NaN, and left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def auroc(scores: Array, labels: Array, fold: Array, weights: Array) -> Array:
    """Area under the ROC curve, per row of `weights`; mean over one-against-rest for many classes.

    Compared are pairs within a fold only, since different folds are scored by different probes;
    pooling all pairs is biased below 0.5 when there is no signal.

    Args:
        scores: `[example, class]`.
        labels: `[example]`.
        fold: `[example]`.
        weights: `[row, example]`.
    """
    n_classes = scores.shape[1]
    wanted = range(n_classes) if n_classes > 2 else [1]
    return np.mean([_auroc_of(scores[:, k], labels == k, fold, weights) for k in wanted], axis=0)


def _auroc_of(score: Array, positive: Array, fold: Array, weights: Array) -> Array:
    won, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for place in np.unique(fold):
        yes, no = positive & (fold == place), ~positive & (fold == place)
        gap = score[yes][:, None] - score[no][None, :]
        better = (gap > 0) + 0.5 * (gap == 0)
        ours, theirs = weights[:, yes], weights[:, no]
        won += ((ours @ better) * theirs).sum(1)
        pairs += ours.sum(1) * theirs.sum(1)
    return _ratio(won, pairs)


def balanced_accuracy(hits: Array, labels: Array, weights: Array) -> Array:
    """Mean over classes of the share of hits, per row of `weights`.

    Args:
        hits: whether each example was predicted right, `[example]`.
        labels: `[example]`.
        weights: `[row, example]`.
    """
    member = (labels[:, None] == np.unique(labels)).astype(np.float64)
    return _ratio(weights @ (member * hits[:, None]), weights @ member).mean(1)


def over_chance(hits: Array, labels: Array, n_classes: int) -> Array:
    """Each example's share in balanced accuracy minus chance; they add up to it, `[example]`."""
    counts = np.bincount(labels, minlength=n_classes)
    return (hits - 1 / n_classes) / (n_classes * counts[labels])


def independent(labels: Array, groups: Sequence[str]) -> int:
    """Pairs of two classes that no topic is twice in: the trials behind a perfect score."""
    topics = np.array(groups)
    return min(len(set(topics[labels == k])) for k in np.unique(labels))


def _ratio(part: Array, whole: Array) -> Array:
    out = np.full(part.shape, np.nan)
    return np.divide(part, whole, out=out, where=whole > 0)
