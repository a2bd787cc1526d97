"""How a command is stopped: once, and the same by Ctrl-C, SIGTERM and a lost terminal."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

PATIENCE = 1.0
"""Seconds in which further signals change nothing; after that one ends the process at once."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stoppable() -> Iterator[None]:
    """A signal raises `KeyboardInterrupt` inside, once, so that what is finished can be noted.

    Who presses Ctrl-C twice does not interrupt that; who still waits after a second does, which
    costs no result. Signals that are ignored (under `nohup`) stay so.
    """
    if current_thread() is not main_thread():  # no other may have handlers
        yield
        return
    first: list[float] = []

    def stop(*_: object) -> None:
        if not first:
            first.append(time.monotonic())
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > PATIENCE:
            os._exit(1)

    before = _replaced(dict.fromkeys(_SIGNALS, stop))
    try:
        yield
    finally:
        # A stopped command is about to end, and Python's own end must not be interrupted either.
        _replaced(dict.fromkeys(before, signal.SIG_IGN) if first else before)


def _replaced(handlers: dict[signal.Signals, Any]) -> dict[signal.Signals, Callable | int | None]:
    """Set handlers, but of ignored signals; the handlers before."""
    changed: dict[signal.Signals, Callable | int | None] = {}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            changed[number] = signal.signal(number, handler)
    return changed
