"""What is read off a model: outcomes, and where an answer decides for one."""

from interp.readout.outcome import Outcome, OutcomeMetric

__all__ = ["Outcome", "OutcomeMetric"]
