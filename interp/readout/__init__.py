"""What is read off a model: outcomes, where an answer decides for one, and how a trace is asked."""

from interp.readout.outcome import Outcome, OutcomeMetric
from interp.readout.question import Question

__all__ = ["Outcome", "OutcomeMetric", "Question"]
