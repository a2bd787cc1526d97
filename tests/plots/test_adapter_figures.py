"""Adapter figures hold their results' numbers in the right places, and can be read."""

import numpy as np
import pytest
import torch
from looking import check_legible, words

from interp.adapters import Interpolation, Overlap, PartEffects, SmallestSet
from interp.errors import InputError
from interp.show.plots import (
    adapter_maps,
    esr_curve,
    overlap_matrix,
    smallest_set_curve,
    trait_colour,
)

KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def effects(n_layers=4, kinds=KINDS, measure="necessity", seed=0, **changes):
    """Effects of every module, the first of them certain, and of an unembedding."""
    random = torch.Generator().manual_seed(seed)
    places = [(layer, kind) for layer in range(n_layers) for kind in kinds]
    units = (*(f"layers.{layer}.x.{kind}" for layer, kind in places), "lm_head")
    values = torch.randn(len(units), 12, generator=random)
    values[0] = 3 + 0.1 * values[0]
    facts = {
        "values": values, "base": torch.zeros(12), "tuned": torch.full((12,), 4.0), "units": units,
        "layers": (*(layer for layer, _ in places), None),
        "projections": (*(kind for _, kind in places), "lm_head"), "measure": measure,
        "by": "module", "metric": "emoji log-odds", "unit": "nats", "noise_floor": 1e-4,
        "min_gap": 1e-3, "topics": tuple("abcdefghijkl"), "seed": 0, "notes": (),
    }  # fmt: skip
    return PartEffects(**(facts | changes))


def test_cells_are_mean_effects_on_one_scale_centred_at_zero() -> None:
    results = [effects(measure=m, seed=i) for i, m in enumerate(("necessity", "sufficiency"))]
    figure = adapter_maps(results, "extraversion")
    limits = set()
    for axes, result in zip(figure.axes, results, strict=False):
        image = axes.images[0]
        expected = result.values[:-1].double().mean(1).view(4, 7).numpy()
        np.testing.assert_allclose(image.get_array(), expected, atol=1e-6)
        limits.add((image.norm.vmin, image.norm.vmax))
        assert axes.get_title(loc="left") == result.measure.capitalize()
    ((low, high),) = limits
    assert low == -high < -2.9


def test_only_cells_without_a_finding_are_crossed_out() -> None:
    result = effects()
    axes = adapter_maps([result], "openness").axes[0]
    crossed = {text.get_position() for text in axes.texts if "×" in text.get_text()}
    table = result.summary().dropna(subset="layer")
    wanted = {
        (KINDS.index(line.projection), int(line.layer))
        for line in table.itertuples()
        if line.p_adjusted >= 0.05
    }
    assert crossed == wanted
    assert (0, 0) not in crossed
    assert len(crossed) > 20
    large = adapter_maps([effects(n_layers=12)], "openness").axes[0]
    assert not large.texts
    (marks,) = large.collections
    assert [0.0, 0.0] not in marks.get_offsets().tolist()


def test_below_the_noise_floor_is_crossed_out() -> None:
    axes = adapter_maps([effects(noise_floor=10.0)], "openness").axes[0]
    assert all("×" in text.get_text() for text in axes.texts)


def test_captions_say_what_is_shown() -> None:
    figure = adapter_maps([effects()], "extraversion")
    assert "emoji log-odds (nats) over 12 prompts of 12 topics" in figure.caption
    assert "Necessity: lost when this module alone is taken away" in figure.caption
    assert "from 0.00 to 4.00" in figure.caption
    assert "Outside the blocks: lm_head" in figure.caption
    assert "Largest: necessity layers.0.x.q_proj (2.97)" in figure.alt


@pytest.mark.parametrize("n_layers", [1, 4, 32])
@pytest.mark.parametrize("n_panels", [1, 3])
def test_maps_are_legible_at_any_size(n_layers, n_panels) -> None:
    results = [effects(n_layers, measure=m) for m in ("necessity", "sufficiency", "shapley")]
    check_legible(adapter_maps(results[:n_panels], "neuroticism"))


def test_effects_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="no effects to draw"):
        adapter_maps([], "openness")
    with pytest.raises(InputError, match="by='module'"):
        adapter_maps([effects(by="layer")], "openness")
    with pytest.raises(InputError, match="same modules and the same metric"):
        adapter_maps([effects(), effects(unit="bits")], "openness")
    with pytest.raises(InputError, match="no module inside a layer"):
        adapter_maps([effects(n_layers=0)], "openness")


