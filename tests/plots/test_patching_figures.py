"""Patching maps hold recovery (or loss) in the right cells, and probing curves the scores."""

import numpy as np
import pandas as pd
import pytest
from looking import check_legible, words
from made_results import patching, probe
from matplotlib.collections import PathCollection

from interp.errors import InputError
from interp.show.plots import patching_heads, patching_maps, probing_curves, trait_colour
from interp.show.plots.patching import most_shown

SITES = ("resid_pre", "attn_out", "mlp_out")


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_cells_are_mean_recovery_or_loss_centred_at_zero(direction) -> None:
    results = [patching(site, direction, seed=i) for i, site in enumerate(SITES)]
    figure = patching_maps(results, "openness", last=16)
    scales = set()
    for axes, result in zip(figure.axes, results, strict=False):
        shown = np.ma.filled(axes.images[0].get_array(), np.nan)
        expected = np.full((4, 16), np.nan)
        for column in range(16):
            use = result.present[column + 4] & result.defined
            moved = (result.values[:, column + 4] - result.corrupted)[:, use].double()
            gap = (result.clean - result.corrupted)[use].double()
            mean = (moved.sum(1) / gap.sum()).numpy()
            expected[:, column] = mean if direction == "denoising" else 1 - mean
        np.testing.assert_allclose(shown, expected, atol=1e-5)
        norm = axes.images[0].norm
        scales.add((norm.vmin, norm.vmax))
    ((low, high),) = scales
    assert low == -high
    assert high >= np.nanmax(np.abs(expected)) - 1e-5


def test_figures_side_by_side_have_one_scale_and_say_their_direction() -> None:
    results = [
        patching("z", way, n_units=4, seed=seed)
        for seed, way in enumerate(("denoising", "noising"))
    ]
    limit = most_shown(results)
    figures = [patching_heads(result, "openness", limit=limit) for result in results]
    assert {figure.axes[0].images[0].norm.vmax for figure in figures} == {limit}
    alone = [patching_heads(result).axes[0].images[0].norm.vmax for result in results]
    assert limit == max(alone) > min(alone)
    titles = {figure.axes[0].get_title(loc="left") for figure in figures}
    assert len(titles) == 2
    assert "Head (n = 11 prompts)" in words(figures[0])


def test_captions_name_unit_counts_and_contrast() -> None:
    caption = patching_maps([patching(site) for site in SITES], "openness").caption
    assert "11 prompts (1 left out" in caption
    assert "emoji log-odds (nats)" in caption
    assert "tuned model put into the base" in caption
    assert "clean 3.00, corrupted −4.00 nats" in caption
    heads = patching_heads(patching("z", "noising", "prompt", n_units=4), "openness").caption
    assert "loss (1 − recovery)" in heads
    assert "put into its run on the first of two texts (clean)" in heads


def test_an_empty_column_is_hatched_and_not_drawn_as_zero() -> None:
    figure = patching_maps([patching("resid_pre")], "openness", last=20)
    shown = figure.axes[0].images[0].get_array()
    assert shown.mask[:, 0].all()
    assert not shown.mask[:, 1:].any()
    assert figure.axes[0].patch.get_hatch()


def test_dots_mark_the_significant_cells_in_their_places() -> None:
    result = patching("resid_pre")
    summary = pd.DataFrame(
        {"layer": [2, 3, 1], "pos": [19, 10, 3], "p_adjusted": [0.01, 0.2, 0.01]}
    )
    figure = patching_maps([result], "openness", last=16, summaries=[summary])
    (dots,) = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    assert dots.get_offsets().tolist() == [[15, 2]]  # the second is not, the third out of view
    assert "false discovery rate" in figure.caption


@pytest.mark.parametrize(("n_layers", "n_heads"), [(1, 1), (4, 4), (32, 32), (80, 64)])
def test_maps_are_legible_at_any_size(n_layers, n_heads) -> None:
    heads = patching("z", n_layers=n_layers, n_units=max(n_heads, 2))
    figure = patching_heads(heads, "neuroticism")
    check_legible(figure)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, heads.mean_recovery().numpy(), rtol=1e-5)
    maps = patching_maps([patching(site, n_layers=n_layers) for site in SITES], "neuroticism")
    check_legible(maps)
    assert {"Residual stream", "Attention output", "MLP output", "0"} <= words(maps)


def test_sweeps_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="differ in their site only"):
        patching_maps([patching(), patching(direction="noising")], "openness")
    with pytest.raises(InputError, match="sweeps over pos"):
        patching_maps([patching("z", n_units=4)], "openness")
    with pytest.raises(InputError, match="no patching result"):
        patching_maps([], "openness")


@pytest.mark.parametrize(("measure", "n_classes"), [("auroc", 2), ("accuracy", 2), ("accuracy", 5)])
def test_probing_curves_hold_scores_chance_floor_and_control(measure, n_classes) -> None:
    result = probe(n_classes)
    figure = probing_curves(result, "agreeableness", measure)
    axes = figure.axes[0]
    for read, bars in zip(("base", "tuned", "base→tuned"), axes.containers, strict=True):
        row = result.reads.index(read)
        score = getattr(result, measure)[row].double().numpy()
        np.testing.assert_allclose(bars.lines[0].get_ydata(), score)
        ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
        low = getattr(result, f"{measure}_low")[row].double().numpy()
        np.testing.assert_allclose(ends[:, 0], np.minimum(low, score))
    chance = 0.5 if measure == "auroc" else 1 / n_classes
    assert list(axes.lines[0].get_ydata()) == [chance, chance]
    floor = getattr(result, f"shuffled_{measure}").numpy()
    drawn = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert drawn.min() == pytest.approx(floor.min())
    assert drawn.max() == pytest.approx(floor.max())
    control = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert len(control) == (measure == "accuracy")
    for line in control:
        np.testing.assert_allclose(line.get_ydata(), result.control_accuracy[1].double())
    assert axes.containers[1].lines[0].get_color() == trait_colour("agreeableness")
    assert f"chance {chance:.2f}" in figure.caption
    assert "60 examples of 10 topics" in figure.caption
    check_legible(figure)
