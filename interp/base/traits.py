"""The Big Five personality traits: the one list that everything else indexes by."""

from enum import StrEnum

from interp.base.errors import TraitError


class Trait(StrEnum):
    """A Big Five trait. Its value is the lower-case name used in files and options."""

    OPENNESS = "openness"
    CONSCIENTIOUSNESS = "conscientiousness"
    EXTRAVERSION = "extraversion"
    AGREEABLENESS = "agreeableness"
    NEUROTICISM = "neuroticism"

    @property
    def letter(self) -> str:
        """The trait's letter in OCEAN: `O`, `C`, `E`, `A` or `N`."""
        return self.value[0].upper()

    @classmethod
    def parse(cls, text: str) -> "Trait":
        """Read a trait from its name or its OCEAN letter, in any case.

        Raises:
            TraitError: if `text` names no Big Five trait.
        """
        wanted = str(text).strip().lower()
        for trait in cls:
            if wanted in (trait.value, trait.letter.lower()):
                return trait
        raise TraitError(f"unknown trait {text!r}; use one of {', '.join(cls)} (or O, C, E, A, N)")


TRAITS: tuple[Trait, ...] = tuple(Trait)
