"""Of whose adapter a figure is, and of which outcome: its words, colour and mark."""

from dataclasses import dataclass

from matplotlib.text import Text

from interp.base.outcomes import EMOJI, reworded
from interp.base.traits import Trait
from interp.show.plots.style import CaptionedFigure, trait_colour, trait_mark


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


def said_of(figure: CaptionedFigure, outcome: str) -> CaptionedFigure:
    """A figure that speaks of emojis, saying the outcome's name instead in all of its words."""
    if outcome != EMOJI:
        for text in figure.findobj(Text):
            text.set_text(reworded(text.get_text(), outcome))
        figure.caption = reworded(figure.caption, outcome)
        figure.alt = reworded(figure.alt, outcome)
    return figure
