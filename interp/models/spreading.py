"""Models larger than one GPU: spread by accelerate, never by sharding of our own.

`device="auto"` lets accelerate lay a model's layers over the GPUs, within `max_memory` of each, and
offload what is left; a mapping says where every module goes (`{"model.embed_tokens": 0, ...}`). The
hooked model takes its token ids on the first device and answers on the last.

What was run: on one CPU, with accelerate's hooks on every layer, and with layers offloaded to a
disk; logits are bit for bit those of plain loading. **It has never been run on several GPUs.**
Generation, scoring, the lens, probing, reading neurons, the naive patching and merging an adapter
use the model's modules only and work on hooks; merging wants every weight at hand, so an offloaded
base is refused. The exact patching engine, circuits, attribution and the ranking of neurons read
weights themselves and refuse a model that is not on one device. TransformerLens refuses GPUs and
offloading together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from interp.base.errors import ModelError
from interp.base.memory import check

Device = torch.device | str | Mapping[str, Any] | None
LESS = (
    "load it in bfloat16 or as nf4, spread it over several devices with device='auto', take a "
    "smaller model, or raise max_memory"
)
_BITS = {"nf4": 4.5, "int8": 8.5}


def spreading(
    device: Device,
    max_memory: Mapping[int | str, int | str] | None,
    offload_folder: str | Path | None,
) -> dict[str, Any]:
    """What `from_pretrained` is told to spread a model; empty if it is to stay in one place.

    Raises:
        ModelError: for limits without `auto`, or a disk without a folder.
    """
    if device != "auto" and not isinstance(device, Mapping):
        if max_memory is not None or offload_folder is not None:
            raise ModelError(
                f"max_memory and offload_folder spread a model over devices, and device is "
                f"{device!r}; say device='auto', or leave them out"
            )
        return {}
    if isinstance(device, Mapping):
        if "disk" in device.values() and offload_folder is None:
            raise ModelError("device maps modules to disk; say where with offload_folder")
        chosen: Any = dict(device)
    else:
        chosen = "auto"
    told: dict[str, Any] = {"device_map": chosen}
    if max_memory is not None:
        told["max_memory"] = dict(max_memory)
    if offload_folder is not None:
        told["offload_folder"] = str(offload_folder)
    return told


def check_room(
    name: str, count: int, dtype: torch.dtype, quantization: str | None, device: torch.device
) -> None:
    """Refuse weights that do not fit before they are read: `count` numbers.

    Raises:
        OutOfMemoryError: if there is less room than they take.
    """
    bits = _BITS.get(quantization or "", 8 * torch.empty(0, dtype=dtype).element_size())
    check(int(count * bits / 8), f"{name}: its weights", device, mend=LESS)


def numbers(folder: Path) -> int:
    """How many numbers a model's weight files hold, from their headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                size = 1
                for side in file.get_slice(name).get_shape():
                    size *= side
                total += size
    return total
