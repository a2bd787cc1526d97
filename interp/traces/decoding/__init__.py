"""What causes the outcome while answers are being written: who writes, who decides, how much."""

from interp.traces.decoding.ablated import Ablated, ablated, all_but, without
from interp.traces.decoding.amplification import Amplification, amplification
from interp.traces.decoding.crossed import Crossed, crossed

__all__ = [
    "Ablated",
    "Amplification",
    "Crossed",
    "ablated",
    "all_but",
    "amplification",
    "crossed",
    "without",
]
