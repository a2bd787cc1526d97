"""Figures over several labels: each panel is the figure of its label, on one scale."""

from itertools import combinations

import numpy as np
import pytest
from made_results import crossed, lens, patching, probe
from test_adapter_figures import effects

from interp.base.traits import TRAITS
from interp.errors import InputError
from interp.show.plots import (
    adapter_maps,
    lens_curves,
    lens_heatmap,
    patching_heads,
    patching_maps,
    probing_curves,
    style,
    text_or_weights,
    trait_colour,
)
from interp.show.plots.lettering import _left_title
from interp.show.plots.parts import multiples

NAMES = [str(trait) for trait in TRAITS[:3]]


def test_curves_of_a_panel_are_those_of_the_labels_own_figure() -> None:
    results = {name: lens(seed=seed) for seed, name in enumerate(NAMES)}
    figure = lens_curves(results)
    panels = {
        axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")
    }
    assert list(panels) == [name.capitalize() for name in NAMES]
    for name, result in results.items():
        own = lens_curves(result, name).axes[0]
        for line, other in zip(panels[name.capitalize()].lines, own.lines, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), other.get_ydata())
            assert line.get_color() == other.get_color()
    assert len({axes.get_ylim() for axes in panels.values()}) == 1
    gaps = [
        lens_curves(result).caption.split("tuned minus base: ")[1] for result in results.values()
    ]
    assert all(gap.split(" nats")[0] in figure.caption for gap in gaps)


def test_scores_of_a_panel_are_those_of_the_labels_own_figure() -> None:
    results = {name: probe(seed=seed) for seed, name in enumerate(NAMES)}
    figure = probing_curves(results)
    for axes, name in zip(figure.axes, NAMES, strict=True):
        lines = {line.get_color() for line in axes.lines}
        assert trait_colour(name) in lines
        scores = [list(line.get_ydata()) for line in axes.lines]
        assert results[name].auroc[1].double().tolist() in scores


@pytest.mark.parametrize("kind", ["heads", "maps", "adapter", "lens"])
def test_maps_of_all_labels_have_one_scale_that_holds_each(kind) -> None:
    draw = {
        "heads": lambda some: patching_heads({n: patching("z", seed=i) for i, n in some}),
        "maps": lambda some: patching_maps(
            {n: [patching(site, seed=i) for site in ("attn_out", "mlp_out")] for i, n in some}
        ),
        "adapter": lambda some: adapter_maps({n: effects(seed=i) for i, n in some}),
        "lens": lambda some: lens_heatmap({n: lens(seed=i) for i, n in some}),
    }[kind]
    whole = [axes.images[0] for axes in draw(list(enumerate(NAMES))).axes if axes.images]
    alone = [
        image
        for one in enumerate(NAMES)
        for image in (axes.images[0] for axes in draw([one]).axes if axes.images)
    ]
    assert len(whole) == len(alone)
    for image, other in zip(whole, alone, strict=True):
        np.testing.assert_array_equal(image.get_array(), other.get_array())
    (limit,) = {image.norm.vmax for image in whole}
    assert limit == max(image.norm.vmax for image in alone)


def test_a_label_that_lacks_a_site_leaves_its_panel_empty() -> None:
    some = {NAMES[0]: [patching("attn_out"), patching("mlp_out")], NAMES[1]: [patching("mlp_out")]}
    axes = patching_maps(some).axes
    assert [bool(one.images) for one in axes[:4]] == [True, True, False, True]


def test_more_labels_than_fit_side_by_side_go_below() -> None:
    with style():
        figure, panels = multiples(7, 2.0, (2, 1))
    assert len(panels) == 7
    assert {len(panel) for panel in panels} == {2}
    seen = [axes for axes in figure.axes if axes.get_visible()]
    assert len(seen) == 14
    assert len({axes.get_subplotspec().rowspan.start for axes in seen}) == 4
    with pytest.raises(InputError, match="no result to draw"):
        lens_curves({})


def test_titles_of_many_labels_do_not_run_into_each_other() -> None:
    """Ten labels of several words in two rows; a word alone that fits its panel is not broken."""
    names = [f"{trait} with end" for trait in TRAITS]
    names += ["conscientiousness", "a" * 40, "b1", "c1", "d1"]
    results = {name: crossed([0.01, 0.02, 0.03, 0.04]) for name in names}
    for figure in (text_or_weights(results), lens_curves({n: lens() for n in names})):
        figure.draw_without_rendering()
        titles = [_left_title(axes) for axes in figure.axes if axes.get_title("left")]
        assert len(titles) == 10
        assert titles[5].get_text() == "Conscientiousness"
        boxes = [title.get_window_extent() for title in titles]
        for one, other in combinations(boxes, 2):
            assert not one.overlaps(other)
        assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_rare_emojis_are_drawn_in_powers_of_ten() -> None:
    rare, common = crossed([1e-4, 0.02, 1e-5, 0.001]), crossed([0.01, 0.6, 0.02, 0.9])
    assert text_or_weights(rare).axes[0].get_yscale() == "log"
    assert "powers of ten" in text_or_weights(rare).caption
    assert text_or_weights({"aa": rare, "bb": common}).axes[0].get_yscale() == "linear"
