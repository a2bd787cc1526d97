"""An experiment never returns a stale number: whatever a part is made from may change."""

import importlib.util
import json
import shutil
from pathlib import Path

import harness
import pandas as pd
import pytest
from experiment import Config
from sources import read_data
from thinned import turn

from interp import organism
from interp.base.traits import Trait
from interp.study.runs import closure

SCRIPT = """
import pandas as pd
from experiment import SAMPLED, SHARED, Experiment, Finding, From

FACTOR = 1

def counted(x):
    return [{"rows": len(x.data()[1].rows) * FACTOR}]

def run(x: Experiment) -> Finding:
    (trait,) = x.config.traits
    (row,) = x.rows("counted", lambda: counted(x))
    row["tuned"] = " ".join(one.text for one in x.tuned_answers(trait))
    row["base"] = " ".join(one.text for one in x.base_answers())
    return Finding(pd.DataFrame([row]), verdict=["Done."])
"""


def organism_data():
    return read_data("organism:", "", (Trait.EXTRAVERSION,), 0)


class Place:
    """A small experiment on copies of a base, an adapter, data and its own code."""

    def __init__(self, root: Path) -> None:
        self.root, self.changes = root, {}
        shutil.copytree(organism.base_path(), root / "base")
        self.adapt("extraversion")
        (root / "data").mkdir()
        train, self.test = organism_data()
        self.write(12)
        self._csv("train", [row for row in train.rows if row.trait is Trait.EXTRAVERSION][:40])
        self.script(SCRIPT)

    def adapt(self, trait: str) -> None:
        shutil.rmtree(self.root / "adapter", ignore_errors=True)
        shutil.copytree(organism.adapter_path(trait), self.root / "adapter")

    def write(self, count: int) -> None:
        rows = [row for row in self.test.rows if row.trait is Trait.EXTRAVERSION]
        self._csv("test", rows[:count])

    def _csv(self, name: str, rows) -> None:
        made = [{"Question": r.question, "Answer": r.answer, "Target Personality": str(r.trait),
                 "Edit Topic": r.topic} for r in rows]  # fmt: skip
        pd.DataFrame(made).to_csv(self.root / "data" / f"{name}.csv", index=False)

    def script(self, text: str) -> None:
        path = self.root / "toy_experiment.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("toy_experiment", path)
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        closure._sources.cache_clear()

    def run(self) -> tuple[dict, set[str]]:
        """The row of numbers, and the parts that were made."""
        values = {
            "base": str(self.root / "base"), "data": str(self.root / "data"), "limit": 4,
            "adapters": {"extraversion": str(self.root / "adapter")}, "traits": ["extraversion"],
            "max_new_tokens": 12,
        }  # fmt: skip
        out = self.root / "out"
        before = self._ended(out)
        found = harness.conduct(self.module.run, Config(**values | self.changes), out)
        after = self._ended(out)
        made = {name for name in after if after[name] != before.get(name)}
        return found.table.iloc[0].to_dict(), made

    @staticmethod
    def _ended(out: Path) -> dict[str, int]:
        path = out / "parts"
        return {one.name: one.stat().st_mtime_ns for one in path.glob("*")}


EVERY = {"counted.json", "extraversion-tuned.json", "base.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The experiment's folder after its first run."""
    place = Place(tmp_path_factory.mktemp("experiment"))
    row, parts = place.run()
    assert row["rows"] == 12
    assert parts == EVERY
    assert place.run() == (row, set())
    return place.root


@pytest.fixture
def place(made, tmp_path) -> Place:
    """The same, to be changed by one test: the copies of the inputs keep their paths."""
    kept = tmp_path / "kept"
    shutil.copytree(made, kept, copy_function=shutil.copy2)
    found = Place.__new__(Place)
    found.root, found.changes, found.test = made, {}, organism_data()[1]
    found.script(SCRIPT)
    yield found
    shutil.rmtree(made)
    shutil.copytree(kept, made, copy_function=shutil.copy2)


@turn(0, of=3)
def test_other_data_at_the_same_path_gives_another_number(place):
    place.write(7)
    row, parts = place.run()
    assert row["rows"] == 7
    assert parts == EVERY


@turn(1, of=3)
def test_a_retrained_adapter_gives_other_answers(place):
    before, _ = place.run()
    place.adapt("openness")
    row, parts = place.run()
    assert "extraversion-tuned.json" in parts
    assert row["tuned"] != before["tuned"]
    assert row["base"] == before["base"]


@turn(2, of=3)
def test_another_model_at_the_same_path_is_seen(place):
    config = place.root / "base" / "merges.txt"
    config.write_text("#version: 0.2")
    assert place.run()[1] == EVERY


def test_changed_code_makes_just_its_parts_again(place):
    place.script(SCRIPT.replace("FACTOR = 1", "FACTOR = 3  # thrice"))
    row, parts = place.run()
    assert row["rows"] == 36
    assert parts == {"counted.json"}


def test_a_comment_makes_nothing_again(place):
    place.script(SCRIPT.replace("FACTOR = 1", "# One.\nFACTOR = 1"))
    assert place.run()[1] == set()


@turn(1, of=3)
def test_another_setting_makes_again_what_reads_it(place):
    place.changes = {"temperature": 0.5}
    assert place.run()[1] == EVERY
    manifest = json.loads((place.root / "out" / "manifest.json").read_text())
    assert manifest["config"]["temperature"] == 0.5


@turn(2, of=3)
def test_a_damaged_part_is_made_again(place):
    (place.root / "out" / "parts" / "base.json").write_text("[]")
    assert place.run()[1] == {"base.json"}
