"""The direction, in the final norm's output, that a metric of the logits is read along.

Emoji log-odds are not linear in the residual stream, so they have no one direction. Three stand in:

- `path` (for two runs): the metric's gradient averaged over the straight line from one run's final
  norm output to the other's, as integrated gradients do (Sundararajan et al. 2017). Along it the
  two runs differ by exactly what the metric differs by, so contributions to the difference are in
  the metric's unit and sum to the measured change.
- `gradient`: the metric's gradient at the run's own logits. For the emoji log-odds that is the sum
  over v of (p(v | emoji) - p(v | rest)) times v's unembedding row: the emojis that this run would
  write count, in the place of those that it would write otherwise. Exact to first order only: the
  projected total is not the log-odds, and two runs have two directions.
- `fixed`: mean unembedding row of the emoji ids minus that of all others. The same for all prompts
  and both runs, but rare emojis and words that no one would write here count as much as any.

Cost: `gradient` one unembedding of `[batch d_model]` forward and backward; `path` 16 of them, and
up to 256 where the metric bends sharply.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.readout.metric import Metric, label

Kind = Literal["path", "gradient", "fixed"]
KINDS = ("path", "gradient", "fixed")

_MOST_POINTS = 256


@dataclass(frozen=True)
class Unembedding:
    """From the final norm's output to logits: matrix, bias and final soft-cap."""

    module: Any
    softcap: float | None

    @classmethod
    def of(cls, bridge: Any) -> "Unembedding":
        config = bridge.original_model.config
        return cls(
            bridge.unembed.original_component, getattr(config, "final_logit_softcapping", None)
        )

    def __call__(
        self, x: Float[Tensor, "batch *reads d_model"]
    ) -> Float[Tensor, "batch *reads vocab"]:
        """Logits, float32."""
        logits = self.module(x.to(self.module.weight.dtype)).float()
        cap = self.softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def gradient(
        self, metric: Metric, x: Float[Tensor, "batch *reads d_model"]
    ) -> Float[Tensor, "batch *reads d_model"]:
        """Gradient of each prompt's metric with respect to `x`.

        Raises:
            InputError: if the metric does not follow from the logits by differentiable steps.
        """
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_(True)
            value = metric(self(x))
            if value.grad_fn is None:
                raise InputError(
                    f"metric {label(metric)!r} has no gradient with respect to the logits; use one "
                    "made of differentiable steps, or direction='fixed'"
                )
            (found,) = torch.autograd.grad(value.sum(), x)
        return found.float()

    def same(self, other: "Unembedding") -> bool:
        """Whether two models read logits off in the same way."""
        ours, theirs = self.module, other.module
        if ours is theirs:
            return True
        biases = [getattr(module, "bias", None) for module in (ours, theirs)]
        biases = [None if bias is None or not bool(bias.any()) else bias for bias in biases]
        equal = [one is two or (one is not None and two is not None and torch.equal(one, two))
                 for one, two in ((ours.weight, theirs.weight), tuple(biases))]  # fmt: skip
        return all(equal) and self.softcap == other.softcap


def gradient(
    unembed: Unembedding, metric: Metric, output: Float[Tensor, "batch *reads d_model"]
) -> Float[Tensor, "batch *reads d_model"]:
    """The metric's gradient at the run's own final norm output."""
    return unembed.gradient(metric, output)


def path(
    unembed: Unembedding,
    metric: Metric,
    start: Float[Tensor, "batch *reads d_model"],
    end: Float[Tensor, "batch *reads d_model"],
) -> tuple[Float[Tensor, "batch *reads d_model"], float]:
    """The metric's mean gradient from `start` to `end` (Gauss and Legendre's quadrature).

    Points are doubled until the direction explains the metric's change to 0.1 % or 0.0001, at most
    256.

    Returns:
        the direction, and the largest difference, over prompts, between what it explains and the
        metric's change (in the metric's unit).
    """
    with torch.no_grad():
        change = (metric(unembed(end)) - metric(unembed(start))).float()
    n = 16
    while True:
        places, weights = np.polynomial.legendre.leggauss(n)
        mean = torch.zeros_like(start, dtype=torch.float32)
        for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
            mean += float(weight) * unembed.gradient(metric, start + float(place) * (end - start))
        missed = (((end - start).float() * mean).flatten(1).sum(1) - change).abs()
        if n >= _MOST_POINTS or bool((missed <= 1e-4 + 1e-3 * change.abs()).all()):
            return mean, float(missed.max())
        n *= 2


def fixed(
    unembed: Unembedding, metric: Metric, output: Float[Tensor, "batch *reads d_model"]
) -> Float[Tensor, "batch *reads d_model"]:
    """Mean unembedding row of the metric's own ids minus that of all others.

    Raises:
        InputError: if the metric does not say which ids it counts, or is read at two positions,
            whose ids differ.
        ModelError: if the unembedding is no plain matrix.
    """
    ids, weight = getattr(metric, "ids", None), getattr(unembed.module, "weight", None)
    if ids is None:
        raise InputError(
            f"metric {label(metric)!r} names no token ids, so it has no fixed direction; give it "
            "an `ids` attribute, or use direction='gradient'"
        )
    if output.ndim > 2:
        raise InputError(
            f"metric {label(metric)!r} is read at two positions and has no fixed direction; use "
            "direction='path' or 'gradient'"
        )
    if weight is None or weight.ndim != 2:
        raise ModelError(f"the unembedding ({type(unembed.module).__name__}) has no weight matrix")
    chosen = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
    chosen[torch.as_tensor(ids, device=weight.device)] = True
    rows = weight.detach().float()
    return (rows[chosen].mean(0) - rows[~chosen].mean(0)).expand(output.shape)
