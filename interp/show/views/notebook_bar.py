"""A progress bar for notebooks and scripts that leaves nothing behind when it is done.

In a terminal it is tqdm's line on standard error. In a notebook it is the same line in an output of
its own, which is emptied at the end: tqdm's widget would leave, in a notebook that is saved, the
view of a widget that no longer exists, and it needs ipywidgets.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """The callback that long calls take as `progress`: `with progress() as bar: f(progress=bar)`.

    One bar at a time; a new label, or another total, begins a new one.
    """
    output = _output()
    bars: dict[tuple[str, int], Any] = {}

    def report(label: str, done: int, total: int) -> None:
        if (label, total) not in bars:
            _close(bars)
            bars[label, total] = _bar(label, total, output)
        bar = bars[label, total]
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        _close(bars)


class _InNotebook(tqdm):
    """Writes into an output of the notebook; tqdm decides what and how often."""

    output: Any = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002
        if self.output is not None:
            text = str(self) if msg is None else msg
            self.output.update({"text/plain": text}, raw=True)


def _bar(label: str, total: int, output: Any) -> Any:
    if output is None:
        return tqdm(total=total, desc=label, leave=False)
    made = _InNotebook(total=total, desc=label, leave=False, file=StringIO(), ncols=79)
    made.output = output
    made.refresh()
    return made


def _output() -> Any:
    """An empty output of the cell that runs; None outside of a notebook."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    if getattr(get_ipython(), "kernel", None) is None:
        return None
    return display({"text/plain": ""}, raw=True, display_id=True)


def _close(bars: dict[tuple[str, int], Any]) -> None:
    while bars:
        bars.popitem()[1].close()
