"""Base against tuned without dictionaries: which tokens, and what mean activations differ by."""

from interp.traces.differences.activations import ActivationDifference, activations
from interp.traces.differences.divergence import TokenKL, kl
from interp.traces.differences.shifts import TokenShifts, shifts

__all__ = ["ActivationDifference", "TokenKL", "TokenShifts", "activations", "kl", "shifts"]
