"""Models: loading, tokens, adapters and their merge, the hooked pair."""

from interp.models.loading import LoadedBase, load_base, load_tokenizer
from interp.models.tokens import ChatFormat, Example, TokenBatch, pad, pad_id

__all__ = [
    "ChatFormat",
    "Example",
    "LoadedBase",
    "TokenBatch",
    "load_base",
    "load_tokenizer",
    "pad",
    "pad_id",
]
