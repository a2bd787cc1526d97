"""Workers on a Ray cluster: one actor per GPU, or as many as asked for where there is none.

An actor lives until the run's end, keeps the models of its trait loaded, and is asked for one step
at a time. Results come back through the run's folder, not through Ray, so a lost actor or machine
costs the step it held; another actor is started wherever the cluster has room. Without an address a
quiet cluster of this machine is started, and ended with the run. Needs the extra `ray`.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from interp.base.errors import InputError, RunError
from interp.study.runs.job import Job, LogLines, Worker
from interp.study.runs.processes import WITHOUT_GPU, count_gpus, threads_each

_STORE = 80 * 2**20  # bytes, near Ray's least: nothing goes through its object store
_PASSED_ON = ("OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_HOME",
              "PYTHONPATH", "INTERP_MIRRORS")  # fmt: skip


def check_ray() -> None:
    """Raise `InputError` if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "--executor ray needs Ray; install it with: pip install -c constraints.txt -e '.[ray]'"
        )


class Actor:
    """A worker inside of a Ray actor; what is logged meanwhile goes along with the answers."""

    def __init__(self, job: str) -> None:
        self.worker = Worker(Job.from_json(job))
        self.log = LogLines()
        for name in ("interp", "py.warnings"):
            logging.getLogger(name).addHandler(self.log)
            logging.getLogger(name).setLevel(logging.INFO)
        logging.captureWarnings(True)

    def hello(self) -> str:
        return self._answer(self.worker.hello())

    def perform(self, request: str) -> str:
        return self._answer(self.worker.perform(json.loads(request)))

    def _answer(self, message: dict[str, Any]) -> str:
        lines, self.log.lines = self.log.lines, []
        return json.dumps(message | {"log": lines}, allow_nan=False)


@dataclass
class Actors:
    """Actors of a Ray cluster, as workers.

    Attributes:
        job: what they work on.
        workers: how many at most; one per GPU of the cluster if `None`, two without any.
        address: of a running cluster; `None` starts one here.
    """

    job: Job
    workers: int | None = None
    address: str | None = None
    actors: dict[str, Any] = field(default_factory=dict)
    awaited: dict[Any, str] = field(default_factory=dict)  # Ray's promise to the worker's name
    began: bool = False  # whether this run connected, and so disconnects

    def count(self) -> int:
        """How many workers there are to be; connects to the cluster, or starts it."""
        ray = self._connected()
        if self.workers is None:
            self.workers = int(ray.cluster_resources().get("GPU", 0)) or WITHOUT_GPU
        return self.workers

    def start(self, name: str, slot: int) -> None:  # noqa: ARG002
        ray = self._connected()
        resources = ray.cluster_resources()
        gpus, threads = int(resources.get("GPU", 0)), threads_each(self.count())
        cores = int(resources.get("CPU", 0))
        if self.count() > (gpus or cores):
            what = f"{gpus} GPUs" if gpus else f"{cores} processors"
            raise InputError(f"--workers {self.count()}: the Ray cluster has {what} in all")
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        options: dict[str, Any] = {
            "num_gpus": 1 if gpus else 0,
            "num_cpus": 1,
            "max_restarts": 0,  # the driver starts another one, and gives the step out again
            "scheduling_strategy": "SPREAD",
        }
        if self.address:  # what this machine's cluster inherits
            options["runtime_env"] = {"env_vars": environment}
        job = replace(self.job, threads=threads).to_json()
        self.actors[name] = ray.remote(Actor).options(**options).remote(job)
        self.awaited[self.actors[name].hello.remote()] = name

    def send(self, name: str, message: Mapping[str, Any]) -> None:
        promise = self.actors[name].perform.remote(json.dumps(message))
        self.awaited[promise] = name

    def receive(self, timeout: float) -> list[tuple[str, dict[str, Any]]]:
        ray = self._connected()
        if not self.awaited:
            return []
        found, _ = ray.wait(list(self.awaited), num_returns=1, timeout=timeout)
        return [(name, message) for promise in found for name, message in self._opened(promise)]

    def close(self) -> None:
        ray: Any = importlib.import_module("ray")
        if not ray.is_initialized():
            return
        for actor in self.actors.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)
        self.actors.clear()
        self.awaited.clear()
        if self.began:
            ray.shutdown()
            self.began = False

    def _opened(self, promise: Any) -> list[tuple[str, dict[str, Any]]]:
        """A worker's message, or that it is gone."""
        ray, name = self._connected(), self.awaited.pop(promise, None)
        if name is None:
            return []
        try:
            return [(name, json.loads(ray.get(promise)))]
        except ray.exceptions.RayError as problem:
            actor = self.actors.pop(name)
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)  # one that only cannot be reached must not write any more
            self.awaited = {left: who for left, who in self.awaited.items() if who != name}
            return [(name, {"kind": "gone", "why": _reason(problem)})]

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
                workers = self.workers or count_gpus() or WITHOUT_GPU
                ray.init(
                    address="local", num_cpus=workers, include_dashboard=False,
                    object_store_memory=_STORE, **quiet,
                )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as problem:
            where = self.address or "of this machine"
            raise RunError(f"the Ray cluster {where} cannot be reached ({problem})") from None
        self.began = True
        return ray


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
    """How an actor died, in a line: the first ones of Ray's message say it."""
    text = " ".join(str(problem).split())
    return f"is gone ({type(problem).__name__}: {text[:200]})"
