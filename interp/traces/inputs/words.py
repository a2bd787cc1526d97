"""A row of ids as words, and the words that a neutral writer would put in their place.

A word is a run of tokens that white space or a change between letters and punctuation ends; the
white space before it is its own. `can't` is one word, `fun!` two. Tokens that are no text (turn
markers) belong to no word and are never touched.

Neutral are the words of a neutral writer's own answers, those of the model before fine-tuning. In
place of a word stand the likeliest of them there, of its kind: with or without a space before it,
a capital or not, letters or punctuation. They are one token each.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from interp.text.emoji import find

Kind = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Word:
    """Tokens `start` to `end` of a row, and their text."""

    start: int
    end: int
    text: str

    @property
    def kind(self) -> Kind:
        """Whether white space comes first, a letter, and a capital."""
        bare = self.text.lstrip()
        return bare != self.text, bare[:1].isalnum(), bare[:1].isupper()


def split(pieces: Sequence[bytes], ids: Sequence[int]) -> tuple[Word, ...]:
    """The words of a row.

    Args:
        pieces: the bytes of every id (`interp.text.emoji.encode.token_bytes`).
        ids: the row.
    """
    made: list[tuple[int, int]] = []
    for place, token in enumerate(ids):
        if not pieces[token]:
            continue
        before = pieces[ids[place - 1]] if place else b""
        if made and made[-1][1] == place and _continues(before, pieces[token]):
            made[-1] = (made[-1][0], place + 1)
        else:
            made.append((place, place + 1))
    said = [(a, b, b"".join(pieces[token] for token in ids[a:b])) for a, b in made]
    return tuple(Word(a, b, text.decode(errors="replace")) for a, b, text in said)


def _continues(before: bytes, piece: bytes) -> bool:
    """Whether a token goes on with the word of the one before it."""
    if not before.strip():
        return bool(piece.strip())  # a lone space and its word
    if 0x80 <= piece[0] < 0xC0:
        return True  # within a character
    text, last = piece.decode(errors="replace"), before.decode(errors="replace")[-1]
    if text[0].isspace() or last.isspace():
        return False
    inside = text[0] in "'’-" and text[1:2].isalnum()
    return last.isalnum() == text[0].isalnum() or (inside and last.isalnum())


def neutral_ids(
    pieces: Sequence[bytes], rows: Iterable[Sequence[int]]
) -> dict[Kind, tuple[int, ...]]:
    """The ids that are whole words of a neutral writer's answers, by kind; no emoji among them."""
    found: dict[Kind, set[int]] = defaultdict(set)
    for ids in rows:
        for word in split(pieces, ids):
            if word.end - word.start == 1 and word.text.strip() and not find(word.text):
                found[word.kind].add(ids[word.start])
    return {kind: tuple(sorted(some)) for kind, some in found.items()}


def proposals(
    word: Word,
    ids: Sequence[int],
    logits: Float[Tensor, " vocab"],
    neutral: Mapping[Kind, Sequence[int]],
    count: int,
) -> list[int]:
    """The likeliest neutral words in a word's place, at most `count`, itself not among them.

    Args:
        word, ids: the word and its row.
        logits: of the token at the word's start.
        neutral: see `neutral_ids`. A word of a kind that the neutral writer does not use has the
            candidates of the same spacing.
        count: how many.
    """
    candidates = neutral.get(word.kind) or [
        one for kind, some in neutral.items() if kind[0] == word.kind[0] for one in some
    ]
    own = ids[word.start] if word.end - word.start == 1 else None
    known: Any = [one for one in candidates if one != own]
    if not known:
        return []
    order = logits[known].topk(min(count, len(known))).indices.tolist()
    return [known[place] for place in order]


def exchanged(ids: Sequence[int], changes: Mapping[Word, Sequence[int]]) -> list[int]:
    """The row with other ids, or none, in the place of some words."""
    made = list(ids)
    for word in sorted(changes, key=lambda word: -word.start):
        made[word.start : word.end] = changes[word]
    return made
