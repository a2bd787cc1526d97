"""The emojis of a tokenizer, and how much a model's logits speak for them.

`EmojiVocab` answers, for one tokenizer: which ids are a whole emoji, which ids can begin one and
how purely, how every emoji is spelled in tokens and after how many of them it is certain, and from
logits the emoji log-odds and the log-probability of each single-token emoji.

*Emoji log-odds* = logsumexp of the emoji ids' logits - logsumexp of all other logits. Positive
means that an emoji is more likely than everything else. The *emoji ids* are all whole ids and the
onset ids whose common purity is at least `threshold`. Two purities are known of an onset id:

- `purity`: of all assigned characters that begin with this token, the share that exists for
  emojis. It is honest and not useful alone: `<0xF0>` of Llama-2 has 0.014, because it also
  begins 87,569 characters nobody writes.
- `common_purity`: the same, with the others counted in the basic multilingual plane only. What
  lies above it besides emojis is historic scripts, rare ideographs and mathematical letters.
  `<0xF0>` has 1.0 (in 5,309 real question/answer rows all its 175 occurrences are emojis); the
  lone `▁` (0.02), `<0xE2>` (0.04), ©, digits and `#` (0.0) stay out.

Share of the 3,963 emojis whose first token (glued / spaced) is an emoji id, threshold 0.5:
gpt2 .94/.94, llama2 .95/.00, llama3 .94/.94, mistral-v1 .95/.00, tekken .94/.94, qwen2 1.00/.94.
What is missing begins with a token shared with arrows, box drawing and other signs (☀ and ❤ in
gpt2), or is a keycap. Llama-2 and Mistral write a spaced emoji as a lone `▁` and then the glued
form: their onset position is that of the `▁`, and there the glued share holds. `coverage` gives
the shares of any tokenizer. `interp.emoji.probability` follows every emoji to its end, for the
price of forward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.base.errors import InputError, TokenizerError
from interp.base.files import sha256_text
from interp.base.html import card, chips, note, shown
from interp.text.emoji.data import countable
from interp.text.emoji.encode import CONTEXTS, token_bytes
from interp.text.emoji.find import EmojiMatch, find_in_pieces, match_at
from interp.text.emoji.trie import Trie, TrieNode, begins_with_emoji
from interp.text.emoji.trie_plan import TriePlan

DEFAULT_THRESHOLD = 0.5
_GRID = 120


@dataclass(frozen=True, eq=False, repr=False)
class EmojiVocab:
    """What one tokenizer knows of emojis; made by `from_tokenizer`.

    Attributes:
        size: number of ids the tokenizer uses; logits must have at least as many.
        whole_ids: ids whose text begins with a whole emoji, white space before it allowed and
            anything after it (` 🙂`, ` 🙂\\n\\n`); sorted.
        whole_emojis: the emoji of each whole id, fully qualified.
        onset_ids: ids that can begin an emoji: every first token of an emoji's spelling in
            either context, and all whole ids; sorted.
        purity: of each onset id, see the module's docstring.
        common_purity: of each onset id, likewise.
        threshold: common purity from which on an onset id counts as an emoji id.
        trie: every emoji's spelling in tokens.
        pieces: the bytes each id adds inside a text.
    """

    size: int
    whole_ids: Int[Tensor, "whole"]
    whole_emojis: tuple[str, ...]
    onset_ids: Int[Tensor, "onset"]
    purity: Float[Tensor, "onset"]
    common_purity: Float[Tensor, "onset"]
    threshold: float
    trie: Trie = field(repr=False)
    pieces: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError(f"a purity threshold lies in (0, 1], got {self.threshold}")

    @classmethod
    def from_tokenizer(
        cls, tokenizer: PreTrainedTokenizerBase, *, threshold: float = DEFAULT_THRESHOLD
    ) -> "EmojiVocab":
        """Read a tokenizer's vocabulary, encode every emoji and character: 1.5 to 3 s on one core.

        Tokenizers of the same content share one vocabulary, so that it is read once per process;
        the last few are kept.

        Raises:
            TokenizerError: if the tokenizer cannot write a single emoji.
        """
        key = _content(tokenizer)
        found = _READ.pop(key, None) or cls._read(tokenizer)
        if key:
            _READ[key] = found  # the latest last
            while len(_READ) > _KEPT:
                _READ.pop(next(iter(_READ)))
        return found if threshold == DEFAULT_THRESHOLD else found.with_threshold(threshold)

    @classmethod
    def _read(cls, tokenizer: PreTrainedTokenizerBase) -> "EmojiVocab":
        """The vocabulary of a tokenizer that was not read yet, at the default threshold."""
        pieces = token_bytes(tokenizer)
        trie = Trie.build(tokenizer, pieces)
        if not trie.root.children:
            raise TokenizerError(
                f"tokenizer {tokenizer.name_or_path!r} cannot write any emoji: each one is lost "
                "or becomes the unknown token; use one with byte fallback or byte-level BPE"
            )
        leads = {emoji.encode()[:1] for emoji in countable()}
        whole = [
            token
            for token, piece in enumerate(pieces)
            # No emoji is ASCII only; most of a vocabulary is, or begins unlike any emoji.
            if not piece.isascii() and piece.lstrip()[:1] in leads and begins_with_emoji(piece)
        ]
        onsets = sorted(set(whole) | set(trie.root.children))
        nodes = [trie.root.children.get(token, TrieNode(whole=True)) for token in onsets]
        return cls(
            size=len(pieces),
            whole_ids=torch.tensor(whole, dtype=torch.int64),
            whole_emojis=tuple(_leading_emoji(pieces[token]) for token in whole),
            onset_ids=torch.tensor(onsets, dtype=torch.int64),
            purity=torch.tensor([node.purity for node in nodes]),
            common_purity=torch.tensor([node.common_purity for node in nodes]),
            threshold=DEFAULT_THRESHOLD,
            trie=trie,
            pieces=pieces,
        )

    def with_threshold(self, threshold: float) -> "EmojiVocab":
        """The same vocabulary with another choice of emoji ids."""
        return replace(self, threshold=threshold)

    @cached_property
    def emoji_ids(self) -> Int[Tensor, "ids"]:
        """The ids that `log_odds` counts as emoji: whole ids and pure enough onset ids; sorted."""
        pure = self.onset_ids[self.common_purity >= self.threshold]
        return torch.cat([self.whole_ids, pure]).unique()

    def check(self, logits: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead vocab"]:
        """Return `logits` as they are if they can belong to this tokenizer's model.

        Raises:
            TokenizerError: if they have fewer columns than the tokenizer has ids.
        """
        if logits.shape[-1] < self.size:
            raise TokenizerError(
                f"logits have {logits.shape[-1]} columns but the tokenizer has {self.size} ids; "
                "the tokenizer belongs to another model, or the embeddings were not resized"
            )
        return logits

    def log_odds(self, logits: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead"]:
        """Emoji log-odds: logsumexp over `emoji_ids` minus logsumexp over all other logits.

        Differentiable, in float32 whatever comes in. Columns beyond the tokenizer's ids (padded
        embeddings) count among the others, as they do in the model's own softmax.

        Raises:
            TokenizerError: if the logits have fewer columns than the tokenizer has ids, or no
                id is pure enough to count.
        """
        self.check(logits)
        if len(self.emoji_ids) == 0:
            raise TokenizerError(f"no token is an emoji at purity {self.threshold}; lower it")
        ids = self.emoji_ids.to(logits.device)
        logits = logits.float()
        others = logits.index_fill(-1, ids, float("-inf"))
        return logits[..., ids].logsumexp(-1) - others.logsumexp(-1)

    def log_probs(self, logits: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead emoji"]:
        """Log-probability that the next token writes each emoji of `single_token_emojis`.

        Several ids of one emoji (`🙂`, ` 🙂`, ` 🙂\\n\\n`) are added up. Emojis that take more than
        one token are not here; `interp.emoji.probability` has them. Differentiable, float32.

        Raises:
            TokenizerError: if the logits have fewer columns than the tokenizer has ids.
        """
        self.check(logits)
        logits = logits.float()
        table = self._ids_of_single.to(logits.device)
        chosen = logits[..., table.clamp(min=0)].masked_fill(table < 0, float("-inf"))
        return chosen.logsumexp(-1) - logits.logsumexp(-1, keepdim=True)

    @cached_property
    def single_token_emojis(self) -> tuple[str, ...]:
        """The emojis that some whole id writes, fully qualified, in code point order."""
        return tuple(sorted(set(self.whole_emojis)))

    @cached_property
    def _ids_of_single(self) -> Int[Tensor, "emoji most"]:
        """Ids of each single-token emoji, rows filled up with -1."""
        rows: dict[str, list[int]] = {emoji: [] for emoji in self.single_token_emojis}
        for emoji, token in zip(self.whole_emojis, self.whole_ids.tolist(), strict=True):
            rows[emoji].append(token)
        most = max(map(len, rows.values()), default=1)
        filled = [row + [-1] * (most - len(row)) for row in rows.values()]
        return torch.tensor(filled, dtype=torch.int64).reshape(-1, most)

    def certainty(self) -> pd.DataFrame:
        """After how many tokens each emoji is certain, one row per emoji and context.

        Columns: `emoji`, `context`, `tokens` (length of its spelling), `emoji_after` (tokens after
        which whatever comes is an emoji: the text holds one, or no other character begins so),
        `itself_after` (tokens after which it can be no other; missing if a longer emoji begins
        with it, as families do with 👩).
        """
        rows = [
            (
                row.emoji,
                row.context,
                len(row.ids),
                row.emoji_certain_after,
                row.itself_certain_after,
            )
            for row in self.trie.spellings
        ]
        columns = ["emoji", "context", "tokens", "emoji_after", "itself_after"]
        return pd.DataFrame(rows, columns=columns).astype({"itself_after": "Int64"})

    def coverage(self) -> dict[str, float]:
        """Share of the emojis whose first token is an emoji id, by context."""
        counted = set(self.emoji_ids.tolist())
        shares: dict[str, float] = {}
        for context in CONTEXTS:
            first = [row.ids[0] for row in self.trie.spellings if row.context == context]
            shares[context] = sum(token in counted for token in first) / max(1, len(first))
        return shares

    @cached_property
    def lone_space(self) -> int | None:
        """The lone space token that stands before most spaced emojis; None without.

        Byte-level tokenizers write the space inside an emoji's first token, but for a few.
        """
        first = [row.ids[0] for row in self.trie.spellings if row.context == "spaced"]
        alone = [token for token in first if self.pieces[token] == b" "]
        return alone[0] if 2 * len(alone) > len(first) else None

    @cached_property
    def plan(self) -> TriePlan:
        """The order in which `interp.emoji.probability` walks the trie."""
        return TriePlan.build(self.trie, self.pieces)

    def find_tokens(self, ids: Sequence[int]) -> list[EmojiMatch]:
        """The emojis in a sequence of ids: `start` and `end` are token positions.

        `start` is the token that holds the emoji's first byte (so a lone `▁` before it is left
        out), `end` is one past the token that holds its last. Reads bytes, so it is right for
        any split of the text into tokens.

        Raises:
            TokenizerError: if an id is not one of the tokenizer's.
        """
        wrong = [token for token in ids if not 0 <= token < len(self.pieces)]
        if wrong:
            raise TokenizerError(f"id {wrong[0]} is not in the tokenizer's vocabulary")
        return find_in_pieces([self.pieces[token] for token in ids])

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the emoji ids and of every emoji's spelling."""
        parts = [f"{row.emoji} {row.context} {row.ids}" for row in self.trie.spellings]
        return sha256_text("\n".join([str(self.emoji_ids.tolist()), *parts]))

    def __repr__(self) -> str:
        return (
            f"EmojiVocab({self.size} ids: {len(self.whole_ids)} whole, "
            f"{len(self.onset_ids)} onset, {len(self.emoji_ids)} counted from purity "
            f"{self.threshold} on)"
        )

    @shown
    def _repr_html_(self) -> str:
        """A card for notebooks: counts, purity, the emojis of one token as a grid."""
        spellings = self.trie.spellings
        most = max((len(row.ids) for row in spellings), default=0)
        facts = {
            "ids": self.size,
            "whole emojis": f"{len(self.whole_ids)} ids, {len(self.single_token_emojis)} emojis",
            "can begin one": len(self.onset_ids),
            "count as emoji": f"{len(self.emoji_ids)}, from common purity {self.threshold:g} on",
            "median purity": float(self.purity.median()) if len(self.purity) else None,
            "emojis that can be written": f"{len({row.emoji for row in spellings})}, "
            f"in up to {most} tokens",
            "byte fallback": bool({bytes([byte]) for byte in range(0x80, 0xC0)} <= {*self.pieces}),
        } | {f"covered, {name}": f"{share:.1%}" for name, share in self.coverage().items()}
        first = self.single_token_emojis[:_GRID]
        left = len(self.single_token_emojis) - len(first)
        more = note(f"and {left:,} more of one token") if left else ""
        grid = chips(first, grid=True) if first else note("No emoji is one token.")
        return card("Emoji vocabulary", "of one tokenizer", facts, [grid, more])


def _leading_emoji(piece: bytes) -> str:
    match = match_at(piece.decode(errors="replace").lstrip())
    assert match is not None
    return match.canonical


_KEPT = 8
_READ: dict[str, EmojiVocab] = {}


def _content(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of all that a vocabulary is read from; empty where a tokenizer cannot say it."""
    if not tokenizer.is_fast:
        return ""
    special = sorted(tokenizer.all_special_ids)
    return sha256_text(f"{special} {tokenizer.backend_tokenizer.to_str()}")
