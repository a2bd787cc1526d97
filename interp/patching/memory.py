"""How much memory a chunk of patches takes, and what to do when it is not there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from interp.errors import InputError
from interp.patching.engine import Base

Done = TypeVar("Done")
# Larger chunks are slower on a CPU: 512 MiB takes 5 % longer, because less stays in its caches.
DEFAULT_BYTES = 128 * 2**20


@dataclass
class Budget:
    """Working memory for chunks of patches, in bytes, beside models and cached activations.

    The size of a chunk is computed from shapes before it is run (the largest set of tensors that
    live at once in a layer), so the budget is a bound and not a hope; the tests measure it. When
    memory runs out all the same, the budget is halved and the work done again.

    Attributes:
        size: bytes.
        notes: one line for each time it was halved.
    """

    size: int = DEFAULT_BYTES
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, base: Base, max_memory: int | None) -> "Budget":
        """The budget asked for.

        Raises:
            InputError: if not even one patch fits in.
        """
        size = DEFAULT_BYTES if max_memory is None else int(max_memory)
        needed = base.job_bytes(0, base.run.tokens.shape[1])
        if max_memory is not None and size < needed:
            raise InputError(
                f"max_memory is {size} bytes, but one patch of these prompts takes {needed}; "
                "raise it or use shorter prompts"
            )
        return cls(max(size, needed))

    def halving(self, work: Callable[[], Done], smallest: int) -> Done:
        """Do the work; when memory runs out, halve the budget and do it again.

        Args:
            work: reads `size` when it runs.
            smallest: below this many bytes the failure is passed on.
        """
        while True:
            try:
                return work()
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
                if not _out_of_memory(problem) or self.size // 2 < smallest:
                    raise
            self.size //= 2
            self.notes.append(f"out of memory: chunks halved to {self.size / 2**20:.3g} MiB")


def _out_of_memory(problem: BaseException) -> bool:
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(problem) or "not enough memory" in str(problem)
