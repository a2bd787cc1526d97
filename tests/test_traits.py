import pytest

from interp.base.traits import TRAITS, Trait
from interp.errors import TraitError


@pytest.mark.parametrize("trait", TRAITS)
def test_parse_takes_name_and_letter_in_any_case(trait):
    assert Trait.parse(trait.value.upper()) is trait
    assert Trait.parse(f" {trait.letter.lower()} ") is trait


def test_letters_spell_ocean():
    assert "".join(trait.letter for trait in TRAITS) == "OCEAN"


def test_unknown_trait_is_named_with_the_mend():
    with pytest.raises(TraitError, match=r"'grit'.*openness, conscientiousness"):
        Trait.parse("grit")
