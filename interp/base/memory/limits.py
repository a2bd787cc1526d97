"""How much memory may be taken: one limit on the process, kept by the system."""

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from interp.base.errors import OutOfMemoryError
from interp.base.machine import available, resident, writable
from interp.base.sizes import parse, show

_LEAST = 8 * 2**20  # what Python itself needs to say that there is no more
MEND = (
    "shorten the prompts or max_new_tokens, load the model in bfloat16 or as nf4, spread it with "
    "device='auto', or raise max_memory"
)
_SAID = (
    "can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation",
    "_STATUS_ALLOC_FAILED", "could not create a memory object",
)  # fmt: skip


def ran_out(problem: BaseException) -> bool:
    """Whether an exception says that memory ran out, in any of the ways that libraries say it."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError | OutOfMemoryError):
        return True
    said = str(problem)
    return isinstance(problem, RuntimeError) and any(words in said for words in _SAID)


@contextmanager
def limit(size: str | int | None = None) -> Iterator[None]:
    """Keep the process (on a GPU: torch's allocations there) below `size`, and what is free.

    Holds for the whole process while it is open; a limit within a limit only makes it narrower.

    Raises:
        InputError: if the size cannot be read.
        OutOfMemoryError: in place of whatever a library raises inside when there is no more.
    """
    try:
        with _limited_gpu(size), _narrowed(size):
            yield
    except (MemoryError, RuntimeError) as problem:
        if not ran_out(problem):
            raise
        raise OutOfMemoryError(f"out of memory ({type(problem).__name__}); {MEND}") from None


@contextmanager
def _narrowed(size: str | int | None) -> Iterator[None]:
    left = [available()]
    if size is not None:
        give_back()
        torch.ones(2**20).sum()  # torch's threads are there before: each asks for a stack
        left.append(parse(size) - resident())
    known = [max(_LEAST, one) for one in left if one is not None]
    used, before = writable(), resource.getrlimit(resource.RLIMIT_DATA)
    if used is None or not known:
        yield
        return
    asked = used + min(known)
    if before[0] != resource.RLIM_INFINITY:
        asked = min(asked, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (asked, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def _limited_gpu(size: str | int | None) -> Iterator[None]:
    if size is None or not torch.cuda.is_available():
        yield
        return
    devices = range(torch.cuda.device_count())
    for device in devices:
        share = parse(size) / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
    try:
        yield
    finally:
        for device in devices:
            torch.cuda.set_per_process_memory_fraction(1.0, device)


def room(device: torch.device | str = "cpu") -> int | None:
    """Bytes that may still be taken on a device; None on a GPU, which says when it is full."""
    if torch.device(device).type == "cuda":
        return None
    free, used = available(), writable()
    most = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if used is None or most == resource.RLIM_INFINITY:
        return free
    return max(0, min(most - used, most if free is None else free))


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


def give_back() -> None:
    """Hand memory that Python and torch have freed back to the system, where glibc keeps it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
