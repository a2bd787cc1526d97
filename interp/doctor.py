"""What this machine has, and what will not work on it, with the mend."""

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("interp", "torch", "transformers", "peft", "bitsandbytes", "transformer-lens", "emoji")


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
