"""Lens and origin figures hold the numbers of their results."""

from dataclasses import replace

import numpy as np
import pytest
from looking import check_legible, words
from made_results import lens, origin

from interp.base.traits import TRAITS
from interp.show.plots import lens_curves, lens_heatmap, text_or_weights, trait_colour
from interp.show.plots.parts import reading_names


@pytest.mark.parametrize("quantity", ["log_odds", "probability", "log10_rank"])
def test_curves_are_the_means_of_the_result(quantity) -> None:
    result = lens()
    figure = lens_curves(result, "neuroticism", quantity)
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    for model, reading in (("base", result.base), ("tuned", result.tuned)):
        expected = reading.at_onset(quantity).double().mean(1).numpy()
        np.testing.assert_allclose(lines[model].get_ydata(), expected, rtol=1e-6)
    gap = (result.tuned.at_onset(quantity) - result.base.at_onset(quantity)).double().mean(1)
    below = {line.get_label(): line for line in figure.axes[1].lines}["tuned − base"]
    np.testing.assert_allclose(below.get_ydata(), gap.numpy(), rtol=1e-5, atol=1e-7)
    assert lines["tuned"].get_color() == trait_colour("neuroticism")
    table = result.by_layer(quantity)
    base = table[table["model"] == "base"]
    corners = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(base["low"].min())
    assert corners.max() == pytest.approx(base["high"].max())


def test_curves_say_what_over_how_many_in_which_unit() -> None:
    figure = lens_curves(lens(n=12), "openness", clusters=[f"t{i % 4}" for i in range(12)])
    assert "12 prompts" in figure.caption
    assert "nats" in figure.caption
    assert "4 topics" in figure.caption
    assert "95 % interval" in figure.caption
    assert "openness" in figure.alt
    assert "Emoji log-odds (nats)" in words(figure)


@pytest.mark.parametrize("n_layers", [4, 32])
def test_heatmap_cells_are_means_over_prompts(n_layers) -> None:
    result = lens(n_layers)
    figure = lens_heatmap(result, "agreeableness", last=16)
    for axes, run in zip(figure.axes[:2], (0, 1), strict=True):
        shown = np.asarray(axes.images[0].get_array())
        assert shown.shape == (n_layers + 1, 16)
        for step in (1, 9, 13):  # 13 from the end: three prompts are padding there
            rows = result.valid[:, -step]
            expected = result.log_odds[run][:, rows, -step].double().mean(1).numpy()
            np.testing.assert_allclose(shown[:, -step], expected, rtol=1e-6)
        norm = axes.images[0].norm
        assert norm.vmin == -norm.vmax
        assert norm is figure.axes[0].images[0].norm, "one scale for both panels"
    assert "9 to 12 prompts" in figure.caption
    assert "nats" in figure.caption
    check_legible(figure)


def test_the_embedding_does_not_set_the_colours_of_a_heatmap() -> None:
    result = lens()
    low = result.log_odds.clone()
    low[:, 0] = -50.0
    figure = lens_heatmap(replace(result, log_odds=low), "agreeableness")
    image = figure.axes[0].images[0]
    onset = [np.asarray(axes.images[0].get_array())[1:, -1] for axes in figure.axes[:2]]
    assert image.norm.vmax == pytest.approx(np.abs(onset).max())
    assert f"±{image.norm.vmax:.1f} nats" in figure.caption
    assert figure.axes[1].images[0].colorbar.extend in ("min", "both"), (
        "the bar says that cells lie below it"
    )
    check_legible(figure)


@pytest.mark.parametrize("n_layers", [1, 4, 13, 32, 80])
def test_curves_are_legible_at_any_depth(n_layers) -> None:
    check_legible(lens_curves(lens(n_layers), "conscientiousness"))


def test_reading_points_are_named_for_people() -> None:
    assert reading_names(("embedding", "0", "1", "final")) == ["embed", "0", "1", "2"]
    assert reading_names(("embedding", "final")) == ["embed", "0"]
    with_mid = ("embedding", "0.mid", "0", "1.mid", "final")
    assert reading_names(with_mid) == ["embed", "0 mid", "0", "1 mid", "1"]


@pytest.mark.parametrize("traits", [TRAITS, TRAITS[:1]])
def test_text_or_weights_shows_the_four_means(traits) -> None:
    results = {trait: origin(seed=i) for i, trait in enumerate(traits)}
    figure = text_or_weights(results)
    for axes, (trait, result) in zip(figure.axes, results.items(), strict=True):
        assert axes.get_title(loc="left").lower() == trait
        by_base, by_tuned = (bars.lines[0].get_ydata() for bars in axes.containers)
        means = result.probability.double().mean(-1).numpy()
        np.testing.assert_allclose(by_base, means[:, 0], rtol=1e-5)
        np.testing.assert_allclose(by_tuned, means[:, 1], rtol=1e-5)
    assert "40 answers per writer" in figure.caption
    assert "softmax mass" in figure.caption
    check_legible(figure)
