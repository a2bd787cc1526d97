"""Kill a run again and again, and see that it ends as if nothing had happened.

`survive` starts the command, waits until a number of steps drawn from the seed has ended, waits a
little more, sends SIGKILL, and starts the same command again, until all kills are spent.
"""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.base.files import sha256

# What differs between two runs by its nature: times, process numbers, the log.
_OWN = {"manifest.json", "run.log", "run.lock", "report.html"}
SMALL = ("--traits", "extraversion,openness", "--n-responses", "14", "--n-trace", "4",
         "--n-switched", "2")  # fmt: skip
PATIENCE = 900  # seconds that a command may go without ending a step


@dataclass(frozen=True)
class Survival:
    """What a run went through.

    Attributes:
        kills: at which count of ended steps, and how many seconds later, each SIGKILL was sent.
        spared: kills that came too late, because the run had ended.
    """

    kills: tuple[tuple[int, float], ...]
    spared: int


def demo(out: Path, *options: str) -> list[str]:
    """The demo's command."""
    return [sys.executable, "-m", "interp", "demo", "--out", str(out), "--json", *options]


def started(command: Sequence[str]) -> subprocess.Popen:
    """Begin a command that nobody listens to."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def survive(
    command: Sequence[str],
    out: Path,
    kills: int,
    n_steps: int,
    seed: int,
    start: Callable[[Sequence[str]], Any] = started,
) -> Survival:
    """Kill the command `kills` times over its `n_steps` steps and the report, then let it end."""
    draw = random.Random(seed)
    # A twelfth of a run goes by after its last step, while the report is drawn.
    moments = range(n_steps + max(1, n_steps // 12))
    moments = sorted(draw.sample(moments, kills))  # the few after the end would spare more kills
    sent, spared = [], 0
    for moment in moments:
        # Short waits hit the beginning of a step, long ones its middle or the report.
        wait = draw.choice([0.0, 0.01, 0.1, 0.5]) + (moment >= n_steps) * draw.uniform(0, 5)
        with start(command) as run:
            _wait_for(run, out, min(moment, n_steps))
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(wait)
            if run.poll() is None:
                run.send_signal(signal.SIGKILL)
                sent.append((moment, wait))
            else:
                assert run.returncode == 0
                spared += 1
    with start(command) as run:
        assert run.wait() == 0, (out / "run.log").read_text()[-2000:]
    return Survival(tuple(sent), spared)


def _wait_for(run: Any, out: Path, ended: int) -> None:
    """Until the run has ended this many steps more or less, or is over."""
    last, since = -1, time.monotonic()
    while run.poll() is None:
        now = ended_steps(out)
        if now >= ended and _is_at_work(out, run.pid):
            return
        if now != last:
            last, since = now, time.monotonic()
        assert time.monotonic() - since < PATIENCE, f"stuck after {now} steps"
        time.sleep(0.005)


def _is_at_work(out: Path, pid: int) -> bool:
    return _manifest(out).get("pid") == pid


def _manifest(out: Path) -> dict:
    with contextlib.suppress(FileNotFoundError):
        return json.loads((out / "manifest.json").read_text())  # whole, whenever it is read
    return {}


def ended_steps(out: Path) -> int:
    """How many steps of the run in `out` have ended."""
    steps = _manifest(out).get("steps", {})
    return sum(record["state"] in ("done", "skipped") for record in steps.values())


def contents(out: Path) -> dict[str, str]:
    """SHA-256 of every result, answer, table and figure."""
    return {
        path.relative_to(out).as_posix(): sha256(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in _OWN
    }