def interpolation(n=9):
    alphas = tuple(np.linspace(-0.5, 1.5, n).tolist())
    esr = tuple(((int(20 * max(0.0, min(a, 1.0))), 20, 2, 45),) * 2 for a in alphas)
    values = torch.tensor(alphas)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])
    facts = ("emoji log-odds", "nats", 1e-5, ("a", "b", "b"), 0, ())
    return Interpolation(alphas, values, esr, *facts)


def test_curve_of_alpha_holds_rates_and_metric() -> None:
    result = interpolation()
    figure = esr_curve(result, "extraversion")
    left, right = figure.axes
    line = next(line for line in left.lines if len(line.get_xdata()) == 9)
    np.testing.assert_allclose(line.get_xdata(), result.alphas)
    np.testing.assert_allclose(line.get_ydata(), [hits / 20 for ((hits, *_), _) in result.esr])
    assert line.get_color() == trait_colour("extraversion")
    other = next(line for line in right.lines if len(line.get_xdata()) == 9)
    np.testing.assert_allclose(other.get_ydata(), 2 * np.array(result.alphas), atol=1e-6)
    assert "over 40 answers per point" in figure.caption
    assert "over 3 prompts" in figure.caption
    check_legible(figure)
    sentences = esr_curve(result, "extraversion", over="sentence")
    assert "over 90 sentences per point" in sentences.caption
    with pytest.raises(InputError, match="not 'word'"):
        esr_curve(result, "extraversion", over="word")


def smallest(n=4, written=True):
    order = tuple(f"layers.{i}.self_attn.{KINDS[i % 7]}" for i in range(n))
    path = torch.linspace(1, 4, n)[:, None] + torch.tensor([[-0.2, 0.1, 0.1]])
    esr = {"base": ((0, 20, 0, 45),) * 2, "set": ((10, 20, 10, 45),) * 2,
           "tuned": ((15, 20, 16, 45),) * 2}  # fmt: skip
    return SmallestSet(
        order=order, chosen=order[:-1] if n > 1 else order, path=path, kept=path[-1],
        base=torch.zeros(3), tuned=torch.full((3,), 4.4), share=0.9, by="module", n_units=28,
        metric="emoji log-odds", unit="nats", noise_floor=1e-5, topics=("a", "b", "c"), seed=0,
        esr=esr if written else {}, notes=(),
    )  # fmt: skip


@pytest.mark.parametrize("n", [1, 4, 28])
@pytest.mark.parametrize("written", [True, False])
def test_smallest_set_curve(n, written) -> None:
    result = smallest(n, written)
    figure = smallest_set_curve(result, "agreeableness")
    assert len(figure.axes) == 1 + written
    bars = figure.axes[0].containers[0]
    shares = result.path.double().mean(1).numpy() / 4.4
    np.testing.assert_allclose(bars.lines[0].get_ydata(), shares, atol=1e-6)
    assert {"0.q"} <= words(figure)
    if written:
        heights = [patch.get_height() for patch in figure.axes[1].patches]
        assert heights == [0.0, 0.5, 0.75]
        assert {"base", "set", "tuned", "50 %"} <= words(figure)
    assert f"has {len(result.chosen)} of 28 parts" in figure.caption
    assert ("taken out again" in figure.caption) == (n > 1)
    check_legible(figure)


@pytest.mark.parametrize("size", [2, 5])
def test_overlap_matrix(size) -> None:
    names = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")[:size]
    random = np.random.default_rng(0)
    square = random.uniform(-1, 1, (size, size))
    square = torch.from_numpy((square + square.T) / 2).float()
    p = torch.full((size, size), 0.5)
    p[0, 1] = p[1, 0] = 0.01
    result = Overlap(names, (("a",),) * size, square.abs(), square, p, p, 3, 28, "necessity", 99, 0)
    figure = overlap_matrix(result)
    left, right = figure.axes[:2]
    for axes, values in ((left, square), (right, square.abs())):
        shown = np.ma.filled(axes.images[0].get_array(), np.nan)[::-1]
        off = ~np.eye(size, dtype=bool)
        np.testing.assert_allclose(shown[off], values.numpy()[off], atol=1e-6)
        assert np.isnan(np.diag(shown)).all()
        stars = [text for text in axes.texts if "*" in text.get_text()]
        assert {text.get_position() for text in stars} == {(1, size - 1), (0, size - 2)}
    assert left.images[0].norm.vmin == -1
    assert "over 28 modules" in figure.caption
    assert "99 permutations" in figure.caption
    check_legible(figure)
