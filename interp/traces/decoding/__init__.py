"""What causes the outcome while answers are being written: who writes, who decides, how much."""

from interp.traces.decoding.amplification import Amplification, amplification
from interp.traces.decoding.crossed import Crossed, crossed

__all__ = ["Amplification", "Crossed", "amplification", "crossed"]
