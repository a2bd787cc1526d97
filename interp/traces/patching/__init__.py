"""Activation patching: which activations carry the emoji decision from one run to another."""

from interp.readout.question import Question
from interp.readout.run import Run
from interp.traces.patching.ablate import ablate
from interp.traces.patching.by_metric import PatchingByMetric
from interp.traces.patching.exact import sweep, sweep_each
from interp.traces.patching.joint import Node, NodesResult, patch_nodes
from interp.traces.patching.result import PatchingResult
from interp.traces.patching.screen import ScreenResult, screen
from interp.traces.patching.sweep_plan import Cells

__all__ = [
    "Cells",
    "Node",
    "NodesResult",
    "PatchingByMetric",
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
