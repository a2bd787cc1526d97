"""Sentences about components and lenses: signs, what was measured, and of which labels."""

import torch

from interp.adapters import Directions
from interp.attribution import Attribution
from interp.base.traits import Trait
from interp.logit_lens import LensResult
from interp.report.blocks import Maker
from interp.report.collect import Contents, TraitResults
from interp.report.sections import jacobian
from interp.report.sections.components import _cells, _direct, _ranks
from interp.study.catalogue import JACOBIAN
from interp.study.runs import RunFolder

ONE, OTHER = Trait.OPENNESS, Trait.EXTRAVERSION
TOPICS = ("a", "a", "b", "b")


def directions(effects: list[float], exact: list[bool]) -> Directions:
    values = torch.tensor(effects)[:, None] + torch.tensor([-0.01, 0.0, 0.01, 0.0])
    n = len(effects)
    return Directions(
        modules=tuple(f"layers.{i}.o_proj" for i in range(n)), ranks=(0,) * n,
        singular=torch.ones(n), effects=values, exact=torch.tensor(exact),
        cosine=torch.full((n,), 0.1), d_model=8, outputs=torch.ones(n, 8), metric="emoji log-odds",
        unit="nats", noise_floor=0.0, topics=TOPICS, seed=0, notes=(),
    )  # fmt: skip


def test_a_direction_is_named_by_what_was_measured_and_with_its_sign() -> None:
    found = directions([3.0, -2.0, 1.0], [False, True, True])
    said = _ranks({ONE: found}).replace("\N{MINUS SIGN}", "-")
    assert "layers.1.o_proj (rank 0)" in said, "3.0 is a gradient's word"
    assert "change by +2.00 [" in said, "without it they rise"
    assert [cell.value for cell in _cells(found)[:2]] == [-2.0, 1.0]
    assert _cells(found)[2].text == "none"


def test_what_writes_most_of_a_difference_goes_its_way() -> None:
    rows = torch.tensor([0.5, -2.0, -0.1])[:, None] + torch.tensor([-0.01, 0.0, 0.01, 0.0])
    values = torch.stack((torch.zeros_like(rows), rows))
    found = Attribution(
        values=values, total=values.sum(1), metric_values=values.sum(1),
        names=("a0", "m0", "bias"), runs=("base", "tuned"), by="component", direction="path",
        unexplained=0.0, contrast="model", metric="emoji log-odds", unit="nats", topics=TOPICS,
    )  # fmt: skip
    said = _direct({ONE: found}).replace("\N{MINUS SIGN}", "-")
    assert "written by m0, which adds -2.00 [" in said


def lens(gap: float) -> LensResult:
    tuned = torch.tensor([0.0, gap])[:, None, None] + torch.tensor([-0.01, 0.0, 0.01, 0.0])[:, None]
    odds = torch.stack((torch.zeros_like(tuned), tuned))
    ids = torch.zeros_like(odds).long()
    return LensResult(
        log_odds=odds, go_on=odds, given_go_on=odds, reference=odds, probability=odds, rank=ids,
        best_id=ids, valid=torch.ones(4, 1).bool(), columns=torch.zeros(4, 1).long(),
        onset=torch.zeros(4).long(), labels=("embedding", "final"), readout_error=(0.0, 0.0),
        topics=TOPICS, lens="Jacobian lens",
    )  # fmt: skip


def test_labels_that_no_reading_tells_apart_have_no_part_in_the_gap(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    traits = tuple(
        TraitResults(trait, {JACOBIAN.name: lens(gap)}) for trait, gap in ((ONE, 2.0), (OTHER, 0.0))
    )
    made = jacobian.section(Contents(folder, folder.manifest, traits), Maker(folder.path))
    assert made is not None
    assert "at reading point final for 1 of 2 traits (openness), by +2.00 [" in made.answer
    assert "extraversion" not in made.answer
