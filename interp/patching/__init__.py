"""Activation patching: which activations carry the emoji decision from one run to another."""

from interp.patching.ablate import ablate
from interp.patching.exact import sweep
from interp.patching.joint import Node, NodesResult, patch_nodes
from interp.patching.result import PatchingResult
from interp.patching.run import Run

__all__ = ["Node", "NodesResult", "PatchingResult", "Run", "ablate", "patch_nodes", "sweep"]
