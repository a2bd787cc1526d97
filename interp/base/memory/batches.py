"""Working in batches: halved when memory runs out, sized by counting under a limit."""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from interp.base.errors import InputError, OutOfMemoryError
from interp.base.memory.counting import Counter
from interp.base.memory.limits import MEND, budget, give_back, limited, room
from interp.base.progress import Progress
from interp.base.sizes import show

Done = TypeVar("Done")
_log = logging.getLogger("interp.base.memory")
_SPARE = 0.9  # of the room is planned with
# glibc keeps freed blocks below 32 MiB for itself; the process was seen to grow by 1.0 to 2.1
# times what its tensors took at once.
_KEPT_BY_CPU = 2


def ran_out(problem: BaseException) -> bool:
    """Whether an exception says that memory ran out, in any of the ways that libraries say it."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError | OutOfMemoryError):
        return True
    said = str(problem)
    return isinstance(problem, RuntimeError) and any(words in said for words in _SAID)


_SAID = (
    "can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation",
    "_STATUS_ALLOC_FAILED", "could not create a memory object",
)  # fmt: skip


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
        device: torch.device | str = "cpu",
    ) -> "Budget":
        """The budget asked for, or the default, cut down to the limit.

        Args:
            needed: bytes of the smallest chunk.
            chunk: bytes asked for.
            default: bytes where none were asked for.
            what: as above.
            item: what the smallest chunk holds one of.
            device: where it runs.

        Raises:
            InputError: if not even that fits in what was asked for.
        """
        if chunk is None:
            return cls(max(budget(default, device), needed), what)
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
            problem = None
            try:
                return work()
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as found:
                if not ran_out(found):
                    raise
                self.size = min(self.size, largest or self.size)
                if self.size // 2 < smallest:
                    raise OutOfMemoryError(
                        f"{self.what}: out of memory, not even one at a time fits; {MEND}"
                    ) from None
                problem = type(found).__name__
            self.size //= 2
            self.notes.append(f"out of memory: chunks halved to {self.size / 2**20:.3g} MiB")
            _log.warning("%s: %s (%s)", self.what, self.notes[-1], problem)
            _tidy()


def in_batches(
    count: int,
    size: int,
    work: Callable[[list[int]], Done],
    *,
    what: str,
    device: torch.device | str = "cpu",
    costs: Sequence[int] | None = None,
    each: int = 0,
    progress: Progress | None = None,
    unit: str = "row",
) -> Iterator[tuple[list[int], Done]]:
    """Do `work` on rows `0..count - 1`, at most `size` at a time, as many as fit.

    Args:
        count: rows in all.
        size: rows at a time where nothing speaks against it.
        work: gets the numbers of some rows; may be called again for rows that it failed on.
        what: the work's name, for messages and the progress.
        device: where it runs.
        costs: how much memory each row takes in relation to the others (its length, say); equal
            if left out.
        each: about how many bytes one row takes; 0 if unknown.
        progress: called with `(what, rows done, count)` after each chunk.
        unit: what a row is called.

    Yields:
        numbers of the rows and what `work` made of them, each row once, in order (under a limit
        the most costly row comes first).

    Raises:
        OutOfMemoryError: if one row alone does not fit.
    """
    plan = _Sizes(size, what, device, unit, counted=_tight(size, each, device))
    waiting = list(range(count))
    if plan.counted and costs is not None and count:
        first = max(waiting, key=lambda row: costs[row])
        waiting = [first, *waiting[:first], *waiting[first + 1 :]]
    done = 0
    while waiting:
        rows = waiting[: plan.next()]
        made = plan.tried(work, rows)
        if made is None:
            continue
        waiting, done = waiting[len(rows) :], done + len(rows)
        yield rows, made[0]
        del made
        if progress is not None:
            progress(what, done, count)


def _tight(size: int, each: int, device: torch.device | str) -> bool:
    """Whether chunks must be counted: under a limit, or where a batch may not fit."""
    if limited():
        return True
    free = room(device) if each else None
    return free is not None and size * each > free // 2


@dataclass
class _Sizes:
    """How many rows the next chunk has."""

    size: int
    what: str
    device: torch.device | str
    unit: str
    counted: bool
    seen: dict[int, int] = field(default_factory=dict)  # rows to bytes
    told: int = 0  # the last size that was logged

    def next(self) -> int:
        if not self.counted:
            return self.size
        if not self.seen:
            return 1
        there = int(_SPARE * (room(self.device) or 0))
        largest = max(self.seen)
        single = self.seen[min(self.seen)] // min(self.seen)
        if largest < 2:
            return self._fits(0, single, there, 2)
        slope = max(1, (self.seen[largest] - self.seen[1]) // (largest - 1))
        return self._fits(max(0, self.seen[1] - slope), slope, there, self.size)

    def _fits(self, fixed: int, each: int, there: int, most: int) -> int:
        if fixed + each > there and 1 in self.seen:
            raise self.error(f"one {self.unit} takes {show(fixed + each)}, {show(there)} are left")
        rows = min(self.size, most, max(1, (there - fixed) // each))
        chosen = rows if rows == self.size else 1 << (rows.bit_length() - 1)
        if chosen < self.size and most == self.size and chosen != self.told:
            self.told = chosen
            _log.info("%s: %d of %d %ss at a time", self.what, chosen, self.size, self.unit)
        return chosen

    def tried(self, work: Callable[[list[int]], Done], rows: list[int]) -> tuple[Done] | None:
        """The work's result, or None if memory ran out and the size was halved."""
        count = Counter() if self.counted and len(self.seen) < 2 else None
        try:
            if count is None:
                return (work(rows),)
            with count:
                made = work(rows)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError, OutOfMemoryError) as problem:
            if not ran_out(problem):
                raise
            if len(rows) == 1:
                raise self.error(f"not even one {self.unit} at a time fits") from None
            said = type(problem).__name__
        else:
            kept = _KEPT_BY_CPU if torch.device(self.device).type == "cpu" else 1
            self.seen[len(rows)] = max(1, kept * count.peak, self.seen.get(len(rows), 1))
            return (made,)
        self.size, self.counted = len(rows) // 2, False
        _log.warning(
            "%s: out of memory, %ss at a time halved to %d (%s)", self.what, self.unit, self.size,
            said,
        )  # fmt: skip
        _tidy()
        return None

    def error(self, found: str) -> OutOfMemoryError:
        return OutOfMemoryError(f"{self.what}: out of memory on {self.device}, {found}; {MEND}")


def _tidy() -> None:
    """Let go of what a failed attempt held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_back()
