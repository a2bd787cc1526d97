"""Trace which components of a fine-tuned chat model make it write emojis."""

import logging
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp import behaviour as behaviour
    from interp import readout as readout
    from interp.behaviour.contrasts import contrast
    from interp.models import ModelPair, load_pair
    from interp.readout import Outcome

__version__ = "0.1.0"
__all__ = ["ModelPair", "Outcome", "contrast", "load_pair"]

_NAMES = {
    "ModelPair": "interp.models",
    "Outcome": "interp.readout",
    "contrast": "interp.behaviour.contrasts",
    "load_pair": "interp.models",
}
ROOMS = (
    "adapters",
    "attribution",
    "behaviour",
    "circuits",
    "emoji",
    "logit_lens",
    "neurons",
    "organism",
    "patching",
    "plots",
    "probing",
    "readout",
    "views",
)
"""Rooms that are of use by themselves."""

# On some CPUs bitsandbytes says, when it is imported, that an optional package for faster 4-bit
# layers is not there. Nothing here needs it; all else that it says is heard.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in str(record.msg)
)
# Without ipywidgets, tqdm warns in every notebook that imports transformers. Bars are text then.
warnings.filterwarnings("ignore", message="IProgress not found")


def __getattr__(name: str) -> Any:
    """Import the front door on first use: it brings torch, which takes seconds."""
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    if name in ROOMS:
        return import_module(f"interp.{name}")
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*__all__, *ROOMS, "__version__"))
