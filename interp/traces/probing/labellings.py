"""What is drawn before any probe is fitted: folds, shuffled labels, control labels, resamples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp.base.errors import DataError, InputError
from interp.base.stats import without_each
from interp.traces.probing.folds import all_classes_in, group_folds, row_folds
from interp.traces.probing.scoring import independent

Array = NDArray[Any]

_DRAWS = 200


@dataclass(frozen=True)
class ProbeConfig:
    """How probes are fitted and judged.

    Attributes:
        folds: number of parts the topics are split into.
        c: inverse strength of the ridge penalty on standardised features, fixed and not tuned: 0.1
            is strong enough that 300 examples in 128 dimensions do not overfit badly, and every
            layer, model and control is treated alike.
        controls: how many control labellings are drawn.
        shuffles: how many shuffles make the noise floor.
        level: confidence level.
        max_iter: iterations after which a regression counts as not converged.
        seed: of folds and drawings.

    Raises:
        InputError: if a value makes no sense.
    """

    folds: int = 5
    c: float = 0.1
    controls: int = 2
    shuffles: int = 3
    level: float = 0.95
    max_iter: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2 or self.controls < 1 or self.shuffles < 1:
            raise InputError("probes need at least 2 folds, 1 control and 1 shuffle")
        if not self.c > 0 or not 0 < self.level < 1 or self.max_iter < 1:
            raise InputError("c and max_iter must be positive, and level between 0 and 1")


@dataclass(frozen=True)
class Labelling:
    """One way to label the examples and to hold them out."""

    labels: Array
    fold: Array


@dataclass(frozen=True)
class ProbePlan:
    """Everything that is drawn, once for all layers and models."""

    task: Labelling
    shuffles: tuple[Labelling, ...]
    controls: tuple[Labelling, ...]
    n_classes: int
    groups: Sequence[str] = field(repr=False)
    weights: Array = field(repr=False)
    units: int
    control_seen: float = 0.0

    @property
    def fold(self) -> Array:
        """Fold of each example in the task itself."""
        return self.task.fold

    @property
    def all(self) -> tuple[Labelling, ...]:
        """The task, then the shuffles, then the controls."""
        return (self.task, *self.shuffles, *self.controls)

    @classmethod
    def make(
        cls,
        labels: Array,
        groups: Sequence[str],
        types: Sequence[str],
        split: str,
        n_classes: int,
        config: ProbeConfig,
    ) -> "ProbePlan":
        """Draw everything from the configuration's seed.

        Raises:
            DataError: if topics or types are too few.
        """
        rng = np.random.default_rng(config.seed)
        fold = group_folds(labels, groups, n_classes, config.folds, config.seed)
        order = {kind: place for place, kind in enumerate(sorted(set(types)))}
        kinds = np.array([order[kind] for kind in types])
        if len(order) < n_classes:
            raise DataError(
                f"{len(order)} types cannot carry a control task of {n_classes} classes; give "
                "finer types"
            )
        other = fold if split == "groups" else row_folds(len(labels), config.folds, rng)
        shuffles = [
            _redraw(lambda: rng.permutation(labels), fold, n_classes)
            for _ in range(config.shuffles)
        ]
        controls = [
            # As in the paper: each type's label comes from the distribution of the true labels.
            _redraw(lambda: rng.choice(labels, size=len(order))[kinds], other, n_classes)
            for _ in range(config.controls)
        ]
        return cls(
            task=Labelling(labels, fold),
            shuffles=tuple(shuffles),
            controls=tuple(controls),
            n_classes=n_classes,
            groups=groups,
            weights=without_each(groups),
            units=independent(labels, groups),
            control_seen=_seen(kinds, other),
        )


def _redraw(draw: Callable[[], Array], fold: Array, n_classes: int) -> Labelling:
    """A drawing that leaves every class in every training part."""
    for _ in range(_DRAWS):
        labels = draw()
        if all_classes_in(labels, fold, n_classes):
            return Labelling(labels, fold)
    raise DataError(
        f"{_DRAWS} drawings of random labels gave none with every class in training; there are "
        "too few examples, or nearly all are of one type: give more texts, or finer types"
    )


def _seen(kinds: Array, fold: Array) -> float:
    """Share of examples whose type occurs outside their own fold."""
    known = [np.isin(kinds[fold == place], kinds[fold != place]) for place in np.unique(fold)]
    return float(np.concatenate(known).mean())
