"""Colours, colour ranges, and files that are the same each time."""

import re
from io import BytesIO
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from looking import check_legible, texts
from made_results import lens
from matplotlib.colors import to_rgb
from PIL import Image
from thinned import thinned

from interp.base.traits import TRAITS, Trait
from interp.errors import InputError, TraitError
from interp.show.plots import (
    TRAIT_COLOURS,
    WIDTHS,
    lens_curves,
    render,
    resize,
    save,
    style,
    trait_colour,
)
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    LABEL_COLOURS,
    TRAIT_MARKS,
    among,
    colours_of,
    marks_of,
    new_figure,
    settle,
    symmetric_range,
    trait_mark,
)


def test_every_trait_has_a_colour_of_its_own_and_keeps_it() -> None:
    assert len(set(TRAIT_COLOURS.values())) == len(TRAITS) == len(TRAIT_COLOURS)
    assert trait_colour("E") == trait_colour("extraversion") == "#E69F00"
    with pytest.raises(TraitError):
        trait_colour("a/b")


def test_other_labels_have_looks_of_a_palette_and_differ_within_a_report() -> None:
    labels = [Trait.parse(f"label {n}") for n in range(6)]
    assert trait_colour(labels[0]) == trait_colour("Label 0") in LABEL_COLOURS
    with among([Trait.OPENNESS, *labels]):
        assert {trait_colour(label) for label in labels} == set(LABEL_COLOURS)
        assert len({trait_mark(label) for label in labels}) == 6
        assert trait_colour("O") == TRAIT_COLOURS[Trait.OPENNESS]
    with among(labels[1:]):
        assert trait_colour(labels[1]) == LABEL_COLOURS[0]
    assert not {*TRAIT_COLOURS.values(), BASE_COLOUR} & set(LABEL_COLOURS)


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SEEN_BY = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
    "all cones": np.eye(3),
}  # fmt: skip
_TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour: str, sight: str) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as it is seen."""
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = _TO_XYZ @ np.clip(SEEN_BY[sight] @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SEEN_BY)
def test_traits_stay_apart_for_every_sight(sight) -> None:
    """A difference of 2.3 is just noticed; in small marks one wants several times as much."""
    colours = [*TRAIT_COLOURS.values(), BASE_COLOUR]
    pairs = combinations([lab(colour, sight) for colour in colours], 2)
    assert min(float(np.linalg.norm(one - other)) for one, other in pairs) > 15


def test_traits_and_the_base_have_shapes_of_their_own() -> None:
    assert len({BASE_MARK, *TRAIT_MARKS.values()}) == 1 + len(TRAITS)
    names = ["base", "QLoRA", *map(str, TRAITS), "prompt"]
    assert len(set(marks_of(names).values())) == len(set(colours_of(names).values())) == 8
    assert colours_of(names)["base"] == BASE_COLOUR


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_contrast_against_white() -> None:
    """Bars and lines of 1.5 points; WCAG asks for 3 where only colour marks a thing.

    Extraversion's orange lies below that, which is why every trait has a shape of its own, and why
    no text is set in a trait's colour but the counts under a curve.
    """
    contrast = {trait: 1.05 / (luminance(c) + 0.05) for trait, c in TRAIT_COLOURS.items()}
    assert 1.05 / (luminance(BASE_COLOUR) + 0.05) > 4.5
    assert min(contrast.values()) > 2.1
    assert [trait for trait, value in contrast.items() if value < 3] == ["extraversion"]


@pytest.mark.parametrize("venue", thinned(list(WIDTHS), keep=2))
def test_a_figure_takes_a_venues_width_and_keeps_its_type(venue) -> None:
    for width in WIDTHS[venue]:
        figure = lens_curves(lens(), "openness")
        sizes = sorted(text.get_fontsize() for text in texts(figure))
        resized = resize(figure, width)
        check_legible(resized)
        assert sorted(text.get_fontsize() for text in texts(resized)) == sizes
        with Image.open(BytesIO(render(resized, "png"))) as image:
            assert image.width == pytest.approx(200 * width, abs=1)
    with pytest.raises(InputError, match="too small for the type"):
        resize(figure, 1.0)


def test_a_drawn_figure_makes_room_anew_when_it_is_resized() -> None:
    figure = lens_curves(lens(), "openness")
    settle(figure)
    check_legible(resize(figure, 6.0, 2.5))


def test_pdf_embeds_its_fonts_as_truetype() -> None:
    pdf = render(lens_curves(lens(), "openness"), "pdf")
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


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
    png, svg, tex = save(lens_curves(lens(), "openness"), tmp_path / "deep" / "a.b")
    assert (png.name, svg.name, tex.name) == ("a.b.png", "a.b.svg", "a.b.tex")
    assert tex.read_text().startswith(r"\caption{Emoji log-odds (nats) that")
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
