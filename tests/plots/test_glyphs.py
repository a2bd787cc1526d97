"""Emojis in figures: an image or the CLDR name, with the machine's font and without one."""

import warnings

import matplotlib
import numpy as np
import pytest
from looking import check_legible, words
from matplotlib.offsetbox import AnnotationBbox

from interp.emoji import name
from interp.errors import InputError
from interp.organism.grammar import EMOJIS
from interp.show.plots import Glyphs, render, style
from interp.show.plots.glyphs import label_axis
from interp.show.plots.style import new_figure

ORGANISM = [emoji for emojis in EMOJIS.values() for emoji in emojis]
HARD = ["👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "1️⃣", "☀️", "☀", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]


def drawn(glyphs: Glyphs, which: str, emojis: list[str]):
    with style():
        figure = new_figure(7.2, 6.5)
        axes = figure.subplots()
        axes.plot(range(len(emojis)), range(len(emojis)))
        axes.set(xlim=(-1, len(emojis)), ylim=(-1, len(emojis)))
        label_axis(axes, which, emojis, glyphs=glyphs)
    return figure


@pytest.mark.parametrize("which", ["x", "y"])
def test_without_a_font_every_emoji_is_its_cldr_name(which) -> None:
    figure = drawn(Glyphs(None), which, ORGANISM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns "Glyph ... missing" of an empty box
        shown = words(figure)
        render(figure, "svg")
    assert {name(emoji) for emoji in ORGANISM} <= shown
    assert not any(emoji in text for emoji in ORGANISM for text in shown)
    assert not figure.findobj(AnnotationBbox)
    check_legible(figure)


@pytest.mark.parametrize("which", ["x", "y"])
def test_with_the_machines_font_every_emoji_is_an_image_or_a_name(which) -> None:
    glyphs = Glyphs.find()
    figure = drawn(glyphs, which, ORGANISM + HARD)
    shown = words(figure)
    images = [emoji for emoji in ORGANISM + HARD if glyphs.image(emoji) is not None]
    assert len(figure.findobj(AnnotationBbox)) == len(images)
    assert {name(e) for e in ORGANISM + HARD if e not in images} <= shown
    if glyphs.path is not None:
        assert set(ORGANISM) <= set(images)


def test_images_are_coloured_and_no_box() -> None:
    glyphs = Glyphs.find()
    if glyphs.path is None:
        pytest.skip("this machine has no colour emoji font")
    images = {emoji: glyphs.image(emoji) for emoji in ORGANISM}
    for image in images.values():
        assert image is not None
        opaque = image[image[..., 3] > 200][:, :3].astype(int)
        assert np.ptp(opaque, axis=1).max() > 60, "grey: no colour glyph"
    assert len({image.tobytes() for image in images.values()}) == len(ORGANISM), "boxes are alike"
    assert glyphs.image("\U0010fffe") is None, "a missing glyph is no image"
    assert glyphs.image("😀😀") is None, "two glyphs side by side are no image of one emoji"


def test_a_font_without_emojis_gives_names_and_never_its_missing_box() -> None:
    glyphs = Glyphs(f"{matplotlib.get_data_path()}/fonts/ttf/cmr10.ttf")
    assert all(glyphs.image(emoji) is None for emoji in ORGANISM)
    assert {name(emoji) for emoji in ORGANISM} <= words(drawn(glyphs, "y", ORGANISM))


def test_a_broken_font_is_refused(tmp_path) -> None:
    path = tmp_path / "no.ttf"
    path.write_bytes(b"not a font")
    with pytest.raises(InputError, match="colour emoji font"):
        Glyphs(path)
