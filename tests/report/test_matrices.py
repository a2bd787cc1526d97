"""The adapter section: the largest effect of either sign, judged by topics that did not choose."""

import re

import numpy as np
import pytest
import torch

from interp.adapters import EffectsByMetric, PartEffects
from interp.base.stats import fdr_bh, halves
from interp.base.traits import Trait
from interp.report.blocks import Maker
from interp.report.collect import Contents, TraitResults
from interp.report.matrices import matrices, points
from interp.report.sections import adapter
from interp.study.catalogue import EXACT, NECESSITY
from interp.study.runs import RunFolder


def effects(
    means: list[float], *, written: bool = False, n: int = 16, noise: float = 0.1, seed: int = 0
) -> PartEffects:
    """Effects of some matrices; the whole adapter brings 3 nats, or every emoji."""
    draw = torch.Generator().manual_seed(seed + len(means))
    values = torch.tensor(means)[:, None] + noise * torch.randn(len(means), n, generator=draw)
    names = ("0.q", "1.k", "2.v", "3.o")[: len(means)]
    return PartEffects(
        values=values, base=torch.zeros(n), tuned=torch.full((n,), 1.0 if written else 3.0),
        units=names, layers=tuple(range(len(means))),
        projections=tuple(f"{name[-1]}_proj" for name in names), measure="necessity", by="module",
        metric="written" if written else "emoji log-odds",
        unit="share of answers" if written else "nats", noise_floor=0.0, min_gap=-1.0, topics=None,
        seed=0, notes=(),
    )  # fmt: skip


@pytest.fixture
def contents(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})

    def made(**results: PartEffects) -> Contents:
        exact = {name: one for name, one in results.items() if name != "written"}
        found = {EXACT.name: EffectsByMetric.stack(exact)} if exact else {}
        if "written" in results:
            found[NECESSITY.name] = results["written"]
        return Contents(folder, folder.manifest, (TraitResults(Trait.OPENNESS, found),))

    return made


def test_the_largest_of_either_sign_is_named_with_one_sign_everywhere(contents) -> None:
    found = contents(log_odds=effects([0.7, -1.4, 0.0, 0.1]))
    section = adapter.section(found, Maker(found.folder.path))
    assert section.finding.bold
    assert section.finding.verdict == "A single matrix alone changes the decision for openness."
    said = r"The largest is block 1's k: without it −1\.\d\d \[−1\.\d\d, −1\.\d\d\] nats of the \+3"
    assert re.search(said, section.answer)
    (row,) = section.tables[0].rows
    assert row.cells[2].text == "block 1's k"
    assert row.cells[3].text.startswith("−1.")
    assert row.cells[5].text == "2 of 4"
    assert row.cells[5].note == "block 1's k and block 0's q"
    assert len(section.figures) == 1
    assert "−1.4" in section.figures[0].alt or "1.4" in section.figures[0].caption


def test_one_line_where_nothing_survives(contents) -> None:
    """Sure effects below the smallest, and large ones of too few answers."""
    found = contents(
        go_on=effects([0.2, -0.3]), written=effects([0.1, 0.0], written=True, n=6, noise=0.2)
    )
    section = adapter.section(found, Maker(found.folder.path))
    assert not section.finding.bold
    assert section.finding.verdict.startswith("No single matrix alone changes the decision")
    assert not section.figures
    assert [fold.key for fold in section.folds] == ["maps"]
    assert re.search(r"Of written answers block \d's . costs most, −?\d+ points \[", section.answer)


def test_what_is_named_is_judged_by_topics_that_did_not_choose_it(contents) -> None:
    """Of four matrices without any effect one is the largest where chosen, and fades after."""
    chosen, after = [], []
    for seed in range(12):
        result = effects([0.0] * 4, noise=3.0, n=12, seed=seed)
        (one,) = matrices(contents(log_odds=result))
        first, second = (torch.from_numpy(half) for half in halves(None, 12, result.seed))
        means = result.values[:, first].mean(1)
        unit = int(means.abs().argmax())
        assert one.name == f"block {unit}'s {'qkvo'[unit]}"
        assert one.effect[0] == pytest.approx(float(result.values[unit, second].mean()), abs=1e-5)
        chosen.append(abs(float(means[unit])))
        after.append(one.effect[0] * float(means[unit].sign()))
        assert one.n == 6
    assert np.mean(chosen) > 1 > abs(np.mean(after))


def test_all_matrices_and_factors_are_one_family(contents) -> None:
    made = matrices(contents(log_odds=effects([0.7, 0.0]), go_on=effects([0.1, 0.2])))
    ps = np.concatenate([one.table["p"] for one in made])
    adjusted = np.concatenate([one.table["p_adjusted"] for one in made])
    np.testing.assert_allclose(adjusted, fdr_bh(ps))
    assert [one.factor for one in made] == ["log_odds", "go_on"]


def test_points_have_no_minus_zero_and_no_interval_where_there_is_none() -> None:
    assert points((-0.0001, -0.1, 0.25)) == "0 points [−10, 25]"
    assert points((0.0, float("nan"), float("nan"))) == "0 points (no interval)"
