"""What two machines must have in common to get the same numbers."""

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import threadpoolctl
import torch

from interp.base import machine

PACKAGES = ("interp", "torch", "transformers", "peft", "bitsandbytes", "transformer-lens", "emoji")
# Others whose arithmetic or data enters a number.
_DEEPER = ("tokenizers", "safetensors", "accelerate", "numpy", "scipy", "scikit-learn", "pandas")
_SETTINGS = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_DYNAMIC", "MKL_NUM_THREADS", "MKL_CBWR",
    "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA",
    "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


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
        "packages": {name: installed(name) for name in (*PACKAGES, *_DEEPER)},
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


def installed(name: str) -> str | None:
    """A package's version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
