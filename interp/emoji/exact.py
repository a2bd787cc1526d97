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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.devices import input_device
from interp.emoji.encode import CONTEXTS
from interp.emoji.plan import Completions, Path
from interp.emoji.vocab import EmojiVocab
from interp.errors import InputError, ModelError
from interp.progress import Progress
from interp.results import Result


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


@torch.no_grad()
def continuation(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    vocab: EmojiVocab,
    attention_mask: Bool[Tensor, "batch pos"] | Int[Tensor, "batch pos"] | None = None,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Continuation:
    """Exact probability that each row of `tokens` goes on with an emoji.

    Args:
        model: a Hugging Face causal language model or a `TransformerBridge`, in evaluation mode.
        tokens: prompts; rows may be padded on either side.
        vocab: the tokenizer's emojis.
        attention_mask: true (or 1) on tokens, false (or 0) on padding; all count when left out.
        batch_size: trie paths per forward pass.
        progress: called with (label, paths done, paths in all) after each forward pass.

    Raises:
        InputError: if a row has no token, or `batch_size` is not positive.
        ModelError: if the model is in training mode (dropout), or returns no key/value cache.
        TokenizerError: if the model has fewer logits than the tokenizer has ids.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if model.training:
        raise ModelError("the model is in training mode, where dropout is random; call eval()")
    mask = torch.ones_like(tokens) if attention_mask is None else attention_mask
    plan = vocab.plan
    device = input_device(model)
    total = len(tokens) * len(plan.paths)
    rows: list[Tensor] = []
    for number, (row, kept) in enumerate(zip(tokens, mask.bool(), strict=True)):
        if not kept.any():
            raise InputError(f"prompt {number} has no token; every row needs at least one")
        prompt = row[kept].to(device).unsqueeze(0)
        found = torch.zeros(len(CONTEXTS) * len(plan.emojis), dtype=torch.float64)
        logits, cache = _forward(model, prompt, None)
        first = vocab.check(logits)[0, -1].float().log_softmax(-1)
        _add(found, plan.at_once, first)
        for start in range(0, len(plan.paths), batch_size):
            _read(model, plan.paths[start : start + batch_size], first, cache, found)
            if progress:
                done = number * len(plan.paths) + min(start + batch_size, len(plan.paths))
                progress("exact emoji probability", done, total)
        rows.append(found.reshape(len(CONTEXTS), -1))
    return Continuation(torch.stack(rows), plan.emojis)


def _read(
    model: Any,
    paths: Sequence[Path],
    first: Float[Tensor, " vocab"],
    cache: Any,
    found: Float[Tensor, " label"],
) -> None:
    """Run `paths` behind the cached prompt and add up what completes an emoji on them."""
    longest = max(len(path.ids) for path in paths)
    ids = torch.tensor([[*path.ids, *[0] * (longest - len(path.ids))] for path in paths])
    ids = ids.to(first.device)
    repeated = copy.deepcopy(cache)  # a forward pass writes into its cache
    repeated.batch_repeat_interleave(len(paths))
    logits, _ = _forward(model, ids, repeated)
    for row, path in enumerate(paths):
        after = first[path.ids[0]]
        for depth, completions in enumerate(path.completions):
            here = logits[row, depth].float().log_softmax(-1) + after
            if completions is not None:
                _add(found, completions, here)
            if depth + 1 < len(path.ids):
                after = here[path.ids[depth + 1]]


def _add(
    found: Float[Tensor, " label"], completions: Completions, log_probs: Float[Tensor, " vocab"]
) -> None:
    chosen = log_probs[completions.ids.to(log_probs.device)].double().exp().cpu()
    found.index_add_(0, completions.label, chosen)


def _forward(model: Any, ids: Int[Tensor, "batch pos"], cache: Any) -> tuple[Tensor, Any]:
    """Logits and key/value cache. No row is padded on the left, so positions need no mask."""
    if hasattr(model, "original_model"):  # a TransformerBridge
        logits, cache = model(
            ids, return_type="logits_and_cache", past_key_values=cache, use_cache=True
        )
    else:
        output = model(input_ids=ids, past_key_values=cache, use_cache=True)
        logits, cache = output.logits, getattr(output, "past_key_values", None)
    if not hasattr(cache, "batch_repeat_interleave"):
        raise ModelError(
            f"{type(model).__name__} returns no key/value cache that can be repeated; "
            "use a causal transformer, or EmojiVocab.log_odds"
        )
    return logits, cache
