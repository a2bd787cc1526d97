"""Prompts with the positions at which neurons are read, and the activations there.

A neuron's activation is the MLP's hidden value after the activation function (`mlp_post`; with a
gate, the product), or, if asked for, a dimension of the block's output (`resid_post`). One number
per prompt and neuron: the mean over the prompt's chosen positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.models.tokens import TokenBatch
from interp.readout.capture import hook_name
from interp.readout.run import Run
from interp.text.emoji import EmojiVocab

Site = Literal["mlp_post", "resid_post"]


@dataclass(frozen=True)
class Prompts:
    """Prompts, and where in each of them neurons are read.

    Attributes:
        batch: token ids with their mask.
        where: true at the positions to read, `[batch pos]`.
        topics: each prompt's topic, the unit of resampling; None if unknown.

    Raises:
        InputError: if a prompt has no position to read, one lies on padding, or topics do not fit.
    """

    batch: TokenBatch
    where: Bool[Tensor, "batch pos"]
    topics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.where.shape != self.batch.tokens.shape:
            raise InputError(
                f"positions {list(self.where.shape)} do not fit tokens "
                f"{list(self.batch.tokens.shape)}; give one truth value per token"
            )
        if bool((self.where & ~self.batch.attention_mask).any()):
            raise InputError("a position to read lies on padding; read attended tokens only")
        empty = (~self.where.any(1)).nonzero().flatten().tolist()
        if empty:
            raise InputError(
                f"prompt {empty[0]} has no position to read ({len(empty)} of {len(self.batch)} "
                "have none); drop such prompts, or choose other positions"
            )
        if self.topics is not None and len(self.topics) != len(self.batch):
            raise InputError(f"{len(self.batch)} prompts but {len(self.topics)} topics")

    @classmethod
    def last(cls, batch: TokenBatch, topics: Sequence[str] | None = None) -> "Prompts":
        """Read each prompt's last token: of an onset prompt, the onset position."""
        mask = batch.attention_mask
        columns = torch.arange(mask.shape[1]).expand_as(mask)
        last = columns.masked_fill(~mask, -1).amax(1, keepdim=True)
        return cls(batch, (columns == last) & mask, _tuple(topics))

    @classmethod
    def whole(cls, batch: TokenBatch, topics: Sequence[str] | None = None) -> "Prompts":
        """Read every token."""
        return cls(batch, batch.attention_mask.clone(), _tuple(topics))

    @classmethod
    def emojis(
        cls, batch: TokenBatch, vocab: EmojiVocab, topics: Sequence[str] | None = None
    ) -> "Prompts":
        """Read the tokens that write emojis.

        Raises:
            InputError: if a prompt holds no emoji.
        """
        where = torch.zeros_like(batch.attention_mask)
        for row, (ids, mask) in enumerate(zip(batch.tokens, batch.attention_mask, strict=True)):
            columns = mask.nonzero().flatten()
            for match in vocab.find_tokens(ids[mask].tolist()):
                where[row, columns[match.start : match.end]] = True
        return cls(batch, where, _tuple(topics))


def read(
    model: Any,
    prompts: Prompts,
    layer: int,
    *,
    site: Site = "mlp_post",
    batch_size: int = 32,
    progress: Progress | None = None,
    label: str = "neurons",
) -> Float[Tensor, "batch neuron"]:
    """Mean activation of every neuron of one layer over each prompt's chosen positions, float32.

    Raises:
        ModelError: if the architecture has no such activation.
        InputError: if an activation is not finite.
    """
    name, device = hook_name(model, site, layer), input_device(model)

    def some(rows: list[int]) -> Float[Tensor, "some neuron"]:
        part = prompts.batch[rows]
        run = Run(model, part.tokens.to(device), part.attention_mask)
        where = prompts.where[rows].to(device)
        kept: list[Tensor] = []
        hooks = [(name, _keep_in(kept))]
        with torch.no_grad():
            model.run_with_hooks(run.tokens, attention_mask=run.mask.long(), fwd_hooks=hooks)
        acts = kept[0].float() * where[..., None]
        return (acts.sum(1) / where.sum(1, keepdim=True)).cpu()

    batches = memory.in_batches(
        len(prompts.batch), batch_size, some, what=label, device=device, progress=progress,
        unit="prompt",
    )  # fmt: skip
    parts = [part for _, part in batches]
    found = torch.cat(parts)
    if not bool(torch.isfinite(found).all()):
        raise InputError(
            f"activations of layer {layer} are not finite; reload the model, or load it in float32"
        )
    return found


def _keep_in(store: list[Tensor]) -> Callable[..., None]:
    def keep(value: Tensor, hook: Any) -> None:  # noqa: ARG001
        store.append(value.detach())

    return keep


def layer_index(model: Any, layer: int | None) -> int:
    """A layer counted from the front; the last one for None.

    Raises:
        InputError: if it does not exist.
    """
    depth = int(model.cfg.n_layers)
    if layer is None:
        return depth - 1
    if not -depth <= layer < depth:
        raise InputError(f"layer {layer} does not exist; this model has {depth}")
    return layer % depth


def _tuple(topics: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if topics is None else tuple(topics)
