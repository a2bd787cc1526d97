"""The token trie: every way a tokenizer writes an emoji, glued to the text or after a space.

Each path from the root is the token sequence of one emoji in one context. A node knows three
things about the tokens up to it:

- `whole`: the text so far begins with an emoji, whatever follows;
- `emoji_characters`, `other_characters`: how many of Unicode's assigned characters, written in
  the same two contexts, begin with exactly these tokens: those that exist for emojis only
  (`interp.emoji.data.emoji_characters`), and all others. Their ratio is the node's purity.
  `common_others` counts only the others of the basic multilingual plane;
- `identity`: the one emoji that can still come; None where several can (`is_open`).

Building costs two batched calls to the tokenizer (about 240,000 short strings, 1.5 to 3 s on one
core) and holds some 20,000 nodes.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from interp.text.emoji import data
from interp.text.emoji.encode import CONTEXTS, Context, encode_after
from interp.text.emoji.find import match_at

_LAST_BMP = "\uffff"


@dataclass(eq=False)
class TrieNode:
    """One token sequence that an emoji can begin with. `text` is what it writes, in bytes."""

    text: bytes = b""
    depth: int = 0
    children: dict[int, "TrieNode"] = field(default_factory=dict, repr=False)
    whole: bool = False
    emoji_characters: int = 0
    other_characters: int = 0
    common_others: int = 0
    ends_other: bool = False
    identity: str | None = None
    is_open: bool = False

    @property
    def purity(self) -> float:
        """Share of the characters that begin with these tokens that exist for emojis only.

        1.0 where no other character begins like this.
        """
        return _share(self.emoji_characters, self.other_characters)

    @property
    def common_purity(self) -> float:
        """`purity` where the others are counted in the basic multilingual plane only."""
        return _share(self.emoji_characters, self.common_others)


@dataclass(frozen=True, eq=False)
class Spelling:
    """One emoji in one context: its token ids, and after how many of them it is certain."""

    emoji: str
    context: Context
    ids: tuple[int, ...]
    emoji_certain_after: int
    itself_certain_after: int | None


@dataclass(frozen=True, eq=False)
class Trie:
    """All spellings of all emojis, as sequences (`spellings`, RGI only) and as a tree (`root`)."""

    root: TrieNode
    spellings: tuple[Spelling, ...]
    unreachable: tuple[tuple[str, Context], ...]

    @classmethod
    def build(cls, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[bytes]) -> "Trie":
        """Encode every emoji and every assigned character in both contexts, and count.

        Args:
            tokenizer: the tokenizer.
            pieces: the bytes of each id (`interp.emoji.encode.token_bytes`).
        """
        root = TrieNode()
        sequences: list[tuple[str, Context, list[int]]] = []
        unreachable: list[tuple[str, Context]] = []
        for context in CONTEXTS:
            emojis = sorted(data.countable())
            for emoji, ids in zip(emojis, encode_after(tokenizer, emojis, context), strict=True):
                written = b"".join(pieces[token] for token in ids)
                # A tokenizer that drops spaces (WordPiece) writes both contexts alike.
                if written.lstrip(b" ") != emoji.encode():
                    unreachable.append((emoji, context))
                    continue
                _insert(root, ids, pieces, data.canonical(emoji))
                sequences.append((emoji, context, ids))
        for context in CONTEXTS:
            _count_characters(root, tokenizer, context)
        known = set(data.rgi())
        spellings = tuple(
            _spelling(root, *sequence) for sequence in sequences if sequence[0] in known
        )
        return cls(root, spellings, tuple(unreachable))

    def walk(self) -> Iterator[tuple[tuple[int, ...], TrieNode]]:
        """Every node below the root with its token ids, parents before children."""
        queue: list[tuple[tuple[int, ...], TrieNode]] = [((), self.root)]
        for path, node in queue:
            if path:
                yield path, node
            queue += [((*path, token), child) for token, child in node.children.items()]


def begins_with_emoji(text: bytes) -> bool:
    """Whether bytes, cut anywhere, begin with a whole emoji after optional white space."""
    return match_at(text.decode(errors="replace").lstrip()) is not None


def _insert(root: TrieNode, ids: Sequence[int], pieces: Sequence[bytes], emoji: str) -> None:
    node = root
    for token in ids:
        child = node.children.get(token)
        if child is None:
            text = node.text + pieces[token]
            whole = node.whole or begins_with_emoji(text)
            child = node.children[token] = TrieNode(text, node.depth + 1, whole=whole)
        if child.identity != emoji and not child.is_open:
            child.is_open = child.identity is not None
            child.identity = None if child.is_open else emoji
        node = child


def _count_characters(root: TrieNode, tokenizer: PreTrainedTokenizerBase, context: Context) -> None:
    characters = _candidates(root, context)
    ours = data.emoji_characters()
    for character, ids in zip(
        characters, encode_after(tokenizer, characters, context), strict=True
    ):
        node = root
        for token in ids:
            child = node.children.get(token)
            if child is None:
                break
            node = child
            if character in ours:
                node.emoji_characters += 1
            else:
                node.other_characters += 1
                node.common_others += character <= _LAST_BMP
        else:
            node.ends_other |= character not in ours and node is not root


def _candidates(root: TrieNode, context: Context) -> list[str]:
    """The characters that might begin with an onset token, by their first byte: spares encoding
    the rest. Characters that a normalizer may turn into others are kept."""
    onsets = [node.text for node in root.children.values()]
    if context == "spaced":
        onsets = [text[1:] if text.startswith(b" ") else text for text in onsets]
    firsts = {text[:1] for text in onsets}
    characters = data.assigned_characters()
    if b"" in firsts:  # a lone space can begin an emoji, and with it everything else
        return list(characters)
    return [
        character
        for character in characters
        if character.encode()[:1] in firsts or not unicodedata.is_normalized("NFKC", character)
    ]


def _spelling(root: TrieNode, emoji: str, context: Context, ids: Sequence[int]) -> Spelling:
    """Follow one emoji down the finished trie to see where it becomes certain."""
    node, is_emoji, is_itself, after_sign = root, None, None, False
    for place, token in enumerate(ids, start=1):
        node = node.children[token]
        after_sign |= node.ends_other
        if is_emoji is None and (node.whole or not (after_sign or node.other_characters)):
            is_emoji = place
        if is_emoji is not None and is_itself is None and node.identity == emoji:
            is_itself = place
    assert is_emoji is not None, "the last node of an emoji is whole"
    return Spelling(emoji, context, tuple(ids), is_emoji, is_itself)


def _share(ours: int, others: int) -> float:
    return ours / (ours + others) if others else 1.0
