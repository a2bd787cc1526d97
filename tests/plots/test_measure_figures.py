"""Figures of the measures hold their results' numbers and are legible."""

import numpy as np
import pytest
import torch
from looking import check_legible, words
from matplotlib.lines import Line2D

from interp.base.traits import TRAITS, Trait
from interp.errors import InputError
from interp.measures import OnsetTimes, SelfReport, TraitAlignment, onset_survival
from interp.measures.adjectives import AdjectiveEvaluation
from interp.measures.questionnaire import items
from interp.show.plots import render
from interp.show.plots.measures import (
    adjective_dots,
    alignment_dots,
    onset_curves,
    questionnaire_scores,
)
from interp.show.plots.style import BASE_COLOUR, BASE_MARK, TRAIT_COLOURS, TRAIT_MARKS

N = 40
TOPICS = tuple(f"t{i % 8}" for i in range(N))


def alignment(trait: Trait, hits: int, bare: int | None = None) -> TraitAlignment:
    names = tuple(map(str, TRAITS))

    def log_probs(count: int) -> torch.Tensor:
        made = torch.zeros(N, 5).double()
        own, other = names.index(trait), (names.index(trait) + 1) % 5
        made[:, other] = 1.0
        made[:count, own] = 2.0
        return made.log_softmax(-1)

    return TraitAlignment(
        trait=str(trait), classifier="made", traits=names, log_probs=log_probs(hits),
        bare_log_probs=log_probs(hits if bare is None else bare), worded=(True,) * N,
        questions=tuple(map(str, range(N))), topics=TOPICS, entropies=(4.0,) * N,
        holdout=(("all", 100, 0.9, 0.8, 0.95, 0.1), (str(trait), 20, 0.85, 0.7, 0.95, 0.05)),
        level=0.95, seed=0,
    )  # fmt: skip


def evaluation(trait: Trait, mean: float, failed: int) -> AdjectiveEvaluation:
    values = torch.full((N,), mean, dtype=torch.float64) + torch.linspace(-0.5, 0.5, N)
    values[:failed] = float("nan")
    low, high = values.nan_to_num(-4.0), values.nan_to_num(4.0)
    return AdjectiveEvaluation(
        trait=str(trait), judge="made", differences=values, bounds=torch.stack([low, high], -1),
        problems=("timeout",) * failed + ("",) * (N - failed), topics=TOPICS, level=0.95, seed=0,
    )  # fmt: skip


def survival(share: float, seed: int = 0, unit: str = "token"):
    rng = np.random.default_rng(seed)
    events = rng.random(N) < share
    times = rng.integers(5, 60, N)
    made = OnsetTimes(
        torch.tensor(times), torch.tensor(events), torch.zeros(N, dtype=torch.bool), TOPICS, unit, 0
    )
    return onset_survival(made, n_resamples=50)


def report(label: str, shift: float) -> SelfReport:
    rng = np.random.default_rng(1)
    scores = torch.tensor(np.clip(rng.normal(3 + shift, 0.5, (120, 3, 10)), 1, 5))
    return SelfReport(
        scores=scores, coverage=torch.full_like(scores, 0.4),
        traits=tuple(str(item.trait) for item in items()),
        facets=tuple(item.facet for item in items()), orders=((0, 1, 2, 3, 4),) * 10,
        prompts=("a", "b", "c"), label=label, level=0.95, seed=0,
    )  # fmt: skip


def xs(axes, marker: str) -> list[float]:
    """Where the dots of an axis stand."""
    return [
        float(line.get_xdata()[0])
        for line in axes.get_lines()
        if line.get_marker() == marker and len(line.get_xdata()) == 1
    ]


def test_alignment_shows_both_shares_and_the_classifier() -> None:
    results = {
        "base": {trait: alignment(trait, 4) for trait in TRAITS},
        "activation steering": {Trait.EXTRAVERSION: alignment(Trait.EXTRAVERSION, 30, 12)},
        "QLoRA": {trait: alignment(trait, N) for trait in TRAITS},
    }
    figure = alignment_dots(results)
    assert len(figure.axes) == 5
    extraverted = figure.axes[2]
    assert xs(extraverted, TRAIT_MARKS[Trait.EXTRAVERSION]) == pytest.approx([0.75, 0.3, 1.0, 1.0])
    assert xs(extraverted, BASE_MARK) == pytest.approx([0.1, 0.1])
    assert xs(figure.axes[0], TRAIT_MARKS[Trait.OPENNESS]) == pytest.approx([1.0, 1.0])
    dashed = [float(x.get_xdata()[0]) for x in extraverted.get_lines() if x.get_linestyle() == "--"]
    assert dashed == [0.85, 0.05]
    assert {"base", "activation steering", "QLoRA", "Extraversion"} <= words(figure)
    assert "40 answers" in figure.caption
    assert "extraversion activation steering 75 %" in figure.alt
    check_legible(figure)


