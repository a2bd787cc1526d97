"""Which figure a result's card in a notebook shows: those that need to be told nothing more.

Many figures carry a trait's name and colour, which most results do not hold; those are drawn by
calling `interp.plots`. A result that names its trait in a field of its own is drawn in its colour.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from interp.adapters import Overlap
from interp.behaviour import AdjectiveEvaluation, OnsetSurvival, SelfReport, TraitAlignment
from interp.cards import Picture, register
from interp.circuits import Circuit, Comparison
from interp.errors import TraitError
from interp.plots.adapters import overlap_matrix
from interp.plots.circuit_graph import circuit_graph
from interp.plots.circuits import circuit_overlap
from interp.plots.measures import (
    adjective_dots,
    alignment_dots,
    onset_curves,
    questionnaire_scores,
)
from interp.plots.style import CaptionedFigure, render
from interp.traits import Trait


def register_all() -> None:
    """Hang one drawer per kind of result that says by itself what to draw."""
    drawers: dict[str, Callable[[Any], CaptionedFigure]] = {
        Overlap.kind: overlap_matrix,
        Comparison.kind: circuit_overlap,
        Circuit.kind: lambda result: circuit_graph(result, result.name),
        OnsetSurvival.kind: lambda result: onset_curves({"answers": result}),
        SelfReport.kind: lambda result: questionnaire_scores([result]),
        TraitAlignment.kind: lambda result: alignment_dots(
            {"answers": {Trait.parse(result.trait): result}}
        ),
        AdjectiveEvaluation.kind: lambda result: adjective_dots(
            {"answers": {Trait.parse(result.trait): result}}
        ),
    }
    for kind, draw in drawers.items():
        register(kind, partial(_picture, draw))


def _picture(draw: Callable[[Any], CaptionedFigure], result: Any) -> Picture | None:
    try:
        figure = draw(result)
    except TraitError:  # a circuit that is not named after its trait
        return None
    return Picture(render(figure, "svg"), figure.alt, figure.caption)
