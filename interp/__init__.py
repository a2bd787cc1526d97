"""Trace which components of a fine-tuned chat model make it write emojis.

This is the front door: `load_pair`, `ModelPair`, `Outcome`, and rooms by short names (`ROOMS`).
`from interp import patching` and `from interp.patching import sweep` give the same module as
`interp.traces.patching`. Nothing heavy is imported before it is used.
"""

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp import behaviour as behaviour
    from interp import measures as measures
    from interp import organism as organism
    from interp import readout as readout
    from interp.base import errors as errors
    from interp.behaviour.contrasts import contrast, words_contrast
    from interp.models import ModelPair, load_pair
    from interp.readout import Outcome
    from interp.text import data as data
    from interp.text import emoji as emoji
    from interp.traces import adapters as adapters
    from interp.traces import attribution as attribution
    from interp.traces import circuits as circuits
    from interp.traces import decoding as decoding
    from interp.traces import dictionaries as dictionaries
    from interp.traces import differences as differences
    from interp.traces import inputs as inputs
    from interp.traces import logit_lens as logit_lens
    from interp.traces import neurons as neurons
    from interp.traces import patching as patching
    from interp.traces import probing as probing

__version__ = "0.1.0"

ROOMS = {
    name: f"interp.{floor}.{name}"
    for floor, names in {
        "base": ("errors",),
        "text": ("data", "emoji"),
        "traces": (
            "adapters",
            "attribution",
            "circuits",
            "decoding",
            "dictionaries",
            "differences",
            "inputs",
            "logit_lens",
            "neurons",
            "patching",
            "probing",
        ),
    }.items()
    for name in names
}
"""Rooms by the short names that stand, whichever floor they are on."""
_NAMES = {
    "ModelPair": "interp.models",
    "Outcome": "interp.readout",
    "contrast": "interp.behaviour.contrasts",
    "load_pair": "interp.models",
    "words_contrast": "interp.behaviour.contrasts",
}
_FLOORS = (
    "behaviour",
    "measures",
    "organism",
    "readout",
)  # of use by themselves, under their own names
__all__ = ["ModelPair", "Outcome", "contrast", "load_pair", "words_contrast"]


class _ShortNames(MetaPathFinder, Loader):
    """Finds `interp.patching.engine` where it is: `interp.traces.patching.engine`, one module."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        room, _, rest = name.removeprefix("interp.").partition(".")
        if not name.startswith("interp.") or room not in ROOMS:
            return None
        real = f"{ROOMS[room]}.{rest}".rstrip(".")
        if importlib.util.find_spec(real) is None:
            return None
        return ModuleSpec(name, self, loader_state=real)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        real = spec.loader_state
        module = importlib.import_module(real)
        spec.loader_state = module.__spec__
        # Their files are not imported again, which would put the module `screen` of a room in the
        # place of its function `screen`.
        for name in [name for name in sys.modules if name.startswith(f"{real}.")]:
            sys.modules.setdefault(spec.name + name.removeprefix(real), sys.modules[name])
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed under its own name, which is given back to it."""
        module.__spec__ = module.__spec__.loader_state  # type: ignore[union-attr]


sys.meta_path.insert(0, _ShortNames())  # before the finder that would load the files twice

# On some CPUs bitsandbytes says, when it is imported, that an optional package for faster 4-bit
# layers is not there. Nothing here needs it; all else that it says is heard.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in str(record.msg)
)
# Without ipywidgets, tqdm warns in every notebook that imports transformers. Bars are text then.
warnings.filterwarnings("ignore", message="IProgress not found")


def __dir__() -> list[str]:
    return sorted((*__all__, *ROOMS, *_FLOORS, "__version__"))


def __getattr__(name: str) -> Any:
    """Import on first use: the models bring torch, which takes seconds."""
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in ROOMS or name in _FLOORS:
        return importlib.import_module(ROOMS.get(name, f"interp.{name}"))
    raise AttributeError(f"module 'interp' has no attribute {name!r}")
