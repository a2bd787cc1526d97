"""Which examples are held out together."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from interp.base.errors import DataError

Array = NDArray[Any]


def group_folds(
    labels: Array, groups: Sequence[str], n_classes: int, folds: int, seed: int
) -> Array:
    """Fold of each example; a group lies in one fold only, classes spread as evenly as that allows.

    Raises:
        DataError: if there are fewer groups than folds, or a class would be missing in training.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(
            f"all {len(labels)} examples are of one topic ({names[0]!r}); a probe split by topic "
            f"needs at least {folds}"
        )
    if len(names) < folds:
        raise DataError(
            f"{len(names)} topics are too few for {folds} folds; give texts of more topics, or "
            "fewer folds"
        )
    index = {name: place for place, name in enumerate(names)}
    ids = np.array([index[group] for group in groups])
    for label in np.unique(labels):
        if len(np.unique(ids[labels == label])) < 2:
            raise DataError(
                f"class {label} occurs in one topic only, so it cannot be trained on and held out; "
                "give it texts of more topics"
            )
    if np.bincount(labels).max() < folds:
        raise DataError(f"no class has {folds} examples for {folds} folds; give more texts")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.full(len(labels), -1)
    with warnings.catch_warnings():
        # "The least populated class has fewer members than folds": checked by `all_classes_in`.
        warnings.simplefilter("ignore", UserWarning)
        for place, (_, held_out) in enumerate(splitter.split(ids, labels, ids)):
            fold[held_out] = place
    if not all_classes_in(labels, fold, n_classes):
        raise DataError(
            f"with {folds} folds a class is missing from training; give it more topics, or use "
            "fewer folds"
        )
    return fold


def row_folds(n: int, folds: int, rng: np.random.Generator) -> Array:
    """Fold of each of `n` examples, equal in size, whatever their groups."""
    return rng.permutation(np.arange(n) % folds)


def all_classes_in(labels: Array, fold: Array, n_classes: int) -> bool:
    """Whether every fold's training part holds every one of the classes."""
    return all(len(np.unique(labels[fold != place])) == n_classes for place in np.unique(fold))
