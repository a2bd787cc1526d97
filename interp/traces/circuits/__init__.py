"""Circuits: which heads, MLPs and edges between them carry the emoji decision.

`discover` scores every edge, `select` makes a circuit of the best, `faithfulness` and `curve` test
it by intervention, `compare` sets circuits of several traits side by side.
"""

from interp.traces.circuits.chance import beside_chance
from interp.traces.circuits.circuit import Circuit, select
from interp.traces.circuits.compare import Comparison, compare
from interp.traces.circuits.discover import discover
from interp.traces.circuits.evaluate import cross, curve, faithfulness, smallest
from interp.traces.circuits.export import from_json, to_graphml, to_json
from interp.traces.circuits.faithfulness import SHARES, Faithfulness
from interp.traces.circuits.graph import Graph
from interp.traces.circuits.scores import CircuitScores

__all__ = [
    "SHARES",
    "Circuit",
    "CircuitScores",
    "Comparison",
    "Faithfulness",
    "Graph",
    "beside_chance",
    "compare",
    "cross",
    "curve",
    "discover",
    "faithfulness",
    "from_json",
    "select",
    "smallest",
    "to_graphml",
    "to_json",
]
