"""Figures of attribution and neurons hold the results' own numbers, in their places."""

import numpy as np
import pytest
import torch
from looking import check_legible, words

from interp.attribution import Attribution
from interp.errors import InputError
from interp.neurons import DoseCurve, NeuronShift
from interp.show.plots import (
    attribution_components,
    attribution_heads,
    dose_curve,
    neuron_shift,
    trait_colour,
)


def attribution(by="component", n_layers=4, n_heads=6, runs=("base", "tuned"), n=12):
    names = ["input"]
    for layer in range(n_layers):
        split = by == "head" and layer != 1
        names += [f"a{layer}.h{h}" for h in range(n_heads)] if split else [f"a{layer}"]
        names.append(f"m{layer}")
    names.append("bias")
    generator = torch.Generator().manual_seed(0)
    values = 0.2 * torch.randn(len(runs), len(names), n, generator=generator)
    values[-1, names.index("m2")] += 3
    return Attribution(
        values=values, total=values.sum(1), metric_values=values.sum(1) - 2, names=tuple(names),
        runs=runs, by=by, direction="path", unexplained=1e-6, contrast="model",
        metric="emoji log-odds", unit="nats",
    )  # fmt: skip


def shifted(n_neurons=80):
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(1, 22, n_neurons, generator=generator)
    tuned = base + 0.1 * torch.randn(1, 22, n_neurons, generator=generator)
    tuned[:, :12, 7] += 6
    tuned[:, 12:, 9] -= 5
    topics = tuple(f"topic {i % 6}" for i in range(22))
    kinds = ("trait",) * 12 + ("emoji",) * 10
    return NeuronShift(torch.cat((base, tuned)), kinds, topics, 3)


def curve(n=40, n_prompts=12, draws=3, answers=True):
    ks = (1, 4, 16, 64)
    generator = torch.Generator().manual_seed(2)
    share = torch.full((2, 1 + draws, len(ks)), 0.9)
    share[:, 0] = torch.tensor([0.8, 0.5, 0.2, 0.05])
    wrote = (torch.rand(2, 1 + draws, len(ks), n, generator=generator) < share[..., None]).float()
    noise = torch.randn(2, 1 + draws, len(ks), n_prompts, generator=generator)
    odds = noise + 4 * share[..., None]
    wrote[:, 1:, -1] = odds[:, 1:, -1] = torch.nan
    return DoseCurve(
        wrote=wrote if answers else wrote[..., :0],
        log_odds=odds,
        wrote_before=torch.ones(n if answers else 0),
        log_odds_before=torch.full((n_prompts,), 4.0),
        control_size=torch.ones(draws, len(ks)),
        ks=ks,
        usings=("mean", "zero"),
        neurons=tuple((layer, i) for layer in (1, 2) for i in range(32)),
        topics=tuple(f"topic {i % 9}" for i in range(n if answers else 0)),
        prompt_topics=tuple(f"topic {i % 5}" for i in range(n_prompts)),
        metric="emoji log-odds",
        unit="nats",
        seed=0,
    )


def test_bars_are_the_means_of_their_component_and_run() -> None:
    result = attribution()
    figure = attribution_components(result, "openness", clusters=list("abcdef") * 2)
    upper, lower = figure.axes[1], figure.axes[3]  # the MLP's column
    bars = upper.containers
    for bar, run in zip(bars, (0, 1), strict=True):
        heights = [patch.get_height() for patch in bar]
        wanted = [float(result.of(f"m{layer}")[run].mean()) for layer in range(4)]
        np.testing.assert_allclose(heights, wanted, atol=1e-6)
    gaps = [patch.get_height() for patch in lower.containers[0]]
    wanted = [float((result.of(f"m{i}")[1] - result.of(f"m{i}")[0]).mean()) for i in range(4)]
    np.testing.assert_allclose(gaps, wanted, atol=1e-6)
    table = result.summary(clusters=list("abcdef") * 2).set_index("name")
    ends = [segment[:, 1] for segment in lower.collections[0].get_segments()]
    np.testing.assert_allclose(ends[2], table.loc["m2", ["low", "high"]].to_numpy(dtype=float))
    assert upper.containers[1][0].get_facecolor()[:3] != upper.containers[0][0].get_facecolor()[:3]
    assert "12 prompts" in figure.caption
    assert "6 topics" in figure.caption
    assert "at m2" in figure.alt
    check_legible(figure)


