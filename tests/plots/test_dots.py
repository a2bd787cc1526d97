"""Dots show every row of their table at its value, and say what they leave out."""

import numpy as np
import pandas as pd
import pytest

from interp.base.traits import Trait
from interp.errors import InputError
from interp.show.plots.dots import dots
from interp.show.plots.style import BASE_COLOUR, TRAIT_COLOURS

TABLE = pd.DataFrame(
    [
        ("base", "openness", 0.1, 0.0, 0.2, 40),
        ("base", "neuroticism", 0.2, 0.1, 0.4, 40),
        ("tuned", "openness", 0.9, 0.8, 1.0, 40),
        ("tuned", "neuroticism", None, None, None, 0),
        ("tuned", "any trait", 0.5, None, None, 40),
    ],
    columns=["group", "trait", "value", "low", "high", "n"],
)


def test_every_row_is_a_dot_at_its_value_with_its_interval() -> None:
    figure = dots(TABLE, "share of answers", share=True)
    (axes,) = figure.axes
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    assert sorted(float(line.get_xdata()[0]) for line in marks) == [0.1, 0.2, 0.5, 0.9]
    bars = [
        tuple(map(float, line.get_xdata())) for line in axes.lines if len(line.get_xdata()) == 2
    ]
    assert {(0.0, 0.2), (0.1, 0.4), (0.8, 1.0)} <= set(bars)
    colours = {line.get_color() for line in marks}
    assert colours == {TRAIT_COLOURS[Trait.OPENNESS], TRAIT_COLOURS[Trait.NEUROTICISM], BASE_COLOUR}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "tuned"]
    assert "1 rows without a value are left out" in figure.caption


def test_dots_of_one_row_stand_apart() -> None:
    (axes,) = dots(TABLE, "share of answers").axes
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    heights = [float(np.asarray(line.get_ydata()).ravel()[0]) for line in marks]
    assert len(set(heights)) == len(heights)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (TABLE.drop(columns="low"), "lacks the columns low"),
        (TABLE.assign(value=np.nan), "has no value"),
    ],
)
def test_nothing_to_draw_is_said(table: pd.DataFrame, says: str) -> None:
    with pytest.raises(InputError, match=says):
        dots(table, "share")
