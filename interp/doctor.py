"""What this machine has, and what will not work on it, with the mend.

Also what two machines must have in common to get the same numbers: `reproducibility`.
"""

import importlib
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import threadpoolctl
import torch

from interp import machine
from interp.errors import one_line

PACKAGES = ("interp", "torch", "transformers", "peft", "bitsandbytes", "transformer-lens", "emoji")
EXTRAS = {"ray": "ray", "jupyterlab": "notebooks", "ipykernel": "notebooks", "mkdocs": "docs"}
"""Packages that only an extra of the same name as their value brings."""
# Others whose arithmetic or data enters a number.
_DEEPER = ("tokenizers", "safetensors", "accelerate", "numpy", "scipy", "scikit-learn", "pandas")
_SETTINGS = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_DYNAMIC", "MKL_NUM_THREADS", "MKL_CBWR",
    "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
    "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def examine(where: Path | str = ".") -> dict[str, Any]:
    """Versions, devices, memory and disk in GiB, fonts, extras, and a list of problems with mends.

    Whatever is absent is None or said in words; nothing is raised for it.

    Args:
        where: the folder whose disk is looked at.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": {name: _version(name) for name in EXTRAS},
        "devices": _devices(),
        "threads": torch.get_num_threads(),
        "cores": machine.cores(),
        "memory_gib": _gib(machine.total()),
        "container_limit_gib": _gib(machine.container_limit()),
        "free_disk_gib": _free_disk(Path(where)),
        "emoji_font": _emoji_font(),
        "bitsandbytes": _bitsandbytes(),
    }
    found["problems"] = _problems(found)
    return found


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What `examine` found, as a table for people."""
    made = [("python", found["python"]), *found["packages"].items()]
    made += [
        (name, text or f"none (pip install -c constraints.txt '.[{EXTRAS[name]}]')")
        for name, text in found["extras"].items()
    ]
    for one in found["devices"]:
        made.append((one["device"], _described(one)))
    made += [
        ("threads", f"{found['threads']} on {found['cores']} cores"),
        ("free disk", found["free_disk_gib"] and f"{found['free_disk_gib']} GiB"),
        ("emoji font", found["emoji_font"]),
        ("4-bit weights", found["bitsandbytes"]),
    ]
    if found["container_limit_gib"]:
        made.append(("container's memory", f"{found['container_limit_gib']} GiB"))
    return [(name, str(text or "none")) for name, text in made]


def _described(device: dict[str, Any]) -> str:
    parts = [device["name"]]
    if device["memory_gib"] is not None:
        of = f" of {device['total_gib']}" if device["total_gib"] is not None else ""
        parts.append(f"{device['memory_gib']}{of} GiB free")
        parts.append(f"room for a pair of {device['largest_pair_billions']:g} billion parameters")
    return ", ".join(parts)


def reproducibility() -> dict[str, Any]:
    """What would have to be equal to get the same numbers, as plain JSON.

    With all of it equal, the same configuration gives equal bytes. Another number of threads, or
    another instruction set, adds in another order: numbers then agree to within the noise floor
    that is stored beside them, and a sampled answer can differ where two tokens tie to rounding.
    Nothing here changes while the machine and the installation stay the same.
    """
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in (*PACKAGES, *_DEEPER)},
        "cpu": {
            "model": machine.cpu_model(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
        },
        "blas": _blas(),
        "threads": {"torch": torch.get_num_threads(), "interop": torch.get_num_interop_threads()},
        "flags": _flags(),
        "cuda": _cuda(),
        "environment": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
    }


def _blas() -> dict[str, Any]:
    """The linear algebra that torch was built with, and what numpy and scipy bring along."""
    importlib.import_module("scipy.linalg")  # loads both, so that the answer is always the same
    built = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    named = [line for line in built if "Math Kernel Library" in line or "MKL-DNN" in line]
    fields = ("user_api", "internal_api", "version", "architecture", "num_threads")
    pools = {
        tuple((field, pool.get(field)) for field in fields)
        for pool in threadpoolctl.threadpool_info()
    }
    return {"torch": named, "pools": [dict(pool) for pool in sorted(pools, key=str)]}


