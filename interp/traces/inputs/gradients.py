"""Integrated gradients along the embeddings of a row's words (Sundararajan et al. 2017).

The straight line runs from the mean embedding of the vocabulary, in the place of every word, to the
row's own embeddings; markers stay what they are. A word's score is the sum over its tokens and over
dimensions of (own - mean) times the mean gradient along the line (Gauss and Legendre's quadrature).
Scores sum to the difference between both ends, up to the quadrature's error.

Cost: `STEPS` forward passes and three backward passes through them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from interp.base.devices import input_device
from interp.readout.outcome import FACTORS, Outcome
from interp.traces.inputs.words import Word

STEPS = 64


def integrated(
    model: Any, row: list[int], words: Sequence[Word], outcome: Outcome
) -> tuple[Float[Tensor, "factor word"], float]:
    """Each word's score by each factor, and by how much their sums miss the difference."""
    device = input_device(model)
    table = model.original_model.get_input_embeddings()
    ids = torch.tensor([[*row, *outcome.space_ids]], device=device)
    own = table(ids)[0].detach()
    # Gemma's tables give their rows times a scale.
    scale = float(getattr(table, "embed_scale", 1.0))
    mean, middle = own.clone(), scale * table.weight.detach().float().mean(0)
    for word in words:
        mean[word.start : word.end] = middle.to(own.dtype)
    places, weights = np.polynomial.legendre.leggauss(STEPS)
    alpha = torch.tensor([*(places + 1) / 2, 0.0, 1.0], dtype=own.dtype, device=device)
    with torch.enable_grad():
        line = torch.lerp(mean, own, alpha[:, None, None]).requires_grad_(True)
        logits = _logits(model, ids.expand(len(alpha), -1), line)
        at = logits[:, -1] if outcome.reads == 1 else logits[:, -2:]
        sums = outcome.sums(at)
        values = torch.stack([factor(sums) for factor in FACTORS.values()])
        found = [
            torch.autograd.grad(value[:STEPS].sum(), line, retain_graph=True)[0][:STEPS]
            for value in values
        ]
    weigh = torch.tensor(weights / 2, dtype=torch.float32, device=device)
    slopes = einsum(weigh, torch.stack(found).float(), "step, factor step pos d -> factor pos d")
    each = (slopes * (own - mean).float()).sum(-1)
    change = (values[:, -1] - values[:, -2]).detach()
    scores = torch.stack([each[:, word.start : word.end].sum(1) for word in words], 1)
    return scores.cpu(), float((each.sum(1) - change).abs().max())


def _logits(model: Any, ids: Tensor, embedded: Tensor) -> Tensor:
    """Logits of a pass in which the embeddings are given."""

    def given(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        return embedded

    with model.hooks(fwd_hooks=[("embed.hook_out", given)]):
        logits: Tensor = model(ids)
    return logits
