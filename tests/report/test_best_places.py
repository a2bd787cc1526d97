"""The place that is named: picked by one half of the topics, judged by the other, or not at all."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_results import factors, patching

from interp.base.stats import fdr_bh, halves
from interp.base.traits import Trait
from interp.patching import PatchingByMetric, PatchingResult
from interp.report.best_places import judge, maps
from interp.report.blocks import Maker, Section
from interp.report.collect import Contents, TraitResults
from interp.report.sections import patching as section
from interp.study.catalogue import PATCHING
from interp.study.runs import RunFolder

NAMES = ("patching-model-denoising-z", "patching-voice-denoising-z")
ROWS = [next(row for row in PATCHING if row.name == name) for name in NAMES]


@pytest.fixture
def contents(tmp_path):
    """`contents(model, prompt, **config)`: a run of one trait with these sweeps of heads."""
    folder = RunFolder.create(tmp_path / "run", {})

    def made(*sweeps: PatchingByMetric, **config: float) -> Contents:
        results = {row.name: one for row, one in zip(ROWS, sweeps, strict=False)}
        manifest = folder.manifest | {"config": config}
        return Contents(folder, manifest, (TraitResults(Trait.OPENNESS, results),))

    return made


def shown(one: Contents) -> Section:
    return section.section(one, Maker(one.folder.path))


def moved(sweep: PatchingByMetric, gaps: torch.Tensor) -> PatchingByMetric:
    """The same recoveries of other gaps, in all metrics."""
    recovery = (sweep.values - sweep.corrupted[:, None, None]) / (sweep.clean - sweep.corrupted)[
        :, None, None
    ].nan_to_num()
    low = torch.zeros_like(sweep.corrupted)
    return replace(sweep, values=recovery.nan_to_num() * gaps, corrupted=low, clean=low + gaps)


def noise(seed: int, n: int = 24) -> PatchingResult:
    """No head does anything: recoveries are noise of half of the gap."""
    draw = torch.Generator().manual_seed(seed)
    made = patching("z", n_units=20, n=n)
    values = 3.5 * torch.randn(made.values.shape, generator=draw)
    return replace(made, values=values, clean=torch.full((n,), 7.0), corrupted=torch.zeros(n))


def test_halves_share_no_topic_and_hold_all() -> None:
    topics = [f"topic {i % 7}" for i in range(20)]
    first, second = halves(topics, 20, seed=1)
    names = [{t for t, used in zip(topics, half, strict=True) if used} for half in (first, second)]
    assert [len(some) for some in names] == [3, 4]
    assert not names[0] & names[1]
    assert (first ^ second).all()
    assert not np.array_equal(first, halves(topics, 20, seed=2)[0])


def test_the_best_of_noise_is_judged_as_nothing() -> None:
    """Of 80 heads the best recovers a fifth of the gap where it was chosen, and nothing after."""
    chosen, after = [], []
    for seed in range(12):
        place = judge(noise(seed), seed)
        chosen.append(place.chosen)
        after.append(place.estimate[0])
    assert min(chosen) > 0.2
    assert abs(np.mean(after)) < 0.1


@pytest.mark.parametrize(
    ("n", "said"), [(12, "A single place restores more than half of the gap."), (5, "Whether one")]
)
def test_few_prompts_settle_nothing(contents, n, said) -> None:
    """Planted: head 1 of the last block restores all. One of `n` prompts has no gap."""
    found = shown(contents(factors("z", n=n, n_units=4)))
    assert found.finding.verdict.startswith(said)
    assert f"{n // 2} prompts)" in found.answer, "the half that judges"
    assert "(block 3, head 1)" in found.answer


def test_a_gap_below_the_smallest_effect_gets_no_verdict(contents) -> None:
    sweep = factors("z", n=12, n_units=4)
    found = shown(contents(sweep, smallest_nats=6.9))
    assert found.finding.verdict.startswith("A single place")
    found = shown(contents(sweep, smallest_nats=7.1))
    assert found.finding.verdict == "There is no gap that one place could restore."
    assert not found.finding.bold
    assert "no more than the smallest effect of interest (7.1 nats)" in found.finding.numbers


def test_a_gap_that_is_small_against_its_spread_is_muted_with_the_reason(contents) -> None:
    """Planted: heads restore all of gaps that are as often negative; their ratios look perfect."""
    gaps = torch.tensor([2.0, -2.4, 3.1, -0.7, 2.5, -1.2, 1.9, -1.6, 2.8, -0.9, 1.0, 0.3])
    sweep = moved(factors("z", n=12, n_units=4), gaps)
    model, voice = sweep, replace(factors("z", n=12, n_units=4), contrast="voice")
    found = shown(contents(model, voice))
    reason = r"is \+0\.\d\d \[−[\d.]+, \+[\d.]+\] nats in .* for openness, too small against its"
    assert re.search(reason, found.parts[0].answer)
    assert found.finding.verdict == "A single place restores more than half of the gap."
    assert "both read by the tuned model" in found.finding.numbers, "the contrast that has a gap"
    captions = [block.caption for block in found.figures]
    assert len(captions) == 1
    assert "voice contrast" in captions[0]
    (fold,) = [fold for fold in found.folds if fold.key == "small"]
    (first, *_) = [block for block in fold.figures if "model contrast" in block.caption]
    assert first.caption.startswith("Recovery says little here: the gap is +0.")
    (row, _) = found.tables[0].rows
    assert [cell.text for cell in row.cells[3:]] == ["not said"] * 3 + ["none"]


def test_all_maps_of_a_study_are_one_family(contents) -> None:
    voice = replace(factors("z", n=12, n_units=4, seed=1), contrast="voice")
    made = maps(contents(factors("z", n=12, n_units=4), voice))
    tables = [table for one in made for table in one.tables.values()]
    assert len(tables) == 4  # two contrasts, each by its leading factor and by the log-odds
    ps = np.concatenate([table["p"] for table in tables])
    adjusted = np.concatenate([table["p_adjusted"] for table in tables])
    np.testing.assert_allclose(adjusted, fdr_bh(ps))
    places = [place for one in made for place in one.places.values()]
    assert {place.p for place in places} == {0.03125}, "6 of 6 prompts, in all four"