def test_adjectives_show_failures_as_bounds() -> None:
    results = {
        "prompt": {Trait.OPENNESS: evaluation(Trait.OPENNESS, 0.5, 0)},
        "QLoRA": {Trait.OPENNESS: evaluation(Trait.OPENNESS, 1.5, 8)},
    }
    figure = adjective_dots(results)
    axes = figure.axes[0]
    table = results["QLoRA"][Trait.OPENNESS].to_dataframe().set_index("measure")
    assert xs(axes, TRAIT_MARKS[Trait.OPENNESS]) == pytest.approx(
        [0.5, float(table["value"]["PAE"])]
    )
    grey = [line for line in axes.get_lines() if line.get_color() == BASE_COLOUR]
    assert [tuple(line.get_xdata()) for line in grey] == [
        tuple(table.loc["PAE, whatever the failures", ["low", "high"]])
    ]
    assert "Failed judgements: 8 of 80" in figure.caption
    assert "grey" not in adjective_dots({"prompt": results["prompt"]}).caption
    check_legible(figure)


@pytest.mark.parametrize("names", [("extraversion",), ("base", *map(str, TRAITS), "my method")])
def test_onset_curves_hold_survival_incidence_and_counts_at_risk(names) -> None:
    results = {name: survival(0.8 - 0.1 * k, k) for k, name in enumerate(names)}
    results["silent"] = survival(0.0)
    figure = onset_curves(results)
    left, right, below = figure.axes
    drawn = next(line for line in left.get_lines() if line.get_label() == names[0])
    one = results[names[0]]
    kept = int((one.at_risk >= 10).sum())
    np.testing.assert_allclose(drawn.get_ydata(), one.survival[:kept])
    np.testing.assert_allclose(right.get_lines()[0].get_ydata()[:-1], one.incidence)
    low, high = left.get_xlim()
    ticks = [int(t) for t in left.get_xticks() if low <= t <= high]
    texts = [t.get_text() for t in below.texts[: len(ticks)]]
    assert texts == [str(int(one.at_risk[t])) if t < len(one.at_risk) else "0" for t in ticks]
    colours = {line.get_label(): line.get_color() for line in left.get_lines()}
    assert colours["extraversion"] == TRAIT_COLOURS[Trait.EXTRAVERSION]
    if "base" in names:
        assert colours["base"] == BASE_COLOUR
        assert colours["my method"] != colours["silent"]
    assert "Without any emoji: silent" in figure.caption
    check_legible(figure)


def test_questionnaire_shows_scores_and_ranges() -> None:
    reports = [report("base", 0.0), report("extraversion", 0.6), report("another model", -0.3)]
    figure = questionnaire_scores(reports)
    axes = figure.axes[0]
    wanted = [float(reports[k].of(trait).mean()) for trait in TRAITS for k in range(3)]
    dots = [
        float(line.get_xdata()[0])
        for line in axes.get_lines()
        if len(line.get_xdata()) == 1 and line.get_marker() not in ("", "None")
    ]
    assert dots == pytest.approx(wanted)
    assert "3 prompts and 10 option orders" in figure.caption
    assert "40 % to 40 %" in figure.caption
    assert {"Neuroticism", "another model"} <= words(figure)
    check_legible(figure)
    assert len([line for line in axes.get_lines() if isinstance(line, Line2D)]) > 30


def test_nothing_to_draw_is_said_and_files_are_the_same_each_time() -> None:
    for draw, nothing in (
        (alignment_dots, {}), (adjective_dots, {"base": {}}), (questionnaire_scores, []),
    ):  # fmt: skip
        with pytest.raises(InputError):
            draw(nothing)
    with pytest.raises(InputError, match="one unit, got 2"):
        onset_curves({"a": survival(0.5), "b": survival(0.5, unit="sentence")})
    with pytest.raises(InputError, match="one unit, got 0"):
        onset_curves({})
    one = {"a": survival(0.5)}
    assert render(onset_curves(one), "png") == render(onset_curves(one), "png")
