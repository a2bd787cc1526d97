"""LayerNorm and RMSNorm as numbers: weight, bias, and what their derivative needs."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.base.errors import ModelError


@dataclass(frozen=True)
class Norm:
    """A norm's derivative: `J = (I [- mean] - x^ x^T / d) w / sigma`.

    Attributes:
        weight: `[d_model]`, as it multiplies.
        bias: `[d_model]`, zeros where there is none.
        eps: added to the variance.
        centred: whether the mean is subtracted (LayerNorm).
    """

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    eps: float
    centred: bool

    @classmethod
    def of(cls, module: Any) -> "Norm":
        """Read a LayerNorm or RMSNorm.

        Raises:
            ModelError: for another kind of norm.
        """
        name, weight = type(module).__name__, getattr(module, "weight", None)
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        centred = isinstance(module, nn.LayerNorm)
        if weight is None or eps is None or not (centred or name.endswith("RMSNorm")):
            raise ModelError(
                f"the derivative of the norm {name} is not known here (only that of LayerNorm and "
                "RMSNorm)"
            )
        weight = weight.detach()
        scale = 1.0 + weight if name.startswith("Gemma") else weight
        bias = getattr(module, "bias", None)
        bias = torch.zeros_like(weight) if bias is None else bias.detach()
        return cls(scale, bias, float(eps), centred)

    def unit(
        self, x: Float[Tensor, "*rows d_model"]
    ) -> tuple[Float[Tensor, "*rows d_model"], Float[Tensor, "*rows"]]:
        """The normed rows before the weight, and 1 / sigma."""
        x = x.float()
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        scale = (x.square().mean(-1) + self.eps).rsqrt()
        return x * scale[..., None], scale

    def frozen(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """The norm without its bias, linear in `x`: its scale is a number that stands still."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        scale = (x.detach().square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return x * scale * self.weight

    def centre(self, g: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What subtracting the mean does to a gradient (in place)."""
        return g.sub_(g.mean(-1, keepdim=True)) if self.centred else g
