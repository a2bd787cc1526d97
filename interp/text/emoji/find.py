"""Finds every emoji in a text.

At each place the longest emoji counts, so a family joined by ZWJ, a skin tone, a flag or a keycap
is one emoji. What counts is `interp.emoji.data.countable`; an emoji that is followed by U+FE0E
asks to be drawn as text and does not count. A joined sequence that Unicode does not recommend
(a fox ZWJ a fox) counts as its parts. Cost: linear in the text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from interp.text.emoji import data


@dataclass(frozen=True)
class EmojiMatch:
    """One emoji in a text: `text[start:end]`, offsets in characters."""

    text: str
    start: int
    end: int

    @property
    def canonical(self) -> str:
        """The emoji in its fully-qualified spelling."""
        return data.canonical(self.text)


def find(text: str) -> list[EmojiMatch]:
    """Every emoji of `text`, from left to right, without overlap."""
    found, place = [], 0
    while hit := _first_characters().search(text, place):
        match = match_at(text, hit.start())
        if match:
            found.append(match)
        place = match.end if match else hit.end()
    return found


def match_at(text: str, start: int = 0) -> EmojiMatch | None:
    """The longest emoji that begins exactly at `start`, if one does."""
    for spelling in _by_first_character().get(text[start : start + 1], ()):
        if text.startswith(spelling, start):
            end = start + len(spelling)
            return None if text.startswith(data.VS15, end) else EmojiMatch(spelling, start, end)
    return None


@cache
def _by_first_character() -> dict[str, tuple[str, ...]]:
    """All spellings by their first character, longest first."""
    table: dict[str, list[str]] = {}
    for spelling in sorted(data.countable(), key=lambda text: (-len(text), text)):
        table.setdefault(spelling[0], []).append(spelling)
    return {first: tuple(spellings) for first, spellings in table.items()}


@cache
def _first_characters() -> re.Pattern[str]:
    return re.compile("[" + re.escape("".join(sorted(_by_first_character()))) + "]")


def find_in_pieces(pieces: Sequence[bytes]) -> list[EmojiMatch]:
    """The emojis of a text that is cut into pieces of bytes: `start` and `end` count pieces.

    Broken UTF-8 (a cut emoji) stays one character per byte, so that places can be followed.
    """
    piece_of_byte = [place for place, piece in enumerate(pieces) for _ in piece]
    text = b"".join(pieces).decode(errors="surrogateescape")
    found, character, byte = [], 0, 0
    for match in find(text):
        byte += len(text[character : match.start].encode(errors="surrogateescape"))
        end = byte + len(match.text.encode())
        found.append(EmojiMatch(match.text, piece_of_byte[byte], piece_of_byte[end - 1] + 1))
        character, byte = match.end, end
    return found
