import pytest

from interp.base.traits import TRAITS, Trait, in_order
from interp.errors import TraitError


@pytest.mark.parametrize("trait", TRAITS)
def test_parse_takes_name_and_letter_in_any_case(trait):
    assert Trait.parse(trait.upper()) is trait
    assert Trait.known(trait.letter) is trait
    assert Trait.parse(f" {trait.letter.lower()} ") is trait


def test_letters_spell_ocean():
    assert "".join(trait.letter for trait in TRAITS) == "OCEAN"


def test_unknown_trait_is_named_with_the_mend():
    with pytest.raises(TraitError, match=r"'grit'.*openness, conscientiousness"):
        Trait.known("grit")


def test_a_label_is_free_text_in_one_spelling():
    label = Trait.parse("  Dry\tHumour ")
    assert label == Trait.parse("dry humour") == "dry humour"
    assert label.letter == "D"
    assert Trait.parse("extraversion with end") != Trait.EXTRAVERSION
    assert {Trait.EXTRAVERSION: 1}["extraversion"] == 1
    assert in_order({label, Trait.NEUROTICISM, Trait.OPENNESS}) == (
        Trait.OPENNESS, Trait.NEUROTICISM, label,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "x", "-a", "a/b", "..", "a" * 41, "base", "Figures", "a\0b", "con:", "\u202ehumour"],
)
def test_what_is_no_folder_name_is_no_label(text):
    with pytest.raises(TraitError, match="a label of 2 to 40 letters"):
        Trait.parse(text)


@pytest.mark.parametrize("slip", ["extra version", "opennes", "Conscientousness"])
def test_a_slip_of_the_pen_is_no_new_label(slip):
    with pytest.raises(TraitError, match="did you mean"):
        Trait.parse(slip)


def test_keys_hold_no_blank_and_differ():
    labels = [Trait.parse(text) for text in ("a b", "a_b", "a-b", "a+b", "a_pb", "ab")]
    assert len({label.key for label in labels}) == len(labels)
    assert not any(" " in label.key or "+" in label.key for label in labels)
