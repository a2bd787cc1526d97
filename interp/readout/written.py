"""The tokens that directions of the residual stream write: the logit lens of a change."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.tools.analysis.logit_lens import logit_readout


@torch.no_grad()
def written_ids(
    model: Any, directions: Float[Tensor, "row d_model"], count: int
) -> Int[Tensor, "row count"]:
    """The tokens whose logits each direction alone raises most, the most raised first, on the CPU.

    Read through the final norm and the unembedding, less what their biases say of nothing at all.
    """
    weight = model.unembed.original_component.weight
    rows = torch.cat([directions, torch.zeros_like(directions[:1])]).to(weight)
    made = logit_readout(model, rows).values
    return (made[:-1] - made[-1]).topk(count, -1).indices.cpu()
