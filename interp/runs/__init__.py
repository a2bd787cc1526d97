"""Runs that survive anything: folders, locks, steps recognised by content, and who does them."""

from interp.runs.execute import Executor, Inline, StepsFailedError, execute, logged
from interp.runs.folder import LOG, MANIFEST, RunFolder, read_responses, save_responses
from interp.runs.perform import Outcome, perform
from interp.runs.steps import Step

__all__ = [
    "LOG",
    "MANIFEST",
    "Executor",
    "Inline",
    "Outcome",
    "RunFolder",
    "Step",
    "StepsFailedError",
    "execute",
    "logged",
    "perform",
    "read_responses",
    "save_responses",
]
