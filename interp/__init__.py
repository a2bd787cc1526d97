"""Trace which components of a fine-tuned chat model make it write emojis."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.models import ModelPair, load_pair

__version__ = "0.1.0"
__all__ = ["ModelPair", "load_pair"]


def __getattr__(name: str) -> Any:
    """Import the models on first use: they bring torch, which takes seconds."""
    if name in __all__:
        import interp.models

        return getattr(interp.models, name)
    raise AttributeError(f"module 'interp' has no attribute {name!r}")
