"""Docstrings that name several parameters, fields or errors at once, for the reference.

`clean, corrupted: the two runs` documents two parameters. Here each gets an entry of its own, so
that it is set beside its own annotation, and a name that the signature lacks is still a warning.
"""

import re
from typing import Any

import griffe

SHARED = re.compile(
    r"^(?P<indent> {4})(?P<names>\w+(?:,\s+\w+)+):(?P<text>(?: .*)?(?:\n {5,}.*)*)$", re.MULTILINE
)


class SharedEntries(griffe.Extension):
    """Split `a, b: text` into `a: text` and `b: text`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SHARED.sub(_split, obj.docstring.value)


def _split(entry: re.Match[str]) -> str:
    names = re.split(r",\s+", entry["names"])
    return "\n".join(f"{entry['indent']}{name}:{entry['text']}" for name in names)
