"""The exact probability that a text goes on with an emoji.

Log-odds of the next token see an emoji's first token only, and that may be a lone `▁` or a byte
that begins other characters too. Here the token trie is walked instead: the prompt is read once,
its key/value cache is repeated for a batch of trie paths, and every completion of an emoji adds
P(tokens down to its node) * P(completing token | those tokens).

What is counted: an emoji straight after the prompt, or after one space, in the tokenizer's own
spelling up to the completing token, any completing token. Not counted: an emoji after a line
break or a word, and other spellings of the same bytes (a model gives them next to nothing).

Cost per prompt: one forward pass of it, and 200 to 400 paths of 1 to 8 tokens, `batch_size` paths
at a time. Memory: `batch_size` copies of the prompt's cache, and logits of `batch_size` times 8
positions. Hooks on a `TransformerBridge` stay active, and see the prompt and the paths as separate
calls. Models without a key/value cache are refused.
"""

import copy
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from interp.base.devices import input_device
from interp.base.errors import InputError, ModelError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.text.emoji.encode import CONTEXTS
from interp.text.emoji.trie_plan import Completions, TriePath
from interp.text.emoji.vocab import EmojiVocab

Branch = tuple[int, tuple[int, ...]]
"""A place in a text, and a path of tokens there."""
Reached = dict[Branch, Tensor]
"""Log-probabilities of what follows, the branch's own among them."""
_ROWS = 64
_NONE = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Continuation(Result):
    """How probable it is that each prompt goes on with an emoji, and with which.

    Attributes:
        by_emoji: probabilities, `[batch context emoji]`; contexts are glued and spaced. The emoji
            is the one the text holds at the token that completes the first; it may still grow (👩
            into a family).
        emojis: the emojis of the last axis, fully qualified.
    """

    kind: ClassVar[str] = "emoji continuation"

    by_emoji: Float[Tensor, "batch context emoji"]
    emojis: tuple[str, ...]

    @property
    def probability(self) -> Float[Tensor, " batch"]:
        """Probability that the text goes on with an emoji, whichever and however."""
        return self.by_emoji.sum((1, 2))

    def to_dataframe(self) -> pd.DataFrame:
        """One row per prompt and emoji of positive probability, the likeliest first."""
        per_emoji = self.by_emoji.sum(1)
        prompt, emoji = per_emoji.nonzero(as_tuple=True)
        columns: dict[str, Any] = {
            "prompt": prompt.tolist(),
            "emoji": [self.emojis[place] for place in emoji.tolist()],
            "probability": per_emoji[prompt, emoji].tolist(),
        }
        for place, context in enumerate(CONTEXTS):
            columns[context] = self.by_emoji[prompt, place, emoji].tolist()
        table = pd.DataFrame(columns)
        order = ["prompt", "probability"]
        return table.sort_values(order, ascending=[True, False], ignore_index=True)


@dataclass(frozen=True)
class Along:
    """How probable it is that an emoji begins at each place of a text.

    Attributes:
        chance: at each place, `[place]`; the first is the prompt's end.
        left_out: at most so much more, from spellings that were not followed, `[place]`.
    """

    chance: Float[Tensor, " place"]
    left_out: Float[Tensor, " place"]


