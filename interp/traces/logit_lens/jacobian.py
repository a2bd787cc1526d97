"""Jacobian lens: what would a state make the model write, on average over texts?

For each reading point one matrix is fitted, the mean over prompts of

    J = mean over places t of the sum over places t' >= t of d final[t'] / d state[t]

(Gurnee et al. 2026, "Verbalizable representations form a global workspace in language models"; the
estimator is TransformerLens' `JacobianLens`, which the tests compare with). `J state` goes through
the model's own final norm and unembedding, as a state itself does in the logit lens (J = 1). What
later layers turn into the outcome's direction is thus seen before they have.

Fit it on the base and read both models: what differs then is what the states hold, not the basis
that they are read in. The matrix is a mean of linear parts: what a head does for a few tokens only,
or a nonlinearity in some texts only, is diluted or missed; it is no intervention.

Cost of a fit: a forward and `d_model` backward passes per batch of prompts; of a reading, that of
the logit lens and a product of matrices. Memory: the graph of one batch.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError, ModelError
from interp.base.results import Result
from interp.models.given_prompts import Given, check_hooked
from interp.models.tokens import TokenBatch
from interp.readout.outcome import Outcome
from interp.readout.question import Question, asked
from interp.traces.logit_lens.reading import (
    Positions,
    Through,
    compare_through,
    points,
    read_through,
)
from interp.traces.logit_lens.results import LensReading, LensResult


@dataclass(frozen=True)
class JacobianLens(Result):
    """A fitted lens.

    Attributes:
        matrices: of the embedding and of each block but the last, `[point d_model d_model]`.
        n_prompts: how many it is a mean over.
    """

    kind: ClassVar[str] = "jacobian lens"

    matrices: Float[Tensor, "point d_model d_model"]
    n_prompts: int

    def read(
        self,
        model: TransformerBridge,
        tokens: Given,
        attention_mask: Tensor | None = None,
        *,
        outcome: Outcome | None = None,
        positions: Positions = None,
        ask: Question | None = None,
    ) -> LensReading:
        """`logit_lens.read` through this lens; arguments and errors are the same.

        Raises:
            ModelError: also for a model of another shape than the one it was fitted on.
        """
        through = self._through(model)
        return read_through(model, tokens, attention_mask, outcome, positions, through, asked(ask))

    def compare(
        self,
        base: TransformerBridge,
        tuned: TransformerBridge,
        tokens: Given,
        attention_mask: Tensor | None = None,
        *,
        outcome: Outcome | None = None,
        positions: Positions = None,
        ask: Question | None = None,
    ) -> LensResult:
        """`logit_lens.compare` through this lens; arguments and errors are the same."""
        through = self._through(base)
        models = base, tuned
        return compare_through(models, tokens, attention_mask, outcome, positions, through, ask)

    def _through(self, model: TransformerBridge) -> Through:
        check_hooked(model, "the Jacobian lens")
        n_layers, width = int(model.cfg.n_layers), int(model.cfg.d_model)
        if self.matrices.shape != (n_layers, width, width):
            raise ModelError(
                f"the lens was fitted on {len(self.matrices)} layers of width "
                f"{self.matrices.shape[1]}; this model has {n_layers} of {width}"
            )
        return Through(points(n_layers), self.matrices, "Jacobian lens")


def fit(
    model: TransformerBridge,
    batch: TokenBatch,
    *,
    where: Bool[Tensor, "batch pos"] | None = None,
    ask: Question | None = None,
) -> JacobianLens:
    """Fit the lens on some texts.

    Args:
        model: a bridge in evaluation mode; it is not changed.
        batch: the texts.
        where: the places t and t' that count; all tokens if left out.
        ask: prompts per pass (16 if left out) and progress.

    Raises:
        InputError: if a text has no place that counts.
    """
    check_hooked(model, "the Jacobian lens")
    ask = asked(ask)
    where = batch.attention_mask if where is None else where & batch.attention_mask
    if not len(batch) or not bool(where.any(1).all()):
        raise InputError("fit the Jacobian lens on texts that each have a place that counts")
    names = list(points(int(model.cfg.n_layers)).values())
    parts = memory.in_batches(
        len(batch), ask.batch_size or 16,
        lambda rows: _summed(model, batch[rows], where[rows], names),
        what="Jacobian lens", progress=ask.progress, unit="prompt", device=input_device(model),
    )  # fmt: skip
    total = torch.stack([part for _, part in parts]).sum(0)
    return JacobianLens(total / len(batch), len(batch))


def _summed(
    model: TransformerBridge,
    batch: TokenBatch,
    where: Bool[Tensor, "batch pos"],
    names: list[str],
) -> Float[Tensor, "point d_model d_model"]:
    """The sum over some prompts of each one's matrices."""
    device, states = input_device(model), {}
    given = batch.to(device)

    def keep(name: str, value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        states[name] = value if value.requires_grad else value.detach().requires_grad_(True)
        return states[name]

    hooks = [(name, partial(keep, name)) for name in names]
    with torch.enable_grad(), model.hooks(fwd_hooks=hooks):
        model(given.tokens, attention_mask=given.attention_mask.long())
    *sources, final = (states[name] for name in names)
    width, total = final.shape[-1], []
    share = (where / where.sum(1, keepdim=True)).to(device)
    for dim in range(width):
        wanted = torch.zeros_like(final)
        wanted[..., dim] = where.to(final)
        found = torch.autograd.grad(final, sources, wanted, retain_graph=dim < width - 1)
        means = [einsum(share.to(g), g.float(), "batch pos, batch pos d -> d") for g in found]
        total.append(torch.stack([mean.cpu() for mean in means]))
    return torch.stack(total, 1)
