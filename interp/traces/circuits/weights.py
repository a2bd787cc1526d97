"""What circuits need of a model beside its arithmetic: matrices by head, norms, a fingerprint.

`Decoder` calls modules as functions, which suits quantised layers and live adapters. A path through
one head needs that head's part of a projection by itself, so the matrices are read off here: a
linear layer's own weight, else the map applied to the identity.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.base.errors import ModelError

Map = Callable[[Tensor], Tensor]


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
            raise ModelError(f"circuits do not know the norm {name} (only LayerNorm and RMSNorm)")
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

    def centre(self, g: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What subtracting the mean does to a gradient (in place)."""
        return g.sub_(g.mean(-1, keepdim=True)) if self.centred else g


def weight_of(layer: Map, size: int, like: Tensor) -> Float[Tensor, "out size"]:
    """A linear map's matrix, in the precision of `like`."""
    if type(layer) is nn.Linear:
        return layer.weight.detach().to(like.dtype)
    if type(layer).__name__ == "Conv1D":
        return layer.weight.detach().T.to(like.dtype)  # type: ignore[attr-defined]
    with torch.no_grad():
        rows = torch.eye(size, dtype=like.dtype, device=like.device)
        return (layer(rows) - layer(torch.zeros_like(rows[:1]))).T


def constant_of(layer: Map, x: Float[Tensor, " d_model"]) -> Float[Tensor, " out"]:
    """What a map makes of one row, without gradients."""
    with torch.no_grad():
        return layer(x[None])[0]


def fingerprint(bridge: Any) -> str:
    """A hash of a model's weights that does not depend on device, threads or library version.

    Sums of the weights' bit patterns over rows and over columns, as exact integers, are hashed with
    each tensor's name and shape: two passes over the weights, no copy of them. The same model in
    another precision is another model.
    """
    digest = hashlib.sha256()
    for name, value in sorted(bridge.original_model.named_parameters(), key=lambda item: item[0]):
        plain = name.replace("_original_component.", "")
        bits = value.detach()
        kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        bits = bits.contiguous().view(kinds[bits.element_size()])
        bits = bits.reshape(-1, bits.shape[-1]) if bits.ndim else bits.reshape(1, 1)
        digest.update(f"{plain} {list(value.shape)} {value.dtype}".encode())
        for axis in (0, 1):
            digest.update(bits.sum(axis, dtype=torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()
