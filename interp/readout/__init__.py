"""What is read off a model: outcomes, and where an answer decides for one."""

from interp.readout.expected import ExpectedRate, expected_rate
from interp.readout.outcome import Outcome, OutcomeMetric
from interp.readout.slots import Slot, SlotPrompts, Slots, slot_length, slots

__all__ = [
    "ExpectedRate",
    "Outcome",
    "OutcomeMetric",
    "Slot",
    "SlotPrompts",
    "Slots",
    "expected_rate",
    "slot_length",
    "slots",
]
