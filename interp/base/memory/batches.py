"""Working in batches, halved when memory runs out."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from interp.base.errors import InputError, OutOfMemoryError
from interp.base.memory.limits import MEND, give_back, limit
from interp.base.progress import Progress

Done = TypeVar("Done")
_log = logging.getLogger("interp.base.memory")


@dataclass
class Budget:
    """Working memory for chunks whose size is computed from shapes, in bytes.

    Attributes:
        size: bytes.
        what: what is being done, for messages.
        notes: one line for each time it was halved.
    """

    size: int
    what: str = "patching"
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        needed: int,
        chunk: int | None,
        default: int,
        what: str,
        item: str,
    ) -> "Budget":
        """The budget asked for, or the default.

        Args:
            needed: bytes of the smallest chunk.
            chunk: bytes asked for.
            default: bytes where none were asked for.
            what: as above.
            item: what the smallest chunk holds one of.

        Raises:
            InputError: if not even that fits in what was asked for.
        """
        if chunk is None:
            return cls(max(default, needed), what)
        if chunk < needed:
            raise InputError(
                f"chunk is {chunk} bytes, but one {item} takes {needed}; raise it or use "
                "shorter prompts"
            )
        return cls(int(chunk), what)

    def halving(self, work: Callable[[], Done], smallest: int, largest: int | None = None) -> Done:
        """Do the work; when memory runs out, halve the budget and do it again.

        Args:
            work: reads `size` when it runs.
            smallest: it is not halved below this many bytes.
            largest: bytes of all the work at once, where that is known: halving starts there.

        Raises:
            OutOfMemoryError: if not even the smallest chunk fits.
        """
        while True:
            try:
                with limit():
                    return work()
            except OutOfMemoryError:
                self.size = min(self.size, largest or self.size)
                if self.size // 2 < smallest:
                    raise OutOfMemoryError(
                        f"{self.what}: out of memory, not even one at a time fits; {MEND}"
                    ) from None
            self.size //= 2
            self.notes.append(f"out of memory: chunks halved to {self.size / 2**20:.3g} MiB")
            _log.warning("%s: %s", self.what, self.notes[-1])
            give_back()


def in_batches(
    count: int,
    size: int,
    work: Callable[[list[int]], Done],
    *,
    what: str,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    unit: str = "row",
) -> Iterator[tuple[list[int], Done]]:
    """Do `work` on rows `0..count - 1`, at most `size` at a time, as many as fit.

    Args:
        count: rows in all.
        size: rows at a time; halved for what is left when memory runs out.
        work: gets the numbers of some rows; may be called again for rows that it failed on.
        what: the work's name, for messages and the progress.
        device: where it runs.
        progress: called with `(what, rows done, count)` after each chunk.
        unit: what a row is called.

    Yields:
        numbers of the rows and what `work` made of them, each row once, in order.

    Raises:
        OutOfMemoryError: if one row alone does not fit.
    """
    done = 0
    while done < count:
        rows = list(range(done, min(done + size, count)))
        try:
            with limit():
                made = work(rows)
        except OutOfMemoryError:
            if len(rows) == 1:
                raise OutOfMemoryError(
                    f"{what}: out of memory on {device}, not even one {unit} at a time fits; {MEND}"
                ) from None
            size = len(rows) // 2
        else:
            done += len(rows)
            yield rows, made
            del made
            if progress is not None:
                progress(what, done, count)
            continue
        _log.warning("%s: out of memory, %ss at a time halved to %d", what, unit, size)
        give_back()  # here, where no traceback holds what the attempt made
