"""Runs cases of the corpus in child processes with a clock; used by the tests and a benchmark."""

import json
import os
import selectors
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus import Case

SECONDS = 5.0
GROWTH = 2**30
_START = 120.0  # a worker imports torch and transformers
_PATIENCE = 120.0  # after this a case is given up; `SECONDS` is what it may take


@dataclass(frozen=True)
class Outcome:
    """What a loader did with one malformed input.

    Attributes:
        digest: tells inputs apart; empty if the worker died.
        error: class of the exception; empty if the input was loaded.
        typed: whether it was one of the package's input errors.
        seconds, computed: time while loading, by the clock and of the CPU (children included).
        growth: of the peak memory while loading, in bytes.
        where: the folder that the case was written to.
    """

    name: str
    digest: str
    error: str
    typed: bool
    message: str
    seconds: float
    computed: float
    growth: int
    where: str

    @property
    def refused(self) -> bool:
        """A typed error of one line, in time and in little memory.

        In time is 5 seconds of the CPU's: on a machine that is busy with something else, the clock
        may show far more.
        """
        return (
            self.typed
            and is_safe(self.message)
            and self.computed <= SECONDS
            and self.growth <= GROWTH
        )


def is_safe(text: str) -> bool:
    """One line, of bounded length, without anything that a terminal acts on."""
    kinds = {unicodedata.category(character) for character in text}
    turns = any(unicodedata.bidirectional(c) in ("LRO", "RLO", "LRE", "RLE", "PDF") for c in text)
    return 0 < len(text) <= 2100 and not kinds & {"Cc", "Cs", "Zl", "Zp"} and not turns


def run(cases: Sequence[Case]) -> list[Outcome]:
    """Load every case, one after the other; a worker that dies or hangs costs that case only."""
    outcomes: list[Outcome] = []
    worker = _Worker()
    for case in cases:
        if worker.process.poll() is not None:
            worker = _Worker()
        outcomes.append(worker.load(case))
    worker.stop()
    return outcomes


class _Worker:
    def __init__(self) -> None:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "MALLOC_ARENA_MAX": "1",
        }
        script = Path(__file__).with_name("worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self.answers = True
        self.ready = selectors.DefaultSelector()
        self.ready.register(self.process.stdout, selectors.EVENT_READ)
        if self.ready.select(_START):
            assert self.process.stdout.readline() == "ready\n", "the worker does not start"

    def load(self, case: Case) -> Outcome:
        """One case's outcome; the worker is gone if it took too long."""
        began = time.monotonic()
        self.process.stdin.write(case.name + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline() if self.ready.select(_PATIENCE) else ""
        if line:
            return Outcome(**json.loads(line))
        self.answers = False
        self.stop()
        took, code = time.monotonic() - began, self.process.returncode
        said = f"no answer after {took:.1f} s (exit code {code})"
        return Outcome(case.name, "", "killed", False, said, took, took, 0, "")

    def stop(self) -> None:
        """End the worker: one that answers removes its files first."""
        try:
            self.process.stdin.close()
            self.process.wait(_START / 10 if self.answers else 0)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.ready.close()
