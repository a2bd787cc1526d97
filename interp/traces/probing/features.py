"""Activations as features: at chosen positions, or pooled over a text; float32 on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError
from interp.base.results import Result
from interp.models.given_prompts import Given, as_batch, check_hooked
from interp.readout.question import Question, asked

Mask = Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"]

# Short name of a site -> hook within a block. `z` is flattened over heads.
SITES = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
}
EMBEDDING = -1


@dataclass(frozen=True)
class Features(Result):
    """Activations of some examples at some layers.

    Attributes:
        values: `[layer, example, d_model]`, float32.
        layers: name of each layer: `embedding`, `0`, `1`, ..
        site: where in the block.
    """

    kind: ClassVar[str] = "probe-features"

    values: Float[Tensor, "layer example d_model"]
    layers: tuple[str, ...]
    site: str


def at_positions(
    model: TransformerBridge,
    tokens: Given,
    attention_mask: Mask | None = None,
    *,
    text: Int[Tensor, " example"] | Sequence[int],
    pos: Int[Tensor, " example"] | Sequence[int],
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    ask: Question | None = None,
) -> Features:
    """One example per pair of a row and a column.

    Args:
        model: a bridge; it is not changed.
        tokens: text, texts or ids, see `interp.models.given_prompts`; ids padded on either side.
        attention_mask: nonzero on real tokens; None when nothing is padding.
        text: row of each example.
        pos: column of each example.
        site: a key of `SITES`.
        layers: blocks to read, -1 for the embedding (only for the residual stream); None for all.
        ask: rows per forward pass (16 if left out) and progress, see `Question`.

    Raises:
        InputError: for an unknown site or layer, or an example that is out of range or on padding.
    """
    tokens, mask = _batch(model, tokens, attention_mask)
    text, pos = torch.as_tensor(text), torch.as_tensor(pos)
    if len(text) == 0:
        raise InputError("there are no examples to collect activations for")
    inside = (text >= 0) & (text < len(tokens)) & (pos >= 0) & (pos < tokens.shape[1])
    if not bool(inside.all()) or not bool(mask[text, pos].all()):
        raise InputError("an example lies outside the tokens or on padding; mend its row or column")

    order = text.argsort(stable=True)  # batches come in the order of rows
    rows, columns = text[order], pos[order]

    def take(residual: Tensor, some: list[int]) -> Tensor:
        mine = torch.isin(rows, torch.tensor(some))
        place = torch.searchsorted(torch.tensor(some), rows[mine])
        return residual[place.to(residual.device), columns[mine].to(residual.device)]

    names = _hook_names(model, site, layers)
    values = _collect(model, tokens, mask, names, take, asked(ask))
    return Features(values[:, order.argsort()], tuple(names), site)


def pooled(
    model: TransformerBridge,
    tokens: Given,
    attention_mask: Mask | None = None,
    *,
    how: str = "mean",
    where: Bool[Tensor, "batch pos"] | None = None,
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    ask: Question | None = None,
) -> Features:
    """One example per row: the mean over its positions, or the last of them.

    Args:
        how: `mean` or `last`.
        where: the positions that count, `[batch, pos]` (the answer without the question, say);
            None for every real token. The others are those of `at_positions`.

    Raises:
        InputError: for an unknown site, layer or pooling, or a row without a position that counts.
    """
    tokens, mask = _batch(model, tokens, attention_mask)
    if how not in ("mean", "last"):
        raise InputError(f"unknown pooling {how!r}; use mean or last")
    counted = mask if where is None else mask & where.cpu()
    if not bool(counted.any(1).all()):
        row = int((~counted.any(1)).nonzero()[0])
        raise InputError(f"text {row} has no position to pool over; leave it out")
    if how == "last":
        last = (counted.long() * torch.arange(counted.shape[1])).amax(1)
        counted = torch.zeros_like(counted).scatter_(1, last.unsqueeze(1), True)

    def mean(residual: Tensor, some: list[int]) -> Tensor:
        share = counted[some].to(residual.device)
        # Not a product with zeros: padding may hold infinities.
        kept = residual.float().masked_fill(~share.unsqueeze(-1), 0.0)
        return kept.sum(1) / share.sum(1, keepdim=True)

    names = _hook_names(model, site, layers)
    values = _collect(model, tokens, mask, names, mean, asked(ask))
    return Features(values, tuple(names), site)


def _collect(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    names: dict[str, str],
    take: Callable[[Tensor, list[int]], Tensor],
    ask: Question,
) -> Float[Tensor, "layer example d_model"]:
    """`take(activation[batch pos d_model], rows)` of every batch of rows, for every hook."""
    device = input_device(model)

    def run(rows: list[int]) -> list[Tensor]:
        kept: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor, hook: Any) -> None:  # noqa: ARG001
            flat = rearrange(value, "batch pos ... -> batch pos (...)")
            kept[name] = take(flat, rows).float().cpu()

        hooks = [(name, partial(keep, name)) for name in names.values()]
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            model(tokens[rows].to(device), attention_mask=mask[rows].long().to(device))
        return [kept[name] for name in names.values()]

    batches = memory.in_batches(
        len(tokens), ask.batch_size or 16, run, what="activations", device=device,
        progress=ask.progress, unit="text",
    )  # fmt: skip
    parts = [found for _, found in batches]
    return torch.stack([torch.cat(part) for part in zip(*parts, strict=True)])


def _hook_names(
    model: TransformerBridge, site: str, layers: Sequence[int] | None
) -> dict[str, str]:
    """Layer's name -> hook name."""
    if site not in SITES:
        raise InputError(f"unknown site {site!r}; use one of {', '.join(SITES)}")
    n_layers = int(model.cfg.n_layers)
    first = EMBEDDING if site == "resid_post" else 0
    wanted = range(first, n_layers) if layers is None else layers
    names = {}
    for layer in wanted:
        if not first <= layer < n_layers:
            raise InputError(f"layer {layer} is not in {first}..{n_layers - 1} (site {site})")
        if layer == EMBEDDING:
            names["embedding"] = "blocks.0.hook_resid_pre"
        else:
            names[str(layer)] = f"blocks.{layer}.{SITES[site]}"
    if not names:
        raise InputError("no layers to read; leave `layers` out for all of them")
    return names


def _batch(
    model: TransformerBridge, given: Given, mask: Mask | None
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    check_hooked(model, "a probe")
    batch = as_batch(given, model, mask)
    return batch.tokens, batch.attention_mask.cpu()
