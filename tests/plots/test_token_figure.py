"""Words stand as words and emojis as glyphs, in the order given."""

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox

from interp.errors import InputError
from interp.show.plots import Glyphs, render, trait_colour
from interp.show.plots.tokens import token_bars

TABLE = pd.DataFrame(
    {
        "trait": ["extraversion"] * 3 + ["openness"] * 2,
        "token": ["party", "🎉", "crew", "🌈", "dream"],
        "value": [0.4, 0.3, 0.1, 0.2, 0.1],
        "other": [0.3, 0.3, 0.2, 0.1, 0.1],
    }
)


@pytest.mark.parametrize("glyphs", [Glyphs(None), Glyphs.find()], ids=["names", "font"])
def test_labels_colours_and_heights(glyphs: Glyphs) -> None:
    figure = token_bars(TABLE, glyphs=glyphs)
    render(figure, "png")
    first, second = figure.axes
    labels = [label.get_text() for label in first.get_xticklabels()]
    drawn = [a for a in first.artists if isinstance(a, AnnotationBbox)]
    named = "" if glyphs.image("🎉") is not None else "party popper"
    assert labels == ["party", named, "crew"]
    assert len(drawn) == (not named)
    assert [bar.get_height() for bar in first.patches] == [0.4, 0.3, 0.1]
    own = [to_hex(bar.get_facecolor()).upper() == trait_colour("extraversion")
           for bar in first.patches]  # fmt: skip
    assert own == [False, True, False]
    assert list(second.lines[0].get_ydata()) == [0.1, 0.1]
    assert "extraversion 1, openness 1" in figure.caption
    assert "the base" not in figure.caption


def test_no_tokens_are_named() -> None:
    with pytest.raises(InputError, match="no token"):
        token_bars(TABLE.iloc[:0])
