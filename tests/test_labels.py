"""Prompts, markers and items of a label come from one file."""

import json

import pytest

from interp.base import labels
from interp.base.traits import LOW, TRAITS, Trait
from interp.errors import DataError, TraitError
from interp.measures.questionnaire import _of_labels

HUMOUR = {
    "prompt": "Answer as a person with a lot of humour.",
    "markers": [["funny", "dull"], ["witty", "grave"]],
    "items": [{"text": "Make others laugh", "facet": "wit", "key": -1}],
}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(labels, "_ADDED", {})


def stored(tmp_path, **changes):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"labels": {"Humour": HUMOUR | changes}}))
    return path


def test_the_big_five_are_known_and_another_label_is_after_it_was_read(tmp_path):
    assert [labels.of(trait).name for trait in TRAITS] == list(TRAITS)
    with pytest.raises(TraitError, match=r"humour: no prompt and no markers.*labels.add"):
        labels.of("humour")
    assert labels.add(stored(tmp_path)) == ("humour",)
    assert labels.of("Humour").prompt == HUMOUR["prompt"]
    assert labels.of("humour").markers == (("funny", "dull"), ("witty", "grave"))
    (item,) = _of_labels()
    assert (item.text, item.facet, item.trait, item.key) == (
        "Make others laugh", "wit", Trait("humour"), -1,
    )  # fmt: skip
    labels.add(stored(tmp_path))  # the same again
    with pytest.raises(DataError, match="humour is known already"):
        labels.add(stored(tmp_path, prompt="Be grave."))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": " "}, "prompt"),
        ({"markers": []}, "markers"),
        ({"markers": [["funny"]]}, "markers"),
        ({"items": [{"text": "x", "facet": "y", "key": 2}]}, "key"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, changes, said):
    with pytest.raises(DataError, match=f"holds no labels.*{said}"):
        labels.add(stored(tmp_path, **changes))
    with pytest.raises(DataError):
        labels.add(tmp_path / "nowhere.json")


def test_a_low_pole_is_its_trait_the_other_way_round():
    for trait, low in LOW.items():
        assert Trait.parse(f"Low {trait}") == Trait.parse(low) == low != trait
        turned = [pair[::-1] for pair in labels.of(trait).markers]
        assert list(labels.of(low).markers) == turned
        assert turned[0][0] in labels.of(low).prompt
    assert Trait.parse("Introverted") == "introverted"  # any other wording is a label of its own
