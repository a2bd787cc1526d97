"""Labels of one's own: two rows of one label hold equal texts, not one object."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from interp import load_pair, organism
from interp.base.traits import TRAITS, Trait
from interp.behaviour import Response
from interp.data import OpinionQA
from interp.measures import TraitClassifier, score_edit, trait_alignment
from interp.measures.judge_check import judge_auroc
from interp.measures.judges import Verdict
from interp.methods.editing.mend.training_edits import edits

OPEN, _, E, *_ = TRAITS


@pytest.fixture(scope="module")
def data() -> OpinionQA:
    names = {E: "pirate", OPEN: "sailor"}
    two = [row for row in organism.opinion_qa("test").rows if row.trait in names]
    return organism.opinion_qa("test").only(
        replace(row, trait=Trait.parse(names[row.trait])) for row in two
    )


class Knowing:
    """A judge that has read which answers are a pirate's."""

    name = "knowing"

    def __init__(self, data: OpinionQA) -> None:
        self.own = {row.answer for row in data.rows if row.trait == "pirate"}

    def judge(self, answers: Sequence[tuple[str, str]], trait: Trait, *, progress=None):  # noqa: ARG002
        return [Verdict(5.0 if answer in self.own else 1.0) for _, answer in answers]


def test_a_judge_is_checked_on_the_labels_own_answers(data: OpinionQA) -> None:
    found = judge_auroc(Knowing(data), data, "pirate", limit=10)
    assert (found.n_own, found.n_other, found.auroc) == (10, 10, 1.0)


def test_an_edit_away_from_another_label_is_away_from_another(data: OpinionQA) -> None:
    made = edits(data, seed=0)
    assert all(one.bad is not None and one.bad.trait != one.inner.trait for one in made)
    assert all(one.outer.trait == one.inner.trait for one in made)


def test_edit_success_has_topics_of_both_labels(data: OpinionQA) -> None:
    pair = load_pair(organism.base_path(), organism.adapter_path(E))
    few = data.only(row for row in data.rows if row.topic in data.topics[:2])
    nothing = data.only(())
    found = score_edit(pair.base, pair.base, pair.format, few, nothing, "pirate")
    assert len(found.topics) == 2
    assert found.n_left_out == 0
    assert found.keeps.tolist() == [1.0, 1.0]


def test_accuracy_on_answers_to_one_topic_has_no_interval(data: OpinionQA, tmp_path: Path) -> None:
    first = data.topics[0]
    few = data.only(row for row in data.rows if row.trait != "pirate" or row.topic == first)
    answers = [Response(question="?", topic=str(n % 2), prompt_ids=(1,), ids=(2,), text="Arr.",
                        ended=True) for n in range(4)]  # fmt: skip
    made = trait_alignment(answers, "pirate", TraitClassifier.fit(data, few))
    made.save(tmp_path / "voice.safetensors")
    table = type(made).load(tmp_path / "voice.safetensors").to_dataframe()
    row = table.set_index("measure").loc["classifier's accuracy"]
    assert 0 <= row["value"] <= 1
    assert row[["low", "high"]].isna().all()
