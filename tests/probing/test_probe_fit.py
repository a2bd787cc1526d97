"""Planted directions, planted noise, planted types: what a probe must and must not find."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import DataError, InputError, ModelError
from interp.probing import About, ProbeConfig, fit

QUICK = ProbeConfig()


def rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.fixture(scope="module")
def planted(features):
    """240 examples of 24 topics; layer 0 is noise and topic, layer 1 holds the label as well."""
    rng = np.random.default_rng(0)
    topic = np.arange(240) % 24
    label = rng.integers(0, 2, 240)
    noise = rng.normal(size=(240, 32)) + 2 * rng.normal(size=(24, 32))[topic]
    direction = rotation(32, 1)[0]
    signal = noise + 6 * np.outer(2 * label - 1, direction)
    groups = [f"topic {k}" for k in topic]
    return features(np.stack([noise, signal])), torch.from_numpy(label), groups


def test_a_planted_direction_is_found_and_noise_is_not(planted):
    values, labels, groups = planted
    result = fit(values, labels, groups, about=About("planted", ("no", "yes")), config=QUICK)
    assert result.reads == ("base",)
    assert result.auroc[0, 1] > 0.99
    assert result.accuracy[0, 1] > 0.95
    assert result.p_adjusted[0, 1] < 0.01
    assert abs(result.auroc[0, 0] - 0.5) < 0.12
    assert result.auroc_low[0, 0] < 0.5 < result.auroc_high[0, 0]
    assert result.p_adjusted[0, 0] > 0.05
    assert bool((result.shuffled_auroc.mean(-1) - 0.5).abs().max() < 0.1)
    assert bool((result.unconverged == 0).all())
    assert result.counts["n_topics"] == 24
    assert result.counts["class: yes"] == int(labels.sum())
    table = result.to_dataframe()
    assert table.layer.tolist() == ["0", "1"]
    assert bool(((table.auroc_low <= table.auroc) & (table.auroc <= table.auroc_high)).all())


def test_held_out_scores_come_from_probes_that_have_not_seen_the_topic(planted):
    values, labels, groups = planted
    result = fit(values, labels, groups, config=QUICK)
    homes: dict[str, set[int]] = {}
    for group, fold in zip(groups, result.fold.tolist(), strict=True):
        homes.setdefault(group, set()).add(fold)
    assert all(len(folds) == 1 for folds in homes.values())
    # A label that is the topic's own can be memorised, but not on topics that were never seen.
    topical = torch.tensor([int(group.split()[1]) % 2 for group in groups])
    memorised = fit(values, topical, groups, config=QUICK)
    assert bool((memorised.accuracy - 0.5).abs().max() < 0.2)
    # The control task, split by rows, does memorise it: selectivity is far below zero.
    assert bool((memorised.control_accuracy > 0.9).all())
    assert bool((memorised.selectivity_high < -0.15).all())
    assert memorised.control_split == "rows"
    assert memorised.control_seen == 1.0


def per_type(features, n_types: int, *, meaning: bool):
    """Examples whose activations are their type's vector; the label is the type's, too.

    With meaning, all types of one label share a direction; without, the label was drawn.
    """
    rng = np.random.default_rng(3)
    of_type, kind = rng.integers(0, 2, n_types), rng.integers(0, n_types, 600)
    vectors = 2 * rng.normal(size=(n_types, 48))
    if meaning:
        vectors += 3 * np.outer(2 * of_type - 1, rotation(48, 2)[0])
    values = vectors[kind] + 0.5 * rng.normal(size=(600, 48))
    labels = torch.from_numpy(of_type[kind])
    groups = [f"topic {k}" for k in rng.integers(0, 30, 600)]
    return features(values[None]), labels, groups, [f"type {k}" for k in kind]


def test_selectivity_is_near_zero_for_a_label_that_was_drawn_per_type(features):
    values, labels, groups, types = per_type(features, 24, meaning=False)
    result = fit(values, labels, groups, config=ProbeConfig(controls=6), about=About(types=types))
    assert result.control_split == "groups"
    assert result.control_seen > 0.99
    assert result.accuracy[0, 0] > 0.9  # it looks like knowledge
    assert abs(result.selectivity[0, 0]) < 0.08  # and is memory
    assert abs(result.shuffled_accuracy.mean() - 0.5) < 0.1  # which the shuffle cannot tell


def test_selectivity_is_high_for_a_label_that_types_share(features):
    # More types than dimensions: nobody can memorise them all.
    values, labels, groups, types = per_type(features, 200, meaning=True)
    result = fit(values, labels, groups, config=ProbeConfig(controls=4), about=About(types=types))
    assert result.accuracy[0, 0] > 0.9
    assert result.selectivity_low[0, 0] > 0.15


def test_transfer_follows_a_shared_direction_and_not_a_rotated_one(planted, features):
    values, labels, groups = planted
    rng = np.random.default_rng(8)
    moved = values.values.numpy() + 0.3 * rng.normal(size=values.values.shape)
    shared = fit(values, labels, groups, tuned=features(moved), config=QUICK)
    assert shared.reads == ("base", "tuned", "base→tuned", "tuned→base")
    assert bool((shared.auroc[:, 1] > 0.98).all())
    turned = fit(
        values,
        labels,
        groups,
        tuned=features(values.values.numpy() @ rotation(32, 9)),
        config=QUICK,
    )
    assert bool((turned.auroc[:2, 1] > 0.98).all())
    assert bool((turned.auroc[2:, 1] < 0.8).all())
    gap = turned.difference("base→tuned", "tuned")
    row = gap[(gap.layer == "1") & (gap.metric == "auroc")].iloc[0]
    assert row.difference == pytest.approx(float(turned.auroc[2, 1] - turned.auroc[1, 1]))
    assert row.high < 0


def test_the_same_features_twice_read_the_same_everywhere(planted):
    values, labels, groups = planted
    result = fit(values, labels, groups, tuned=values, config=QUICK)
    for read in range(1, 4):
        torch.testing.assert_close(result.scores[read], result.scores[0], atol=1e-9, rtol=0)
    assert result.difference().difference.abs().max() < 1e-9


def test_five_classes_are_told_apart(features):
    rng = np.random.default_rng(4)
    labels = np.arange(250) % 5
    values = rng.normal(size=(250, 20)) + 3 * rotation(20, 5)[:5][labels]
    groups = [f"topic {k}" for k in (np.arange(250) // 10)]
    result = fit(features(values[None]), torch.from_numpy(labels), groups, config=QUICK)
    assert result.auroc[0, 0] > 0.97
    assert result.accuracy[0, 0] > 0.85
    assert result.chance == 0.2
    assert bool((result.shuffled_accuracy - 0.2).abs().max() < 0.12)
    torch.testing.assert_close(
        result.scores.exp().sum(-1), torch.ones(1, 1, 250, dtype=torch.float64)
    )


def test_few_positives_are_not_outvoted(features):
    rng = np.random.default_rng(6)
    labels = (np.arange(300) % 10 == 0).astype(int)
    values = rng.normal(size=(300, 16)) + 2.5 * np.outer(labels, rotation(16, 6)[0])
    groups = [f"topic {k}" for k in rng.integers(0, 25, 300)]
    result = fit(features(values[None]), torch.from_numpy(labels), groups, config=QUICK)
    hits = result.scores[0, 0].argmax(-1)[result.labels == 1].float()
    assert hits.mean() > 0.7  # always saying "no" would be right in 90 % of all examples
    assert result.accuracy[0, 0] > 0.75


def test_a_seed_gives_the_same_numbers(planted):
    values, labels, groups = planted
    one, two = (fit(values, labels, groups, config=QUICK) for _ in range(2))
    other = fit(values, labels, groups, config=ProbeConfig(seed=1))
    pd.testing.assert_frame_equal(one.to_dataframe(), two.to_dataframe())
    assert not torch.equal(one.fold, other.fold)


def test_probes_that_do_not_converge_are_counted(planted):
    values, labels, groups = planted
    result = fit(values, labels, groups, config=ProbeConfig(max_iter=1))
    assert result.unconverged.tolist() == [[5, 5]]
    assert result.counts["unconverged_controls"] == 20
    assert result.to_dataframe().unconverged.tolist() == [5, 5]


def test_progress_counts_layers(planted):
    values, labels, groups = planted
    said = []
    fit(values, labels, groups, config=QUICK, progress=lambda *step: said.append(step))
    assert said == [("probes", 1, 2), ("probes", 2, 2)]


def test_bad_data_is_named(planted, features):
    values, labels, groups = planted
    with pytest.raises(DataError, match="all 240 examples have one label"):
        fit(values, torch.ones_like(labels), groups)
    with pytest.raises(DataError, match="one topic"):
        fit(values, labels, ["same"] * 240)
    with pytest.raises(DataError, match="24 topics are too few for 30 folds"):
        fit(values, labels, groups, config=ProbeConfig(folds=30))
    with pytest.raises(DataError, match=r"labels are \[0, 2\] but there are 3 classes"):
        fit(values, labels * 2, groups)
    with pytest.raises(DataError, match="1 types cannot carry a control task of 2 classes"):
        fit(values, labels, groups, about=About(types=["same"] * 240))
    with pytest.raises(DataError, match="nearly all are of one type"):
        fit(
            values,
            labels,
            groups,
            about=About(types=["rare"] + ["common"] * 239, split="rows"),
        )
    with pytest.raises(InputError, match="240 examples, 239 labels"):
        fit(values, labels[1:], groups)
    with pytest.raises(InputError, match="split is 'groups' or 'rows'"):
        fit(values, labels, groups, about=About(split="both"))
    with pytest.raises(InputError, match="differ in examples, layers or width"):
        fit(values, labels, groups, tuned=features(values.values[:1].numpy()))
    with pytest.raises(InputError, match="at least 2 folds"):
        ProbeConfig(folds=1)
    broken = values.values.clone()
    broken[1, 7, 3] = float("nan")
    with pytest.raises(ModelError, match=r"1 of 240 examples .* first example 7 at layer 1"):
        fit(features(broken.numpy()), labels, groups)
    with pytest.raises(InputError, match="no read 'tuned' here"):
        fit(values, labels, groups, config=QUICK).difference()
