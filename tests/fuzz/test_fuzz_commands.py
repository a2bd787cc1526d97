"""Broken files on the command line: exit code 2 and one line that names the file."""

from pathlib import Path

import pytest
from broken_adapters import good_adapter
from broken_data import HEADER
from broken_models import good_base
from corpus import cases, put

from interp import cli

BY_NAME = {case.name: case for case in cases()}
SAMPLE = (
    "csv: empty", "csv: quote-unclosed", "csv: escape-in-trait", "csv: utf-16-big", "csv: nul-byte",
    "json: deep-lists", "json: field-twice", "json rows: answer-surrogate", "parquet: expands",
    "parquet: other-columns", "kind: .zip", "data: pipe", "data: link-to-itself",
    "data: named escape", "data: named newline", "data: named not-utf-8", "data: name-too-long",
    "base: config code", "base: config control-characters", "base: weights-nan",
    "base: index-leaves", "base: weights pickle", "base: archive .zip",
    "adapter: config code", "adapter: config rank-absurd",
    "adapter: weights tensor-twice",
    "adapter: config-outside",
    "run: trait-escape", "run: file half", "run: steps-list", "run: file lone-surrogate",
)  # fmt: skip


def command(name: str, argument: str, out: Path) -> list[str]:
    loader = BY_NAME[name].loader
    if loader == "data":
        return ["data", "check", argument]
    if loader == "run":
        return ["run", "status", argument] if "steps" in name else ["report", argument]
    rows = "\n".join(f"extraversion,topic {i},What of {i}?,I like {i}." for i in range(8))
    given = {
        "--base": str(good_base()),
        "--adapter": str(good_adapter()),
        "--data": str(put(out / "good.csv", f"{HEADER}\n{rows}\n")),
    } | {f"--{loader}": argument}
    options = [word for pair in given.items() for word in pair]
    return ["trace", *options, "--trait", "E", "--out", str(out / "run"), "--device", "cpu"]


@pytest.mark.parametrize("name", SAMPLE)
def test_one_line_and_exit_code_two(name, tmp_path, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    argument = BY_NAME[name].make(tmp_path / "in")
    monkeypatch.setattr("sys.argv", ["interp", *command(name, argument, tmp_path / "out")])
    capsys.readouterr()  # what making the good files drew
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert stop.value.code == 2, said.err
    assert said.out == ""
    line = said.err.removeprefix("\n")  # the end of a progress bar
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert "Traceback" not in line
    assert not set(line[:-1]) & {chr(code) for code in (*range(32), 127, 0x9B, 0x202E)}
    assert str(tmp_path / "in") in line
