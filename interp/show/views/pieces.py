"""How a token is shown: white space, lone bytes and invisible characters marked, emojis whole.

A token is bytes. What of them is text is shown as text; a space, a line break, a byte that is no
character of its own, a control character and a lone combining mark are shown as marks, so that no
token is invisible and none can reorder or hide the text around it. Tokens that only together make
a character or an emoji (byte fallback) are joined: the view shows what they make once, with the
pieces underneath.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from interp.text.emoji import find
from interp.text.emoji.find import EmojiMatch

Kind = Literal["text", "space", "mark", "byte", "special"]
Part = tuple[Kind, str]

_SIGNS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
_LONGEST = 60
_HIDDEN = ("C", "Zl", "Zp")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def parts(piece: bytes, name: str = "") -> tuple[Part, ...]:
    """A token as a sequence of (kind, text) to show, neighbours of one kind put together.

    Args:
        piece: the bytes that the token adds to a text.
        name: the tokenizer's name of it, shown where it adds none (`<s>`).
    """
    if not piece:
        return (("special", name[:_LONGEST]),)
    text = piece.decode(errors="surrogateescape")
    emojis = {match.start: match for match in find(text)}
    made: list[Part] = []
    place = 0
    while place < len(text):
        match = emojis.get(place)
        kind, shown = _character(text[place])
        if match:
            kind, shown = "text", match.text
        place = match.end if match else place + 1
        if made and made[-1][0] == kind == "text":
            made[-1] = ("text", made[-1][1] + shown)
        else:
            made.append((kind, shown))
        if sum(len(written) for _, written in made) > _LONGEST:
            return (*made, ("mark", "…"))
    return tuple(made)


def plain(piece: bytes, name: str = "") -> str:
    """`parts` as one string, for tables and readers of text."""
    signs = {"space": "␣"}
    return "".join(signs.get(kind, text) for kind, text in parts(piece, name))


def joined(
    pieces: Sequence[bytes], emojis: Sequence[EmojiMatch]
) -> tuple[tuple[int, int, str], ...]:
    """The runs of tokens that only together make a character or an emoji: (start, end, text).

    Args:
        pieces: bytes of each token.
        emojis: with token positions, as `EmojiVocab.find_tokens` gives them.
    """
    tied = [False] * len(pieces)  # to the next token
    spans = [(match.start, match.end) for match in emojis] + _split_characters(pieces)
    for start, end in spans:
        tied[start : end - 1] = [True] * (end - 1 - start)
    runs, start = [], 0
    for place in range(len(pieces)):
        if tied[place]:
            continue
        if place > start:
            text = b"".join(pieces[start : place + 1]).decode(errors="replace").strip()
            runs.append((start, place + 1, text))
        start = place + 1
    return tuple(runs)


def between_words(pieces: Sequence[bytes]) -> tuple[bool, ...]:
    """Where a text stands between words after a token: in no word, character or emoji half-way.

    Args:
        pieces: bytes of each token; one without bytes (`</s>`) parts words as white space does.
    """
    parted = [piece or b"\0" for piece in pieces]
    text = b"".join(parted).decode(errors="surrogateescape")
    starts = [0]  # of each character, in bytes, and the end
    for character in text:
        starts.append(starts[-1] + len(character.encode(errors="surrogateescape")))
    spans = [match.span() for match in _WORD.finditer(text)]
    spans += [(match.start, match.end) for match in find(text)]
    ends = set(starts)
    for start, end in spans:
        ends.difference_update(starts[start + 1 : end])
    return tuple(end in ends for end in accumulate(map(len, parted)))


def _split_characters(pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    """Token spans of the characters whose bytes lie in several tokens."""
    token_of_byte = [place for place, piece in enumerate(pieces) for _ in piece]
    spans, byte = [], 0
    for character in b"".join(pieces).decode(errors="surrogateescape"):
        end = byte + len(character.encode(errors="surrogateescape"))
        first, last = token_of_byte[byte], token_of_byte[end - 1]
        if last > first:
            spans.append((first, last + 1))
        byte = end
    return spans


def _character(character: str) -> Part:
    code = ord(character)
    if character == " ":
        return "space", " "
    if character in _SIGNS:
        return "mark", _SIGNS[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape kept
        return "byte", f"{code - 0xDC00:02X}"
    category = unicodedata.category(character)
    if category.startswith(_HIDDEN) or (category == "Zs" and character != " "):
        return "mark", f"U+{code:04X}"
    if category.startswith("M"):
        return "mark", f"◌{character}"
    return "text", character
