"""The joint solver against scikit-learn, and the folds against their promise."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from interp.errors import DataError
from interp.probing.folds import all_classes_in, group_folds, row_folds
from interp.probing.solver import Probes, Space


@pytest.mark.parametrize(
    ("n", "d", "n_classes"), [(150, 20, 2), (150, 20, 4), (40, 90, 3), (40, 90, 2)]
)
def test_same_probabilities_as_scikit_learn(n, d, n_classes):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3
    rows[:, 3] = 7.0  # a constant feature
    new = rng.normal(size=(30, d)) @ rng.normal(size=(d, d))
    # One balanced labelling, one where the last class is rare, one that can be learnt.
    rare = np.where(np.arange(n) < n - 6, np.arange(n) % (n_classes - 1 or 1), n_classes - 1)
    learnt = np.digitize(rows[:, 0], np.quantile(rows[:, 0], np.arange(1, n_classes) / n_classes))
    labels = np.stack([np.arange(n) % n_classes, rare, learnt])
    space = Space.of(rows, n_classes, 0.3)
    probes = Probes.fit(space(rows), labels, n_classes, space, max_iter=1000)
    assert probes.converged.all()
    ours = probes.log_probs(space(new))
    scale = np.where(rows.std(0) > 0, rows.std(0), 1.0)
    for index, labelling in enumerate(labels):
        twin = LogisticRegression(C=0.3, class_weight="balanced", tol=1e-9, max_iter=50_000)
        twin.fit((rows - rows.mean(0)) / scale, labelling)
        want = twin.predict_log_proba((new - rows.mean(0)) / scale)
        np.testing.assert_allclose(ours[index], want, atol=2e-3)
    assert np.ptp(ours[2, :, 0]) > 0.5  # not trivially equal


def test_a_fit_that_is_cut_short_says_so():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 10))
    labels = (rows[:, :1] > 0).astype(int).T
    space = Space.of(rows, 2, 1.0)
    assert not Probes.fit(space(rows), labels, 2, space, max_iter=1).converged.any()
    assert Probes.fit(space(rows), labels, 2, space, max_iter=500).converged.all()


def test_no_topic_is_on_both_sides_and_every_example_is_held_out_once():
    rng = np.random.default_rng(1)
    groups = [f"topic {k}" for k in rng.integers(0, 17, 200)]
    labels = rng.integers(0, 3, 200)
    fold = group_folds(labels, groups, 3, 5, seed=0)
    for place in range(5):
        inside = {g for g, f in zip(groups, fold, strict=True) if f == place}
        outside = {g for g, f in zip(groups, fold, strict=True) if f != place}
        assert inside
        assert not inside & outside
    assert set(fold) == set(range(5))
    assert (fold == group_folds(labels, groups, 3, 5, seed=0)).all()
    assert (fold != group_folds(labels, groups, 3, 5, seed=1)).any()


def test_row_folds_are_equal_in_size():
    fold = row_folds(103, 5, np.random.default_rng(0))
    assert sorted(np.bincount(fold).tolist()) == [20, 20, 21, 21, 21]


def test_classes_missing_in_training_are_seen():
    assert all_classes_in(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 2)
    assert not all_classes_in(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    assert not all_classes_in(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 3)


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([0, 1] * 10, ["work"] * 20, r"all 20 examples are of one topic \('work'\)"),
        ([0, 1] * 10, ["a", "a", "b", "b"] * 5, "2 topics are too few for 5 folds"),
        ([0] * 18 + [1] * 2, list("abcdef") * 3 + ["a", "a"], "class 1 occurs in one topic only"),
        ([0, 1] * 3, list("abcdef"), "no class has 5 examples for 5 folds"),
    ],
)
def test_data_that_cannot_be_split_is_named(labels, groups, message):
    with pytest.raises(DataError, match=message):
        group_folds(np.array(labels), groups, 2, 5, seed=0)
