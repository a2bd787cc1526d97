"""Shared fixtures. Shapes are checked here, and only here: jaxtyping's import hook."""

import ast
import gc
import hashlib
import json
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Which random cases run changes by the day; all processes of one session have the same.
os.environ.setdefault("INTERP_SEED", f"{date.today():%Y%m%d}")

import hypothesis.core
import pytest
from filelock import FileLock
from jaxtyping import _import_hook, install_import_hook

SHARED = Path(__file__).resolve().parents[2] / "shared"


def modules_with_shapes() -> list[str]:
    """Modules of interp that annotate tensors; checking every call of all the others takes long."""
    root = Path(find_spec("interp").origin).parent
    found = (path for path in root.rglob("*.py") if "from jaxtyping import" in path.read_text())
    return [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in found]


class Outermost(_import_hook.JaxtypingTransformer):
    """Leaves functions within functions alone: they would be wrapped anew on every call."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        inner, node.body = node.body, []
        super().visit_FunctionDef(node)
        node.body = inner
        return node


# Drawn cases, too, are the day's, and have as long as a busy machine takes.
hypothesis.settings.register_profile(
    "day", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("day")
hypothesis.core.global_force_seed = int(os.environ["INTERP_SEED"])

_import_hook.JaxtypingTransformer = Outermost
install_import_hook(modules_with_shapes(), "beartype.beartype")
gc.disable()  # until everything is imported


# Files that take longest, to begin with; those that wait for the same finished run stand apart.
LONGEST = ("test_kill.py", "test_experiments.py", "test_lint.py", "test_ray.py",
           "test_notebook_probes.py", "test_train.py", "test_verdicts.py", "test_docs_python.py",
           "test_latent_and_icl.py", "test_factors_told_apart.py", "test_docs_site.py",
           "test_organism_build.py", "test_memory_limit.py", "test_asked_sections.py",
           "test_gallery.py", "test_shards.py", "test_study.py", "test_asked_outcome.py",
           "test_fuzz_models.py")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes share the files: one that takes minutes must not be the last."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """What the imports made stays: searching it for garbage takes a seventh of the tests' time."""
    gc.enable()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """What brings the same random cases back, where something failed."""
    if exitstatus:
        terminalreporter.write_line(f"random cases of INTERP_SEED={os.environ['INTERP_SEED']}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real tokenizers and data that lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with real tokenizers and data is not beside the checkout")
    return SHARED


@dataclass(frozen=True)
class Finished:
    """A finished run of the demo, as small as its tests allow. Copy the folder to change it.

    Attributes:
        path: the run's folder.
        stdout: what the command said.
        stderr: what it said on standard error.
    """

    path: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`once(name, make)`: a folder that `make(folder)` fills, once for all test processes."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / "once" / name, root / "once" / f"{name}.made"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(done.with_suffix(".lock")):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def read_vocabulary(once: Callable[..., Path]) -> Iterator[Callable[..., Any]]:
    """Keeps what `EmojiVocab.from_tokenizer` reads in some seconds, by the tokenizer's content.

    For all test processes: each tokenizer is read once. The value is the method that reads it anew.
    """
    from interp.emoji import EmojiVocab

    read = EmojiVocab.from_tokenizer

    @cache
    def load(folder: Path) -> EmojiVocab:
        return pickle.loads((folder / "vocabulary").read_bytes())

    def kept(tokenizer: Any, **how: float) -> EmojiVocab:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return read(tokenizer, **how)
        content = (backend.to_str(), *tokenizer.all_special_tokens, *how.items())

        def make(folder: Path) -> None:
            (folder / "vocabulary").write_bytes(pickle.dumps(read(tokenizer, **how)))

        return load(once(hashlib.sha256(repr(content).encode()).hexdigest(), make))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmojiVocab, "from_tokenizer", staticmethod(kept))
        yield read


@pytest.fixture(scope="session")
def finished(once: Callable[..., Path]) -> Finished:
    """Two traits' run by the command line, with its report."""
    from killing import SMALL, demo

    def make(folder: Path) -> None:
        command = [word for word in demo(folder / "run", *SMALL) if word != "--json"]
        one = os.environ | {"OMP_NUM_THREADS": "1"}  # tests/test_determinism.py takes two
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=one)
        said = {"stdout": done.stdout, "stderr": done.stderr}
        (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")

    folder = once("demo", make)
    said = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    return Finished(folder / "run", **said)
