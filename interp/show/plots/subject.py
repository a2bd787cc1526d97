"""Of whose adapter a figure is, and of which outcome: its words, colour and mark."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from matplotlib.text import Text

from interp.base.errors import InputError
from interp.base.outcomes import EMOJI, reworded
from interp.base.traits import Trait
from interp.show.plots.style import CaptionedFigure, trait_colour, trait_mark

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """What a figure calls the tuned model, and how it draws it.

    Attributes:
        title: a heading: `Openness`, or `Tuned model` where no trait is named.
        adapter: the adapter, at the beginning of a sentence.
        model: the tuned model, within a sentence and without an article.
        about: behind a noun: ` for openness`, or nothing.
        colour, mark: the trait's, or purple and a hexagon.
    """

    title: str = "Tuned model"
    adapter: str = "Adapter"
    model: str = "tuned model"
    about: str = ""
    colour: str = "#6A51A3"
    mark: str = "h"

    @classmethod
    def of(cls, trait: Trait | str | None) -> "Subject":
        """The subject of a figure of one trait, or of none.

        Raises:
            TraitError: if `trait` is a name and cannot be a label.
        """
        if trait is None:
            return cls()
        name = Trait.parse(trait)
        return cls(
            title=name.capitalize(),
            adapter=f"{name.capitalize()} adapter",
            model=f"model tuned for {name}",
            about=f" for {name}",
            colour=trait_colour(name),
            mark=trait_mark(name),
        )


def by_subject(results: T | Mapping[str, T], trait: Trait | str | None) -> dict[Subject, T]:
    """Results by whose they are: those of several labels, or the one of `trait`.

    Raises:
        InputError: if there is none.
    """
    if not isinstance(results, Mapping):
        return {Subject.of(trait): results}
    if not results:
        raise InputError("no result to draw; the mapping from labels to results is empty")
    return {Subject.of(label): one for label, one in results.items()}


def model_words(subjects: Iterable[Subject]) -> str:
    """`model tuned for openness`, or over several labels `models tuned for each label`."""
    whose = list(subjects)
    return whose[0].model if len(whose) == 1 else "models tuned for each label"


def said_of(figure: CaptionedFigure, outcome: str) -> CaptionedFigure:
    """A figure that speaks of emojis, saying the outcome's name instead in all of its words."""
    if outcome != EMOJI:
        for text in figure.findobj(Text):
            text.set_text(reworded(text.get_text(), outcome))
        figure.caption = reworded(figure.caption, outcome)
        figure.alt = reworded(figure.alt, outcome)
    return figure
