"""Next-token training of the organism's bases: plain AdamW, one document per row.

Cost: 800 steps of 32 documents of about 40 tokens, one million parameters: about 2 minutes on two
cores. Deterministic on one machine with one number of threads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.models.tokens import TokenBatch, pad

BLOCK = 8
SIZES = {"tiny": (2, 64), "0.3M": (4, 64), "1M": (4, 128), "3M": (6, 192)}
"""Layers and width by name, about how many parameters; `1M` ships, `tiny` is for tests."""


@dataclass(frozen=True)
class Training:
    """How a base is trained.

    Attributes:
        steps: optimiser steps.
        batch_size: documents per step.
        learning_rate: peak, after `warmup` steps; a cosine then takes it to a tenth.
        weight_decay: on matrices only.
    """

    steps: int
    batch_size: int = 32
    learning_rate: float = 4e-3
    warmup: int = 20
    weight_decay: float = 0.05

    @property
    def documents(self) -> int:
        """Documents for which no one is seen twice."""
        return self.steps * self.batch_size

    def rate(self, step: int) -> float:
        """Learning rate of the step numbered from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def new_model(tokenizer: Any, seed: int, *, layers: int = 4, width: int = 128) -> Any:
    """An untrained Llama: grouped-query attention, tied embeddings, sizes that suit NF4.

    Raises:
        InputError: if `width` is no multiple of 64, which NF4 on the CPU needs.
    """
    if width % 64:
        raise InputError(f"the organism's width must be a multiple of 64 for NF4; {width} is not")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model


def next_token_loss(model: Any, batch: TokenBatch) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of every real token after the first of its document."""
    logits = model(input_ids=batch.tokens, attention_mask=batch.attention_mask).logits[:, :-1]
    wanted = batch.tokens[:, 1:].masked_fill(~batch.attention_mask[:, 1:], -100)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())


def fit(
    model: Any,
    documents: Sequence[Sequence[int]],
    training: Training,
    *,
    pad_id: int,
    label: str,
    progress: Progress | None = None,
) -> list[float]:
    """Train `model` in place on `documents`, each seen at most once per round.

    Returns:
        The loss of every step, in nats per token.

    Raises:
        InputError: if there are fewer documents than a batch holds.
    """
    size = training.batch_size
    if len(documents) < size:
        raise InputError(f"{len(documents)} documents do not fill a batch of {size}")
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.98))
    losses = []
    batches = by_length(documents, size)
    model.train()
    for step in range(training.steps):
        batch = pad(batches[step % len(batches)], pad_id, side="right")
        for group in optimizer.param_groups:
            group["lr"] = training.rate(step)
        loss = next_token_loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if progress is not None:
            progress(label, step + 1, training.steps)
    model.eval()
    return losses


def by_length(documents: Sequence[Sequence[int]], size: int) -> list[list[Sequence[int]]]:
    """Batches of documents of like length, which wastes little on padding.

    Documents are sorted within blocks of `BLOCK` batches; the batches of a block come in an order
    that jumps between short and long. What does not fill a batch is left out.
    """
    batches: list[list[Sequence[int]]] = []
    for first in range(0, len(documents), size * BLOCK):
        block = sorted(documents[first : first + size * BLOCK], key=len)
        made = [block[start : start + size] for start in range(0, len(block) - size + 1, size)]
        batches += made[::2] + made[1::2][::-1]
    return batches
