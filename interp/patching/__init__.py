"""Activation patching: which activations carry the emoji decision from one run to another."""

from interp.patching.ablate import ablate
from interp.patching.exact import sweep, sweep_each
from interp.patching.joint import Node, NodesResult, patch_nodes
from interp.patching.plan import Cells
from interp.patching.result import PatchingResult
from interp.patching.run import Run
from interp.patching.screen import ScreenResult, screen
from interp.readout.question import Question

__all__ = [
    "Cells",
    "Node",
    "NodesResult",
    "PatchingResult",
    "Question",
    "Run",
    "ScreenResult",
    "ablate",
    "patch_nodes",
    "screen",
    "sweep",
    "sweep_each",
]
