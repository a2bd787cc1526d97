"""Runs that survive anything: folders, locks, steps recognised by content, and who does them."""

from interp.runs.choice import MakeExecutor, executor_for
from interp.runs.execute import Executor, Inline, StepsFailedError, execute, logged
from interp.runs.folder import (
    LOG,
    RunBusyError,
    RunFolder,
    unwritable,
)
from interp.runs.manifest import MANIFEST
from interp.runs.mirror import Mirror, open_run, run_folder
from interp.runs.perform import Outcome, perform
from interp.runs.steps import Step

__all__ = [
    "LOG",
    "MANIFEST",
    "Executor",
    "Inline",
    "MakeExecutor",
    "Mirror",
    "Outcome",
    "RunBusyError",
    "RunFolder",
    "Step",
    "StepsFailedError",
    "execute",
    "executor_for",
    "logged",
    "open_run",
    "perform",
    "run_folder",
    "unwritable",
]
