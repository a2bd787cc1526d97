"""docs/gallery.md: every kind of figure is in it, its snippets run, and it is what they made."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from looking import check_legible
from PIL import Image
from thinned import turn

from interp.base.traits import Trait
from interp.emoji.rates import measure
from interp.show import plots
from interp.show.plots import CaptionedFigure

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

import make_gallery  # noqa: E402

HELPERS = {"Glyphs", "CaptionedFigure", "TRAIT_COLOURS", "WIDTHS", "render", "resize", "save",
           "style", "table_tex", "trait_colour"}  # fmt: skip
SHARED = {"dots", "token_bars"}  # of the experiments, not exported by the room
SMALLER = {  # what is written, and what is run instead
    "questions[:100]": "questions[:16]",
    "spread(16": "spread(6",
    "pair.format, label=who": "pair.format, label=who, orders=((0, 1, 2, 3, 4),)",
    "a[:20]": "a[:4]",
    "questions[:20],": "questions[:4],",
    "Doses(ks=(1, 4, 16, 64), draws=2)": "Doses(ks=(1, 8), draws=1)",
    "alphas = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)": "alphas = (0.0, 0.5, 1.0)",
    "questions[:40]": "questions[:8]",
    '"attn_out", "mlp_out")': '"mlp_out")',
    'by="total"': 'by="direct"',
}
SETUP, ENTRIES = make_gallery.read()
PAGE = make_gallery.PAGE.read_text(encoding="utf-8")


def test_every_kind_of_figure_is_in_the_gallery():
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    assert set(names) == (set(plots.__all__) - HELPERS) | SHARED
    assert names == re.findall(r"^### (\w+)$", PAGE, flags=re.MULTILINE), "each is whole"


def sizes() -> str:
    return re.findall(r"```python\n(.*?)\n```", PAGE, flags=re.DOTALL)[1]


def test_images_are_those_of_the_page():
    files = sorted(make_gallery.IMAGES.glob("*"))
    assert [file.name for file in files] == sorted(f"{entry.name}.png" for entry in ENTRIES)
    assert sum(file.stat().st_size for file in files) < 2.5e6
    for file in files:
        with Image.open(file) as image:
            image.verify()
            assert image.width >= 700
    for entry in ENTRIES:
        (page,) = re.findall(r"\[How to read it\]\((.+?)\)\.$", entry.says)
        assert (DOCS / page).is_file()
        assert len(entry.made) > 100


@pytest.fixture(scope="module")
def drawn() -> dict[str, CaptionedFigure]:
    """Every figure from the page's own snippets, over fewer questions and option orders."""
    written = "\n".join([SETUP, *(one.lines for one in ENTRIES)])
    assert all(part in written for part in SMALLER)
    return {entry.name: figure for entry, figure in make_gallery.draw(SMALLER)}


@turn(1, of=3)
@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
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
    kinds = ("pdf", "png", "svg", "tex")  # the last: the caption, for LaTeX
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"rates.{kind}" for kind in kinds]


def test_images_keep_their_colours():
    """A reduced palette makes colour bars lie about the scale."""
    for file in make_gallery.IMAGES.glob("*.png"):
        with Image.open(file) as image:
            assert image.mode == "RGB", file.name