def _flags() -> dict[str, Any]:
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def _cuda() -> dict[str, Any] | None:
    """CUDA's and cuDNN's versions and the devices; None where torch has or sees none."""
    if not torch.cuda.is_available():
        return None
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "version": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "devices": [f"{card.name} (compute {card.major}.{card.minor})" for card in cards],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gib(size: int | None) -> float | None:
    return None if size is None else round(size / 2**30, 1)


def _devices() -> list[dict[str, Any]]:
    """Each device with its free and total memory, and the largest pair that it would hold."""
    found = [_device("cpu", machine.cpu_model(), machine.available(), machine.total(), 4)]
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_properties(index).name
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as problem:  # another process holds it, or its driver is too old
            name, free, total = f"{name}: {str(problem).splitlines()[0]}", None, None
        found.append(_device(f"cuda:{index}", name, free, total, 2))
    return found


def _device(
    device: str, name: str, free: int | None, total: int | None, weight: int
) -> dict[str, Any]:
    """`weight` is bytes of a parameter: a pair has two of them, and a fifth is left for work."""
    largest = None if free is None else round(0.8 * free / (2 * weight) / 1e9, 1)
    return {
        "device": device, "name": name, "memory_gib": _gib(free), "total_gib": _gib(total),
        "largest_pair_billions": largest,
    }  # fmt: skip


def _free_disk(where: Path) -> float | None:
    try:
        return _gib(shutil.disk_usage(where).free)
    except OSError:
        return None


def _emoji_font() -> str | None:
    from interp.emoji.glyphs import Glyphs

    font = Glyphs.find().path
    return font.name if font else None


def _bitsandbytes() -> str:
    """`works`, or why a small matrix does not survive a round trip through four bits here."""
    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        device = "cuda" if torch.cuda.is_available() else "cpu"
        matrix = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).to(device)
        back = dequantize_4bit(*quantize_4bit(matrix, quant_type="nf4"))
        error = float((back - matrix).norm() / matrix.norm())
    except Exception as problem:  # a missing library, driver or kernel, each of its own kind
        return f"fails: {one_line(str(problem)) or type(problem).__name__:.200}"
    return "works" if error < 0.2 else f"fails: four bits are off by {error:.0%}"


def _problems(found: dict[str, Any]) -> list[str]:
    problems = [
        f"{name} is not installed; install with: pip install -c constraints.txt ."
        for name, there in found["packages"].items()
        if there is None
    ]
    problems += _of_devices(found)
    if not found["bitsandbytes"].startswith("works"):
        problems.append(
            f"4-bit weights cannot be used ({found['bitsandbytes']}): adapters trained by QLoRA "
            "need them; reinstall bitsandbytes for this machine"
        )
    if found["emoji_font"] is None:
        problems.append(
            "no colour emoji font: figures name emojis in words; install fonts-noto-color-emoji"
        )
    disk = found["free_disk_gib"]
    if disk is None:
        problems.append("the free disk cannot be told; run interp doctor in the folder of your run")
    elif disk < 1:
        problems.append("less than 1 GiB of disk is free; a run of a 7B model writes about 100 MB")
    return problems


def _of_devices(found: dict[str, Any]) -> list[str]:
    problems = []
    best = max(one["largest_pair_billions"] or 0 for one in found["devices"])
    if len(found["devices"]) == 1:
        problems.append("no CUDA device: the organism runs well on the CPU, a 7B model does not")
    elif best < 7:
        problems.append(
            f"no device holds a 7B pair (28 GB in bfloat16), the largest fits {best:g} billion "
            "parameters: free its memory, or spread the pair with device='auto'"
        )
    if found["threads"] > found["cores"]:
        problems.append(
            f"{found['threads']} threads on {found['cores']} cores wait for each other; set "
            f"OMP_NUM_THREADS={found['cores']}"
        )
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        problems.append(
            "OMP_WAIT_POLICY is not PASSIVE: with other processes on the cores, waiting threads "
            "cost up to tenfold; set it before torch is imported"
        )
    limit = found["container_limit_gib"]
    if limit is not None and limit < 2:
        problems.append(
            f"the container may take {limit} GiB of memory, and a process of this package starts "
            "at 0.6; give it 2 GiB or more"
        )
    return problems
