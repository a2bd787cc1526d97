"""What is traced, as it is asked for and as it is said, without a tokenizer.

Asked for as `emoji`, as `strings:sorry,cannot` (any of them, whatever follows) or as `ids:12,15`
(token ids). Sentences and captions are written once, of emojis; `reworded` is the one place that
says them of another outcome.
"""

import re
from dataclasses import dataclass
from typing import Literal

from interp.base.errors import InputError, visible

EMOJI = "emoji"
_FORMS = "emoji, strings:sorry,cannot (any of some strings) or ids:12,15 (token ids)"
_ID = re.compile(r"[0-9]{1,9}")
_WORD = re.compile(r"\b(?:(?:an|the) )?emojis?\b(?!-to-|_)", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """An outcome as it is asked for.

    Attributes:
        kind: which form it has.
        parts: the strings, or the ids in digits; none for emojis.
    """

    kind: Literal["emoji", "strings", "ids"] = "emoji"
    parts: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Asked":
        """Read one of the three forms.

        Raises:
            InputError: for any other text.
        """
        if text.strip() == EMOJI:
            return cls()
        kind, _, rest = text.partition(":")
        kind, parts = kind.strip(), tuple(part.strip() for part in rest.split(","))
        if kind not in ("strings", "ids") or not all(parts):
            raise InputError(f"unknown outcome {text[:80]!r}; give {_FORMS}")
        wrong = [part for part in parts if kind == "ids" and not _ID.fullmatch(part)]
        if wrong:
            raise InputError(f"outcome id {wrong[0][:80]!r} is no token's number; give {_FORMS}")
        if visible(rest) != rest:
            raise InputError(f"outcome {text[:80]!r} holds a control character; give {_FORMS}")
        return cls("strings" if kind == "strings" else "ids", tuple(dict.fromkeys(parts)))

    @property
    def name(self) -> str:
        """For tables and sentences: `emoji`, `“sorry” or “cannot”`, `token 12`."""
        if self.kind == "emoji":
            return EMOJI
        if self.kind == "strings":
            return " or ".join(f"“{part}”" for part in self.parts)
        return f"token {' or '.join(self.parts)}"


def reworded(text: str, name: str) -> str:
    """A text that speaks of emojis, said of the outcome of that name."""
    return text if name == EMOJI else _WORD.sub(lambda _: name, text)