@torch.no_grad()
def along(
    model: Any,
    prompt: Sequence[int],
    answer: Sequence[int],
    vocab: EmojiVocab,
    *,
    ended: bool,
    temperature: float = 1.0,
    share: float = 0.01,
    most: int = 256,
) -> Along:
    """`continuation` at every place of an answer: before each of its tokens, and before its end.

    An emoji after a lone space token counts at the place before the space. Where the answer itself
    goes on with that token, the place after it has no chance of its own if most emojis are written
    so (`EmojiVocab.lone_space`); else (byte-level vocabularies, where it stands before digits) what
    follows the space counts at the place after it, and not before. Spellings of several
    tokens are followed token by token, the most probable beginning first, until what the others
    could add is a small share of the chance, or too many would have to be followed; what they could
    add is `left_out`.

    Cost: one forward pass over the text, and one token for each beginning that is followed, 64 in a
    pass.

    Args:
        model, vocab, temperature: as for `continuation`.
        prompt, answer: ids.
        ended: whether the writer ended the answer: its end is a place then.
        share: of the chance over all places, that may be left out.
        most: beginnings that are followed at most.
    """
    _check(model, 1, temperature)
    nodes, children, device = vocab.plan.nodes, vocab.plan.children, input_device(model)
    row = torch.tensor([[*prompt, *answer]], device=device)
    stop = row.shape[1] if ended else row.shape[1] - 1
    whole, cache = _forward(model, row, None)
    # [place vocab]: place 0 is after the prompt's last token, place t after the answer's t-th one.
    ahead = _log_probs(vocab.check(whole)[0, len(prompt) - 1 : stop], temperature)
    del whole
    # `left` is what all branches in `waiting` together could add.
    chance, left = torch.zeros(len(ahead), dtype=torch.float64), 0.0
    alone = {place: token for place, token in enumerate(answer, 1) if vocab.pieces[token] == b" "}
    spaced = {place for place, token in alone.items() if token == vocab.lone_space}
    # The space that the answer took, where the place after it counts by itself.
    taken = {(place - 1, token) for place, token in alone.items() if place not in spaced}
    reached: Reached = {(place, ()): row for place, row in enumerate(ahead) if place not in spaced}
    waiting: list[tuple[float, int, tuple[int, ...]]] = []  # a heap, the most probable first
    stands: dict[Branch, int] = {}
    while reached:
        for (place, path), log_probs in reached.items():
            # What completes an emoji here counts at once; what goes on inside of one has to wait.
            chance[place] += log_probs[nodes[path].ids.to(device)].double().exp().sum().cpu()
            tokens = children.get(path, _NONE)
            if not path:
                tokens = torch.tensor(
                    [token for token in tokens.tolist() if (place, token) not in taken],
                    dtype=torch.int64,
                )
            likely = log_probs[tokens.to(device)].double().cpu()
            left += float(likely.exp().sum())
            for token, value in zip(tokens.tolist(), likely.tolist(), strict=True):
                heapq.heappush(waiting, (-value, place, (*path, token)))
        some: dict[Branch, float] = {}
        enough = share * float(chance.sum())
        while waiting and len(some) < min(_ROWS, most) and left > enough:
            unlikely, place, path = heapq.heappop(waiting)
            some[place, path] = -unlikely
            left -= math.exp(-unlikely)
        most -= len(some)
        reached = {}
        if some:
            reached = _after(model, cache, row, len(prompt), some, stands, temperature)
    left_out = torch.zeros_like(chance)
    for unlikely, place, _ in waiting:
        left_out[place] += math.exp(-unlikely)
    return Along(chance, left_out)


def _after(
    model: Any,
    cache: Any,
    row: Int[Tensor, "1 pos"],
    first: int,
    likely: Mapping[Branch, float],
    stands: dict[Branch, int],
    temperature: float,
) -> Reached:
    """Log-probabilities of what follows each path at its place of the text.

    The last tokens of all paths are appended to the text's cache, one beside the other: each sees
    the text up to its place and the tokens of its own path (`stands` says where), and has the
    position after them. A cache that slides has lost the early ones: there the texts are read anew.
    """
    device = row.device
    if any(getattr(cache, "is_sliding", ())):
        texts = [
            torch.cat((row[0, : first + at], torch.tensor(path).to(row))) for at, path in likely
        ]
        ends = torch.tensor([len(text) for text in texts], device=device) - 1
        logits, _ = _forward(model, pad_sequence(texts, batch_first=True), None)
        logits = logits[torch.arange(len(texts), device=device), ends]  # [path vocab]
    else:
        # The cache holds the text, then one column per path token so far; the new ones come after.
        length = row.shape[1] + len(stands)
        # [path column], which of these each path's last token sees: the text up to its place, and
        # its own tokens, itself among them, each of which stands in a column of its own.
        seen = torch.zeros(len(likely), length + len(likely), dtype=torch.bool)
        for i, (place, path) in enumerate(likely):
            stands[place, path] = length + i
            seen[i, : first + place] = True
            seen[i, [stands[place, path[:end]] for end in range(1, len(path) + 1)]] = True
        ids = torch.tensor([[path[-1] for _, path in likely]], device=device)  # [1 path]
        at = torch.tensor(
            [[first + place + len(path) - 1 for place, path in likely]], device=device
        )
        dtype = next(model.parameters()).dtype
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        # [1 1 path column]: batch and head are one, and each path is a query row.
        logits, _ = _forward(
            model, ids, cache, attention_mask=mask[None, None].to(device), position_ids=at
        )
        logits = logits[0]
    found = _log_probs(logits, temperature)
    return {key: after + likely[key] for key, after in zip(likely, found, strict=True)}


