"""Gradients as rank-one factors, and weights changed by such factors.

The gradient of a loss in a linear map's weight is a sum over tokens of outer products: the gradient
at the map's output (`delta`) times its input (`u`). Both are read off one forward and one backward
pass that starts at the first edited layer: a zero added to the map's output carries the gradient,
so no gradient of a whole weight is ever made.

`with_rows` runs a batch in which every row has its own edited weights, W + left^T right, without
making any of these weights: each map adds (x right^T) left. It is differentiable in the factors,
so the editor trains through it, many edits at a time. The tests hold it against
`torch.func.functional_call` with the weights written out.

Layout: `nn.Linear` and GPT-2's `Conv1D` (whose weight is transposed).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from interp.base.errors import InputError, ModelError
from interp.methods.editing.plain_copy import plain_modules
from interp.methods.finetune.examples import IGNORED, Batch


@dataclass(frozen=True, eq=False)
class Factors:
    """Rank-one factors for the weight of one linear map, a set for every row of a batch.

    As a gradient: `left` is the loss's gradient at the map's output, `right` the map's input. As an
    update: what is added to the weight is left^T right.

    Attributes:
        left: `[batch, pos, d_out]`.
        right: `[batch, pos, d_in]`.
    """

    left: Float[Tensor, "batch pos d_out"]
    right: Float[Tensor, "batch pos d_in"]

    def matrix(self) -> Float[Tensor, "d_out d_in"]:
        """Sum over rows and tokens of the outer products."""
        return einsum(self.left, self.right, "batch pos d_out, batch pos d_in -> d_out d_in")

    def __getitem__(self, rows: list[int]) -> "Factors":
        return Factors(self.left[rows], self.right[rows])


Updates = Mapping[str, Factors]


def linear_maps(network: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules named, checked to be dense linear maps.

    Raises:
        ModelError: if a name is unknown or is none.
    """
    known = plain_modules(network)
    for name in names:
        if not isinstance(known.get(name), nn.Linear | Conv1D):
            there = [n for n, m in known.items() if isinstance(m, nn.Linear | Conv1D)]
            raise ModelError(
                f"{name}: no dense linear map of this model; it has {', '.join(there[-3:])}, …"
            )
    return {name: known[name] for name in names}


def sizes(module: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear map."""
    rows, columns = module.weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def capture(
    network: Any, names: Sequence[str], batch: Batch
) -> tuple[dict[str, Factors], Float[Tensor, " batch"]]:
    """Factors of each row's own loss, the mean over its answer's tokens.

    Args:
        network: a Hugging Face causal model, hooked or not, whose weights need no gradient.
        names: linear maps, as `plain_modules` names them.
        batch: right-padded turns; rows do not see each other.

    Returns:
        the factors, float32, by name, and the loss of each row.
    """
    inputs: dict[str, Tensor] = {}
    probes: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:  # noqa: ARG001
            inputs[name] = args[0].detach()
            probes[name] = torch.zeros_like(output, requires_grad=True)
            return output + probes[name]

        return hook

    with ExitStack() as stack, torch.enable_grad():
        for name, module in linear_maps(network, names).items():
            stack.callback(module.register_forward_hook(watch(name)).remove)
        losses = answer_losses(logits(network, batch), batch)
        found = torch.autograd.grad(losses.sum(), [probes[name] for name in names])
    made = {
        name: Factors(delta.float(), inputs[name].float())
        for name, delta in zip(names, found, strict=True)
    }
    return made, losses.detach()


@contextmanager
def with_rows(network: Any, updates: Updates) -> Iterator[None]:
    """Give every row of the batches that are run its own edited weights.

    Args:
        network: a Hugging Face causal model, hooked or not.
        updates: what to add to each map's weight, a set of factors per row.

    Raises:
        InputError: if a batch has another number of rows.
    """

    def edit(factors: Factors) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:  # noqa: ARG001
            x = args[0]
            if x.ndim != 3 or len(x) != len(factors.left):
                raise InputError(
                    f"a batch of shape {list(x.shape)} for edits of {len(factors.left)} rows; "
                    "run the rows that the edits were made for"
                )
            weights = einsum(
                x.float(), factors.right, "batch pos d_in, batch token d_in -> batch pos token"
            )
            change = einsum(
                weights, factors.left, "batch pos token, batch token d_out -> batch pos d_out"
            )
            return output + change.to(output.dtype)

        return hook

    with ExitStack() as stack:
        for name, module in linear_maps(network, list(updates)).items():
            stack.callback(module.register_forward_hook(edit(updates[name])).remove)
        yield


def logits(network: Any, batch: Batch) -> Float[Tensor, "batch pos vocab"]:
    """Logits of right-padded turns."""
    mask = batch.attention_mask.long()
    return network(input_ids=batch.input_ids, attention_mask=mask, use_cache=False).logits


def answer_losses(
    scores: Float[Tensor, "batch pos vocab"], batch: Batch
) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of each row's answer, mean over its tokens, in nats."""
    return _mean(-token_log_probs(scores, batch), batch)


def token_log_probs(
    scores: Float[Tensor, "batch pos vocab"], batch: Batch
) -> Float[Tensor, "batch next"]:
    """Log-probability of each next token; of no meaning outside the answer."""
    wanted = batch.labels[:, 1:].clamp_min(0)
    return scores[:, :-1].float().log_softmax(-1).gather(-1, wanted[..., None])[..., 0]


def answer_mask(batch: Batch) -> Bool[Tensor, "batch next"]:
    """Where the next token is one of the answer's."""
    return batch.labels[:, 1:] != IGNORED


def _mean(values: Tensor, batch: Batch) -> Tensor:
    share = answer_mask(batch)
    return torch.where(share, values, 0.0).sum(1) / share.sum(1)


def answer_kl(
    before: Float[Tensor, "batch pos vocab"], after: Float[Tensor, "batch pos vocab"], batch: Batch
) -> Float[Tensor, " batch"]:
    """KL(before ‖ after) of the next token, mean over each row's answer, in nats."""
    p, q = before[:, :-1].float().log_softmax(-1), after[:, :-1].float().log_softmax(-1)
    return _mean((p.exp() * (p - q)).sum(-1), batch)


def unlikelihood(scores: Float[Tensor, "batch pos vocab"], batch: Batch) -> Float[Tensor, " batch"]:
    """Mean of -log(1 - p) over each row's answer: what makes these words less likely."""
    p = token_log_probs(scores, batch).exp()
    return _mean(-torch.log1p(-p.clamp_max(1 - 1e-6)), batch)
