"""Recovery, its interval and p-value, against small cases worked by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from patching_models import bridge, pick, prompts

from interp.attribution import compare
from interp.base.stats import mean_interval, ratio_ends
from interp.circuits import discover
from interp.errors import InputError
from interp.patching import PatchingResult, Run, sweep
from interp.readout import Question


@pytest.fixture
def result():
    """One layer, two positions, four prompts; the last has no gap, the first no second token."""
    return PatchingResult(
        values=torch.tensor([[[1.0, 2.0, 4.0, 7.0], [0.0, 4.0, 0.0, 0.0]]]),
        clean=torch.tensor([2.0, 4.0, 4.0, 5.0]),
        corrupted=torch.tensor([0.0, 0.0, 0.0, 5.0]),
        present=torch.tensor([[True] * 4, [False, True, True, True]]),
        metric_positions=torch.tensor([1, 1, 1, 1]),
        layers=(3,),
        units=(0, 1),
        unit_labels=("-1", "0"),
        axis="pos",
        site="resid_pre",
        direction="denoising",
        contrast="prompt",
        metric="emoji log-odds",
        unit="nats",
        min_gap=1e-3,
        engine="exact",
        notes=("1 of 4 prompts left out",),
    )


def test_recovery(result):
    assert (result.n_prompts, result.n_undefined) == (4, 1)
    assert result.recovery()[0, :, :3].tolist() == [[0.5, 0.5, 1.0], [0.0, 1.0, 0.0]]
    assert torch.isnan(result.recovery()[..., 3]).all()
    # A ratio of means, 7 / 10; the mean of the ratios would be 2 / 3.
    torch.testing.assert_close(result.mean_recovery(), torch.tensor([[0.7, 0.5]]))
    assert result.effect()[0, 0].tolist() == [1.0, 2.0, 4.0, 2.0]
    noising = dataclasses.replace(result, direction="noising")
    assert noising.effect()[0, 0].tolist() == [-1.0, -2.0, 0.0, 2.0]
    assert torch.equal(noising.recovery()[..., :3], result.recovery()[..., :3])


def test_summary(result):
    table = result.summary(seed=7)
    assert table["n"].tolist() == [3, 2]
    np.testing.assert_allclose(table["recovery"], [0.7, 0.5])
    np.testing.assert_allclose(table["effect"], [7 / 3, 2.0])
    low, high = ratio_ends(np.array([[1.0, 2, 4]]), np.array([2.0, 4, 4]), seed=7)
    assert (table["low"][0], table["high"][0]) == (low[0], high[0])
    left = np.array([1.0, 2, 4]) - 0.7 * np.array([2.0, 4, 4])
    np.testing.assert_allclose(table["se"], [left.std(ddof=1) / 3**0.5 / (10 / 3), 0.5])
    # Three effects of one sign: 2 of 8 flips are as extreme; (4, 0): all with |sum| = 4.
    np.testing.assert_allclose(table["p"], [0.25, 1.0])
    np.testing.assert_allclose(table["p_adjusted"], [0.5, 1.0])
    assert table["label"].tolist() == ["-1", "0"]


def test_summary_by_cluster(result):
    table = result.summary(clusters=["a", "a", "b", "b"], level=0.5, seed=7)
    groups = ["a", "a", "b"]
    low, high = ratio_ends(
        np.array([[1.0, 2, 4]]), np.array([2.0, 4, 4]), groups, level=0.5, seed=7
    )
    assert (table["low"][0], table["high"][0]) == (low[0], high[0])
    sure = result.summary(clusters=["a", "a", "b", "b"], seed=7)
    assert np.isnan(sure["low"][0]), "at 95 % two clusters do not tell the gap from none"
    one = result.summary(clusters=["a"] * 4)
    assert one["low"].isna().all()
    with pytest.raises(InputError, match="4 prompts but 2 cluster labels"):
        result.summary(clusters=["a", "b"])


def test_gaps_of_both_signs_leave_recovery_a_ratio_of_means(result):
    """One small gap of the other sign: a mean of ratios would be led by it."""
    odd = dataclasses.replace(
        result,
        values=torch.tensor([[[1.0, 2.0, 1.0, 0.5]]]), present=torch.ones(1, 4, dtype=torch.bool),
        units=(1,), unit_labels=("0",), clean=torch.tensor([2.0, 4.0, 2.0, -0.01]),
        corrupted=torch.zeros(4),
    )  # fmt: skip
    assert float(odd.recovery().mean()) < -10
    assert float(odd.mean_recovery()) == pytest.approx(4.5 / 7.99)
    wanted = mean_interval([2.0, 4.0, 2.0, -0.01], seed=3)
    gap = pytest.approx((7.99 / 4, wanted.low, wanted.high))
    assert odd.gap(seed=3) == gap, "all count"
    assert wanted.low < 0 < wanted.high
    assert odd.summary()[["low", "high"]].isna().all(axis=None), "a share of what may be nothing"
    three = odd.select(odd.clean > 0)
    assert (three.n_prompts, float(three.mean_recovery())) == (3, 0.5)
    assert result.cell(0, 1).summary()["recovery"].tolist() == [0.5]


def test_where_no_prompt_counts_there_is_no_row(result):
    """As of one factor of a sweep, where another has a gap."""
    table = dataclasses.replace(result, corrupted=result.clean).summary()
    assert len(table) == 0
    assert list(table.columns) == list(result.summary().columns)


def test_tabulates(result):
    table = result.to_dataframe()
    assert len(table) == 8
    row = table[(table["pos"] == 1) & (table["prompt"] == 1)].iloc[0]
    assert (row["value"], row["recovery"], row["layer"], row["label"]) == (4.0, 1.0, 3, "0")
    assert not table[(table["pos"] == 1) & (table["prompt"] == 0)]["present"].item()


def test_copies_of_a_prompt_are_one_observation():
    """One prompt eight times is no evidence; beside another it is one of two."""
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, mask = prompts([7, 6])
    eight, two = [0] * 8, [0] * 8 + [1] * 3
    for rows, distinct in ((eight, 1), (two, 2)):
        clean, corrupted = (Run(m, tokens[rows], mask[rows]) for m in (one, other))
        found = sweep(clean, corrupted, "resid_post", metric=pick)
        assert len(set(found.topics)) == distinct
        table = found.summary()
        assert table["p"].min() == 2 / 2**distinct
        assert np.isnan(found.gap()[1]) == (distinct == 1)
    ask = Question(metric=pick, topics=[f"t{i}" for i in range(11)])
    topics = sweep(clean, corrupted, "resid_post", ask=ask).topics
    assert topics == ("t0",) * 8 + ("t8",) * 3, "also under topics that say otherwise"
    single = [Run(m, tokens, mask) for m in (one, other)]
    assert sweep(*single, "resid_post", metric=pick).topics is None
    assert len(set(discover(clean, corrupted, metric=pick, ig_steps=1).topics)) == 2
    found = compare(clean, corrupted, direction="gradient", ask=Question(metric=pick))
    assert len(set(found.topics)) == 2
