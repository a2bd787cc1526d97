"""What this machine has, and what will not work on it, with the mend."""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from interp.base import machine
from interp.base.environment import PACKAGES, installed
from interp.base.errors import said
from interp.readout import coverage

EXTRAS = {"ray": "ray", "jupyterlab": "notebooks", "ipykernel": "notebooks", "mkdocs": "docs"}
"""Packages that only an extra of the same name as their value brings."""


def examine(where: Path | str = ".") -> dict[str, Any]:
    """Versions, devices, memory and disk in GiB, fonts, extras, and a list of problems with mends.

    Whatever is absent is None or said in words; nothing is raised for it.

    Args:
        where: the folder whose disk is looked at.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES},
        "extras": {name: installed(name) for name in EXTRAS},
        "devices": _devices(),
        "threads": torch.get_num_threads(),
        "cores": machine.cores(),
        "memory_gib": _gib(machine.total()),
        "container_limit_gib": _gib(machine.container_limit()),
        "free_disk_gib": _free_disk(Path(where)),
        "emoji_font": _emoji_font(),
        "bitsandbytes": _bitsandbytes(),
        "covered": coverage.covered(),
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
        *found["covered"].items(),
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
    from interp.text.emoji.glyphs import Glyphs

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
        return f"fails: {said(problem)}"
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
