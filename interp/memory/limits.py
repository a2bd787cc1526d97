"""How much memory may be taken: a limit that all rooms obey, and what is there."""

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from interp.errors import InputError, OutOfMemoryError
from interp.machine import available, resident

_LIMIT: ContextVar[int | None] = ContextVar("limit", default=None)
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4,
          "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}  # fmt: skip
_LEAST = 8 * 2**20  # of the room that budgets in bytes are cut down to
MEND = (
    "shorten the prompts or max_new_tokens, load the model in bfloat16 or as nf4, spread it with "
    "device='auto', or raise max_memory"
)


def parse(size: str | int) -> int:
    """Bytes of a size such as `4GiB`, `500 MB`, `1.5G` or a plain number.

    Raises:
        InputError: for anything else, or less than one byte.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", str(size).lower())
    unit = _UNITS.get(found[2]) if found else None
    number = int(float(found[1]) * unit) if found and unit else 0
    if number < 1:
        raise InputError(f"memory size {size!r} cannot be read; write it as 4GiB or 500MB")
    return number


def show(size: int) -> str:
    """A number of bytes for a person."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


@contextmanager
def limit(size: str | int | None) -> Iterator[None]:
    """Keep the process (on a GPU: torch's allocations there) below `size`; None for no limit.

    Holds for what is called inside, in this thread.

    Raises:
        InputError: if the size cannot be read.
    """
    token = _LIMIT.set(None if size is None else parse(size))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def room(device: torch.device | str = "cpu") -> int | None:
    """Bytes that may still be taken on a device; None where nothing says.

    Without a limit: what is free for this process on the CPU, and None on a GPU, which says itself
    when it is full.
    """
    most, where = _LIMIT.get(), torch.device(device)
    if where.type == "cuda":
        return None if most is None else max(0, most - torch.cuda.memory_allocated(where))
    free = available()
    if most is not None:
        give_back()
        left = max(0, most - resident())
        free = left if free is None else min(left, free)
    return free


def check(needed: int, what: str, device: torch.device | str = "cpu", *, mend: str = MEND) -> None:
    """Refuse what cannot fit.

    Raises:
        OutOfMemoryError: if `needed` bytes are more than there is room for.
    """
    there = room(device)
    if there is not None and needed > there:
        raise OutOfMemoryError(
            f"{what} takes {show(needed)} on {device}, and {show(there)} are left; {mend}"
        )


def budget(default: int, device: torch.device | str = "cpu") -> int:
    """Bytes for chunks whose size is computed from shapes: `default`, or less under a limit.

    At most a quarter of the room (the rest is for what the chunks are cut from), and then a power
    of two, so that it does not depend on the last megabyte.
    """
    if _LIMIT.get() is None:
        return default
    quarter = max(_LEAST, (room(device) or 0) // 4)
    return min(default, 1 << (quarter.bit_length() - 1))


def limited() -> bool:
    """Whether a limit holds here."""
    return _LIMIT.get() is not None


def give_back() -> None:
    """Hand memory that Python and torch have freed back to the system, where glibc keeps it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
