"""What is read off a model: outcomes, and where an answer decides for one."""

from interp.readout.outcome import Outcome, OutcomeMetric
from interp.readout.slots import Slot, SlotPrompts, Slots, slot_length, slots

__all__ = [
    "Outcome",
    "OutcomeMetric",
    "Slot",
    "SlotPrompts",
    "Slots",
    "slot_length",
    "slots",
]
