"""How much a run survives, what it refuses, and what that costs.

    python benchmarks/reliability.py [--kills 5] [--repeats 3] [--only kills malformed ...]

Prints (all, or what is named):
- kills survived / tried: the demo's process killed (SIGKILL) at random moments and started again,
  until it ends in the bytes of an undisturbed run;
- malformed inputs refused / tried: the corpus of `tests/fuzz`, over every loader;
- durable / plain: time of a trait's study as durable steps (written, synced, hashed, logged, noted)
  over the same calls with everything kept in memory, in pairs within one process;
- hangs, foreign writes, stale and wrong numbers: tries that the tests make (a step that never ends
  on a worker; links, odd names, pipes and devices in run and model folders; data, adapters, models,
  settings or code that change under a run; tokenizers, templates, generation settings and logits
  that would bend a number), counted by running them;
- resume: seconds that the demo's command takes when everything is there, after the imports.
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
_TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(_TESTS), str(_TESTS / "fuzz")]

import pytest
import refusals
import torch
from corpus import cases
from killing import SMALL, contents, demo, ended_steps, started, survive

from interp import organism, study
from interp.base.traits import Trait
from interp.cli import app
from interp.study import StudyConfig, catalogue
from interp.study.runs import RunFolder
from interp.study.study import Study

TRAIT = Trait.EXTRAVERSION
PARTS = ("overhead", "resume", "malformed", "tries", "kills")


def kills(count: int) -> str:
    """Kills survived of those tried."""
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place, "whole"), Path(place, "killed")
        with started(demo(whole, *SMALL)) as run:
            assert run.wait() == 0
        found = survive(demo(killed, *SMALL), killed, count, ended_steps(whole), seed=1)
        same = contents(killed) == contents(whole) and not list(killed.rglob(".*"))
    late = f", {found.spared} more came too late" if found.spared else ""
    return f"{len(found.kills) if same else 0} / {len(found.kills)}{late}"


def malformed() -> str:
    """Malformed inputs refused of those tried, by content; and the slowest."""
    found = refusals.run(cases())
    distinct = {one.digest: one for one in found}
    refused = sum(one.refused for one in distinct.values())
    slowest, largest = max(one.seconds for one in found), max(one.growth for one in found)
    return (
        f"{refused} / {len(distinct)} (at most {slowest:.1f} s of {refusals.SECONDS:g}, "
        f"{largest / 2**20:.0f} MiB of {refusals.GROWTH / 2**20:.0f})"
    )


TRIES = {
    "hangs ended": ("runs/test_ray.py", "hangs or killed_driver or memory"),
    "foreign writes refused": (
        "runs/test_inputs.py runs/test_remote.py",
        "link or lead or listing",
    ),
    "pipes and devices refused": ("runs/test_inputs.py", "pipe or plain"),
    "changed inputs seen": (
        "experiments/test_staleness.py runs/test_inputs.py runs/test_closure.py",
        "gives or seen or again or keys or changes",
    ),
    "wrong numbers averted": (
        "emoji/test_emoji_states.py models/test_templates.py behaviour/test_generate.py",
        "leftover or control or role or block or date or finite or temperature or bend or without",
    ),
    "ends of configurations": ("fuzz/test_fuzz_ends.py", "of_"),
}


class _Counted:
    """A plugin of pytest that counts what held."""

    def __init__(self) -> None:
        self.held: list[bool] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            self.held.append(report.passed)


def tried(files: str, chosen: str) -> str:
    """Tests that held of those run."""
    counted = _Counted()
    paths = [str(_TESTS / file) for file in files.split()]
    imported = "ignore::pytest.PytestAssertRewriteWarning"  # plugins that are there already
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*paths, "-q", "-n", "0", "-m", "", "-W", imported, "-k", chosen], [counted])
    return f"{sum(counted.held)} / {len(counted.held)}"


def plain(config: StudyConfig, place: Path) -> None:
    """The study of one trait with all its results in memory."""
    models = Study(config, RunFolder.create(place / "plain", {})).trait(TRAIT)
    rows = {row.name: row for row in catalogue.asked(config.model_dump())}

    @cache
    def made(name: str) -> Any:
        needed = {parameter: made(need) for parameter, need in rows[name].needs.items()}
        return rows[name].function(models, **needed, **rows[name].options)

    for name in rows:
        made(name)


def durable(config: StudyConfig, place: Path) -> None:
    """The same study as durable steps."""
    study.run(config, place / "durable")


def timed(call: Callable[[StudyConfig, Path], None], config: StudyConfig) -> tuple[float, float]:
    """Wall and CPU seconds of one call in a fresh folder."""
    with tempfile.TemporaryDirectory() as place:
        wall, cpu = time.perf_counter(), time.process_time()
        call(config, Path(place))
        return time.perf_counter() - wall, time.process_time() - cpu


def overhead(repeats: int) -> str:
    """Durable over plain, pair by pair."""
    config = StudyConfig(
        base=str(organism.base_path()),
        adapters={TRAIT: str(organism.adapter_path(TRAIT))},
        data=str(organism.ASSETS),
        n_switched=32,
    )
    timed(durable, config)  # warm-up
    pairs = []
    for index in range(repeats):
        order = (plain, durable) if index % 2 else (durable, plain)
        took = {call: timed(call, config) for call in order}
        pairs.append([took[durable][kind] / took[plain][kind] for kind in (0, 1)])
    return "; ".join(
        f"{name} {spread(pair[kind] for pair in pairs)}"
        for kind, name in enumerate(("wall", "CPU"))
    )


def spread(values: Iterable[float]) -> str:
    """Median, and the range."""
    found = sorted(values)
    return f"{statistics.median(found):.3f} [{found[0]:.3f}, {found[-1]:.3f}]"


def resume(repeats: int) -> str:
    """Seconds of the demo's command on a finished run, in a process that has imported all."""
    with tempfile.TemporaryDirectory() as place:
        command = ["demo", "--out", str(Path(place, "run")), "--json"]
        took = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                app(command, standalone_mode=False)
            took.append(time.perf_counter() - began)
    return f"{spread(took[1:])} s (the whole demo took {took[0]:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if "overhead" in asked.only:
        print(f"durable / plain: {overhead(asked.repeats)}", flush=True)
    if "resume" in asked.only:
        print(f"resume of a finished demo: {resume(asked.repeats)}", flush=True)
    if "malformed" in asked.only:
        print(f"malformed inputs refused / tried: {malformed()}", flush=True)
    if "tries" in asked.only:
        for name, (files, chosen) in TRIES.items():
            print(f"{name} / tried: {tried(files, chosen)}", flush=True)
    if "kills" in asked.only:
        print(f"kills survived / tried: {kills(asked.kills)}", flush=True)


if __name__ == "__main__":
    main()
