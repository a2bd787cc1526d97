"""Two runs beside each other: what differs is there with its sign, what does not is left out."""

import json
import shutil
from pathlib import Path

import pytest
from made_results import rates, run_folder
from test_bad_input import command

from interp import report
from interp.base.traits import Trait
from interp.errors import RunError
from interp.report import compare
from interp.study.runs import RunFolder

LABEL = Trait.OPENNESS


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs of one label: 35 of 50 answers hold an emoji in one, 5 in the other."""
    root = tmp_path_factory.mktemp("two")
    made = [run_folder(root / name, [LABEL], only="rates") for name in ("first", "second")]
    rates(LABEL, 5).save(made[1].file("openness", "rates-tuned.safetensors"))
    made[1].note(config=made[1].manifest["config"] | {"temperature": 1.25})
    for one in made:
        report.write(one)
    return [str(one.path) for one in made]


def test_rates_differ_by_second_minus_first_with_an_interval(two) -> None:
    (line,) = compare.compare(*two).rates
    assert (line.what, line.first[:4], line.second[:4]) == ("openness", "70 %", "10 %")
    assert line.apart.startswith("−60 points [−7")
    (back,) = compare.compare(*reversed(two)).rates
    assert back.apart.startswith("+60 points [+4")


def test_findings_stand_beside_each_other_and_settings_only_where_they_differ(two) -> None:
    found = compare.compare(*two)
    question = next(line for line in found.findings if line.what == "Does it write emojis?")
    assert "70 %" in question.first
    assert "10 %" in question.second
    assert [(line.what, line.second) for line in found.asked] == [("temperature", "1.25")]


def test_the_command_writes_a_page_and_says_the_rates(two, monkeypatch, capsys) -> None:
    assert command(["report", *two, "--json"], monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    one = said["traits"][0]
    assert one["trait"] == "openness"
    assert one["difference"]["value"] == one["second"]["value"] - one["first"]["value"]
    assert one["first"]["low"] <= one["first"]["value"] <= one["first"]["high"]
    page = Path(said["report"]).read_text(encoding="utf-8")
    assert page.count("<tr>") == 3 + 1 + len(compare.compare(*two).findings) + 1
    assert "−60 points" in page.replace("\u00a0", " ")
    assert "<script" not in page


def test_rates_of_two_outcomes_have_no_difference(two, tmp_path, monkeypatch, capsys) -> None:
    """What was traced stands in the table's title, and beside each rate where it is not one."""
    other = RunFolder.open(shutil.copytree(two[1], tmp_path / "words"))
    other.note(config=other.manifest["config"] | {"outcome": "strings:sorry"})
    found = compare.compare(two[0], other.path)
    (line,) = found.rates
    assert (line.first[-15:], line.apart) == ("(with an emoji)", "")
    assert line.second.endswith("(with “sorry”)")
    assert found.numbers[0]["difference"] is None
    again = shutil.copytree(other.path, tmp_path / "again")
    assert command(["report", str(other.path), str(again)], monkeypatch) == 0
    said = capsys.readouterr().out
    assert "Answers with “sorry”" in said
    assert "an emoji" not in said


def test_a_run_without_its_report_is_named_with_the_mend(two, tmp_path) -> None:
    bare = run_folder(tmp_path / "bare", [LABEL], only="rates")
    with pytest.raises(RunError, match="write it first: interp report"):
        compare.compare(two[0], bare.path)
    with pytest.raises(RunError, match=r"manifest\.json"):
        compare.compare(two[0], tmp_path)
