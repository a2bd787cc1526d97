"""What a token view shows, measured: two passes per model, one for the lens, one for the rest.

The lens reads the text alone, the rest reads it twice in a batch; where the two come to the same
number (the log-odds after the last layer), their difference gives the noise floor
(`memory.rounding`).

Cost: three forward passes per model over one text (four where the heads are to be chosen), and the
logit lens' readout at every position. The patterns of the heads kept stand in memory at half
precision.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.base.errors import InputError
from interp.base.memory import rounding
from interp.models import ChatFormat
from interp.models.given_prompts import Given, as_batch, check_hooked
from interp.readout import Outcome, Question
from interp.show.views.pieces import joined
from interp.show.views.tokens import MOST_HEADS, TokenView
from interp.text.emoji import EmojiVocab
from interp.text.emoji.encode import token_bytes
from interp.text.emoji.find import find_in_pieces
from interp.traces import logit_lens

MOST_TOKENS = 1024
Heads = bool | int | Sequence[tuple[int, int]]
_ROWS = 64  # queries by which the heads are ranked


@runtime_checkable
class Pair(Protocol):
    """What a view needs of a `ModelPair`."""

    @property
    def base(self) -> TransformerBridge: ...
    @property
    def tuned(self) -> TransformerBridge: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def format(self) -> ChatFormat: ...


def token_view(
    pair: Pair,
    tokens: Given,
    *,
    vocab: EmojiVocab | Outcome | None = None,
    attention: Heads = True,
    top: int = 5,
    answer_start: int | None = None,
    title: str = "Where an emoji comes next",
    progress: Callable[[str, int, int], None] | None = None,
) -> TokenView:
    """Read one text with base and tuned.

    Args:
        pair: a `ModelPair`, or anything with `base`, `tuned` and `tokenizer`.
        tokens: ids of one text without padding: a prompt (`pair.format.prompt_ids`), or a prompt
            and its answer; or one question as text, see `interp.models.given_prompts`.
        vocab: which ids count: the emojis of a vocabulary (the tokenizer's if left out), or what
            begins another outcome.
        attention: the heads to record, as (layer, head); True for all of a model that has at most
            64; a number for so many, those whose patterns base and tuned share least (total
            variation, mean over up to 64 queries), most changed first; False for none.
        top: how many of the likeliest next tokens to keep.
        answer_start: index of the answer's first token, if there is an answer.
        title: what stands above the view.
        progress: called with (label, passes done, passes in all).

    Raises:
        InputError: for more than 1,024 tokens or none, an id that the tokenizer lacks, a head that
            the model lacks, or more than 64 heads.
        ModelError: if the logit lens cannot read the model.
        TokenizerError: if the vocabulary is another model's.
    """
    for model in (pair.base, pair.tuned):
        check_hooked(model, "a token view")
    batch = as_batch(tokens, pair)
    if len(batch) != 1:
        raise InputError(f"a token view shows one text, got {len(batch)}; give one row")
    ids = batch.tokens[0][batch.attention_mask[0]].long().cpu()
    vocab = EmojiVocab.from_tokenizer(pair.tokenizer) if vocab is None else vocab
    outcome = vocab
    if isinstance(outcome, EmojiVocab):
        outcome = Outcome.of_vocab(outcome, stop=pair.format.stops(pair.base, pair.tuned))
    pieces = token_bytes(pair.tokenizer)
    _check(ids, top, answer_start, outcome.size)
    heads = _heads(pair, ids, attention)
    shown = outcome.direct
    lens = logit_lens.compare(
        pair.base, pair.tuned, ids[None], outcome=shown, ask=Question(progress=progress)
    )
    passes = []
    for done, (name, model) in enumerate((("base", pair.base), ("tuned", pair.tuned)), 1):
        passes.append(_read(model, ids, heads, shown, top))
        if progress is not None:
            progress(f"next tokens, {name}", done, 2)
    log_odds = torch.stack([one[0] for one in passes])
    text = [pieces[i] for i in ids.tolist()]
    top_ids = torch.stack([one[1] for one in passes])
    return TokenView(
        tokens=ids,
        vocabulary=_vocabulary(
            pair.tokenizer,
            pieces,
            {*outcome.ids, *outcome.after_ids},
            {*ids.tolist(), *top_ids.flatten().tolist()},
        ),
        joined=joined(text, find_in_pieces(text)),
        answer_start=len(ids) if answer_start is None else answer_start,
        log_odds=log_odds,
        top_ids=top_ids,
        top_probability=torch.stack([one[2] for one in passes]),
        lens=lens.log_odds[:, :, 0],
        labels=lens.labels,
        heads=heads,
        attention=torch.stack([one[3] for one in passes]) if heads else None,
        noise=rounding(lens.log_odds[:, -1, 0], log_odds, float(log_odds.abs().max())),
        title=title,
        outcome=shown.name,
    )


def _read(
    model: TransformerBridge,
    ids: Int[Tensor, " pos"],
    heads: tuple[tuple[int, int], ...],
    outcome: Outcome,
    top: int,
) -> tuple[Tensor, Tensor, Tensor, Float[Tensor, "head pos pos"]]:
    """Log-odds, likeliest ids, their probabilities, attention: of one model, on the CPU."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int, pattern: Tensor, hook: Any) -> None:  # noqa: ARG001
        kept[layer] = pattern[0].detach().half().cpu()

    layers = sorted({layer for layer, _ in heads})
    hooks = [(f"blocks.{layer}.attn.hook_pattern", partial(keep, layer)) for layer in layers]
    twice = ids.expand(2, -1)  # in a batch: another way to what the lens reads
    device = next(model.parameters()).device
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        logits = model(twice.to(device))[0].float().cpu()
    likeliest = logits.softmax(-1).topk(min(top, logits.shape[-1]), dim=-1)
    chosen = [kept[layer][head] for layer, head in heads]
    patterns = torch.stack(chosen) if chosen else torch.empty(0, len(ids), len(ids))
    return outcome.log_odds(logits), likeliest.indices, likeliest.values, patterns


def _heads(pair: Pair, ids: Int[Tensor, " pos"], attention: Heads) -> tuple[tuple[int, int], ...]:
    n_layers, n_heads = int(pair.base.cfg.n_layers), int(pair.base.cfg.n_heads)
    if isinstance(attention, bool):
        wanted = [(i, j) for i in range(n_layers) for j in range(n_heads)] if attention else []
    elif isinstance(attention, int):
        wanted = _most_changed(pair, ids, attention) if 0 < attention <= MOST_HEADS else []
        if not wanted:
            raise InputError(f"attention keeps 1 to {MOST_HEADS} heads, got {attention}")
    else:
        wanted = [(int(layer), int(head)) for layer, head in attention]
    wrong = [one for one in wanted if not (0 <= one[0] < n_layers and 0 <= one[1] < n_heads)]
    if wrong:
        raise InputError(
            f"attention names heads that the model lacks: {wrong[:3]}; it has {n_layers} layers of "
            f"{n_heads} heads, counted from 0"
        )
    if len(wanted) > MOST_HEADS:
        raise InputError(
            f"attention of {len(wanted)} heads is too much for one page; name at most {MOST_HEADS} "
            "as attention=[(layer, head), ...], or say attention=16 (the 16 that changed most) or "
            "attention=False"
        )
    return tuple(dict.fromkeys(wanted))


def _most_changed(pair: Pair, ids: Int[Tensor, " pos"], most: int) -> list[tuple[int, int]]:
    """The heads whose attention fine-tuning moved most on this text, most moved first."""
    rows = torch.linspace(0, len(ids) - 1, min(len(ids), _ROWS)).long()
    before = _rows_of_patterns(pair.base, ids, rows)
    after = _rows_of_patterns(pair.tuned, ids, rows)
    moved = torch.stack(
        [(a - b).abs().sum(-1).mean(-1) for a, b in zip(before, after, strict=True)]
    )
    order = moved.flatten().argsort(descending=True, stable=True)[:most]
    return [divmod(int(place), moved.shape[1]) for place in order]


def _rows_of_patterns(
    model: TransformerBridge, ids: Int[Tensor, " pos"], rows: Int[Tensor, " row"]
) -> list[Float[Tensor, "head row pos"]]:
    """Attention of every head from some positions, layer by layer, on the CPU."""
    kept: list[Tensor] = []

    def keep(pattern: Tensor, hook: Any) -> None:  # noqa: ARG001
        kept.append(pattern[0][:, rows.to(pattern.device)].detach().float().cpu())

    hooks = [(f"blocks.{layer}.attn.hook_pattern", keep) for layer in range(model.cfg.n_layers)]
    device = next(model.parameters()).device
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        model(ids[None].to(device))
    return kept


def _check(ids: Tensor, top: int, answer_start: int | None, size: int) -> None:
    if ids.ndim != 1 or not 0 < len(ids) <= MOST_TOKENS:
        raise InputError(
            f"a token view shows one text of 1 to {MOST_TOKENS:,} tokens, got the shape "
            f"{tuple(ids.shape)}; give one row of ids without padding"
        )
    if not 0 <= int(ids.min()) <= int(ids.max()) < size:
        raise InputError(f"the text holds ids outside the tokenizer's {size}")
    if top < 1:
        raise InputError(f"top is how many next tokens to keep, at least 1; got {top}")
    if answer_start is not None and not 0 <= answer_start <= len(ids):
        raise InputError(f"answer_start {answer_start} lies outside the {len(ids)} tokens")


def _vocabulary(
    tokenizer: Any, pieces: Sequence[bytes], counted: set[int], ids: set[int]
) -> tuple[tuple[int, str, str, bool], ...]:
    entries = []
    for token in sorted(ids):
        known = token < len(pieces)  # a padded embedding has rows without a token
        piece = pieces[token] if known else b""
        said = tokenizer.convert_ids_to_tokens(token) if known and not piece else None
        name = "" if piece else str(said or f"id {token}")
        entries.append((token, piece.hex(), name, token in counted))
    return tuple(entries)
