"""Ridge-penalised logistic regressions, many labellings of the same rows at once.

The objective is scikit-learn's (`LogisticRegression(C=c, class_weight="balanced")` on standardised
features: penalty `|w|^2 / 2`, free intercept, loss weighted so that classes count the same; softmax
for more than two classes). It is minimised in coordinates in which its curvature is about 1 in
every direction, which takes L-BFGS some ten steps instead of dozens, and for all labellings (the
task, its shuffles, its controls) in one go. The tests compare it with scikit-learn's own solver.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[Any]

# Largest gradient entry, where curvature is about 1: log-probabilities are then exact to some 1e-4.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Space:
    """Coordinates in which probes are fitted, learnt from training rows alone.

    Features are centred and scaled to unit variance (constant ones are only centred), rotated to
    the training rows' principal axes, and each axis stretched to curvature 1. Axes in which the
    training rows do not differ are dropped: the penalised solution has no weight there.

    Attributes:
        mean: `[d]`.
        scale: `[d]`.
        axes: `[d, r]`.
        penalty: what the ridge is in these coordinates; 0 for the intercept, `[r + 1]`.
        intercept: value of the intercept's column.
    """

    mean: Array
    scale: Array
    axes: Array
    penalty: Array
    intercept: float

    @classmethod
    def of(cls, train: Array, n_classes: int, c: float) -> "Space":
        """Learn the coordinates from training rows `[n, d]`, for inverse penalty `c`."""
        n = len(train)
        mean, scale = train.mean(0), train.std(0)
        # A spread that is rounding noise is none.
        scale = np.where(scale > 1e-7 * np.abs(mean) + 1e-30, scale, 1.0)
        standard = (train - mean) / scale
        if n >= train.shape[1]:
            squares, axes = np.linalg.eigh(standard.T @ standard)
        else:
            squares, left = np.linalg.eigh(standard @ standard.T)
            axes = standard.T @ left / np.sqrt(np.maximum(squares, 1e-30))
        kept = squares > 1e-10 * max(squares.max(), 1e-30)
        squares, axes = squares[kept], axes[:, kept]
        spread = (1 / n_classes) * (1 - 1 / n_classes)  # curvature of the loss at even odds
        stretch = np.sqrt((1 / c + spread * squares) / n)
        penalty = np.append(1 / (1 + c * spread * squares), 0.0)
        return cls(mean, scale, axes / stretch, penalty, float(1 / np.sqrt(spread)))

    def __call__(self, rows: Array) -> Array:
        """Rows `[n, d]` in these coordinates, the intercept's column last, `[n, r + 1]`."""
        turned = ((rows - self.mean) / self.scale) @ self.axes
        return np.column_stack([turned, np.full(len(rows), self.intercept)])


@dataclass(frozen=True)
class Probes:
    """Fitted regressions, one per labelling.

    Attributes:
        weights: `[r + 1, labelling, column]`; one column for two classes, else one per class.
        converged: whether each reached the tolerance, `[labelling]`.
    """

    weights: Array
    converged: Array

    @classmethod
    def fit(
        cls, rows: Array, labels: Array, n_classes: int, space: Space, *, max_iter: int
    ) -> "Probes":
        """Fit every labelling of the same rows.

        Args:
            rows: in the coordinates of `space`, `[n, r + 1]`.
            labels: `[labelling, n]`, every class in each.
            n_classes: number of classes.
            space: of the rows.
            max_iter: steps after which a fit counts as not converged.
        """
        n_labellings, n = labels.shape
        columns = 1 if n_classes == 2 else n_classes
        shape = (rows.shape[1], n_labellings, columns)
        truth = np.eye(n_classes)[labels].transpose(1, 0, 2)  # [n, labelling, class]
        balance = n / (n_classes * truth.sum(0))  # [labelling, class]
        share = (truth * balance).sum(2, keepdims=True) / n
        ridge = space.penalty[:, None, None]

        def loss(flat: Array) -> tuple[float, Array]:
            weights = flat.reshape(shape)
            log_probs = _log_probs(rows, weights)
            value = -(share * truth * log_probs).sum() + 0.5 * (ridge * weights**2).sum()
            error = (share * (np.exp(log_probs) - truth))[..., -columns:]
            gradient = (rows.T @ error.reshape(n, -1)).reshape(shape) + ridge * weights
            return float(value), gradient.ravel()

        options = {"maxiter": max_iter, "maxfun": 20 * max_iter, "gtol": _TOLERANCE, "ftol": 0.0}
        start = np.zeros(int(np.prod(shape)))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        left = np.abs(loss(found.x)[1].reshape(shape)).max((0, 2))
        # The line search may end a little above the tolerance, at the limit of rounding.
        return cls(found.x.reshape(shape), left <= 10 * _TOLERANCE)

    def log_probs(self, rows: Array) -> Array:
        """Log-probability of each class, `[labelling, n, class]`, for rows in the same space."""
        return _log_probs(rows, self.weights).transpose(1, 0, 2)


def _log_probs(rows: Array, weights: Array) -> Array:
    """`[n, labelling, class]`."""
    _, n_labellings, columns = weights.shape
    scores = (rows @ weights.reshape(len(weights), -1)).reshape(len(rows), n_labellings, columns)
    if columns == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=2)
    scores = scores - scores.max(2, keepdims=True)
    return scores - np.log(np.exp(scores).sum(2, keepdims=True))
