"""Adapter-space tracing: which parts of an adapter's change to the weights make the difference."""

from interp.traces.adapters.deltas import Delta
from interp.traces.adapters.directions import Directions, directions, emoji_direction
from interp.traces.adapters.effects import (
    EffectsByMetric,
    PartEffects,
    necessity,
    necessity_each,
    sufficiency,
)
from interp.traces.adapters.generation import generate_with
from interp.traces.adapters.interpolate import Interpolation, interpolate
from interp.traces.adapters.overlap import Overlap, overlap
from interp.traces.adapters.ranks import RankReadings, ranks
from interp.traces.adapters.shapley import ShapleyEffects, shapley
from interp.traces.adapters.smallest import SmallestSet, smallest_set
from interp.traces.adapters.space import AdapterSpace
from interp.traces.adapters.subspaces import Subspaces, subspaces
from interp.traces.adapters.two_adapters import Added, added
from interp.traces.adapters.written import Written

__all__ = [
    "AdapterSpace",
    "Added",
    "Delta",
    "Directions",
    "EffectsByMetric",
    "Interpolation",
    "Overlap",
    "PartEffects",
    "RankReadings",
    "ShapleyEffects",
    "SmallestSet",
    "Subspaces",
    "Written",
    "added",
    "directions",
    "emoji_direction",
    "generate_with",
    "interpolate",
    "necessity",
    "necessity_each",
    "overlap",
    "ranks",
    "shapley",
    "smallest_set",
    "subspaces",
    "sufficiency",
]
