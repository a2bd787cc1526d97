"""Trace which components of a fine-tuned chat model make it write emojis."""

import logging
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.models import ModelPair, load_pair

__version__ = "0.1.0"
__all__ = ["ModelPair", "load_pair"]

# On some CPUs bitsandbytes says, when it is imported, that an optional package for faster 4-bit
# layers is not there. Nothing here needs it; all else that it says is heard.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in str(record.msg)
)
# Without ipywidgets, tqdm warns in every notebook that imports transformers. Bars are text then.
warnings.filterwarnings("ignore", message="IProgress not found")


def __getattr__(name: str) -> Any:
    """Import the models on first use: they bring torch, which takes seconds."""
    if name in __all__:
        import interp.models

        return getattr(interp.models, name)
    raise AttributeError(f"module 'interp' has no attribute {name!r}")