@torch.no_grad()
def continuation(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    vocab: EmojiVocab,
    attention_mask: Bool[Tensor, "batch pos"] | Int[Tensor, "batch pos"] | None = None,
    *,
    batch_size: int = 32,
    temperature: float = 1.0,
    progress: Progress | None = None,
) -> Continuation:
    """Exact probability that each row of `tokens` goes on with an emoji.

    Args:
        model: a Hugging Face causal language model or a `TransformerBridge`, in evaluation mode.
        tokens: prompts; rows may be padded on either side.
        vocab: the tokenizer's emojis.
        attention_mask: true (or 1) on tokens, false (or 0) on padding; all count when left out.
        batch_size: trie paths per forward pass.
        temperature: logits are divided by it, as in sampling.
        progress: called with (label, paths done, paths in all) after each forward pass.

    Raises:
        InputError: if a row has no token, or `batch_size` is not positive.
        ModelError: if the model is in training mode (dropout), or returns no key/value cache.
        TokenizerError: if the model has fewer logits than the tokenizer has ids.
    """
    _check(model, batch_size, temperature)
    mask = torch.ones_like(tokens) if attention_mask is None else attention_mask
    plan = vocab.plan
    device = input_device(model)
    total = len(tokens) * len(plan.paths)
    rows: list[Tensor] = []
    for number, (row, kept) in enumerate(zip(tokens, mask.bool(), strict=True)):
        if not kept.any():
            raise InputError(f"prompt {number} has no token; every row needs at least one")
        prompt = row[kept].to(device).unsqueeze(0)
        # Labels run over contexts and, within each, emojis: unfolded when the row is whole.
        found = torch.zeros(len(CONTEXTS) * len(plan.emojis), dtype=torch.float64)
        logits, cache = _forward(model, prompt, None)
        first = _log_probs(vocab.check(logits)[0, -1], temperature)
        _add(found, plan.at_once, first)
        for start in range(0, len(plan.paths), batch_size):
            paths = plan.paths[start : start + batch_size]
            _read(model, paths, first, cache, found, temperature)
            if progress:
                done = number * len(plan.paths) + min(start + batch_size, len(plan.paths))
                progress("exact emoji probability", done, total)
        rows.append(found.reshape(len(CONTEXTS), -1))
    return Continuation(torch.stack(rows), plan.emojis)


def _read(
    model: Any,
    paths: Sequence[TriePath],
    first: Float[Tensor, " vocab"],
    cache: Any,
    found: Float[Tensor, " label"],
    temperature: float,
) -> None:
    """Run `paths` behind the cached prompt and add up what completes an emoji on them."""
    longest = max(len(path.ids) for path in paths)
    # [path depth], filled up on the right: what comes after a path's own tokens is never read.
    ids = torch.tensor([[*path.ids, *[0] * (longest - len(path.ids))] for path in paths])
    ids = ids.to(first.device)
    repeated = copy.deepcopy(cache)  # a forward pass writes into its cache
    repeated.batch_repeat_interleave(len(paths))
    logits, _ = _forward(model, ids, repeated)
    for row, path in enumerate(paths):
        # `after` is log P(tokens down to `depth`), `here` [vocab] that of each token after them.
        after = first[path.ids[0]]
        for depth, completions in enumerate(path.completions):
            here = _log_probs(logits[row, depth], temperature) + after
            if completions is not None:
                _add(found, completions, here)
            if depth + 1 < len(path.ids):
                after = here[path.ids[depth + 1]]


def _check(model: Any, batch_size: int, temperature: float) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature must be a number above 0, got {temperature}")
    if model.training:
        raise ModelError("the model is in training mode, where dropout is random; call eval()")


def _log_probs(
    logits: Float[Tensor, "*rows vocab"], temperature: float
) -> Float[Tensor, "*rows vocab"]:
    """Log-probabilities, of logits that have some."""
    if not bool(torch.isfinite(logits.amax(-1)).all()):
        raise ModelError(
            "the logits are not finite: the model's weights hold NaN or infinity, or its precision "
            "overflows; reload it, or load it in float32"
        )
    return (logits.float() / temperature).log_softmax(-1)


def _add(
    found: Float[Tensor, " label"], completions: Completions, log_probs: Float[Tensor, " vocab"]
) -> None:
    chosen = log_probs[completions.ids.to(log_probs.device)].double().exp().cpu()
    found.index_add_(0, completions.label, chosen)


def _forward(
    model: Any, ids: Int[Tensor, "batch pos"], cache: Any, **where: Tensor
) -> tuple[Tensor, Any]:
    """Logits and key/value cache. No row is padded on the left, so positions need no mask.

    Args:
        where: mask and positions, where rows see a part of their cache only.
    """
    if hasattr(model, "original_model"):  # a TransformerBridge
        logits, cache = model(
            ids, return_type="logits_and_cache", past_key_values=cache, use_cache=True, **where
        )
    else:
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, **where)
        logits, cache = output.logits, getattr(output, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave"):
        raise ModelError(
            f"{type(model).__name__} returns no key/value cache that can be repeated; "
            "use a causal transformer, or EmojiVocab.log_odds"
        )
    return logits, cache
