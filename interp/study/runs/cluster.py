"""Steps on a Ray cluster: one worker per GPU, or as many as asked for where there is none.

A worker is a Ray actor that lives until the run's end and makes one step at a time, in a folder of
its own: the results that a step needs come with the request, its own goes back with the answer.
Only the driver writes the run's folder. A worker keeps the models of its last step's group (a
trait) in memory, so it is given steps of that group first. It makes the steps anew from the run's
configuration, and does one only if its key is the driver's: other files, code or packages there are
refused by name. A worker that dies, or takes longer over a step than the limit and is killed, costs
that step, which is given out again. Without an address a quiet cluster of this machine is started,
and ended with the run. Needs the extra `ray`.
"""

import contextlib
import importlib
import importlib.util
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from interp.base.errors import InputError, RunError
from interp.study.runs.folder import RunFolder
from interp.study.runs.perform import LOST, StepEnd
from interp.study.runs.step import Step
from interp.study.runs.worker import Job, Request, Worker

WITHOUT_GPU = 2
"""Workers where there is no GPU, and nothing says how many pairs of models the memory holds."""
STEP_LIMIT = 6 * 3600.0
"""Seconds that a step may take before its worker is killed."""

_STORE = 2**30  # bytes of Ray's object store, which results pass through
_START = 1800.0  # seconds that a worker may take to get ready
_GLANCE = 1.0  # seconds between looks at what has ended
_PASSED_ON = ("OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_HOME",
              "PYTHONPATH")  # fmt: skip
_log = logging.getLogger("interp.study.runs")


@dataclass
class _Member:
    """One worker as the driver sees it: what it has in memory, and what it holds."""

    name: str
    actor: Any
    ready: Any  # Ray's promise of its name
    by: str = ""  # its name, once it is ready
    group: str | None = None
    step: Step | None = None
    promise: Any = None  # Ray's, of the step
    until: float = 0.0  # when it is taken to hang

    def __str__(self) -> str:
        return f"{self.name} ({self.by})" if self.by else self.name


