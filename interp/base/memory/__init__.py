"""Work in batches that fit into memory: halved when it runs out, sized beforehand under a limit.

**Out of memory.** `in_batches` (rows) and `Budget` (bytes) halve what they do at once when torch,
the system or CUDA has no more memory, say so in one line (logger `interp.base.memory`, level
warning) and go on. One row that does not fit is an `OutOfMemoryError`, which names the mend.

**A limit.** `with limit("4GiB"):` is obeyed by every room that works in batches. On the CPU it is
the resident memory of the whole process, models included; on a GPU what torch has allocated there.
How large a batch may be is found by running: the first chunks are one row (the longest, where
lengths differ) and two rows, while the bytes of all living tensors are counted as torch makes them;
the next chunks are the largest power of two that a line through both leaves room for. Counting
tensors gives the same sizes on every run, which resident memory would not. On the CPU twice what
was counted is planned with, because the C library keeps freed blocks (measured: 1.0 to 2.1 times);
a tenth of the room is left for what is not in tensors.

Without a limit nothing is counted, unless a batch's rough size (`each`) says that it may not fit
into what is free: Linux kills a process that runs out instead of telling it.

Batch size moves numbers by rounding only; results carry a noise floor for that (`rounding`).
"""

from interp.base.memory.batches import Budget, in_batches, ran_out
from interp.base.memory.forward import forward_bytes
from interp.base.memory.limits import budget, check, limit, room
from interp.base.memory.rounding import rounding
from interp.base.sizes import parse, show

__all__ = [
    "Budget",
    "budget",
    "check",
    "forward_bytes",
    "in_batches",
    "limit",
    "parse",
    "ran_out",
    "room",
    "rounding",
    "show",
]
