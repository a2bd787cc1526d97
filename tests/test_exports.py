"""What leaves for other programs: nothing in it acts on a spreadsheet or a terminal."""

import csv

import numpy as np
import pandas as pd
import pytest

from interp.base.files import write_csv
from interp.base.html import card
from interp.errors import visible

FORMULAS = ['=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "-", " =1", "\n=1", "＝1",
            "\ufeff=1"]  # fmt: skip


def read(path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_begins_like_a_formula_is_escaped_in_cells_and_heads(text, tmp_path) -> None:
    table = pd.DataFrame({"name": [text, "plain = text"], text: [1, 2]})
    head, first, second = read(write_csv(tmp_path / "t.csv", table))
    assert head == ["name", f"'{text}"]
    assert first == [f"'{text}", "1"]
    assert second == ["plain = text", "2"]


def test_numbers_are_never_touched(tmp_path) -> None:
    table = pd.DataFrame({"a": [-1.5, np.nan], "b": [-3, 4], "c": ["-0.25", "+1e-05"],
                          "d": [None, True], "e": ["−5", "😊"]})  # fmt: skip
    assert write_csv(tmp_path / "t.csv", table).read_text() == table.to_csv(index=False)
    assert table["a"][0] == -1.5, "the table itself stays"


def test_control_characters_are_written_out_everywhere(tmp_path) -> None:
    text = "red\x1b[31m\x00\x9b2J\ud800\uffff\r"
    shown = "red\\x1b[31m\\x00\\x9b2J\\ud800\\uffff\\r"
    assert visible(f"{text}\n\t😊") == f"{shown}\n\t😊"
    assert read(write_csv(tmp_path / "t.csv", pd.DataFrame({"a": [text]})))[1] == [shown]
    assert "\x1b" not in card("a", facts={text: 1})
