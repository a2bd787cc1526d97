"""The far side of a cluster: a worker that makes a run's steps in a folder of its own.

What a step needs comes with the request, its result goes back with the answer, and nothing is kept
on the worker's disk in between. What it keeps in memory are the steps, made anew there from the
run's configuration, with the models that they have loaded.
"""

import importlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from interp.base.errors import InputError, RunError
from interp.base.files import write_bytes
from interp.study.runs.folder import RunFolder
from interp.study.runs.perform import DONE, FATAL, StepEnd, perform, worker_name
from interp.study.runs.step import Step

MakeSteps = Callable[[Mapping[str, Any], RunFolder], Sequence[Step]]


@dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    Attributes:
        target: `module:function`; called with (config, folder), it returns the run's steps.
        config: JSON values.
        directory: where the driver was started; relative paths in the configuration mean it.
        inputs: hashes of input files that the driver knows, see `RunFolder.input_hashes`.
        threads: processor threads of one worker.
    """

    target: str
    config: Mapping[str, Any]
    directory: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1

    @classmethod
    def of(cls, target: str, folder: RunFolder) -> "Job":
        """The job of a run that this process holds."""
        manifest = folder.manifest
        return cls(target, manifest["config"], str(Path.cwd()), manifest.get("inputs", {}))

    def steps(self, folder: RunFolder) -> dict[str, Step]:
        """The run's steps by name.

        Raises:
            RunError: if there is no such function.
            InputError: whatever is wrong with what the configuration names.
        """
        module, _, name = self.target.partition(":")
        try:
            made: MakeSteps = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as problem:
            raise RunError(f"{self.target}: cannot be imported by a worker ({problem})") from None
        return {step.name: step for step in made(dict(self.config), folder)}


@dataclass(frozen=True)
class Scratch(RunFolder):
    """A worker's folder: files that come and go, the manifest in memory only."""

    noted: dict[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        return self.noted

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        self.noted.update(manifest)


@dataclass(frozen=True)
class Request:
    """A step to be made.

    Attributes:
        name: the step's.
        key: that it has with the driver.
        settings: that it has with the driver, to say what differs.
        needs: content hashes of the results that it needs.
        files: where these belong; their bytes come beside the request, in this order.
    """

    name: str
    key: str
    settings: Mapping[str, Any]
    needs: Mapping[str, str]
    files: tuple[str, ...]


class Worker:
    """Makes steps of a job, one request after the other, in this process."""

    def __init__(self, job: Job) -> None:
        import torch

        self.job = job
        torch.set_num_threads(job.threads)
        if Path(job.directory).is_dir():
            os.chdir(job.directory)
        facts = {"config": dict(job.config), "inputs": dict(job.inputs)}
        self.folder = Scratch(Path(tempfile.mkdtemp(prefix="interp-worker-")), facts)
        self.log = _LogLines()
        for name in ("interp", "py.warnings"):
            logging.getLogger(name).addHandler(self.log)
            logging.getLogger(name).setLevel(logging.INFO)
        logging.captureWarnings(True)

    @cached_property
    def steps(self) -> dict[str, Step]:
        return self.job.steps(self.folder)

    def hello(self) -> str:
        """This process and machine, once it is ready."""
        return worker_name()

    def perform(self, request: Request, *contents: bytes) -> tuple[StepEnd, list[tuple[int, str]]]:
        """Make the step that is asked for; its end with its result, and what was logged."""
        try:
            for file, content in zip(request.files, contents, strict=True):
                write_bytes(self.folder.file(*file.split("/")), content)
            step = self._step(request)
            end = replace(perform(step, self.folder), problem=None)
            if end.state == DONE:
                end = replace(end, files=_bytes(self.folder.file(*step.file.split("/"))))
        except InputError as problem:
            why, kind = f"{worker_name()}: {problem}", type(problem).__name__
            end = StepEnd(request.name, FATAL, why, kind, by=worker_name())
        finally:
            shutil.rmtree(self.folder.path, ignore_errors=True)
        lines, self.log.lines = self.log.lines, []
        return end, lines

    def _step(self, request: Request) -> Step:
        step = self.steps.get(request.name)
        if step is None:
            raise RunError(f"{request.name} is no step here; is this the same version?")
        if step.key(request.needs) == request.key:
            return step
        found = _different(dict(step.settings), dict(request.settings))
        raise RunError(
            f"{step.name} would be made from something else here than on the driver's machine "
            f"({'; '.join(found[:3]) or 'code, or versions of packages'}); give all machines the "
            "same files and the same version, and say --device where only some have a GPU"
        )


class _LogLines(logging.Handler):
    """Keeps what is logged as (level, line), to go along with the next answer."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, f"{record.name}: {record.getMessage()}"))


def _bytes(path: Path) -> dict[str, bytes]:
    """A result's file, under no name, or a folder's files by theirs."""
    if path.is_file():
        return {"": path.read_bytes()}
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def _different(here: Any, there: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, with both values."""
    if isinstance(here, dict) and isinstance(there, dict):
        parts = [
            _different(here.get(key), there.get(key), f"{name}.{key}".strip("."))
            for key in sorted({*here, *there})
        ]
        return [line for part in parts for line in part]
    return [] if here == there else [f"{name}: {here!s:.16} here, {there!s:.16} with the driver"]
