"""The house: what may know what. Lower floors never import upper ones (see ARCHITECTURE.md)."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from thinned import turn

import interp

ROOT = Path(interp.__file__).parent
PAGE = ROOT.parent / "ARCHITECTURE.md"
FLOORS = tuple(re.findall(r"^\| `(\w+)/` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def _imported(path: Path) -> list[str]:
    """Every module of the package that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "interp":
            found += [f"interp.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: name the module in full"
            found.append(node.module or "")
    return [name for name in found if name.startswith("interp.") and name != "interp.__version__"]


def test_the_page_names_every_floor_and_no_other():
    there = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    assert set(FLOORS) == there
    assert len(FLOORS) == len(there) <= 13


@pytest.mark.parametrize("floor", FLOORS)
def test_nothing_imports_upwards(floor):
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != floor:
            continue
        for name in _imported(path):
            there = name.split(".")[1]
            assert there in FLOORS, f"{path}: {name} is a short name; inside, name the floor"
            assert there not in above, f"{path} ({floor}) imports {name} ({there}, above it)"


def test_only_the_roof_knows_the_organism():
    knows = {
        path.relative_to(ROOT).parts[0]
        for path in FILES
        if any(name.startswith("interp.organism") for name in _imported(path))
    }
    assert knows == {"organism", "cli"}


def test_every_file_of_the_page_is_there():
    for name in re.findall(
        r"`((?:interp|experiments|tests|docs|benchmarks)/[\w./-]*)`", PAGE.read_text()
    ):
        assert (ROOT.parent / name).exists(), f"ARCHITECTURE.md names {name}"


@pytest.mark.parametrize("room", interp.ROOMS)
def test_a_short_name_is_the_room_itself(room):
    found = importlib.import_module(f"interp.{room}")
    assert found is importlib.import_module(interp.ROOMS[room]) is getattr(interp, room)
    assert found.__spec__.name == found.__name__ == interp.ROOMS[room]


@turn(0, of=3)
def test_below_a_short_name_a_function_stays_before_its_module():
    script = (
        "import sys, interp.patching.screen, interp.adapters.directions\n"
        "from interp.patching import screen\n"
        "from interp.patching.screen import screen as own\n"
        "from interp.traces.patching.screen import screen as real\n"
        "assert screen is own is real, screen\n"
        "assert callable(sys.modules['interp.traces.adapters'].directions)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
