"""A norm with its scale frozen at what it was in one run: then it is linear, plus a constant.

LayerNorm and RMSNorm divide by a scale that depends on the whole vector. With that scale held at
the value that a run had, the output is a sum over whatever the input was a sum of, which is what
direct attribution needs. No other norm is read: one whose frozen form does not give the module's
own output is refused.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.base.errors import ModelError

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}


@dataclass(frozen=True)
class FrozenNorm:
    """`norm(x) = weight * (x - mean of x, where centred) / scale + bias`, scale one per prompt.

    Attributes:
        weight: the gain, `[d_model]`, float32.
        bias: the constant, `[d_model]`, or None.
        scale: of each prompt, `[batch 1]`.
        centred: whether the mean is taken off first (LayerNorm).
    """

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"] | None
    scale: Float[Tensor, "batch one"]
    centred: bool

    @classmethod
    def of(cls, module: Any, x: Float[Tensor, "batch d_model"]) -> "FrozenNorm":
        """Freeze `module` at its inputs `x`.

        Raises:
            ModelError: if it is neither LayerNorm nor RMSNorm (with weights, or with 1 + weights).
        """
        with torch.no_grad():
            wanted = module(x).float()
        bar = _TOLERANCE.get(x.dtype, 0.05) * max(1.0, float(wanted.abs().max()))
        found = [
            (float((one(x.float()) - wanted).abs().max()), one)
            for one in _candidates(module, x.float())
        ]
        # The nearest: of large weights in half precision, those less one would pass as well.
        error, nearest = min(found, key=lambda one: one[0])
        if error <= bar:
            return nearest
        raise ModelError(
            f"{type(module).__name__}: is neither LayerNorm nor RMSNorm as they are known here, so "
            "its output cannot be split into contributions; attribute a model with one of these"
        )

    def __call__(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """The norm's output; equals the module's at the inputs it was frozen at."""
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        out = x * self.weight / self.scale
        return out if self.bias is None else out + self.bias

    def back(self, direction: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """The direction in front of the norm that reads what `direction` reads behind it."""
        back = direction * self.weight / self.scale
        return back - back.mean(-1, keepdim=True) if self.centred else back

    def constant(self, direction: Float[Tensor, "batch d_model"]) -> Float[Tensor, " batch"]:
        """What the norm's own bias contributes along `direction`."""
        if self.bias is None:
            return direction.new_zeros(len(direction))
        return direction @ self.bias


def _candidates(module: Any, x: Float[Tensor, "batch d_model"]) -> list[FrozenNorm]:
    weight = getattr(module, "weight", None)
    gain = torch.ones_like(x[0]) if weight is None else weight.detach().float()
    eps = next((getattr(module, n) for n in ("variance_epsilon", "eps") if hasattr(module, n)), 0.0)
    if isinstance(module, nn.LayerNorm):
        scale = (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        bias = None if module.bias is None else module.bias.detach().float()
        return [FrozenNorm(gain, bias, scale, centred=True)]
    scale = (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    # Gemma stores its gains less one.
    return [FrozenNorm(w, None, scale, centred=False) for w in (gain, 1 + gain)]
