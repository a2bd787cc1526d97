"""What Unicode says is an emoji, and what of it counts in text.

Source: the table of the package `emoji`, which is Unicode's `emoji-test.txt`. Three sets are used:

- *RGI*: the fully-qualified sequences (3,963 in Unicode 17): what a keyboard produces.
- *countable*: what counts as an emoji when it stands in text. All of RGI, and the same emojis
  written without some or all of their variation selectors (❤ and ☀ as single characters), except
  ©, ® and ™, which without a selector are ordinary signs. Plain digits, # and * are no emojis
  (keycaps are), nor is a variation selector, a skin tone or a regional indicator on its own.
- *emoji characters*: single characters that exist for emojis only. All countable characters,
  and the regional indicators, skin tones and hair components that never stand alone.

`assigned_characters` follows the running Python's Unicode version (14 in Python 3.11, 15 in 3.12):
only counts over rare scripts depend on it.
"""

import unicodedata
from functools import cache

from emoji import EMOJI_DATA, STATUS

from interp.base.errors import InputError

VS15, VS16 = "\ufe0e", "\ufe0f"
_PLAIN_SIGNS = frozenset("©®™")
_REGIONAL = frozenset(chr(code) for code in range(0x1F1E6, 0x1F200))


@cache
def rgi() -> tuple[str, ...]:
    """The fully-qualified emojis, in code point order."""
    wanted = STATUS["fully_qualified"]
    return tuple(sorted(text for text, row in EMOJI_DATA.items() if row["status"] == wanted))


@cache
def countable() -> frozenset[str]:
    """Every spelling that counts as an emoji in text."""
    component = STATUS["component"]
    spellings = (text for text, row in EMOJI_DATA.items() if row["status"] != component)
    return frozenset(spellings) - _PLAIN_SIGNS


@cache
def emoji_characters() -> frozenset[str]:
    """Single characters that exist for emojis only (see the module's docstring)."""
    single = frozenset(text for text in EMOJI_DATA if len(text) == 1)
    return (single | _REGIONAL) - _PLAIN_SIGNS


@cache
def assigned_characters() -> tuple[str, ...]:
    """All characters Unicode has assigned (no surrogates, no private use), and all emojis'."""
    assigned = {
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
    }
    return tuple(sorted(assigned | emoji_characters()))


@cache
def _by_bare() -> dict[str, str]:
    return {text.replace(VS16, ""): text for text in rgi()}


def canonical(text: str) -> str:
    """The fully-qualified spelling of an emoji: ❤ and ❤️ are one emoji, ❤️.

    Raises:
        InputError: if `text` is not exactly one emoji.
    """
    if text in countable():
        return _by_bare()[text.replace(VS16, "")]
    raise InputError(f"{text!r} is not one emoji")


def name(text: str) -> str:
    """The CLDR short name of an emoji in English, for instance `red heart`.

    Raises:
        InputError: if `text` is not exactly one emoji.
    """
    return str(EMOJI_DATA[canonical(text)]["en"]).strip(":").replace("_", " ")
