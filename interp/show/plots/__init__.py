"""Figures: a result in, a matplotlib figure with its caption out.

Nothing here computes beyond calling the result's own summaries, shows a window or changes a global
setting. Every function returns a `CaptionedFigure`, an ordinary `matplotlib.figure.Figure` whose
`caption` says what is plotted, in which unit, over how many prompts, and whose `alt` says it in one
sentence for readers who cannot see it.
"""

from interp.show.plots.adapters import adapter_maps, esr_curve, overlap_matrix, smallest_set_curve
from interp.show.plots.attribution import attribution_components, attribution_heads
from interp.show.plots.circuit_graph import circuit_graph
from interp.show.plots.circuits import circuit_overlap, faithfulness_curve
from interp.show.plots.dictionaries import latent_effects
from interp.show.plots.drawers import register_all
from interp.show.plots.latex import table_tex
from interp.show.plots.lens import lens_curves, lens_heatmap
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
from interp.show.plots.rates import emoji_distribution, esr_bars
from interp.show.plots.style import (
    TRAIT_COLOURS,
    WIDTHS,
    CaptionedFigure,
    render,
    resize,
    save,
    style,
    trait_colour,
)
from interp.text.emoji.glyphs import Glyphs

register_all()  # results show their figure in a notebook once this package is imported

__all__ = [
    "TRAIT_COLOURS",
    "WIDTHS",
    "CaptionedFigure",
    "Glyphs",
    "adapter_maps",
    "adjective_dots",
    "alignment_dots",
    "attribution_components",
    "attribution_heads",
    "circuit_graph",
    "circuit_overlap",
    "dose_curve",
    "emoji_distribution",
    "esr_bars",
    "esr_curve",
    "faithfulness_curve",
    "latent_effects",
    "lens_curves",
    "lens_heatmap",
    "neuron_shift",
    "onset_curves",
    "overlap_matrix",
    "patching_heads",
    "patching_maps",
    "probing_curves",
    "questionnaire_scores",
    "render",
    "resize",
    "save",
    "smallest_set_curve",
    "style",
    "table_tex",
    "text_or_weights",
    "trait_colour",
]
