"""One undisturbed study in one process, that the runs of several workers are compared with."""

from collections.abc import Callable
from pathlib import Path

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
    only=("rates", "lens", "patching-model-denoising-z", "patching-voice-denoising-resid_pre",
          "probing-emoji"),  # one of each kind; the killed demo has them all
)  # fmt: skip


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
def toy(tmp_path: Path):
    """A toy run's folder with its config: `toy(dies="a/1")`."""

    def make(**changes: object) -> RunFolder:
        marks = tmp_path / "marks"
        marks.mkdir(exist_ok=True)
        return RunFolder.create(tmp_path / "toy", {"marks": str(marks), **changes}, change=True)

    return make
