"""Colours, colour ranges, and files that are the same each time."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from made_results import lens
from PIL import Image

from interp.errors import InputError, TraitError
from interp.plots import TRAIT_COLOURS, lens_curves, render, save, style, trait_colour
from interp.plots.style import new_figure, symmetric_range
from interp.traits import TRAITS


def test_every_trait_has_a_colour_of_its_own_and_keeps_it() -> None:
    assert len(set(TRAIT_COLOURS.values())) == len(TRAITS) == len(TRAIT_COLOURS)
    assert trait_colour("E") == trait_colour("extraversion") == "#E69F00"
    with pytest.raises(TraitError):
        trait_colour("humour")


def test_settings_hold_inside_the_block_only() -> None:
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["svg.hashsalt"] == "interp"
        figure = new_figure(2.0, 2.0)
        figure.subplots()
    render(figure, "svg")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("file_format", ["png", "svg", "pdf"])
def test_the_same_result_gives_the_same_bytes(file_format) -> None:
    first, second = (render(lens_curves(lens(), "openness"), file_format) for _ in range(2))
    assert first == second
    assert first != render(lens_curves(lens(seed=1), "openness"), file_format)


def test_files_hold_no_date_and_fetch_nothing(tmp_path) -> None:
    png, svg = save(lens_curves(lens(), "openness"), tmp_path / "deep" / "a.b")
    assert (png.name, svg.name) == ("a.b.png", "a.b.svg")
    with Image.open(png) as image:
        assert image.size == (700, 660)  # 3.5 by 3.3 inches at 200 dpi
        assert "Software" not in image.info
    text = svg.read_text()
    assert not re.search(r"<dc:date>|\b20\d\d-\d\d-\d\dT", text)
    assert not re.search(r'href="(?!#|data:)', text)
    assert "<text" not in text  # paths: the same on every machine


def test_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="use png, svg or pdf"):
        render(new_figure(1.0, 1.0), "gif")


def test_signed_range_is_centred_and_holds_all() -> None:
    scale = symmetric_range(np.array([0.5, np.nan]), np.array([[-2.0, 1.0]]))
    assert (scale.vmin, scale.vmax) == (-2.0, 2.0)
    assert symmetric_range(np.zeros(3)).vmax == 1.0
    with pytest.raises(InputError, match="no finite value"):
        symmetric_range(np.array([np.nan]))
