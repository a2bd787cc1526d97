"""Scores against scikit-learn and by counting; intervals against resampling by hand."""

import numpy as np
import pytest
from scipy.stats import sem, t
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from interp.base.stats import jackknife_ends, without_each
from interp.probing.scoring import (
    auroc,
    balanced_accuracy,
    independent,
    over_chance,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_auroc_with_ties_is_scikit_learns(rng):
    labels = rng.integers(0, 2, 60)
    score = np.round(labels + rng.normal(size=60), 1)  # rounding makes ties
    both = np.stack([-score, score], axis=1)
    ours = auroc(both, labels, np.zeros(60), np.ones((1, 60)))
    assert ours[0] == pytest.approx(roc_auc_score(labels, score))


def test_weights_count_like_copies(rng):
    labels, score = rng.integers(0, 2, 40), rng.normal(size=40)
    times = rng.integers(0, 4, 40)
    both = np.stack([-score, score], axis=1)
    ours = auroc(both, labels, np.zeros(40), times[None].astype(float))
    assert ours[0] == pytest.approx(roc_auc_score(labels.repeat(times), score.repeat(times)))
    hits = score > 0
    right = balanced_accuracy(hits == labels, labels, times[None].astype(float))
    want = balanced_accuracy_score(labels.repeat(times), hits.repeat(times))
    assert right[0] == pytest.approx(want)


def test_many_classes_are_the_mean_of_one_against_rest(rng):
    labels = np.arange(90) % 3
    raw = rng.normal(size=(90, 3)) + 0.7 * np.eye(3)[labels]
    shares = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    ours = auroc(shares, labels, np.zeros(90), np.ones((1, 90)))
    want = roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    assert ours[0] == pytest.approx(want)


def test_only_pairs_of_one_fold_are_compared():
    # Within each fold the order is right; across folds the scores are on different scales.
    labels = np.array([0, 1, 0, 1])
    score = np.array([0.0, 1.0, 10.0, 11.0])
    both = np.stack([-score, score], axis=1)
    fold = np.array([0, 0, 1, 1])
    assert auroc(both, labels, fold, np.ones((1, 4)))[0] == 1.0
    assert auroc(both, labels, np.zeros(4), np.ones((1, 4)))[0] == 0.75


def test_contributions_add_up_to_accuracy_over_chance(rng):
    labels, guesses = rng.integers(0, 4, 70), rng.integers(0, 4, 70)
    parts = over_chance(guesses == labels, labels, 4)
    assert parts.sum() == pytest.approx(balanced_accuracy_score(labels, guesses) - 0.25)


def test_topics_are_left_out_whole():
    weights = without_each(["b"] * 3 + ["a"] * 2 + ["c"])
    assert weights.tolist() == [[1] * 6, [0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 0]]


def test_what_has_lost_a_class_is_left_out():
    labels, hits = np.array([0, 0, 1]), np.array([True, False, True])
    found = balanced_accuracy(hits, labels, without_each(["a", "b", "c"]))
    assert np.isnan(found[3])
    assert found[:3].tolist() == [0.75, 0.5, 1.0]
    low, high = jackknife_ends(found, 0.9)
    assert 0.0 < low < 0.75 < high < 1.0


def test_a_perfect_score_has_the_exact_bound_of_its_topics(rng):
    labels, groups = np.tile([0, 1], 10), [f"t{i // 2}" for i in range(20)]
    both = np.stack([1 - labels, labels], 1) + rng.uniform(0, 0.4, (20, 2))
    area = auroc(both, labels, np.zeros(20), without_each(groups))
    units = independent(labels, groups)
    assert (area[0], units) == (1.0, 10)
    low, high = jackknife_ends(area, units=units)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 10)), 1.0)


def test_the_jackknife_of_a_mean_is_its_t_interval(rng):
    values = rng.normal(size=9)
    scores = without_each(range(9)) @ values / without_each(range(9)).sum(1)
    low, high = jackknife_ends(scores, share=False)
    assert (low, high) == pytest.approx(t.interval(0.95, 8, values.mean(), sem(values)))


def test_a_difference_of_shares_stays_one_and_is_not_certain_where_no_topic_tells_them_apart():
    low, high = jackknife_ends([0.5, 0.9, 0.1, 0.5], share=False)
    assert (low, high) == (-1.0, 1.0)
    low, high = jackknife_ends([0.0] * 11, share=False)
    assert (low, high) == pytest.approx((0.025**0.1 - 1, 1 - 0.025**0.1))
    assert jackknife_ends([0.0] * 11, share=False, units=5)[1] == pytest.approx(1 - 0.025**0.2)
