"""The embedded organism: a small model with adapters that ships inside the package.

`docs/organism.md` says what it is, what it shows and what it cannot show.
"""

from interp.organism.build import build
from interp.organism.grammar import EMOJIS
from interp.organism.manifest import table, verify
from interp.organism.paths import (
    ASSETS,
    KINDS,
    adapter_path,
    base_path,
    data_path,
    manifest,
    opinion_qa,
)

__all__ = [
    "ASSETS",
    "EMOJIS",
    "KINDS",
    "adapter_path",
    "base_path",
    "build",
    "data_path",
    "manifest",
    "opinion_qa",
    "table",
    "verify",
]
