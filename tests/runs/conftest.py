"""One undisturbed study in one process, that the runs of several workers are compared with."""

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import torch

from interp import organism, report, study
from interp.base.traits import Trait
from interp.study import StudyConfig
from interp.study.runs import RunFolder

CONFIG = StudyConfig(
    base=str(organism.base_path()),
    adapters={t: str(organism.adapter_path(t)) for t in (Trait.EXTRAVERSION, Trait.OPENNESS)},
    data=str(organism.ASSETS),
    n_responses=12,
    n_trace=4,
    n_positions=6,
    n_switched=0,
    shards=2,
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Workers on two cores have one thread each; equal bytes want as many here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def config() -> StudyConfig:
    return CONFIG


@pytest.fixture(scope="session")
def reference(once: Callable[..., Path]) -> Path:
    """The finished run's folder, with its report; made once for all test processes."""

    def make(out: Path) -> None:
        study.run(CONFIG, out / "run")
        report.write(out / "run")

    return once("reference", make) / "run"


@pytest.fixture
def nothing_left_running():
    """Fails a test that leaves a thread or a process behind."""
    threads, processes = set(threading.enumerate()), workers()
    yield
    assert not {t for t in threading.enumerate() if not t.daemon} - threads
    assert not workers() - processes


def workers() -> set[psutil.Process]:
    """Children of this process that run Python; a browser of another test has others."""
    found = psutil.Process().children(recursive=True)
    return {one for one in found if one.is_running() and "python" in one.name()}


@pytest.fixture
def toy(tmp_path: Path):
    """A toy run's folder with its config: `toy(dies="a/1")`."""

    def make(**changes: object) -> RunFolder:
        marks = tmp_path / "marks"
        marks.mkdir(exist_ok=True)
        return RunFolder.create(tmp_path / "toy", {"marks": str(marks), **changes}, change=True)

    return make


GIVEN = re.compile(r"(\S+): given to (worker-\d+) \((\d+)@")
AGAIN = re.compile(r"(\S+): (worker-\d+ .*); it is given out again")


@dataclass
class Killer:
    """Kills workers that hold a step, until one kill costs a step.

    A worker may be done with its step by the time it dies: then nothing is lost, and another one
    is killed.

    Attributes:
        out: the run's folder.
        after: steps that must have ended before.
        log: what the run's log held when this began.
        kills: processes killed.
    """

    out: Path
    after: int = 0
    log: str = ""
    kills: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self._log()

    def __call__(self, done: int, total: int) -> None:
        if self.after <= done < total and not self.lost() and len(self.kills) < 5:
            holders = [pid for pid in self.held().values() if pid not in self.kills]
            for pid in holders[:1]:
                self.kills.append(pid)
                os.kill(pid, signal.SIGKILL)

    def fresh(self) -> str:
        """The log since this began."""
        return self._log().removeprefix(self.log)

    def held(self) -> dict[str, int]:
        """Steps that workers hold now, with their process numbers."""
        given: dict[str, int] = {}
        for line in self.fresh().splitlines():
            if found := GIVEN.search(line):
                given[found[1]] = int(found[3])
            elif found := re.search(r" interp.study.runs: (\S+): (done|skipped|failed) in ", line):
                given.pop(found[1], None)
        return given

    def lost(self) -> dict[str, str]:
        """Steps that a kill has cost, with what the log says of it."""
        return {found[1]: found[2] for found in AGAIN.finditer(self.fresh())}

    def given(self) -> Counter[str]:
        """How often each step was given out."""
        return Counter(found[1] for found in GIVEN.finditer(self.fresh()))

    def twice(self) -> set[str]:
        """Steps that were given out more than once."""
        return {name for name, times in self.given().items() if times > 1}

    def _log(self) -> str:
        path = self.out / "run.log"
        return path.read_text() if path.is_file() else ""


@pytest.fixture
def killer() -> type[Killer]:
    return Killer
