"""Work in batches that fit into memory: one limit on the process, batches halved when it is met.

**The limit.** `with limit("4GiB"):` keeps the process, models included, within that much: the
system refuses what is beyond it (`RLIMIT_DATA`, what the process may write to; on a GPU torch
refuses, by its share of the device). Without one, a batch may take what is free, a container's
bound counted: Linux would kill a process that takes more instead of telling it. Where the system
knows no such limit (not Linux), there is none.

**Out of memory.** `in_batches` (rows) and `Budget` (bytes) halve what they do at once when torch,
the system or CUDA has no more memory, say so in one line (logger `interp.base.memory`, level
warning) and go on. One row that does not fit is an `OutOfMemoryError`, which names the mend.

Batch size moves numbers by rounding only; results carry a noise floor for that (`rounding`).
"""

from interp.base.memory.batches import Budget, in_batches
from interp.base.memory.limits import check, limit, ran_out, room
from interp.base.memory.rounding import rounding

__all__ = ["Budget", "check", "in_batches", "limit", "ran_out", "room", "rounding"]
