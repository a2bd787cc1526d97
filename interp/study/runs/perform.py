"""One step, done: its result written, its time and memory measured, its failure put into words.

The same function serves every executor: this process, a local worker, a machine of a cluster.
"""

import contextlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.base.errors import InputError, RunError, said
from interp.base.files import check_place, sha256
from interp.study.runs.folder import RunFolder, of_the_place, unwritable
from interp.study.runs.step import Step, digest

DONE, SKIPPED, FAILED, FATAL, LOST = "done", "skipped", "failed", "fatal", "lost"


@dataclass(frozen=True)
class StepEnd:
    """How a step ended.

    Attributes:
        name: the step's.
        state: `done`; `skipped` (the input does not allow it); `failed` (an error of ours);
            `fatal` (nothing else makes sense now); `lost` (its worker died; it can be tried again).
        reason: why it is not done, one line.
        error: name of the exception behind it.
        content: SHA-256 of its file.
        seconds, peak_mib: what it took; memory is the whole process's peak, on a GPU the GPU's.
        by: process and machine.
        facts: for the manifest.
        details: a traceback, for the log.
        problem: the exception itself, where it was raised in this process.
        files: the result, where another process made it: bytes by name below the step's file; the
            file itself has no name.
    """

    name: str
    state: str
    reason: str = ""
    error: str = ""
    content: str = ""
    seconds: float = 0.0
    peak_mib: float = 0.0
    by: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    details: str = ""
    problem: Exception | None = field(default=None, repr=False, compare=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def perform(step: Step, folder: RunFolder) -> StepEnd:
    """Make a step's result and write it to the run folder."""
    path = folder.file(*step.file.split("/"))
    began, reason, error, details, content, facts = time.monotonic(), "", "", "", "", {}
    raised: Exception | None = None
    _reset_peak()
    try:
        check_place(path)
        facts = dict(step.write(path) or {})
        state, content = DONE, content_of(path)
    except InputError as problem:
        raised = problem
        ends = step.essential or isinstance(problem, RunError)
        state, reason, error = FATAL if ends else SKIPPED, str(problem), type(problem).__name__
    except Exception as problem:
        raised = problem
        if of_the_place(problem):
            state, reason = FATAL, f"step {step.name}: {unwritable(path, problem)}"
        else:
            state, reason = FAILED, said(problem, most=2000)
            details = traceback.format_exc()
    return StepEnd(
        name=step.name,
        state=state,
        reason=" ".join(reason.split()),
        error=error,
        content=content,
        seconds=round(time.monotonic() - began, 2),
        peak_mib=_peak_mib(),
        by=worker_name(),
        facts=facts,
        details=details,
        problem=raised,
    )


def content_of(path: Path) -> str:
    """SHA-256 of a result: of a file, or of a folder's files with their names."""
    if not path.is_dir():
        return sha256(path, RunError)
    files = sorted(one for one in path.rglob("*") if not one.is_dir())
    return digest({one.relative_to(path).as_posix(): sha256(one, RunError) for one in files})


def worker_name() -> str:
    """This process, for people: its number and its machine."""
    return f"{os.getpid()}@{socket.gethostname()}"


_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def _gpu() -> Any:
    """`torch.cuda` where a step can have used it."""
    torch = sys.modules.get("torch")  # a run can be looked at without the seconds that torch takes
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _reset_peak() -> None:
    """Measure peaks from here on, where the system can."""
    if gpu := _gpu():
        gpu.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _peak_mib() -> float:
    if gpu := _gpu():
        return round(gpu.max_memory_allocated() / 2**20, 1)
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:  # not Linux
        return 0.0
    peak = next((line for line in lines if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return round(int(peak.split()[1]) / 2**10, 1)
