"""Which words of prompt and answer call for the outcome at a slot, and how few of them suffice."""

from interp.traces.inputs.effects import Neutral, WordEffects, effects
from interp.traces.inputs.words import Word, neutral_ids, split

__all__ = ["Neutral", "Word", "WordEffects", "effects", "neutral_ids", "split"]
