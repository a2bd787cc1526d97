"""The catalogue: every step is a row, a new trace is three files, and `only` makes what it says."""

import ast
import json
import sys
import types
from pathlib import Path

import pytest
from test_bad_input import command

import interp
from interp import organism
from interp.base.results import Result
from interp.errors import InputError
from interp.study import catalogue, parse_config
from interp.study.catalogue import Row
from interp.study.runs import RunFolder
from interp.study.steps import steps

TRAIT = "extraversion"
ASKED = {
    "base": str(organism.base_path()),
    "adapters": {TRAIT: str(organism.adapter_path(TRAIT))},
    "data": str(organism.ASSETS),
    "n_responses": 6,
}
NAMES = [row.name for row in catalogue.ROWS]

# A trace of one's own: what would be interp/study/traced/length.py …
TRACED = """
from dataclasses import dataclass
from typing import ClassVar

from interp.behaviour.generate import Response
from interp.base.results import Result
from interp.study.models import TraitModels


@dataclass(frozen=True)
class Length(Result):
    kind: ClassVar[str] = "length"
    tokens: tuple[int, ...]


def length(models: TraitModels, tuned: list[Response]) -> Length:
    return Length(tuple(len(answer.ids) for answer in tuned))
"""
# … and interp/report/sections/length.py.
SECTION = """
from interp.report.blocks import Face, Finding, Section
from interp.study import catalogue


def section(contents, maker):
    (row,) = [row for row in catalogue.ROWS if row.name == "length"]
    means = {t: sum(r.tokens) / len(r.tokens) for t, r in contents.having(row).items()}
    finding = Finding("Short.", f"Means: {means}.")
    return Section("How long are the answers?", finding.text, finding) if means else None


FACE = Face("Length of answers", section, "How long?")
"""


@pytest.fixture
def toy(monkeypatch, tmp_path) -> Row:
    """The third: a row."""
    for package, source in (("interp.study.traced", TRACED), ("interp.report.sections", SECTION)):
        module = types.ModuleType(f"{package}.length")
        module.__file__ = str(tmp_path / f"{package}.length.py")
        Path(module.__file__).write_text(source)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, module.__file__, "exec"), vars(module))
    row = Row("length", "length:length", needs={"tuned": "responses"}, section="length")
    monkeypatch.setattr(catalogue, "ROWS", (*catalogue.ROWS, row))
    return row


