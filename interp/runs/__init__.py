"""Runs that survive anything: folders, locks, steps recognised by content, and who does them."""

from interp.runs.choice import MakeExecutor, executor_for
from interp.runs.execute import Executor, Inline, StepsFailedError, execute, produce
from interp.runs.folder import RunBusyError, RunFolder, unwritable
from interp.runs.log import LOG, logged
from interp.runs.manifest import MANIFEST
from interp.runs.perform import Outcome, perform
from interp.runs.remote import RemoteFolder, open_run, run_folder
from interp.runs.steps import Step

__all__ = [
    "LOG",
    "MANIFEST",
    "Executor",
    "Inline",
    "MakeExecutor",
    "Outcome",
    "RemoteFolder",
    "RunBusyError",
    "RunFolder",
    "Step",
    "StepsFailedError",
    "execute",
    "executor_for",
    "logged",
    "open_run",
    "perform",
    "produce",
    "run_folder",
    "unwritable",
]
