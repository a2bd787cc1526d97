"""The embedded organism: a small model with adapters that ships inside the package.

`docs/organism.md` says what it is, what it shows and what it cannot show.
"""

from typing import TYPE_CHECKING

from interp.base.lazy import on_first_use
from interp.organism.grammar import EMOJIS, voice_words
from interp.organism.paths import (
    ASSETS,
    KINDS,
    adapter_path,
    base_path,
    data_path,
    manifest,
    opinion_qa,
)

if TYPE_CHECKING:
    from interp.organism.building import build, build_size
    from interp.organism.record import table, verify

__getattr__, __dir__ = on_first_use(__name__)
__all__ = [
    "ASSETS",
    "EMOJIS",
    "KINDS",
    "adapter_path",
    "base_path",
    "build",
    "build_size",
    "data_path",
    "manifest",
    "opinion_qa",
    "table",
    "verify",
    "voice_words",
]
