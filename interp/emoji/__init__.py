"""Emojis as what they are: sequences of tokens.

Find emojis in text (`find`), know how a tokenizer writes them (`EmojiVocab`).
"""

from interp.emoji.data import canonical, name, rgi
from interp.emoji.find import EmojiMatch, find
from interp.emoji.vocab import EmojiVocab

__all__ = ["EmojiMatch", "EmojiVocab", "canonical", "find", "name", "rgi"]
