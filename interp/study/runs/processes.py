"""Local worker processes: `python -m interp.study.runs.worker`, spoken to by lines of JSON.

Worker i sees GPU i only (`CUDA_VISIBLE_DEVICES`), where there are any. What a worker writes to
standard error goes to the run's log. A worker ends as soon as the process that started it does,
whatever it is doing. Memory: every worker loads the models of its trait for itself.
"""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import TextIOWrapper
from pathlib import Path
from threading import Thread
from typing import Any

from interp.study.runs.job import Job

WITHOUT_GPU = 2
"""Workers where there is no GPU, and nothing says how many pairs of models the memory holds."""

_log = logging.getLogger("interp.study.runs")


@dataclass
class Processes:
    """`size` worker processes on this machine.

    Attributes:
        job: what they work on.
        size: how many at most.
        running: worker processes by name.
    """

    job: Job
    size: int
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    messages: "queue.Queue[tuple[str, dict[str, Any]]]" = field(default_factory=queue.Queue)

    def count(self) -> int:
        return self.size

    def start(self, name: str, slot: int) -> None:
        threads = threads_each(self.size)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "interp.study.runs.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace", env=environment(slot, threads),
        )  # fmt: skip
        self.running[name] = process
        for target, pipe in ((self._listen, process.stdout), (self._log, process.stderr)):
            Thread(target=target, args=(name, pipe), name=name, daemon=True).start()
        self._write(process, replace(self.job, threads=threads).to_json())

    def send(self, name: str, message: Mapping[str, Any]) -> None:
        self._write(self.running[name], json.dumps(message))

    def receive(self, timeout: float) -> list[tuple[str, dict[str, Any]]]:
        try:
            return [self.messages.get(timeout=timeout)]
        except queue.Empty:
            return []

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()
            with contextlib.suppress(OSError):  # what was left to write goes nowhere
                process.stdin.close()  # type: ignore[union-attr]
        self.running.clear()

    @staticmethod
    def _write(process: subprocess.Popen[str], line: str) -> None:
        with contextlib.suppress(OSError):  # a dead one is noticed at the other end
            process.stdin.write(line + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]

    def _listen(self, name: str, pipe: TextIOWrapper) -> None:
        """Pass messages on; the end of the pipe is the worker's end."""
        process = self.running[name]
        try:
            with pipe:
                for line in pipe:
                    if line.endswith("\n"):  # else killed in the middle of a message
                        self.messages.put((name, json.loads(line)))
        finally:  # whatever happens here, the driver must not wait for ever
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
            self.messages.put((name, {"kind": "gone", "why": ended(process.wait())}))

    def _log(self, name: str, pipe: TextIOWrapper) -> None:
        process = self.running[name]
        with pipe:
            for line in pipe:
                if line.strip():
                    _log.info("%s (%d): %s", name, process.pid, line.rstrip())


def ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def count_gpus() -> int:
    """GPUs of this machine that torch sees."""
    import torch

    return torch.cuda.device_count()


def threads_each(workers: int) -> int:
    """Processor threads of one worker: its share of the cores, and no more than here."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(torch.get_num_threads(), (cores or 1) // workers))


def environment(slot: int, threads: int) -> dict[str, str]:
    """A worker's environment: its GPU, its threads, where this process imports from."""
    changed = {
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if gpus := count_gpus():
        asked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        devices = [one for one in asked.split(",") if one] or [
            str(number) for number in range(gpus)
        ]
        changed["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return os.environ | changed
