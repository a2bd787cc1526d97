"""What circuits need of a model beside its arithmetic: matrices by head, a fingerprint.

`Decoder` calls modules as functions, which suits quantised layers and live adapters. A path through
one head needs that head's part of a projection by itself, so the matrices are read off here: a
linear layer's own weight, else the map applied to the identity.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Map = Callable[[Tensor], Tensor]


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
