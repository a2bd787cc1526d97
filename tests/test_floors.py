"""The house: what may know what. Lower floors never import upper ones (see ARCHITECTURE.md)."""

import ast
import re
from pathlib import Path

import pytest

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
