"""Runs that survive anything: folders, locks, steps recognised by content, and who does them."""

from interp.study.runs.choice import MakeExecutor, executor_for
from interp.study.runs.execute import Executor, Inline, StepsFailedError, execute, logged
from interp.study.runs.folder import LOG, RunBusyError, RunFolder, unwritable
from interp.study.runs.manifest import MANIFEST
from interp.study.runs.mirror import Mirror, open_run, run_folder
from interp.study.runs.perform import Outcome, perform
from interp.study.runs.steps import Step

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
