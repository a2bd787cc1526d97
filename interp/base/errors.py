"""The exceptions of this package.

Every one of them is meant to be read by a person: it names what was wrong, where, and the mend.
`InputError` and its children mean that the caller can mend it (the command line exits with 2).
Messages often quote a file that came from a stranger; they are one line, of bounded length, and
hold nothing that a terminal would act on.
"""

import re
import unicodedata

_LONGEST = 2000
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # XML has none


def one_line(text: str) -> str:
    """`text` in one line: line breaks made blanks, control characters written out.

    Written out as escapes are control characters (a terminal acts on them), the marks that turn
    the direction of text (they make a name look like another), and halves of surrogate pairs
    (they cannot be printed). Emojis stay whole. More than 2,000 characters lose their middle.
    """
    shown = _safe(text[: 4 * _LONGEST])
    if len(shown) <= _LONGEST and len(text) <= 4 * _LONGEST:
        return shown
    return f"{shown[: _LONGEST // 2]} … {_safe(text[-_LONGEST:])[-_LONGEST // 2 :]}"


def said(problem: BaseException, most: int = 300) -> str:
    """What an exception of another library is and says, in one line: `ValueError: …`."""
    return f"{type(problem).__name__}: {one_line(str(problem))[:most]}".rstrip(": .")


def visible(text: str) -> str:
    """`text` with control characters, noncharacters and halves of surrogates written out.

    For pages and exports: no terminal acts on them, and every parser reads them. Lines stay.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _safe(text: str) -> str:
    line = " ".join(filter(None, (part.strip() for part in text.splitlines())))
    return "".join(map(_shown, line))


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    hidden = kind in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in _TURNS
    if hidden or character in "\u200e\u200f\u061c":
        return character.encode("unicode_escape").decode("ascii")
    return character


_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


class InterpError(Exception):
    """Base of every error that this package raises on purpose; its message is one safe line."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class InputError(InterpError):
    """The input cannot be used as it is; the message names the file or field and the mend."""


class ModelError(InputError):
    """A model folder or hub id that cannot be loaded, or a model that does not fit the request."""


class TokenizerError(InputError):
    """A tokenizer that is missing, broken, or does not fit its model."""


class AdapterError(InputError):
    """An adapter that is missing, malformed, unsafe, or made for another base."""


class DictionaryError(InputError):
    """A dictionary of latents that is malformed, or made for another model or place."""


class MergeError(InputError):
    """A merge whose error against the unmerged adapter is too large to trust."""


class DataError(InputError):
    """A data file that cannot be read or fails a check."""


class TraitError(InputError):
    """A trait name that is none of the Big Five."""


class RunError(InputError):
    """A run folder that holds something else, or is incomplete."""


class OutOfMemoryError(InterpError):
    """Memory that is not there even for one row at a time; the message names the mend."""