@dataclass
class OnRay:
    """An executor of several workers.

    Attributes:
        job: what they work on.
        folder: the run's, which results are read from for the steps that need them.
        workers: how many at most; one per GPU of the cluster if `None`, two without any.
        address: of a running cluster; `None` starts one here.
        limit: seconds that a step may take.
    """

    job: Job
    folder: RunFolder
    workers: int | None = None
    address: str | None = None
    limit: float = STEP_LIMIT
    members: list[_Member] = field(default_factory=list)
    plan: dict[str, _Member] = field(default_factory=dict)  # step to worker, until it is submitted
    results: dict[str, Any] = field(default_factory=dict)  # content hash to Ray's reference
    started: int = 0
    began: bool = False  # whether this run connected, and so disconnects

    def choose(self, ready: Sequence[Step]) -> list[Step]:
        """Which of the ready steps the idle workers take."""
        idle = [member for member in self.members if member.step is None]
        while len(idle) < len(ready) and len(self.members) < self._count():
            idle.append(self._start())
        left = list(ready)
        for member in sorted(idle, key=lambda one: one.group is None):
            held = {one.group for one in self.members if one is not member}
            if left:
                step = min(left, key=lambda one: (one.group != member.group, one.group in held))
                left.remove(step)
                self.plan[step.name], member.group = member, step.group
        return [step for step in ready if step.name in self.plan]

    def submit(self, step: Step, needs: Mapping[str, str], files: Mapping[str, str]) -> None:
        member = self.plan.pop(step.name)
        named = tuple(files[need] for need in needs)
        request = Request(step.name, step.key(needs), step.settings, needs, named)
        sent = [self._sent(file, needs[need]) for need, file in zip(needs, named, strict=True)]
        member.step, member.until = step, time.monotonic() + max(self.limit, _START)
        if member.by:
            member.until = time.monotonic() + self.limit
        member.promise = member.actor.perform.remote(request, *sent)
        _log.info("%s: given to %s", step.name, member)

    def wait(self) -> list[StepEnd]:
        """Block until steps have ended, or their workers have."""
        ray = self._connected()
        while True:
            busy = {one.promise: one for one in self.members if one.step}
            ended, _ = ray.wait(list(busy), num_returns=1, timeout=_GLANCE)
            self._welcome()
            late = [one for one in busy.values() if time.monotonic() > one.until]
            ends = [self._opened(busy[promise]) for promise in ended]
            ends += [
                self._bury(one, f"did not end {one.step.name} in {self.limit:g} s and was killed")
                for one in late
                if one.step and one.promise not in ended
            ]
            if ends:
                return ends

    def close(self) -> None:
        if not (self.members or self.began):
            return
        ray: Any = importlib.import_module("ray")
        for member in self.members:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(member.actor)
        self.members.clear()
        self.results.clear()
        if self.began and ray.is_initialized():
            ray.shutdown()
        self.began = False

    def _count(self) -> int:
        """How many workers there are to be; connects to the cluster, or starts it."""
        resources = self._connected().cluster_resources()
        gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        if self.workers is None:
            self.workers = gpus or WITHOUT_GPU
        if self.workers > (gpus or cores):
            what = f"{gpus} GPUs" if gpus else f"{cores} processors"
            raise InputError(f"--workers {self.workers}: the Ray cluster has {what} in all")
        return self.workers

    def _start(self) -> _Member:
        ray = self._connected()
        options: dict[str, Any] = {
            "num_gpus": 1 if ray.cluster_resources().get("GPU") else 0,
            "num_cpus": 1,
            "max_restarts": 0,  # the driver starts another one, and gives the step out again
            "scheduling_strategy": "SPREAD",
        }
        if self.address:  # what this machine's cluster inherits
            environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            options["runtime_env"] = {"env_vars": environment}
        job = replace(self.job, threads=_threads_each(self._count()))
        self.started += 1
        actor = ray.remote(Worker).options(**options).remote(job)
        member = _Member(f"worker-{self.started}", actor, actor.hello.remote())
        self.members.append(member)
        return member

    def _welcome(self) -> None:
        """Learn the names of workers that have got ready; their time begins now."""
        ray = self._connected()
        new = {member.ready: member for member in self.members if not member.by}
        for promise in ray.wait(list(new), num_returns=len(new), timeout=0)[0] if new else ():
            with contextlib.suppress(ray.exceptions.RayError):  # dead: seen by its step
                new[promise].by = ray.get(promise)
                new[promise].until = time.monotonic() + self.limit
                _log.info("%s: ready", new[promise])

    def _sent(self, file: str, content: str) -> Any:
        """A result in Ray's store, put there once."""
        if content not in self.results:
            path = self.folder.file(*file.split("/"))
            self.results[content] = self._connected().put(path.read_bytes())
        return self.results[content]

    def _opened(self, member: _Member) -> StepEnd:
        """A worker's answer, or that it is gone."""
        ray = self._connected()
        try:
            end, lines = ray.get(member.promise)
        except ray.exceptions.RayError as problem:
            return self._bury(member, _reason(problem))
        for level, line in lines:
            _log.log(level, "%s: %s", member, line)
        member.step = member.promise = None
        found: StepEnd = end
        return found

    def _bury(self, member: _Member, why: str) -> StepEnd:
        """What a worker held that is dead, or is to be, is lost."""
        ray, step = self._connected(), member.step
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(member.actor)
        self.members.remove(member)
        return StepEnd(step.name if step else "", LOST, f"{member} {why}", by=member.by)

    def _connected(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        check_ray()
        ray: Any = importlib.import_module("ray")
        if ray.is_initialized():
            return ray
        quiet = {"log_to_driver": False, "configure_logging": False, "namespace": "interp"}
        try:
            if self.address:
                _knock(self.address)
                ray.init(address=self.address, **quiet)
            else:
                # On every start Ray says that its token, which it made itself, is in use.
                logging.getLogger("ray").setLevel(logging.ERROR)
                ray.init(
                    address="local", num_cpus=self.workers or _gpus() or WITHOUT_GPU,
                    include_dashboard=False, object_store_memory=_STORE, **quiet,
                )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as problem:
            where = self.address or "of this machine"
            raise RunError(f"the Ray cluster {where} cannot be reached ({problem})") from None
        self.began = True
        return ray


def check_ray() -> None:
    """Raise `InputError` if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "--executor ray needs Ray; install it with: pip install -c constraints.txt -e '.[ray]'"
        )


def _gpus() -> int:
    """GPUs of this machine that torch sees."""
    import torch

    return torch.cuda.device_count()


def _threads_each(workers: int) -> int:
    """Processor threads of one worker: its share of the cores, and no more than here."""
    import torch

    from interp.base import machine

    return max(1, min(torch.get_num_threads(), machine.cores() // workers))


def _knock(address: str) -> None:
    """See whether anyone listens: Ray itself would try for minutes.

    Raises:
        InputError: if it is no address of a machine of the cluster.
        OSError: if nobody listens.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit():
        raise InputError(
            f"--ray-address {address}: write it as HOST:PORT, as ray start says, or auto; run "
            "interp on a machine of the cluster"
        )
    socket.create_connection((host, int(port)), timeout=10).close()


def _reason(problem: BaseException) -> str:
    """How a worker died, in a line: the first ones of Ray's message say it."""
    text = " ".join(str(problem).split())
    return f"is gone ({type(problem).__name__}: {text[:200]})"
