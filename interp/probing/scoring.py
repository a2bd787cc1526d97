"""Scores of held-out predictions, and their intervals over topics.

Everything takes weights `[resample, example]` whose first row is all ones, so that estimate and
resamples come from one formula. A resample that has lost a class altogether gives NaN and is left
out of the quantiles.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def topic_weights(groups: Sequence[str], n_resamples: int, seed: int) -> Array:
    """How often each example counts, `[1 + n_resamples, example]`; whole topics are drawn."""
    names = sorted(set(groups))
    index = {name: place for place, name in enumerate(names)}
    ids = np.array([index[group] for group in groups])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    times = np.concatenate([np.ones((1, len(names)), dtype=drawn.dtype), drawn])
    return times[:, ids].astype(np.float64)


def auroc(scores: Array, labels: Array, fold: Array, weights: Array) -> Array:
    """Area under the ROC curve, per row of `weights`; mean over one-against-rest for many classes.

    Compared are pairs within a fold only, since different folds are scored by different probes;
    pooling all pairs is biased below 0.5 when there is no signal.

    Args:
        scores: `[example, class]`.
        labels: `[example]`.
        fold: `[example]`.
        weights: `[resample, example]`.
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
        weights: `[resample, example]`.
    """
    member = (labels[:, None] == np.unique(labels)).astype(np.float64)
    return _ratio(weights @ (member * hits[:, None]), weights @ member).mean(1)


def over_chance(hits: Array, labels: Array, n_classes: int) -> Array:
    """Each example's share in balanced accuracy minus chance; they add up to it, `[example]`."""
    counts = np.bincount(labels, minlength=n_classes)
    return (hits - 1 / n_classes) / (n_classes * counts[labels])


def interval(resampled: Array, level: float) -> tuple[float, float]:
    """Percentile interval of what the weights after the first gave."""
    drawn = resampled[1:]
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(part: Array, whole: Array) -> Array:
    out = np.full(part.shape, np.nan)
    return np.divide(part, whole, out=out, where=whole > 0)
