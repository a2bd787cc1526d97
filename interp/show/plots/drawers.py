"""Which figure a result's card in a notebook shows.

Most results do not say of which trait they are; those are drawn in a neutral colour, and in the
trait's by calling the function of `interp.show.plots`. A result that names its trait in a field of
its own is drawn in its colour. What would take long to draw is not drawn: a figure that resamples
is made of a result of up to `_FEW` numbers, any other of up to `_MANY`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from interp.base.cards import Picture, numbers, register
from interp.base.errors import InputError, TraitError
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour import Origin
from interp.measures import AdjectiveEvaluation, OnsetSurvival, SelfReport, TraitAlignment
from interp.show.plots.adapters import adapter_maps, esr_curve, overlap_matrix, smallest_set_curve
from interp.show.plots.attribution import attribution_components, attribution_heads
from interp.show.plots.circuit_graph import circuit_graph
from interp.show.plots.circuits import circuit_overlap, faithfulness_curve
from interp.show.plots.dictionaries import latent_effects
from interp.show.plots.lens import lens_curves
from interp.show.plots.measures import (
    adjective_dots,
    alignment_dots,
    onset_curves,
    questionnaire_scores,
)
from interp.show.plots.neurons import dose_curve, neuron_shift
from interp.show.plots.origin import text_or_weights
from interp.show.plots.patching import patching_heads, patching_maps
from interp.show.plots.probing import probing_curves
from interp.show.plots.style import CaptionedFigure, render
from interp.traces.adapters import Interpolation, Overlap, PartEffects, SmallestSet
from interp.traces.attribution import Attribution
from interp.traces.circuits import Circuit, Comparison, Faithfulness
from interp.traces.dictionaries import LatentPatches
from interp.traces.logit_lens import LensResult
from interp.traces.neurons import DoseCurve, NeuronShift
from interp.traces.patching import PatchingByMetric, PatchingResult
from interp.traces.probing import ProbeResult

Draw = Callable[[Any], CaptionedFigure]
_FEW, _MANY = 20_000, 2_000_000

_QUICK: dict[type[Result], Draw] = {
    AdjectiveEvaluation: lambda result: adjective_dots(
        {"answers": {Trait.parse(result.trait): result}}
    ),
    Circuit: lambda result: circuit_graph(result, _trait(result.name)),
    Comparison: circuit_overlap,
    LensResult: lens_curves,
    OnsetSurvival: lambda result: onset_curves({"answers": result}),
    Overlap: overlap_matrix,
    PatchingByMetric: lambda result: _patching(result.of(result.names[0])),
    PatchingResult: lambda result: _patching(result),
    ProbeResult: probing_curves,
    SelfReport: lambda result: questionnaire_scores([result]),
    TraitAlignment: lambda result: alignment_dots({"answers": {Trait.parse(result.trait): result}}),
}
_RESAMPLED: dict[type[Result], Draw] = {
    Attribution: lambda result: (
        attribution_heads(result) if result.by == "head" else attribution_components(result)
    ),
    DoseCurve: dose_curve,
    Faithfulness: faithfulness_curve,
    Interpolation: esr_curve,
    LatentPatches: latent_effects,
    NeuronShift: neuron_shift,
    Origin: text_or_weights,
    PartEffects: lambda result: adapter_maps([result]),
    SmallestSet: smallest_set_curve,
}


def register_all() -> None:
    """Hang one drawer per kind of result that has a figure."""
    for drawers, most in ((_QUICK, _MANY), (_RESAMPLED, _FEW)):
        for kind, draw in drawers.items():
            register(kind.kind, partial(_picture, draw, most), draw)


def _picture(draw: Draw, most: int, result: Any) -> Picture | None:
    if numbers(result) > most:
        return None
    try:
        figure = draw(result)
    except InputError:  # of this kind, but not such as the figure is of
        return None
    return Picture(render(figure, "svg"), figure.alt, figure.caption)


def _patching(result: PatchingResult) -> CaptionedFigure:
    return patching_heads(result) if result.axis == "head" else patching_maps([result])


def _trait(name: str) -> Trait | None:
    try:
        return Trait.known(name)
    except TraitError:  # a circuit that is not named after its trait
        return None