def test_a_trace_is_a_function_a_section_and_a_row(toy, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    argv = ["demo", "--traits", TRAIT, "--n-responses", "6", "--only", "length", "--out", str(out)]
    assert command([*argv, "--json"], monkeypatch) == 0
    folder = RunFolder.open(out)
    assert list(folder.manifest["steps"]) == [f"{TRAIT}/responses", f"{TRAIT}/length"]
    lengths = folder.result(toy.kind, TRAIT, "length.safetensors").tokens
    page = (out / "report.html").read_text()
    assert "How long are the answers?" in page
    assert f"{sum(lengths) / 6}" in page
    assert "<dt>How long?</dt>\n      <dd><b>Short.</b>" in page
    assert page.count("<dt>How") == page.count('<dl class="findings">') == 1
    assert '<a href="#length">Length of answers</a>' in page
    assert "patching" not in folder.manifest["skipped"]
    capsys.readouterr()
    # What was asked is kept: going on makes nothing else.
    folder.file(TRAIT, "length.safetensors").unlink()
    assert command(["run", "resume", str(out), "--json"], monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == {}
    assert set(folder.manifest["steps"]) == {f"{TRAIT}/responses", f"{TRAIT}/length"}


@pytest.mark.usefixtures("toy")
def test_the_key_of_a_new_trace_holds_its_own_code(tmp_path):
    """A constant of its file changed, and only its step is another one."""
    folder = RunFolder.create(tmp_path / "run", {})
    before = {s.name: s.key(dict.fromkeys(s.needs, "")) for s in steps(ASKED, folder)}
    file = Path(sys.modules["interp.study.traced.length"].__file__)
    assert file.read_text().count("len(answer.ids)") == 1
    from interp.study.runs import closure

    closure._sources.cache_clear()
    file.write_text(TRACED.replace("len(answer.ids)", "2 * len(answer.ids)"))
    after = {s.name: s.key(dict.fromkeys(s.needs, "")) for s in steps(ASKED, folder)}
    closure._sources.cache_clear()
    assert {name for name in after if after[name] != before[name]} == {f"{TRAIT}/length"}


def strings(path: Path) -> set[str]:
    """Every text that a source file holds, parts of f-strings and docstrings included."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_no_step_is_named_outside_the_catalogue():
    """Words such as `lens` mean other things, too; names with a hyphen can only mean steps."""
    names = {name for name in NAMES if "-" in name}
    root = Path(interp.__file__).parent
    files = [path for room in ("study", "report", "cli") for path in (root / room).rglob("*.py")]
    assert len(files) > 40
    for path in files:
        if path.name != "catalogue.py":
            assert not [t for t in strings(path) if t in names or t.startswith("patching-{")], path


def test_rows_are_whole():
    assert len(set(NAMES)) == len(NAMES)
    assert not {row.family for row in catalogue.ROWS} & set(NAMES), "a name means one thing"
    for row in catalogue.ROWS:
        assert set(row.needs.values()) <= set(NAMES)
        assert set(row.needs) <= set(row.function.__annotations__), row.name
        assert set(row.options) <= set(row.function.__annotations__), row.name
        known = {*parse_config(ASKED).model_fields_set, "questions", "switched", "texts"}
        assert all(hasattr(parse_config(ASKED), s) or s in known for s in row.settings), row.name
        assert row.suffix == ".json" or issubclass(row.kind, Result)
        assert not row.join or row.joined
        assert not row.facts or row.noted
    for name in catalogue.sections():
        assert catalogue.section(name).FACE.name


def test_what_is_asked_by_name_comes_with_what_it_needs():
    def made(*only):
        return {row.name for row in catalogue.chosen(only)}

    answers = {"responses", "responses-base"}
    assert made("lens") == {"lens", "responses"}
    assert made("circuit") == answers | {"circuit-edges", "circuit"}
    circuits = {row.name for rows in catalogue.CIRCUITS.values() for row in rows.all}
    assert made("circuits", "probing-trait") == answers | circuits | {"probing-trait"}
    assert made("circuit-model") == {"responses", "circuit-model-edges", "circuit-model"}
    assert made("patching") == answers | {row.name for row in catalogue.PATCHING}
    assert made("adapter") == {"adapter-necessity", "adapter-exact", "responses"}
    assert made() == {row.name for row in catalogue.ROWS if row.default} < set(NAMES)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lenz", "did you mean lens?"), ("patchng", "did you mean patching?"), ("xyz", "There are")],
)
def test_a_wrong_name_lists_the_right_ones(name, meant, monkeypatch, capsys):
    for wrong in (name, ""):
        with pytest.raises(InputError, match="lens, patching, circuits"):
            parse_config(ASKED | {"only": (wrong,)})
    assert command(["demo", "--only", f"lens,{name}"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: only: no trace is called '{name}'; ")
    assert meant in said
    assert said.count("\n") == 1


def test_status_tells_what_is_still_to_come(tmp_path, monkeypatch, capsys):
    config = parse_config(ASKED | {"only": ("lens",)}).model_dump(mode="json")
    folder = RunFolder.create(tmp_path / "run", config)
    folder.note(steps={f"{TRAIT}/responses": {"state": "done"}}, base_kinds={TRAIT: "dense"})
    assert command(["run", "status", str(folder.path), "--json"], monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)["steps"]
    assert {name: record["state"] for name, record in told.items()} == {
        f"{TRAIT}/responses": "done", f"{TRAIT}/lens": "waiting",
    }  # fmt: skip
