"""Emojis as what they are: sequences of tokens.

Find emojis in text (`find`), know how a tokenizer writes them (`EmojiVocab`), ask a model for the
exact probability of one (`continuation`), and count them over responses (`rates.measure`).
"""

from typing import TYPE_CHECKING

from interp.base.lazy import on_first_use
from interp.text.emoji.data import canonical, name, rgi
from interp.text.emoji.find import EmojiMatch, find

if TYPE_CHECKING:
    from interp.text.emoji.probability import Continuation, continuation
    from interp.text.emoji.rates import EmojiRates
    from interp.text.emoji.vocab import EmojiVocab

__getattr__, __dir__ = on_first_use(__name__)

__all__ = [
    "Continuation",
    "EmojiMatch",
    "EmojiRates",
    "EmojiVocab",
    "canonical",
    "continuation",
    "find",
    "name",
    "rgi",
]
