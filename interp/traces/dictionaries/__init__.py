"""Dictionaries (sparse autoencoders, transcoders) as a bridge: their latents in base and tuned."""

from interp.traces.dictionaries.dictionary import Dictionary, DictionaryConfig
from interp.traces.dictionaries.folder import read_dictionary, save_dictionary
from interp.traces.dictionaries.latent_differences import LatentDifference, compare
from interp.traces.dictionaries.patches import LatentPatches, patch
from interp.traces.dictionaries.training import activations, train

__all__ = [
    "Dictionary",
    "DictionaryConfig",
    "LatentDifference",
    "LatentPatches",
    "activations",
    "compare",
    "patch",
    "read_dictionary",
    "save_dictionary",
    "train",
]
