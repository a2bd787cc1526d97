"""Models whose weights lie in more than one place: several GPUs, or offloaded to the CPU or a disk.

accelerate's hooks bring a weight to where it is used, for as long as it is used. Whatever calls the
model's modules works; what reads weights itself would read placeholders there, which torch copies
without a word. Those rooms ask `check_one_device` first.
"""

from typing import Any

import torch

from interp.base.errors import ModelError


def input_device(model: Any) -> torch.device:
    """Where a model's token ids have to be: the device of its first weight, or of its execution."""
    network = getattr(model, "original_model", model)
    first = next(iter(network.parameters()), None) if hasattr(network, "parameters") else None
    if first is None:
        return torch.device(network.device)
    if not first.is_meta:
        return first.device
    for module in network.modules():
        where = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if where is not None:
            return torch.device("cuda", where) if isinstance(where, int) else torch.device(where)
    return first.device


def places(model: Any) -> list[str]:
    """Devices that hold a model's weights; `offloaded` is the CPU or a disk behind hooks."""
    network = getattr(model, "original_model", model)
    found = {"offloaded" if p.is_meta else str(p.device) for p in network.parameters()}
    return sorted(found)


def check_one_device(model: Any, what: str, mend: str) -> None:
    """Refuse a model that is spread.

    Args:
        what: what needs the weights in one place.
        mend: what to do instead.

    Raises:
        ModelError: if weights lie on several devices, or are offloaded.
    """
    found = places(model)
    if len(found) > 1 or found == ["offloaded"]:
        raise ModelError(
            f"{what} reads weights itself and needs them on one device; this model's are on "
            f"{', '.join(found)}. {mend}"
        )
