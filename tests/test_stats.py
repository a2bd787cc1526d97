"""Intervals and p-values, against scipy, enumeration and simulation."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from interp.errors import InputError
from interp.stats import Interval, bootstrap_mean, fdr_bh, sign_flip_p, wilson


@given(st.integers(1, 400), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    theirs = scipy_stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    ours = wilson(successes, n, level)
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
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


def test_bootstrap_agrees_with_scipys() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=60)
    ours = bootstrap_mean(values, n_resamples=20_000, seed=1)
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_bootstrap_is_the_same_for_the_same_seed_and_kind_of_input() -> None:
    values = [0.0, 1.0, 1.0, 3.0, 8.0]
    first = bootstrap_mean(values, seed=3)
    assert bootstrap_mean(torch.tensor(values, requires_grad=True), seed=3) == first
    assert bootstrap_mean(np.array(values), seed=3) == first
    assert bootstrap_mean(values, seed=4) != first


def test_bootstrap_over_clusters_is_wider_when_clusters_agree() -> None:
    """Ten copies of each of twelve values hold the information of twelve, not of 120."""
    twelve = np.random.default_rng(5).normal(size=12)
    copies, labels = np.repeat(twelve, 10), np.repeat(np.arange(12), 10)
    plain = bootstrap_mean(copies, n_resamples=8000, seed=0)
    clustered = bootstrap_mean(copies, clusters=labels, n_resamples=8000, seed=0)
    honest = bootstrap_mean(twelve, n_resamples=8000, seed=0)
    assert clustered.low == pytest.approx(honest.low)
    assert clustered.high == pytest.approx(honest.high)
    assert (clustered.high - clustered.low) > 2.5 * (plain.high - plain.low)


def test_bootstrap_weighs_uneven_clusters_by_their_observations() -> None:
    """Two clusters: every resample is one of three means, all of them over observations."""
    values, labels = [0.0, 4.0, 4.0, 4.0], ["a", "b", "b", "b"]
    wide = bootstrap_mean(values, clusters=labels, level=0.9, seed=0)
    assert (wide.low, wide.high) == (0.0, 4.0)
    narrow = bootstrap_mean(values, clusters=labels, level=0.1, seed=0)
    assert (narrow.low, narrow.high) == (3.0, 3.0)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = sum(
        0.0 in bootstrap_mean(rng.normal(size=40), level=0.9, n_resamples=400, seed=i)
        for i in range(300)
    )
    assert 0.83 < covered / 300 < 0.95


@pytest.mark.parametrize(
    ("values", "clusters", "says"),
    [
        ([], None, "non-empty"),
        ([[1.0, 2.0]], None, "shape"),
        ([1.0], None, "at least two"),
        ([1.0, 2.0], ["a", "a"], "at least two"),
        ([1.0, float("nan")], None, "1 of 2"),
        ([1.0, 2.0], ["a"], "2 values but 1"),
    ],
)
def test_bootstrap_refuses(values: list, clusters: list | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        bootstrap_mean(np.array(values), clusters=clusters, seed=0)


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
    assert sign_flip_p(values, seed=0, clusters=np.repeat([0, 1, 2], [10, 10, 20])) == 2 / 8
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
