"""What the terminal shows: progress with time left, tables that fit 80 columns, one-line errors.

Everything for people goes to standard error or through rich; `--json` puts one JSON object on
standard output and nothing else.
"""

import contextlib
import errno
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.table import Table
from typer.exceptions import Abort, TyperException

from interp.base.errors import InputError, InterpError, one_line
from interp.base.progress import Progress

OVERALL = "all steps"


class _Screen(Console):
    """Standard error; where nobody reads it any more, a run of hours goes on in silence."""

    def __init__(self, *, soft_wrap: bool = False) -> None:
        super().__init__(stderr=True, highlight=False, soft_wrap=soft_wrap)

    def on_broken_pipe(self) -> None:
        pass

    def line_out(self, markup: str) -> None:
        with contextlib.suppress(OSError):  # a full disk under it
            self.print(markup)


def say(text: str) -> None:
    """One line for the person at the terminal, on standard error."""
    _Screen(soft_wrap=True).line_out(escape(one_line(text)))


def fail(text: str) -> None:
    """One line that says what is wrong."""
    _Screen(soft_wrap=True).line_out(f"[bold red]error:[/] {escape(one_line(text))}")


def guarded(command: Callable[[], int | None]) -> int:
    """Run a command; what goes wrong becomes one line on standard error and an exit code.

    Returns:
        0 done (or the command's own code), 2 bad input, 1 anything else.
    """
    try:
        return command() or 0
    except InputError as problem:
        fail(_AS_CODE.sub(r"\1", str(problem)))
        return 2
    except TyperException as problem:  # a wrong option or argument
        fail(f"{problem.format_message().replace('Value error, ', '')} (try --help)")
        return 2
    except (Abort, KeyboardInterrupt):
        fail("stopped; what is finished is kept, and the same command goes on from there")
    except InterpError as problem:
        fail(str(problem))
    except Exception as problem:
        if os.environ.get("INTERP_DEBUG"):
            raise
        said, code = _unforeseen(problem)
        fail(said)
        return code
    return 1


_AS_CODE = re.compile(r"\b\w+=\S+ \((--[\w-]+)\)")  # `any_base=True (--any-base)`: the option
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _unforeseen(problem: Exception) -> tuple[str, int]:
    """What to say of an exception that is none of the package's own, and the exit code."""
    why = problem.strerror if isinstance(problem, OSError) else None
    if why and isinstance(problem, OSError) and problem.filename is not None:
        place = os.fsdecode(problem.filename)
        return f"{place}: cannot be read or written ({why}); mend that, or name another place", 2
    if why and isinstance(problem, OSError) and problem.errno in _FULL:
        _leave_standard_output()
        return f"standard output, or a file, cannot be written ({why})", 1
    kind = type(problem).__name__
    return f"internal: {kind}: {problem} (INTERP_DEBUG=1 shows the traceback)", 1


def log_to_terminal(verbose: bool) -> None:
    """Show the package's warnings on standard error; with `verbose`, each step and its time too."""
    log = logging.getLogger("interp")
    for old in [one for one in log.handlers if isinstance(one, _Terminal)]:
        log.removeHandler(old)
    handler = _Terminal(logging.INFO if verbose else logging.WARNING)
    log.addHandler(handler)
    if verbose:
        log.setLevel(logging.INFO)


class _Terminal(logging.Handler):
    """Log lines for the person at the terminal, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        name = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        say(f"{name}{record.getMessage().splitlines()[0]}")


def emit_json(value: Any) -> None:
    """One JSON object, on standard output, in ASCII: whatever the locale, and any path's bytes.

    Raises:
        InterpError: if it cannot be written.
    """
    with _written():
        print(json.dumps(value, allow_nan=False), flush=True)


@contextmanager
def _written() -> Iterator[None]:
    """What cannot be written to standard output is said in a line; who closes a pipe knows it."""
    try:
        yield
    except OSError as problem:
        _leave_standard_output()
        if isinstance(problem, BrokenPipeError):
            raise SystemExit(1) from None
        raise InterpError(f"standard output cannot be written ({problem.strerror})") from None


def _leave_standard_output() -> None:
    """What is left in the stream goes nowhere, or Python's end would raise once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def lines(texts: Sequence[str]) -> None:
    """Lines on standard output."""
    console = Console(highlight=False)
    with _written():
        for text in texts:
            console.print(escape(one_line(text)), soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; numbers to the right."""
    made = Table(header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(_cell(value)) for value in row))
    console = Console(highlight=False)
    with _written():
        if title:
            console.print(f"[bold]{escape(one_line(title))}[/]", soft_wrap=True)
        console.print(made)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else one_line(str(value))


@contextmanager
def loading() -> Iterator[None]:
    """Says on a terminal, while it lasts, that the libraries are being imported: some seconds."""
    screen = _Screen()
    with screen.status("loading …") if screen.is_terminal else contextlib.nullcontext():
        yield


@contextmanager
def progress(enabled: bool = True) -> Iterator[Progress | None]:
    """A callback that draws: one bar for all steps, one for what is being done now."""
    screen = _Screen()
    if not enabled or not screen.is_terminal:  # in a file, bars would leave an empty line
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=screen, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(label: str, done: int, total: int) -> None:
            if label not in tasks:
                for name in [name for name in tasks if OVERALL not in (name, label)]:
                    bars.remove_task(tasks.pop(name))
                tasks[label] = bars.add_task(escape(label), total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield report
