"""Figures that are too heavy as drawings become images, and only as many as need to."""

import base64
from io import BytesIO

import pytest
from PIL import Image

from interp.base.traits import Trait
from interp.report.blocks import Fold, Maker, Part, Section
from interp.report.lighten import lighten
from interp.show import plots


@pytest.fixture
def sections(tmp_path):
    """Three figures: a map of 32 x 32 heads with a mark in most cells, and two smaller ones."""
    from made_results import lens, patching

    maker = Maker(tmp_path)
    heavy = plots.patching_heads(patching("z", n_layers=32, n_units=32), Trait.OPENNESS)
    light = plots.lens_curves(lens(), Trait.OPENNESS)
    part = Part(
        Trait.OPENNESS, figures=[maker.figure("light", light), maker.figure("heavy", heavy)]
    )
    fold = Fold("x", "X", [maker.figure("folded", plots.lens_heatmap(lens(), "openness"))])
    return [Section("One?", "One.", parts=[part], folds=[fold])]


def blocks(sections):
    boxes = [box for section in sections for box in (*section.parts, *section.folds)]
    return {block.stem: block for box in boxes for block in box.figures}


def test_within_the_budget_every_figure_stays_a_drawing(sections, tmp_path) -> None:
    before = blocks(sections)
    lighten(sections, tmp_path / "figures")
    assert blocks(sections) == before


def test_the_heaviest_gives_way_and_looks_the_same(sections, tmp_path) -> None:
    before = blocks(sections)
    weights = {stem: len(block.uri) for stem, block in before.items()}
    heaviest = max(weights, key=weights.get)
    lighten(sections, tmp_path / "figures", budget=sum(weights.values()) - 1)
    after = blocks(sections)
    assert {stem for stem in after if after[stem] != before[stem]} == {heaviest}
    kind, data = after[heaviest].uri.split(",")
    assert kind == "data:image/png;base64"
    assert len(after[heaviest].uri) < weights[heaviest]
    ours = Image.open(BytesIO(base64.b64decode(data))).convert("RGB")
    file = Image.open(tmp_path / "figures" / f"{heaviest}.png").convert("RGB")
    assert ours.size == file.size
    apart = [abs(a - b) for a, b in zip(ours.tobytes(), file.tobytes(), strict=True)]
    assert sum(apart) / len(apart) < 4, "colours are those of the figure"


def test_no_figure_is_made_heavier(sections, tmp_path) -> None:
    before = blocks(sections)
    lighten(sections, tmp_path / "figures", budget=0)
    weights = {
        stem: (len(before[stem].uri), len(block.uri)) for stem, block in blocks(sections).items()
    }
    assert all(now <= then for then, now in weights.values())
    assert sum(now for _, now in weights.values()) < 0.7 * sum(then for then, _ in weights.values())
