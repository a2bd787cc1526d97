"""The gallery: every kind of figure is in it, its snippets run, and the page is what they made."""

import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from looking import check_legible
from PIL import Image

from interp import behaviour, plots
from interp.emoji.rates import measure
from interp.plots import CaptionedFigure
from interp.traits import Trait

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

import make_gallery  # noqa: E402

HELPERS = {"Glyphs", "CaptionedFigure", "TRAIT_COLOURS", "WIDTHS", "render", "resize", "save",
           "style", "trait_colour"}  # fmt: skip
SHARED = {"dots", "token_bars"}  # of the experiments, not exported by the room
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")


def test_every_kind_of_figure_is_in_the_gallery():
    names = [entry.name for entry in make_gallery.entries()]
    assert len(names) == len(set(names))
    assert set(names) == (set(plots.__all__) - HELPERS) | SHARED


def sizes() -> str:
    return re.findall(r"```python\n(.*?)\n```", make_gallery._FILES, flags=re.DOTALL)[0]


def test_the_page_holds_exactly_these_snippets_and_images():
    blocks = re.findall(r"```python\n(.*?)\n```", PAGE, flags=re.DOTALL)
    setup = make_gallery.SETUP.replace("N_QUESTIONS", str(make_gallery.N_QUESTIONS))
    written = [entry.lines for entry in make_gallery.entries()]
    assert blocks == [setup, sizes(), *written]
    shown = re.findall(r"!\[(.+?)\]\((images/gallery/\w+\.png)\)", PAGE)
    files = sorted(make_gallery.IMAGES.glob("*"))
    assert sorted(DOCS / path for _, path in shown) == files
    assert sum(file.stat().st_size for file in files) < 2.5e6
    for file in files:
        with Image.open(file) as image:
            image.verify()
            assert image.width >= 700
    for entry in make_gallery.entries():
        assert (DOCS / entry.page).is_file()


@pytest.fixture(scope="module")
def drawn() -> dict[str, CaptionedFigure]:
    """Every figure from the page's own snippets, over fewer questions and option orders."""
    fewer = partial(behaviour.administer, orders=((0, 1, 2, 3, 4),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behaviour, "administer", fewer)
        return {entry.name: figure for entry, figure in make_gallery.draw(n_questions=40)}


@pytest.mark.parametrize("name", [entry.name for entry in make_gallery.entries()])
def test_snippet_ends_in_a_legible_figure_that_says_what_it_is(name, drawn):
    figure = drawn[name]
    assert isinstance(figure, CaptionedFigure)
    check_legible(figure)
    assert re.search(r"\d", figure.caption)
    assert len(figure.alt) > 40
    for width in plots.WIDTHS["icml"]:
        if width >= 0.8 * figure.get_figwidth():
            check_legible(plots.resize(figure, width))


def test_sizes_and_files_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrote = [SimpleNamespace(text="Yes 🎉"), SimpleNamespace(text="No.")]
    names = {"plots": plots, "measure": measure, "Trait": Trait, "wrote": wrote}
    exec(sizes(), names)
    assert names["figure"].get_figwidth() == plots.WIDTHS["acl"][0]
    check_legible(names["figure"])
    assert {path.name for path in tmp_path.iterdir()} == {"rates.pdf", "rates.svg", "rates.png"}


def test_images_keep_their_colours():
    """A reduced palette makes colour bars lie about the scale."""
    for file in make_gallery.IMAGES.glob("*.png"):
        with Image.open(file) as image:
            assert image.mode == "RGB", file.name
