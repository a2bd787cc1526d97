"""Models: loading, tokens, adapters and their merge, the hooked pair."""

from typing import TYPE_CHECKING

from interp.base.lazy import on_first_use

if TYPE_CHECKING:
    from interp.models.adapters import Adapter, read_adapter
    from interp.models.loading import LoadedBase, load_base, load_tokenizer
    from interp.models.merge import MergeReport
    from interp.models.pair import ModelPair, hook, load_hooked, load_pair
    from interp.models.tokens import ChatFormat, Example, TokenBatch, pad, pad_id

__getattr__, __dir__ = on_first_use(__name__)
__all__ = [
    "Adapter",
    "ChatFormat",
    "Example",
    "LoadedBase",
    "MergeReport",
    "ModelPair",
    "TokenBatch",
    "hook",
    "load_base",
    "load_hooked",
    "load_pair",
    "load_tokenizer",
    "pad",
    "pad_id",
    "read_adapter",
]
