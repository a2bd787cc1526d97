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

PACKAGES = ("interp", "torch", "transformers", "peft", "bitsandbytes", "transformer-lens", "emoji")
# Others whose arithmetic or data enters a number.
_DEEPER = ("tokenizers", "safetensors", "accelerate", "numpy", "scipy", "scikit-learn", "pandas")
_SETTINGS = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_DYNAMIC", "MKL_NUM_THREADS", "MKL_CBWR",
    "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
    "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def examine(where: Path | str = ".") -> dict[str, Any]:
    """Versions, devices, memory in GiB, free disk in GiB, fonts, and a list of problems.

    Args:
        where: the folder whose disk is looked at.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "threads": torch.get_num_threads(),
        "free_disk_gib": round(shutil.disk_usage(where).free / 2**30, 1),
        "emoji_font": _emoji_font(),
    }
    found["problems"] = _problems(found)
    return found


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
            "model": _cpu_model(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
        },
        "blas": _blas(),
        "threads": {"torch": torch.get_num_threads(), "interop": torch.get_num_interop_threads()},
        "flags": _flags(),
        "cuda": _cuda(),
        "environment": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


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


def _devices() -> list[dict[str, Any]]:
    devices: list[dict[str, Any]] = [{"device": "cpu", "memory_gib": _memory()}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        size = round(properties.total_memory / 2**30, 1)
        devices.append({"device": f"cuda:{index}", "name": properties.name, "memory_gib": size})
    return devices


def _memory() -> float | None:
    """Memory that is available now, where the system says so."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    return round(int(lines["MemAvailable"].split()[0]) / 2**20, 1)


def _emoji_font() -> str | None:
    from interp.plots.glyphs import find_font

    font = find_font()
    return font.name if font else None


def _problems(found: dict[str, Any]) -> list[str]:
    problems = [
        f"{name} is not installed; install with: pip install -c constraints.txt ."
        for name, there in found["packages"].items()
        if there is None
    ]
    if len(found["devices"]) == 1:
        problems.append("no CUDA device: the organism runs well on the CPU, a 7B model does not")
    if found["emoji_font"] is None:
        problems.append(
            "no colour emoji font: figures name emojis in words; install fonts-noto-color-emoji"
        )
    if found["free_disk_gib"] < 1:
        problems.append("less than 1 GiB of disk is free; a run of a 7B model writes about 100 MB")
    return problems
