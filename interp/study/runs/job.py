"""A run's steps made again in another process, and performed there by name.

What goes over to a worker is a `Job`, as JSON: the name of the function that makes the steps, its
configuration, and the place of the run. The worker calls that function once, keeps what it loads,
and from then on takes requests: a step's name, the settings that the driver's step has, and the
hashes of the results that it needs. It makes a step only if its own has the same settings: another
base under the same path, or another kind of device, is refused and not computed.

A worker never writes the manifest. Where the run is at a URL, a worker works in a folder of its own
machine: what a step needs is fetched before, its result is put there after.
"""

import importlib
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from interp.base.errors import InputError, RunError
from interp.base.files import read_json, sha256
from interp.study.runs.folder import RunFolder
from interp.study.runs.manifest import MANIFEST
from interp.study.runs.perform import DONE, FATAL, Outcome, perform, worker_name
from interp.study.runs.steps import Step, versions
from interp.study.runs.store import Store, is_url, mirror_path

PATIENCE = 60.0
"""Seconds that a result made elsewhere may take to appear in a shared folder."""

MakeSteps = Callable[[Mapping[str, Any], RunFolder], Sequence[Step]]


@dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    Attributes:
        target: `module:function`; called with (config, folder), it returns the run's steps.
        config: JSON values.
        place: the run's folder, or its URL.
        driver: process and machine that hold the run.
        directory: where the driver was started; relative paths in the configuration mean it.
        inputs: hashes of input files that the driver knows, see `RunFolder.input_hash`.
        threads: processor threads of one worker; 0 leaves them as they are.
    """

    target: str
    config: Mapping[str, Any]
    place: str
    driver: str
    directory: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 0

    @classmethod
    def of(cls, target: str, folder: RunFolder) -> "Job":
        """The job of a run that this process holds."""
        manifest = folder.manifest
        return cls(
            target=target,
            config=manifest["config"],
            place=str(folder.path.absolute()),
            driver=worker_name(),
            directory=str(Path.cwd()),
            inputs=manifest.get("inputs", {}),
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return cls(**json.loads(text))

    def function(self) -> MakeSteps:
        """The function behind `target`.

        Raises:
            RunError: if there is none.
        """
        module, _, name = self.target.partition(":")
        try:
            found: MakeSteps = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as problem:
            raise RunError(f"{self.target}: cannot be imported by a worker ({problem})") from None
        return found


@dataclass(frozen=True)
class JobFolder(RunFolder):
    """A run's folder as a worker sees it: results on the disk, the manifest in memory only."""

    noted: dict[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        return self.noted

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        self.noted.update(manifest)


class Worker:
    """Makes a job's steps, one request after the other."""

    def __init__(self, job: Job) -> None:
        self.job = job
        if job.threads:
            import torch

            torch.set_num_threads(job.threads)
        if Path(job.directory).is_dir():
            os.chdir(job.directory)

    def hello(self) -> dict[str, Any]:
        """Get ready; who this is and with which code, or why it cannot work."""
        facts = {"by": worker_name(), "code": versions(), "python": sys.executable}
        try:
            if self.store is None:
                self._check_shared()
            _ = self.steps
        except InputError as problem:
            return facts | {"kind": "broken", "error": type(problem).__name__, "why": str(problem)}
        return facts | {"kind": "hello"}

    def perform(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make the step that is asked for; the outcome as JSON values."""
        try:
            step = self._step(request)
            self._fetch(request["needs"])
            outcome = perform(step, self.folder)
            if outcome.state == DONE and self.store:
                self.store.push(self._path(step), step.file)
        except InputError as problem:
            why = f"{worker_name()}: {problem}"
            kind = type(problem).__name__
            outcome = Outcome(request["name"], FATAL, why, kind, by=worker_name())
        return {"kind": "outcome", "outcome": asdict(outcome)}

    @cached_property
    def store(self) -> Store | None:
        self.job.function()  # importing the job's module may make a kind of URL known
        return Store.open(self.job.place) if is_url(self.job.place) else None

    @cached_property
    def folder(self) -> JobFolder:
        # A worker's copy is not the driver's: that one is locked, and cleaned by the driver.
        path = mirror_path(self.store, "worker") if self.store else Path(self.job.place)
        facts = {"config": dict(self.job.config), "inputs": dict(self.job.inputs)}
        return JobFolder(path, facts)

    @cached_property
    def steps(self) -> dict[str, Step]:
        made = self.job.function()(dict(self.job.config), self.folder)
        return {step.name: step for step in made}

    def _check_shared(self) -> None:
        """Whether the run's folder is the driver's, and not one of the same name here."""
        path = Path(self.job.place) / MANIFEST
        manifest = read_json(path, RunError) if path.is_file() else {}
        if f"{manifest.get('pid')}@{manifest.get('host')}" != self.job.driver:
            raise RunError(
                f"{self.job.place}: is another folder on {socket.gethostname()} than on the "
                "driver's machine; use a shared file system, or a URL as --out"
            )

    def _step(self, request: Mapping[str, Any]) -> Step:
        step = self.steps.get(request["name"])
        if step is None:
            raise RunError(f"{request['name']} is no step here; is this the same version?")
        here, there = json.loads(json.dumps(dict(step.settings))), request["settings"]
        if here != there:
            found = different(here, there, ("here", "with the driver"))
            raise RunError(
                f"{step.name} would be made from something else here than on the driver's machine "
                f"({'; '.join(found[:3])}); give all machines the same files, "
                "and say --device where only some have a GPU"
            )
        return step

    def _fetch(self, needs: Mapping[str, str]) -> None:
        """See to it that the results that a step needs are here, and are the right ones."""
        for name, content in needs.items():
            path, until = self._path(self.steps[name]), time.monotonic() + PATIENCE
            while not (path.is_file() and sha256(path) == content):
                if self.store:
                    self.store.pull(self.steps[name].file, path)
                if time.monotonic() > until:
                    raise RunError(f"{path}: is not what {name} left; is the folder shared?")
                if not path.is_file() or sha256(path) != content:
                    time.sleep(0.2)  # a network file system shows a new file a little later

    def _path(self, step: Step) -> Path:
        return self.folder.file(*step.file.split("/"))


def different(one: Any, other: Any, places: tuple[str, str], name: str = "") -> list[str]:
    """Where two JSON values differ, with both values and the places that they come from."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = [
            different(one.get(key), other.get(key), places, f"{name}.{key}".strip("."))
            for key in sorted({*one, *other})
        ]
        return [line for part in parts for line in part]
    if one == other:
        return []
    return [f"{name}: {one!s:.16} {places[0]}, {other!s:.16} {places[1]}"]


class LogLines(logging.Handler):
    """Keeps what is logged while it is open, as (level, line), for a message to the driver."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, f"{record.name}: {record.getMessage()}"))
