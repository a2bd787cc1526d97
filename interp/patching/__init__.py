"""Activation patching: which activations carry the emoji decision from one run to another."""

from interp.patching.exact import sweep
from interp.patching.result import PatchingResult
from interp.patching.run import Run

__all__ = ["PatchingResult", "Run", "sweep"]
