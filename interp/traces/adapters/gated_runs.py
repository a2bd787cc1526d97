"""The metric of every prompt under many settings of the gates, in batches.

Settings and prompts are laid into one batch, every row with gates of its own, so that one copy of
the base serves all subsets of modules. Equal settings are run once. Chunks are sized from shapes to
stay within a memory budget, and halved when memory runs out all the same.

Cost: one forward pass per setting and prompt, computed in full: rows that agree below some layer do
not share it. (Each row starts at the embeddings because masks, caches and position tables of a
Hugging Face model belong to the whole batch; starting rows at their first switched layer would save
at most half for single modules and nothing for Shapley values.)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.memory import Budget, in_batches
from interp.models import TokenBatch
from interp.readout.capture import logits_at
from interp.readout.metric import label, measure, read_columns, resolve, unit_of
from interp.readout.question import Metric, Question
from interp.readout.run import Run, metric_columns
from interp.traces.adapters.gates import switched
from interp.traces.adapters.space import AdapterSpace, Unit
from interp.traces.patching.chunks import DEFAULT_BYTES

Prompts = TokenBatch | Sequence[str]


class GatedRuns:
    """Runs of one adapter's base over one set of prompts.

    Args:
        space: the adapter.
        prompts: a batch of tokens, or questions.
        ask: metric, metric positions, topics, memory (128 MiB if left out) and progress.

    Raises:
        InputError: if the prompts, topics or positions do not fit, or one row needs more memory.
    """

    def __init__(self, space: AdapterSpace, prompts: Prompts, ask: Question) -> None:
        batch = prompts if isinstance(prompts, TokenBatch) else _asked(space, prompts)
        batch = batch.to(space.device)
        self.space, self.progress = space, ask.progress
        self.run = Run(space.pair.base, batch.tokens, batch.attention_mask)
        self.at = metric_columns(self.run, ask.places)
        self.metric = space.metric if ask.metric is None else resolve(ask.metric, space.pair.base)
        self.columns = read_columns(self.metric, self.run, self.at)
        self.unit = unit_of(self.metric, ask.unit)
        self.topics = ask.topics_of(len(batch), batch.tokens, self.at)
        self.row_bytes = _row_bytes(space.pair.base.cfg, batch.tokens.shape[1])
        self.budget = Budget.of(self.row_bytes, ask.chunk, DEFAULT_BYTES, "adapter runs", "prompt")
        self.largest_logit = 1.0

    def __len__(self) -> int:
        return len(self.at)

    @property
    def metric_label(self) -> str:
        return label(self.metric)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each time that memory ran out."""
        return tuple(self.budget.notes)

    @torch.no_grad()
    def values(
        self, gates: Float[Tensor, "setting component"], what: str = "adapter runs"
    ) -> Float[Tensor, "setting *metric batch"]:
        """The metric of every prompt under every setting, float64, on the CPU."""
        unique, back = gates.to(self.space.device).unique(dim=0, return_inverse=True)
        rows: list[Tensor] = []
        while len(rows) < len(unique):
            if self.progress is not None:
                self.progress(what, len(rows), len(unique))
            rest = unique[len(rows) :]
            every = self.row_bytes * len(self) * len(rest)
            logits = self.budget.halving(partial(self._some, rest), self.row_bytes, every)
            self.largest_logit = max(self.largest_logit, float(logits.abs().max()))
            rows += [measure(self.metric, one).double().cpu() for one in logits]
        if self.progress is not None:
            self.progress(what, len(unique), len(unique))
        return torch.stack(rows)[back.cpu()]

    def _some(self, gates: Tensor) -> Float[Tensor, "setting batch *reads vocab"]:
        """Logits under the first settings: as many as fit, at least one."""
        fit = self.budget.size // self.row_bytes
        first = gates[: max(1, fit // len(self))]
        prompt = torch.arange(len(self), device=gates.device).repeat(len(first))
        wide = first.repeat_interleave(len(self), 0)
        parts = [
            self._logits(prompt[i : i + fit], wide[i : i + fit]) for i in range(0, len(wide), fit)
        ]
        return rearrange(
            torch.cat(parts), "(setting batch) ... -> setting batch ...", batch=len(self)
        )

    def _logits(self, prompt: Tensor, gates: Tensor) -> Float[Tensor, "rows *reads vocab"]:
        network = self.space.pair.base.original_model
        part = Run(self.run.model, self.run.tokens[prompt], self.run.mask[prompt])
        with switched(network, self.space.deltas, gates):
            return logits_at(part, self.columns[prompt], [])

    def gradient(
        self, units: Sequence[Unit], gates: Float[Tensor, " component"]
    ) -> Float[Tensor, "unit batch"]:
        """Derivative of each prompt's metric by each unit's gate at one setting, float64.

        A prompt's metric is taken to depend on its own logits alone. Costs two forward passes and
        one backward per prompt.

        Raises:
            InputError: if the metric has no derivative.
        """
        gates, table = gates.to(self.space.device), self.space.membership(units)
        fit = max(1, self.budget.size // (self.row_bytes * int(self.run.model.cfg.n_layers)))
        device = gates.device

        @torch.no_grad()
        def logits(some: list[int]) -> Tensor:
            rows = torch.tensor(some, device=device)
            return self._logits(rows, gates.expand(len(rows), -1))

        def slopes(some: list[int]) -> Tensor:
            rows = torch.tensor(some, device=device)
            knobs = torch.zeros(len(rows), len(units), device=device, requires_grad=True)
            with torch.enable_grad():
                made = self._logits(rows, gates + knobs @ table)
                (grad,) = torch.autograd.grad(made, knobs, slope[rows].to(made.dtype))
            return grad.double().cpu()

        def every(work: Callable[[list[int]], Tensor]) -> Tensor:
            batches = in_batches(
                len(self), fit, work, what="adapter gradients", device=device, unit="prompt"
            )
            return torch.cat([made for _, made in batches])

        slope = _slope(self.metric, every(logits))
        return every(slopes).T.contiguous()

    def ends(self) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], float]:
        """Metric with everything off and on, and the noise floor (see `effects`)."""
        off, on, noise = self.ends_each()
        return off, on, float(noise)

    @torch.no_grad()
    def ends_each(
        self,
    ) -> tuple[
        Float[Tensor, "*metric batch"], Float[Tensor, "*metric batch"], Float[Tensor, "*metric"]
    ]:
        """`ends`, with a noise floor for each of several metrics."""
        table = torch.zeros(2, self.space.n_components)
        table[1] = 1.0
        off, on = self.values(table, "base and tuned")
        pair, worst = self.space.pair, []
        for model, gated in ((pair.base, off), (pair.tuned, on)):
            alone = torch.cat([self._alone(model, i) for i in range(len(self))])
            worst.append((self._whole(alone) - gated).abs().amax(-1))
        least = 8 * torch.finfo(torch.float32).eps * self.largest_logit
        return off, on, torch.stack(worst).amax(0).clamp(min=least)

    def _alone(self, model: Any, row: int) -> Float[Tensor, "1 *reads vocab"]:
        """Logits of one prompt by itself, without padding."""
        keep = self.run.mask[row]
        tokens = self.run.tokens[row][keep][None]
        return logits_at(Run(model, tokens), (self.columns[row] - self.run.first[row])[None], [])

    def _whole(self, logits: Tensor) -> Float[Tensor, "*metric batch"]:
        return measure(self.metric, logits).double().cpu()


def _asked(space: AdapterSpace, questions: Sequence[str]) -> TokenBatch:
    if isinstance(questions, str) or not len(questions):
        raise InputError("prompts must be a TokenBatch or a list of at least one question")
    return space.pair.prompts(questions)


def _slope(metric: Metric, logits: Tensor) -> Float[Tensor, "batch *reads vocab"]:
    """Derivative of the summed metric by the logits."""
    with torch.enable_grad():
        logits = logits.detach().requires_grad_(True)
        value = metric(logits).sum()
        if not value.requires_grad:
            raise InputError(
                f"metric {label(metric)!r} has no derivative; compute it with torch on the logits "
                "it is given, or leave the gradient estimate out"
            )
        return torch.autograd.grad(value, logits)[0]


def _row_bytes(cfg: Any, width: int) -> int:
    """Bytes that live at once in a layer (or at the logits) for one row of the batch.

    The residual stream, its norm and their switched rows; queries, keys, values and head outputs
    with the scores of eager attention, their mask and softmax; or the neurons, gate and product,
    each with its delta and its sum; single precision throughout. The factors are measured (see
    the tests), not counted.
    """
    d_model, heads = int(cfg.d_model), int(cfg.n_heads)
    stream = 6 * d_model
    attention = 6 * heads * int(cfg.d_head) + 5 * heads * width
    neurons = 10 * int(getattr(cfg, "d_mlp", 0) or 4 * d_model)
    return 4 * (width * (stream + max(attention, neurons)) + 4 * int(cfg.d_vocab))
