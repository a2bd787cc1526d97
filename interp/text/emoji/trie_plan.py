"""The order in which `interp.emoji.probability` asks a model about the trie.

Text goes on with an emoji as soon as it holds one: a family is counted where its first person
stands. So only the nodes above the first whole emoji must be visited (283 to 531 in the real
tokenizers, of some 15,000). At each of them every id of the vocabulary is checked by its bytes: an
id completes an emoji if the text so far and its own bytes begin with one, so ids that hold an emoji
and more (` 🙂\\n\\n`) are completions too. No two completions share a continuation, so their
probabilities add up.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from interp.text.emoji import data
from interp.text.emoji.encode import CONTEXTS
from interp.text.emoji.find import match_at
from interp.text.emoji.trie import Trie


@dataclass(frozen=True, eq=False)
class Completions:
    """The ids that complete an emoji after one node, and which: `label` counts the pairs of
    context and emoji, context first."""

    ids: Int[Tensor, " ids"]
    label: Int[Tensor, " ids"]


@dataclass(frozen=True, eq=False)
class TriePath:
    """Token ids from the root down to one of the lowest nodes that must be visited.

    `completions[i]` belongs to the node after `ids[:i + 1]`; None where an earlier path has it.
    """

    ids: tuple[int, ...]
    completions: tuple[Completions | None, ...]


@dataclass(frozen=True, eq=False)
class TriePlan:
    """Everything to ask: what can follow at once, and the paths to read further."""

    emojis: tuple[str, ...]
    at_once: Completions
    paths: tuple[TriePath, ...]

    @cached_property
    def nodes(self) -> dict[tuple[int, ...], Completions]:
        """What completes an emoji after each path of tokens, from the empty one on."""
        return {(): self.at_once} | {
            path.ids[: depth + 1]: completions
            for path in self.paths
            for depth, completions in enumerate(path.completions)
            if completions is not None
        }

    @cached_property
    def children(self) -> dict[tuple[int, ...], Int[Tensor, " ids"]]:
        """The tokens that lengthen a path to another one of `nodes`."""
        found: dict[tuple[int, ...], list[int]] = {}
        for *path, token in filter(None, self.nodes):
            found.setdefault(tuple(path), []).append(token)
        return {path: torch.tensor(tokens) for path, tokens in found.items()}

    @classmethod
    def build(cls, trie: Trie, pieces: Sequence[bytes]) -> "TriePlan":
        """Find the nodes to visit and what completes an emoji at each."""
        inner = {path: node.text for path, node in trie.walk() if not node.whole}
        parents = {path[:-1] for path in inner}
        find = _Completer(pieces)
        paths, seen = [], set()
        for path in inner:
            if path in parents:
                continue
            rows: list[Completions | None] = []
            for depth in range(1, len(path) + 1):
                prefix = path[:depth]
                rows.append(None if prefix in seen else find(inner[prefix]))
                seen.add(prefix)
            paths.append(TriePath(path, tuple(rows)))
        # Paths of one length side by side waste no padding.
        paths.sort(key=lambda path: len(path.ids))
        return cls(find.emojis, find(b""), tuple(paths))


class _Completer:
    """Finds the ids that complete an emoji after given bytes."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.emojis = data.rgi()
        self._places = {emoji: place for place, emoji in enumerate(self.emojis)}
        self._sorted = sorted((piece, token) for token, piece in enumerate(pieces) if piece)
        self._rests: dict[bytes, set[bytes]] = {}
        every = data.countable()
        for emoji in every:
            if any(emoji[:end] in every for end in range(1, len(emoji))):
                continue  # it is complete before it ends
            for text in (emoji.encode(), b" " + emoji.encode()):
                for cut in range(len(text)):
                    self._rests.setdefault(text[:cut], set()).add(text[cut:])

    def __call__(self, before: bytes) -> Completions:
        ids, labels = [], []
        for rest in sorted(self._rests.get(before, ())):
            place = bisect_left(self._sorted, (rest, -1))
            while place < len(self._sorted) and self._sorted[place][0].startswith(rest):
                piece, token = self._sorted[place]
                ids.append(token)
                labels.append(self._label(before + piece))
                place += 1
        return Completions(
            torch.tensor(ids, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64)
        )

    def _label(self, text: bytes) -> int:
        match = match_at(text.decode(errors="replace").lstrip(" "))
        assert match is not None, "a completion holds an emoji"
        context = CONTEXTS.index("spaced" if text.startswith(b" ") else "glued")
        return context * len(self.emojis) + self._places[match.canonical]
