"""Running a committed notebook again, and reading what it shows.

After the notebook's own cells come the solutions of its exercises and a cell that prints, as JSON,
the values that a test asks for: one kernel for everything.
"""

import importlib.util
import json
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install -e '.[notebooks]'")
pytest.importorskip("nbclient", reason="needs nbclient: pip install -e '.[notebooks]'")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install -e '.[notebooks]'")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb")))
NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
NEARLY = 0.9
PICTURE = re.compile(r"<svg.*?</svg>|<img[^>]*>", flags=re.DOTALL)


@dataclass(frozen=True)
class Run:
    """A notebook as it is committed and as it has just come out."""

    committed: Any
    again: list[Any]
    claims: dict[str, Any]

    def pairs(self) -> list[tuple[Any, Any]]:
        """Each code cell as committed, with the same cell run again."""
        committed = [cell for cell in self.committed.cells if cell.cell_type == "code"]
        return list(zip(committed, self.again, strict=True))


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def solutions(notebook: Any) -> list[str]:
    """The Python of every exercise's folded solution, in order."""
    folded = [
        block
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for block in re.findall(r"<details>.*?</details>", cell.source, flags=re.DOTALL)
    ]
    return [code for block in folded for code in re.findall(r"```python\n(.*?)```", block, re.S)]


@cache
def script() -> ModuleType:
    """`notebooks/execute.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("notebooks_execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, claims: str) -> Run:
    """Run a notebook, its solutions, and `claims`: the inside of a dict of plain values."""
    committed, notebook = read(name), read(name)
    own = sum(cell.cell_type == "code" for cell in notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    ask = f"import json\nprint(json.dumps({{{claims}}}))"
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in (*solutions(notebook), ask)]
    script().run(notebook)
    again = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return Run(committed, again[:own], json.loads(again[-1].outputs[-1].text))


def shown(cell: Any) -> list[tuple[str, str]]:
    """A cell's outputs as (kind, readable text); pictures are counted, not read."""
    found = []
    for output in cell.outputs:
        if output.output_type == "stream":
            found.append((output.name, output.text))
            continue
        kinds = [
            kind for kind in ("text/html", "text/markdown", "text/plain") if kind in output.data
        ]
        text = "".join(output.data[kinds[0]])
        if kinds[0] == "text/html":
            text = re.sub(r"<(style|script)\b.*?</\1>", " ", text, flags=re.DOTALL)
            text = unescape(re.sub(r"<[^>]+>", " ", PICTURE.sub(" [picture] ", text)))
        found.append((kinds[0], " ".join(text.split())))
    return found


def same(one: str, other: str) -> bool:
    """Nearly all words, and nearly all numbers to 5 % or two units of the last place shown.

    Not every one: where two tokens are within rounding of each other, a sampled answer goes another
    way on a processor that rounds otherwise, and a count of a hundred answers moves by one.
    """
    words = SequenceMatcher(None, NUMBER.sub("0", one).split(), NUMBER.sub("0", other).split())
    numbers = [NUMBER.findall(text.replace("−", "-")) for text in (one, other)]
    near = [_near(a, b) for a, b in zip(*numbers, strict=False)]
    fewest = NEARLY * max(map(len, numbers))
    return words.ratio() >= NEARLY and sum(near) >= fewest


def _near(one: str, other: str) -> bool:
    places = len(one.partition("e")[0].partition(".")[2])
    last = 10.0**-places if places else 0.0
    a, b = float(one), float(other)
    # Below 1e-4 stand rounding errors.
    return abs(a - b) <= max(0.05 * abs(a), 2 * last, 1e-4)


def picture_sizes(cell: Any) -> list[int]:
    """Length of every picture that a cell shows."""
    shown = [output.data for output in cell.outputs if "data" in output]
    html = "".join("".join(data.get("text/html", "")) for data in shown)
    drawn = [data["image/png"] for data in shown if "image/png" in data]
    return [len(found) for found in (*drawn, *PICTURE.findall(html))]


def check(made: Run) -> None:
    """What a notebook shows when it is run again is what is committed."""
    for committed, again in made.pairs():
        where = committed.source.splitlines()[0]
        assert len(shown(committed)) == len(shown(again)), where
        for (kind, old), (kind_now, new) in zip(shown(committed), shown(again), strict=True):
            assert kind == kind_now, where
            assert same(old, new), f"{where}\ncommitted: {old}\nnow: {new}"
        sizes = list(zip(picture_sizes(committed), picture_sizes(again), strict=True))
        assert all(0.7 < old / new < 1.4 for old, new in sizes), f"{where}: {sizes}"
