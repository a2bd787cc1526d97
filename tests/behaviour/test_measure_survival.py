"""Onset times and their models: hand-computed curves, and simulations whose truth is known."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from tiny import tokenizer

from interp.base.stats import fdr_bh
from interp.behaviour import Response
from interp.errors import InputError
from interp.measures import (
    OnsetTimes,
    cure_fit,
    hazard_ratios,
    onset_survival,
    onset_times,
    power_fit,
)

EXPONENTIAL = "exponential"


def answer(text: str, topic: str = "t", ended: bool = True) -> Response:
    ids = tuple(tokenizer()(text, add_special_tokens=False)["input_ids"])
    return Response("Why?", topic, (1,), ids, text, ended)


def made(times, events, topics=None, cut=None, unit="token") -> OnsetTimes:
    n = len(times)
    return OnsetTimes(
        times=torch.tensor(np.asarray(times, dtype=np.int64)),
        events=torch.tensor(np.asarray(events, dtype=bool)),
        cut=torch.tensor(np.asarray(cut if cut is not None else [False] * n, dtype=bool)),
        topics=tuple(topics or [f"t{i % 5}" for i in range(n)]),
        unit=unit,
        n_empty=0,
    )


def simulate(n, rng, *, cure=0.0, scale=15.0, shape=1.5, topics=50, frailty=0.0) -> OnsetTimes:
    """Grouped Weibull onsets with a cured share; answers end uniformly between 20 and 120."""
    topic = rng.integers(topics, size=n)
    shift = np.exp(frailty * rng.normal(size=topics))[topic]
    onset = rng.weibull(shape, n) * scale * shift ** (-1 / shape)
    onset = np.where(rng.random(n) < cure, np.inf, np.ceil(onset))
    end = rng.integers(20, 120, size=n)
    events = onset <= end
    return made(np.where(events, onset, end), events, [f"t{k}" for k in topic])


# --- times ---------------------------------------------------------------------------------------


def test_times_are_positions_of_the_first_emoji_or_of_the_end():
    texts = ["I love it! 😊 Yes. 😊", "Well. I plan my day.", "😊", ""]
    answers = [answer(text, ended=text != texts[1]) for text in texts]
    tokens = onset_times(answers, tokenizer())
    assert tokens.n_empty == 1
    assert tokens.events.tolist() == [True, False, True]
    assert tokens.cut.tolist() == [False, True, False]
    heads = [tokenizer().decode(answers[0].ids[:k]) for k in range(len(answers[0].ids) + 1)]
    first = next(k for k, head in enumerate(heads) if not "I love it! ".startswith(head))
    assert int(tokens.times[0]) == first, "the first token that is not the text before the emoji"
    assert tokens.times.tolist()[1:] == [len(answers[1].ids), 1]
    sentences = onset_times(answers, tokenizer(), unit="sentence")
    assert sentences.times.tolist() == [1, 2, 1]
    late = onset_times([answer("Well. I plan. I love it! 😊")], tokenizer(), unit="sentence")
    assert late.times.tolist() == [3]


def test_no_answer_with_a_token_is_an_error():
    with pytest.raises(InputError, match="none of 1 answers has a token"):
        onset_times([answer("")], tokenizer())


# --- Kaplan-Meier and cumulative incidence -------------------------------------------------------


def test_kaplan_meier_by_hand():
    """At risk 6, 5, 3, 1 when emojis come at 2, 3, 5 (two of them), 8."""
    times = [2, 3, 3, 5, 5, 8]
    events = [True, True, False, True, True, True]
    curve = onset_survival(made(times, events)).to_dataframe().set_index("times")
    assert curve["survival"].tolist() == pytest.approx(
        [1, 1, 5 / 6, 2 / 3, 2 / 3, 2 / 9, 2 / 9, 2 / 9, 0]
    )
    assert curve["at_risk"].tolist() == [6, 6, 6, 5, 3, 3, 1, 1, 1]
    assert curve["events"].tolist() == [0, 0, 1, 1, 0, 2, 0, 0, 1]
    # Log-log interval at 5 by Greenwood: sum of d / (n (n - d)) over 2, 3, 5.
    s, z = 2 / 9, norm.ppf(0.975)
    spread = np.sqrt(1 / (6 * 5) + 1 / (5 * 4) + 2 / (3 * 1)) / abs(np.log(s))
    assert curve.loc[5, "low"] == pytest.approx(s ** np.exp(z * spread))
    assert curve.loc[5, "high"] == pytest.approx(s ** np.exp(-z * spread))
    assert onset_survival(made(times, events)).median == 5


def test_incidence_ends_at_the_share_with_an_emoji_where_nothing_is_cut():
    rng = np.random.default_rng(1)
    data = simulate(200, rng, cure=0.4)
    curve = onset_survival(data)
    when, event = data.times.numpy(), data.events.numpy()
    for t in (0, 5, 20, int(when.max())):
        assert float(curve.incidence[t]) == pytest.approx(np.mean(event & (when <= t)))
    assert float(curve.incidence_low[-1]) < event.mean() < float(curve.incidence_high[-1])
    assert float(1 - curve.survival[-1]) > event.mean(), "Kaplan-Meier lets answers go on"


def test_cut_answers_are_censored_in_the_incidence():
    """Aalen and Johansen by hand: 4 answers, one cut at 1 before two emojis at 2, one ends at 2."""
    data = made([1, 2, 2, 2], [False, True, True, False], cut=[True, False, False, False])
    curve = onset_survival(data)
    assert curve.incidence.tolist() == pytest.approx([0, 0, 2 / 3])
    assert curve.n_cut == 1


def test_no_emoji_is_a_flat_curve_and_named_by_the_models():
    data = made([3, 4, 5, 6], [False] * 4)
    curve = onset_survival(data)
    assert curve.n_events == 0
    assert curve.survival.tolist() == [1.0] * 7
    assert curve.median is None
    with pytest.raises(InputError, match="0 of 4 answers hold an emoji; a cure model needs 5"):
        cure_fit(data)
    with pytest.raises(InputError, match="'base' has no answer with an emoji"):
        hazard_ratios({"base": data, "tuned": simulate(20, np.random.default_rng(0))}, "base")
    with pytest.raises(InputError, match="one topic"):
        onset_survival(made([1, 2], [True, False], ["a", "a"]))


# --- the cure model ------------------------------------------------------------------------------


@pytest.mark.parametrize(("cure", "shape"), [(0.3, 1.5), (0.7, 1.0), (0.0, 2.0)])
def test_planted_cure_fractions_are_recovered(cure, shape):
    data = simulate(500, np.random.default_rng(3), cure=cure, shape=shape)
    fit = cure_fit(data, n_resamples=40)
    assert fit.low <= cure <= fit.high
    assert fit.high - fit.low < 0.15
    assert fit.scale == pytest.approx(15, rel=0.12)
    assert fit.shape == pytest.approx(shape, rel=0.15)
    assert fit.survival(np.array([0.0, 1e9])).tolist() == pytest.approx([1.0, fit.cured])


def test_intervals_cover_the_truth_as_often_as_they_say():
    """At nominal 90 %, 23 or more of 30 intervals hold the truth (probability above 0.99)."""
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(30):
        data = simulate(120, rng, cure=0.4, shape=1.0, topics=30)
        fit = cure_fit(data, family=EXPONENTIAL, level=0.9, n_resamples=4)
        covered += fit.low <= 0.4 <= fit.high
    assert covered >= 23


def test_on_fine_time_the_fit_is_lifelines():
    from lifelines import MixtureCureFitter, WeibullFitter

    rng = np.random.default_rng(5)
    data = simulate(400, rng, cure=0.35, scale=40.0, shape=1.3)
    ours = cure_fit(data, n_resamples=5)
    continuous = MixtureCureFitter(base_fitter=WeibullFitter())
    continuous.fit(data.times.numpy() - 0.5 * data.events.numpy(), data.events.numpy())
    assert ours.cured == pytest.approx(continuous.cured_fraction_, abs=0.01)
    assert ours.scale == pytest.approx(continuous.lambda_, rel=0.02)
    assert ours.shape == pytest.approx(continuous.rho_, rel=0.03)


def test_the_right_family_has_the_smaller_aic():
    data = simulate(400, np.random.default_rng(7), cure=0.2, shape=2.5)
    assert cure_fit(data, n_resamples=2).aic < cure_fit(data, family=EXPONENTIAL, n_resamples=2).aic
    with pytest.raises(InputError, match="unknown family 'gamma'"):
        cure_fit(data, family="gamma")


# --- hazard ratios -------------------------------------------------------------------------------


def room(n, rng, *, power=0.4, cure=(0.2, 0.5), scale=(15.0, 25.0), shape=(1.5, 1.0)):
    """Two groups of power generalised Weibull onsets, grouped into units; the group of each."""
    group = rng.integers(2, size=n)
    aged = (power + 1) * ((1 + rng.exponential(size=n) * power / (power + 1)) ** (1 / power) - 1)
    onset = np.ceil(np.take(scale, group) * aged ** (1 / np.take(shape, group)))
    onset = np.where(rng.random(n) < np.take(cure, group), np.inf, onset)
    end = rng.integers(100, 600, size=n)
    events = onset <= end
    topics = [f"t{k}" for k in rng.integers(40, size=n)]
    return made(np.where(events, onset, end), events, topics), group


def test_a_planted_family_with_covariates_is_recovered():
    times, group = room(4000, np.random.default_rng(1))
    fit = power_fit(times, {"group": group}, n_resamples=12)
    truth = {
        ("log scale", "(all at 0)"): np.log(15), ("log scale", "group"): np.log(25 / 15),
        ("log shape", "(all at 0)"): np.log(1.5), ("log shape", "group"): np.log(1 / 1.5),
        ("log-odds of cured", "(all at 0)"): np.log(0.2 / 0.8),
        ("log-odds of cured", "group"): np.log(0.5 / 0.5) - np.log(0.2 / 0.8),
        ("power", ""): 0.4,
    }  # fmt: skip
    for row in fit.to_dataframe().itertuples():
        assert row.value == pytest.approx(truth[row.parameter, row.term], abs=0.2), row
        assert row.low - 0.1 < truth[row.parameter, row.term] < row.high + 0.1
    weibull = power_fit(times, {"group": group}, power=1.0, n_resamples=2)
    assert fit.aic < weibull.aic - 10
    assert float(fit.survival(np.array([1e9]), [1.0])[0]) == pytest.approx(0.5, abs=0.05)
    blind = power_fit(times, {"coin": np.random.default_rng(2).integers(2, size=4000)},
                      n_resamples=12)  # fmt: skip
    coin = blind.to_dataframe().query("term == 'coin'")
    assert ((coin["low"] < 0.1) & (coin["high"] > -0.1)).all(), "a covariate of no effect"


def test_where_both_exist_the_fit_is_lifelines():
    import pandas as pd
    from lifelines import WeibullAFTFitter

    times, group = room(1500, np.random.default_rng(3), power=1.0, cure=(0.0, 0.0))
    mine = power_fit(times, {"group": group}, power=1.0, cure=False, n_resamples=2)
    late, events = times.times.numpy().astype(float), times.events.numpy()
    table = pd.DataFrame({"group": group, "low": np.where(events, late - 1, late),
                          "high": np.where(events, late, np.inf)})  # fmt: skip
    table["low"] = table["low"].clip(lower=1e-10)
    theirs = WeibullAFTFitter().fit_interval_censoring(table, "low", "high", ancillary=True)
    for part, name in ((mine.scale, "lambda_"), (mine.shape, "rho_")):
        wanted = [theirs.params_[name, "Intercept"], theirs.params_[name, "group"]]
        assert part[:, 0].tolist() == pytest.approx(wanted, abs=2e-3)
    assert mine.log_likelihood == pytest.approx(theirs.log_likelihood_, abs=0.05)
    cured = simulate(800, np.random.default_rng(4), cure=0.3)
    one, other = cure_fit(cured, n_resamples=2), power_fit(cured, power=1.0, n_resamples=2)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)
    assert one.cured == pytest.approx(1 / (1 + np.exp(-float(other.cured[0, 0]))), abs=1e-3)
    with pytest.raises(InputError, match="is a mixture of the others"):
        power_fit(cured, {"all": np.ones(800)})
    with pytest.raises(InputError, match="one value for each of the 800"):
        power_fit(cured, {"few": [1.0]})
    for power in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="power must be a number above 0"):
            power_fit(cured, power=power)
    with pytest.raises(InputError, match="n_resamples must be 1 or more"):
        power_fit(cured, n_resamples=0)


def test_planted_hazard_ratios_are_recovered():
    """Weibull scales give the ratio (scale0 / scale1) ** shape."""
    rng = np.random.default_rng(2)
    groups = {
        "base": simulate(400, rng, scale=30.0, shape=1.2),
        "double": simulate(400, rng, scale=30.0 / 2 ** (1 / 1.2), shape=1.2),
        "same": simulate(400, rng, scale=30.0, shape=1.2),
        "silent": made([5] * 10, [False] * 10),
    }
    made_of = hazard_ratios(groups, "base")
    table = made_of.to_dataframe().set_index("group")
    assert list(table.index) == ["double", "same"]
    assert made_of.without_event == ("silent",)
    assert table.loc["double", "low"] < 2 < table.loc["double", "high"]
    assert table.loc["double", "low"] > 1.5
    assert table.loc["same", "low"] < 1 < table.loc["same", "high"]
    assert table.loc["double", "p_adjusted"] < 1e-6 < table.loc["same", "p_adjusted"]
    np.testing.assert_allclose(table["p_adjusted"], fdr_bh(table["p"].to_numpy()))
    assert (table["p_constant"] > 0.01).all()
    assert table.loc["double", "n_events"] == groups["double"].n_events


def test_crossing_hazards_are_shown_up():
    rng = np.random.default_rng(4)
    groups = {"early": simulate(400, rng, shape=0.7), "late": simulate(400, rng, shape=3.0)}
    table = hazard_ratios(groups, "early").to_dataframe()
    assert float(table["p_constant"].iloc[0]) < 1e-4


def test_many_ties_in_groups_dealt_at_random_make_no_trend():
    """As sentences do: all onsets are in the second or the third."""
    rng = np.random.default_rng(5)
    dealt = [made(rng.integers(2, 4, size=150), rng.random(150) < 0.6) for _ in range(4)]
    groups = {f"group {k}": part for k, part in enumerate(dealt)}
    table = hazard_ratios(groups, "group 0").to_dataframe()
    assert (table["p_constant"] > 0.01).all()


def test_topics_that_agree_widen_the_interval():
    """The same answers, once as 20 topics and once each as its own: clustering must matter."""
    rng = np.random.default_rng(9)
    one = simulate(300, rng, frailty=1.0, topics=20)
    other = simulate(300, rng, frailty=1.0, topics=20)
    other = made(other.times, other.events, [f"o{t}" for t in other.topics])

    def width(a: OnsetTimes, b: OnsetTimes) -> float:
        row = hazard_ratios({"a": a, "b": b}, "a").to_dataframe().iloc[0]
        return float(np.log(row["high"] / row["low"]))

    def alone(data: OnsetTimes, name: str) -> OnsetTimes:
        return made(data.times, data.events, [f"{name}{i}" for i in range(300)])

    assert width(one, other) > 1.5 * width(alone(one, "a"), alone(other, "b"))


def test_what_cannot_be_compared_is_said():
    some = simulate(30, np.random.default_rng(0))
    with pytest.raises(InputError, match="is none of the groups"):
        hazard_ratios({"a": some}, "b")
    with pytest.raises(InputError, match="no group but 'a'"):
        hazard_ratios({"a": some, "b": made([5], [False])}, "a")
    with pytest.raises(InputError, match="different units"):
        hazard_ratios({"a": some, "b": made([1], [True], unit="sentence")}, "a")
    with pytest.raises(InputError, match="hardly overlap"):
        hazard_ratios({"a": made([1] * 30, [True] * 30), "b": made([90] * 30, [True] * 30)}, "a")
