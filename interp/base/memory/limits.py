"""How much memory may be taken: a limit that all rooms obey, and what is there."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from interp.base.errors import OutOfMemoryError
from interp.base.machine import available, resident
from interp.base.sizes import parse, show

_LIMIT: ContextVar[int | None] = ContextVar("limit", default=None)
_LEAST = 8 * 2**20  # of the room that budgets in bytes are cut down to
MEND = (
    "shorten the prompts or max_new_tokens, load the model in bfloat16 or as nf4, spread it with "
    "device='auto', or raise max_memory"
)


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
