"""Runs that survive anything: folders, locks, steps recognised by content, and who does them."""

from interp.study.runs.execute import Executor, Inline, StepsFailedError, execute, produce
from interp.study.runs.executors import MakeExecutor, executor_for
from interp.study.runs.folder import RunBusyError, RunFolder, of_the_place, unwritable
from interp.study.runs.log import LOG, logged
from interp.study.runs.manifest import MANIFEST
from interp.study.runs.perform import StepEnd, perform
from interp.study.runs.remote import RemoteFolder, open_run, run_folder
from interp.study.runs.step import Step

__all__ = [
    "LOG",
    "MANIFEST",
    "Executor",
    "Inline",
    "MakeExecutor",
    "RemoteFolder",
    "RunBusyError",
    "RunFolder",
    "Step",
    "StepEnd",
    "StepsFailedError",
    "execute",
    "executor_for",
    "logged",
    "of_the_place",
    "open_run",
    "perform",
    "produce",
    "run_folder",
    "unwritable",
]
