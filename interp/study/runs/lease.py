"""A sign at a URL that a driver is at work there, for drivers on other machines.

A lock holds on one machine. So a driver keeps a small file beside the manifest, `run.lease`: who it
is, and a number that grows every `BEAT` seconds for as long as it works. Another driver that finds
such a file watches it for `WATCH` seconds: if it changes, that driver is alive, and this one says
so and leaves; if not, it takes over and says that. Only a change counts, so that the clocks of the
two machines may differ. A driver looks at its lease before every manifest that it puts, and stops
if another has taken over.

What this cannot do: the kinds of URLs have no "put if absent" in common, so two drivers that begin
within the same moment may both begin; the one whose lease was overwritten stops at its next step.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

from interp.base.errors import InputError, RunError
from interp.base.files import parse_json, write_text
from interp.study.runs.folder import RunBusyError
from interp.study.runs.store import Store

LEASE = "run.lease"
BEAT = 15.0
"""Seconds between two signs of life."""
WATCH = 50.0
"""Seconds without one after which a driver is taken to be dead."""
_FORGOTTEN = 600.0  # seconds after which `interp run status`, which does not wait, believes no sign
_log = logging.getLogger("interp.study.runs")


@dataclass
class Lease:
    """One driver's hold of a URL.

    Attributes:
        store: the URL.
        copy: a place for the file here.
    """

    store: Store
    copy: Path
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    beats: int = 0
    taken: str = ""  # by whom, once another driver has it
    ended: Event = field(default_factory=Event)
    thread: Thread | None = None

    def take(self) -> None:
        """Hold the URL from here on.

        Raises:
            RunBusyError: if another driver works there.
            RunError: if the URL cannot be reached.
        """
        found = self._read()
        if found is not None and not _died_here(found):
            self._watch(found)
        self._beat()
        self.ended.clear()
        self.thread = Thread(target=self._renew, name="lease", daemon=True)
        self.thread.start()

    def check(self) -> None:
        """See that nobody has taken over meanwhile; nothing, where it is not held.

        Raises:
            RunBusyError: if somebody has.
        """
        if self.thread is None:
            return
        found = {} if self.taken else self._read()
        if found and found.get("token") != self.token:
            self.taken = _who(found)
        if self.taken:
            raise RunBusyError(
                f"{self.store}: {self.taken} has taken this run over, because nothing had been "
                "heard from here; what is finished is kept there"
            )

    def is_lost(self) -> bool:
        """Whether another driver has taken over, as far as can be told."""
        try:
            self.check()
        except RunBusyError:
            return True
        except RunError:  # out of reach
            return False
        return False

    def release(self) -> None:
        """Let go, if it is still held; other drivers need not wait then."""
        if self.thread is None:
            return
        self.ended.set()
        self.thread.join()
        with contextlib.suppress(RunError):
            if not self.is_lost():
                self.store.remove(LEASE)
        self.thread = None
        self.copy.unlink(missing_ok=True)

    def elsewhere(self) -> bool | None:
        """Whether a driver on another machine is at work; None if there is no lease."""
        found = self._read()
        if found is None:
            return None
        try:
            told = datetime.fromisoformat(str(found.get("at")))
        except ValueError:
            return False
        age = abs((datetime.now(UTC) - told).total_seconds())
        return found.get("host") != socket.gethostname() and age < _FORGOTTEN

    def _watch(self, found: dict[str, Any]) -> None:
        _log.warning(
            "%s: %s was working on this run; waiting up to %.0f s for a sign of life", self.store,
            _who(found), WATCH,
        )  # fmt: skip
        until = time.monotonic() + WATCH
        while time.monotonic() < until:
            time.sleep(min(1.0, WATCH / 10))
            now = self._read()
            if now is None:
                return
            if now != found:
                raise RunBusyError(
                    f"{self.store}: {_who(now)} is working on this run; wait for it, or stop it"
                )
        _log.warning(
            "%s: no sign of life from %s; this process takes the run over", self.store, _who(found)
        )

    def _read(self) -> dict[str, Any] | None:
        content = self.store.read(LEASE)
        try:
            found = parse_json((content or b"").decode("utf-8", "replace"), LEASE)
        except InputError:
            return None  # half-written, or damaged: as good as none
        return found if isinstance(found, dict) else None

    def _beat(self) -> None:
        self.beats += 1
        facts = {
            "host": socket.gethostname(), "pid": os.getpid(), "token": self.token,
            "beat": self.beats, "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        write_text(self.copy, json.dumps(facts))
        self.store.push(self.copy, LEASE)

    def _renew(self) -> None:
        while not self.ended.wait(BEAT):
            if self.is_lost():  # `check` says so before the next manifest
                return
            try:
                self._beat()
            except (RunError, OSError) as problem:
                _log.warning("no sign of life could be left at %s: %s", self.store, problem)


def _died_here(found: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that is no more."""
    pid = found.get("pid")
    if found.get("host") != socket.gethostname() or not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _who(found: dict[str, Any]) -> str:
    return f"process {found.get('pid')} on {found.get('host')}"
