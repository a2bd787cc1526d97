"""Which words of a prompt, and which rows of training data, call for the outcome."""

from interp.traces.inputs.effects import Neutral, WordEffects, effects
from interp.traces.inputs.rows import RowScores, score
from interp.traces.inputs.words import Word, neutral_ids, split

__all__ = [
    "Neutral",
    "RowScores",
    "Word",
    "WordEffects",
    "effects",
    "neutral_ids",
    "score",
    "split",
]
