"""Intervals and p-values, against scipy, enumeration and simulation."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.stats import sem
from scipy.stats import t as student

from interp.base.stats import (
    Interval,
    copies,
    count_interval,
    exact,
    fdr_bh,
    mean_ends,
    mean_interval,
    ratio_ends,
    share_interval,
    sign_flip_p,
    wilson,
)
from interp.errors import InputError


@given(st.integers(1, 400), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    theirs = scipy_stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    ours = wilson(successes, n, level)
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert successes / n in ours


def test_wilson_at_the_ends_is_exact() -> None:
    assert wilson(0, 7).low == 0.0
    assert wilson(0, 7).high > 0.3
    assert wilson(7, 7).high == 1.0


@pytest.mark.parametrize(
    ("successes", "n", "level", "says"),
    [(0, 0, 0.95, "0 trials"), (3, 2, 0.95, "0..2"), (-1, 2, 0.95, "0..2"), (1, 2, 1.0, "level")],
)
def test_wilson_refuses(successes: int, n: int, level: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        wilson(successes, n, level)


@pytest.mark.parametrize("n", [1, 20])
def test_exact_bounds_of_a_perfect_score(n: int) -> None:
    assert exact(n, n).high == 1.0
    assert exact(n, n).low == pytest.approx(0.025 ** (1 / n))
    assert exact(0, n).high == pytest.approx(1 - 0.025 ** (1 / n))


def test_a_share_of_answers_on_topics_of_their_own_is_wilsons() -> None:
    hits = [True] * 3 + [False] * 17
    ours, theirs = share_interval(hits), wilson(3, 20)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_a_share_of_copies_has_the_interval_of_one_copy_each() -> None:
    hits = [True, False, True, True, False, False, False, True, False, False]
    one = share_interval(hits)
    ten = share_interval(np.repeat(hits, 10).tolist(), np.repeat(range(10), 10))
    # but for the last of ten observations: 99 degrees of freedom make 9.9 of 9
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high), abs=0.02)


def test_a_share_of_none_or_all_has_the_width_of_its_topics() -> None:
    topics = [f"t{i // 2}" for i in range(100)]
    assert share_interval([False] * 100, topics) == wilson(0, 50)
    assert share_interval([True] * 100, topics) == wilson(50, 50)
    one = share_interval([True] + [False] * 99, topics)
    assert 0.0 < one.low < 0.01
    assert 0.05 < one.high < 0.06


def test_shares_of_counts_weigh_topics_by_their_counts() -> None:
    hits, counts, topics = [1, 2, 0, 3], [4, 3, 0, 5], ["a", "b", "c", "a"]
    single = [1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 0, 0]
    labels = ["a"] * 4 + ["b"] * 3 + ["a"] * 5
    assert count_interval(hits, counts, topics) == share_interval(single, labels)
    with pytest.raises(InputError, match="1 topic"):
        count_interval(hits, counts, ["a", "a", "c", "a"])


def test_nearly_equal_values_do_not_send_an_end_to_infinity() -> None:
    """Resamples that miss the one value apart have next to no spread to be divided by."""
    values = [4.90, 4.91, 4.9003, 4.9101, 4.9002, 5.6]
    ends = mean_interval(values, seed=0)
    width = 3 * student.ppf(0.975, 5) * np.std(values, ddof=1) / 6**0.5
    assert np.mean(values) - width - 1e-9 <= ends.low < 4.91 < np.mean(values) < ends.high


def test_means_agree_with_the_bootstrap_t_written_out() -> None:
    rng = np.random.default_rng(3)
    values, labels = rng.gamma(1.0, size=30), rng.integers(9, size=30)
    ours = mean_interval(values, labels, n_resamples=20_000, seed=1)

    def ratio_and_error(units: np.ndarray) -> tuple[float, float]:
        parts = [values[labels == unit] for unit in units]
        mean = np.concatenate(parts).mean()
        left = np.array([(part - mean).sum() for part in parts])
        n = sum(map(len, parts))
        return mean, np.sqrt(len(parts) / (len(parts) - 1) * (left**2).sum()) / n

    names = np.unique(labels)
    mean, error = ratio_and_error(names)
    drawn = []
    for _ in range(20_000):
        one, of_one = ratio_and_error(rng.choice(names, len(names)))
        drawn.append((one - mean) / of_one)
    high, low = mean - np.quantile(drawn, [0.025, 0.975]) * error
    assert ours.low == pytest.approx(low, abs=0.03 * (high - low))
    assert ours.high == pytest.approx(high, abs=0.03 * (high - low))


def test_two_and_three_units_get_the_t_interval() -> None:
    for values in ([1.0, 4.0], [1.0, 4.0, 2.0]):
        low, high = student.interval(0.9, len(values) - 1, np.mean(values), sem(values))
        ours = mean_interval(values, level=0.9, seed=0)
        assert (ours.low, ours.high) == pytest.approx((low, high))


def test_a_ratio_of_means_scales_and_has_no_width_where_it_is_one_number() -> None:
    rng = np.random.default_rng(2)
    below = rng.uniform(1, 2, 12)
    above = np.stack([0.5 * below, below * rng.uniform(0, 1, 12), 3 * np.ones(12)])
    low, high = ratio_ends(above, below, seed=0)
    assert (low[0], high[0]) == pytest.approx((0.5, 0.5))
    assert low[1] < above[1].mean() / below.mean() < high[1]
    again = ratio_ends(10 * above, below, seed=0)
    np.testing.assert_allclose(again, (10 * low, 10 * high))
    assert mean_interval([2.0] * 5, seed=0) == Interval(2.0, 2.0, 0.95)


def test_means_are_the_same_for_the_same_seed_and_kind_of_input_alone_or_among_others() -> None:
    values = [0.0, 1.0, 1.0, 3.0, 8.0]
    first = mean_interval(values, seed=3)
    assert mean_interval(torch.tensor(values, requires_grad=True), seed=3) == first
    assert mean_interval(np.array(values), seed=3) == first
    assert mean_interval(values, seed=4) != first
    many = np.stack([np.array(values) * k for k in range(1, 3000)])
    low, high = mean_ends(many, seed=3)
    np.testing.assert_allclose(low, first.low * np.arange(1, 3000), rtol=1e-9)
    np.testing.assert_allclose(high, first.high * np.arange(1, 3000), rtol=1e-9)


def test_copies_under_one_topic_count_once() -> None:
    """Ten copies of each of twelve values hold the information of twelve, not of 120."""
    twelve = np.random.default_rng(5).normal(size=12)
    many, labels = np.repeat(twelve, 10), copies(np.repeat(twelve, 10).tolist())
    clustered, honest = mean_interval(many, labels, seed=0), mean_interval(twelve, seed=0)
    assert (clustered.low, clustered.high) == pytest.approx((honest.low, honest.high))
    plain = mean_interval(many, seed=0)
    assert (clustered.high - clustered.low) > 2.5 * (plain.high - plain.low)
    assert sign_flip_p(many, 0, topics=labels) == sign_flip_p(twelve, 0)
    assert copies(["a", "b", "a", "c", "b"]) == [0, 1, 0, 3, 1]


def test_uneven_topics_are_weighed_by_their_observations() -> None:
    values, labels = [0.0, 4.0, 4.0, 4.0], ["a", "b", "b", "b"]
    ours = mean_interval(values, labels, seed=0)
    assert (ours.low + ours.high) / 2 == pytest.approx(3.0)
    error = np.sqrt(2 * (3.0**2 + 3.0**2)) / 4
    assert ours.high - 3.0 == pytest.approx(student.ppf(0.975, 1) * error)


def test_few_distinct_values_keep_the_t_interval() -> None:
    """One hit of ten: a third of the resamples has no spread and says nothing of that tail."""
    values = [1.0] + [0.0] * 9
    low, high = student.interval(0.95, 9, 0.1, sem(values))
    ours = mean_interval(values, seed=0)
    assert ours.low <= low + 1e-9
    assert ours.high >= high - 1e-9


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_means_cover_as_often_as_they_say(draw: str) -> None:
    rng = np.random.default_rng(11)
    values = getattr(rng, draw)(size=(1500, 8))
    ends = [mean_ends(part, level=0.9, n_resamples=500, seed=i)
            for i, part in enumerate(np.split(values, 30))]  # fmt: skip
    low, high = np.concatenate(ends, axis=1)
    truth = 0.0 if draw == "normal" else 1.0
    assert 0.865 < ((low <= truth) & (truth <= high)).mean() < 0.935


@pytest.mark.parametrize(
    ("values", "topics", "says"),
    [
        ([], None, "non-empty"),
        ([[1.0, 2.0]], None, "shape"),
        ([1.0], None, "at least two"),
        ([1.0, 2.0], ["a", "a"], "at least two"),
        ([1.0, float("nan")], None, "1 of 2"),
        ([1.0, 2.0], ["a"], "2 values but 1"),
    ],
)
def test_means_refuse(values: list, topics: list | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        mean_interval(np.array(values), topics, seed=0)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
def test_sign_flip_is_exact_for_few_values(values: list[int]) -> None:
    flips = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in product((1, -1), repeat=len(values))
    ]
    expected = sum(flip >= abs(sum(values)) for flip in flips) / len(flips)
    assert sign_flip_p(values, seed=0) == pytest.approx(expected)


def test_sign_flip_sees_an_effect_and_no_effect() -> None:
    rng = np.random.default_rng(0)
    assert sign_flip_p(rng.normal(1.0, 1.0, size=40), seed=0) == pytest.approx(1e-4, rel=0.01)
    nulls = [sign_flip_p(rng.normal(size=20), seed=i, n_resamples=499) for i in range(200)]
    assert scipy_stats.kstest(nulls, "uniform").pvalue > 0.01


def test_sign_flip_random_agrees_with_scipys_permutation_test() -> None:
    values = np.random.default_rng(8).normal(0.4, 1.0, size=18)
    theirs = scipy_stats.permutation_test(
        (values,),
        np.sum,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue
    assert sign_flip_p(values, seed=0, n_resamples=20_000) == pytest.approx(theirs, abs=0.01)


def test_sign_flip_over_clusters_flips_them_as_one() -> None:
    values = np.ones(40)
    assert sign_flip_p(values, seed=0) < 1e-3
    assert sign_flip_p(values, seed=0, topics=np.repeat([0, 1, 2], [10, 10, 20])) == 2 / 8
    assert sign_flip_p([0.0, 0.0], seed=0) == 1.0


def test_fdr_by_hand_and_in_shape() -> None:
    p = np.array([[0.01, 0.04], [0.03, 0.5]])
    by_hand = np.array([[0.04, 0.04 * 4 / 3], [0.04 * 4 / 3, 0.5]])
    np.testing.assert_allclose(fdr_bh(p), by_hand)
    np.testing.assert_allclose(fdr_bh(torch.tensor(p)), by_hand)


@pytest.mark.parametrize("bad", [[], [0.1, float("nan")], [1.2]])
def test_fdr_refuses(bad: list[float]) -> None:
    with pytest.raises(InputError, match="p-values"):
        fdr_bh(bad)


def test_interval_checks_itself() -> None:
    with pytest.raises(InputError, match="low <= high"):
        Interval(1.0, 0.0, 0.95)
    with pytest.raises(InputError, match="low <= high"):
        Interval(float("nan"), 1.0, 0.95)
    assert str(Interval(0.12345, 0.5, 0.95)) == "[0.123, 0.5]"