def test_head_maps_share_a_scale_and_hatch_what_was_not_split() -> None:
    result = attribution("head")
    figure = attribution_heads(result, "openness")
    images = [axes.images[0] for axes in figure.axes[:3]]
    for image, run in zip(images[:2], (0, 1), strict=True):
        shown = np.ma.filled(image.get_array(), np.nan)
        assert np.isnan(shown[1]).all()
        np.testing.assert_allclose(shown[2, 5], float(result.of("a2.h5")[run].mean()), atol=1e-6)
    gap = images[2].get_array()[2, 5]
    assert gap == pytest.approx(
        float(images[1].get_array()[2, 5] - images[0].get_array()[2, 5]), abs=1e-6
    )
    assert len({(image.norm.vmin, image.norm.vmax) for image in images}) == 1
    check_legible(figure)


@pytest.mark.parametrize("n_layers", [4, 32])
def test_deep_models_stay_legible(n_layers) -> None:
    check_legible(attribution_components(attribution(n_layers=n_layers), "neuroticism"))
    heads = attribution("head", n_layers, 32, runs=("corrupted", "clean"))
    figure = attribution_heads(heads, "neuroticism")
    check_legible(figure)
    assert {"Corrupted", "Clean", "Clean − corrupted"} <= words(figure)


def test_shift_scatter_names_what_moved() -> None:
    result = shifted()
    figure = neuron_shift(result, "extraversion", named=1)
    table = result.summary()
    for axes, kind, name in zip(figure.axes, ("trait", "emoji"), ("n7", "n9"), strict=True):
        moved = table[(table["kind"] == kind) & (table["p_adjusted"] < 0.05)]
        points = axes.collections[1].get_offsets()
        np.testing.assert_allclose(points, moved[["base", "tuned"]].to_numpy())
        assert [text.get_text() for text in axes.texts] == [name]
    assert "trait: 12 prompts, emoji: 10 prompts" in figure.caption
    check_legible(neuron_shift(result, "extraversion"))


def test_names_do_not_cover_each_other() -> None:
    result = shifted()
    activations = result.activations.clone()
    activations[1, :, 20:26] += 4  # six neurons of one place
    activations[0, :, 20:26] = 0.05 * torch.arange(6)
    activations[1, :, 20:26] = 5.0
    crowd = NeuronShift(activations, result.kinds, result.topics, 3)
    figure = neuron_shift(crowd, "openness", named=6)
    check_legible(figure)
    for axes in figure.axes:
        # a text with an arrow reports the box of both: compare the words alone
        boxes = [text._get_layout(figure.canvas.get_renderer())[0] for text in axes.texts]
        centres = [text.get_transform().transform(text.get_position()) for text in axes.texts]
        for i, one in enumerate(boxes):
            for j in range(i):
                apart = np.abs(np.asarray(centres[i]) - np.asarray(centres[j]))
                assert (apart[0] > one.width * 0.9) or (apart[1] > one.height * 0.9)


@pytest.mark.parametrize("using", ["mean", "zero"])
def test_dose_curves_hold_shares_intervals_and_draws(using) -> None:
    result = curve()
    figure = dose_curve(result, "agreeableness", using=using)
    esr = figure.axes[0]
    table = result.curve("esr").set_index(["using", "group", "k"])
    control, top = esr.lines[:2]
    np.testing.assert_allclose(
        top.get_ydata(), [100 * table.loc[(using, "top", k), "mean"] for k in (0, 1, 4, 16, 64)]
    )
    assert top.get_color() == trait_colour("agreeableness")
    assert len(control.get_ydata()) == 4  # none at 64
    shade = esr.collections[1].get_paths()[0].vertices[:, 1]
    assert shade.min() == pytest.approx(100 * table.loc[(using, "top", 64), "low"])
    draws = [line.get_ydata() for line in esr.lines[2:]]
    wanted = 100 * result.wrote[result.usings.index(using), 1:].double().mean(-1).numpy()
    np.testing.assert_allclose(np.array(draws), wanted)
    assert "40 answers" in figure.caption
    assert "Beyond 16 there are too few" in figure.caption
    assert "blocks 1 to 2" in figure.caption
    check_legible(figure)


def test_dose_without_answers_draws_the_log_odds_alone() -> None:
    figure = dose_curve(curve(answers=False), "openness")
    assert len(figure.axes) == 1
    assert figure.axes[0].get_ylabel() == "Emoji log-odds (nats)"
    check_legible(figure)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="attribution by component, not by head"):
        attribution_components(attribution("head"), "openness")
    with pytest.raises(InputError, match="compares two runs"):
        attribution_heads(attribution("head", runs=("run",)), "openness")
    with pytest.raises(InputError, match="made with mean, zero, not 'max'"):
        dose_curve(curve(), "openness", using="max")
