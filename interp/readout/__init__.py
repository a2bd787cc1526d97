"""What is read off a model: outcomes, where an answer decides for one, and how a trace is asked."""

from interp.readout.expected import ExpectedRate, expected_rate
from interp.readout.outcome import Outcome, OutcomeMetric
from interp.readout.question import Question
from interp.readout.slot import Slot, SlotPrompts, Slots, slot_length, slots

__all__ = [
    "ExpectedRate",
    "Outcome",
    "OutcomeMetric",
    "Question",
    "Slot",
    "SlotPrompts",
    "Slots",
    "expected_rate",
    "slot_length",
    "slots",
]
