"""Figures: a result in, a matplotlib figure with its caption out.

Nothing here computes beyond calling the result's own summaries, shows a window or changes a global
setting. Every function returns a `CaptionedFigure`, an ordinary `matplotlib.figure.Figure` whose
`caption` says what is plotted, in which unit, over how many prompts, and whose `alt` says it in one
sentence for readers who cannot see it.
"""

from interp.plots.glyphs import Glyphs
from interp.plots.lens import lens_curves, lens_heatmap
from interp.plots.origin import text_or_weights
from interp.plots.patching import patching_heads, patching_maps
from interp.plots.probing import probing_curves
from interp.plots.rates import emoji_distribution, esr_bars
from interp.plots.style import TRAIT_COLOURS, CaptionedFigure, render, save, style, trait_colour

__all__ = [
    "TRAIT_COLOURS",
    "CaptionedFigure",
    "Glyphs",
    "emoji_distribution",
    "esr_bars",
    "lens_curves",
    "lens_heatmap",
    "patching_heads",
    "patching_maps",
    "probing_curves",
    "render",
    "save",
    "style",
    "text_or_weights",
    "trait_colour",
]
