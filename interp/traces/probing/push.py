"""Pushing along what is read: does the model use the direction that a probe reads?

A direction that can be read need not be read by the model itself: a base that never saw an emoji
passes a probe for where one comes. So the activations at the ends of two sets of prompts (clean:
where the outcome is called for; corrupted: where it is not) give a direction, the difference of
their means after a block, on half of the topics (Marks and Tegmark 2023, arXiv 2310.06824, find
such directions more often used than a classifier's). On the clean prompts of the other half it is
taken away, so that they read as corrupted, and the metric is read again. Random directions of the
same length are the control: any push of that length disturbs the model.

Sign: effects are pushed minus unpushed; negative is what taking away a cause does. The block is the
one whose push lowers the metric most, beyond random ones, on the half that gave the directions.

Cost: a forward pass per block and push (1 + `draws`). Memory: that of one forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pandas as pd
import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base import memory
from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import halves, mean_ends
from interp.readout.capture import logits_at
from interp.readout.metric import label, measure, read_columns, resolve, unit_of
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run, metric_columns
from interp.traces.probing.features import at_positions

Estimate = tuple[float, float, float]


@dataclass(frozen=True)
class Pushed(Result):
    """What pushes do to the metric of the clean prompts.

    Attributes:
        values: metric after each push, the first one along what is read, the others random,
            `[layer push batch]`; `before`: without one, `[batch]`.
        auroc: how well each block's direction tells clean from corrupted prompts of the half that
            judges, 0.5 is chance, `[layer]`.
        judges: which prompts judge; the others gave the directions and chose the block.
        layers: blocks after which it was pushed.
        topics: one per prompt, the units of intervals; None: each prompt is one.
    """

    kind: ClassVar[str] = "pushes"

    values: Float[Tensor, "layer push batch"]
    before: Float[Tensor, " batch"]
    auroc: Float[Tensor, " layer"]
    judges: Bool[Tensor, " batch"]
    layers: tuple[int, ...]
    metric: str
    unit: str
    seed: int
    topics: tuple[str, ...] | None = None

    @property
    def best(self) -> int:
        """Which of `layers` the half that does not judge chose."""
        moved = self.values[..., ~self.judges].double()
        return int((moved[:, 0] - moved[:, 1:].mean(1)).mean(-1).argmin())

    def along(self) -> Estimate:
        """Mean change of the metric by the push along what is read, with its 95 % interval."""
        return self._mean(self._pushed[0] - self._unpushed)

    def at_random(self) -> Estimate:
        """The same by random pushes of that length."""
        return self._mean(self._pushed[1:].mean(0) - self._unpushed)

    def beyond_random(self) -> Estimate:
        """By how much the first changes the metric more than the second, paired by prompt."""
        return self._mean(self._pushed[0] - self._pushed[1:].mean(0))

    def probability(self) -> Estimate:
        """Change of the outcome's probability along what is read; the metric must be log-odds."""
        return self._mean(self._pushed[0].sigmoid() - self._unpushed.sigmoid())

    def probabilities(self) -> tuple[float, float]:
        """Mean probability before the push along what is read, and after it."""
        ends = (self._unpushed, self._pushed[0])
        before, after = (float(values.sigmoid().mean()) for values in ends)
        return before, after

    def to_dataframe(self) -> pd.DataFrame:
        """One row per block, over the prompts that judge: `layer`, `auroc` of the direction, and
        mean changes of the metric `along` it and at `random`; `best` is the block that was chosen.
        """
        moved = (self.values - self.before)[..., self.judges].double().mean(-1)
        return pd.DataFrame(
            {
                "layer": self.layers, "auroc": self.auroc.tolist(), "along": moved[:, 0].tolist(),
                "random": moved[:, 1:].mean(1).tolist(), "n": int(self.judges.sum()),
                "best": [place == self.best for place in range(len(self.layers))],
            }
        )  # fmt: skip

    @property
    def _pushed(self) -> Float[Tensor, "push judge"]:
        return self.values[self.best][:, self.judges].double()

    @property
    def _unpushed(self) -> Float[Tensor, " judge"]:
        return self.before[self.judges].double()

    def _mean(self, values: Float[Tensor, " judge"]) -> Estimate:
        judges = self.judges.tolist()
        topics = self.topics and [t for t, use in zip(self.topics, judges, strict=True) if use]
        low, high = mean_ends(values[None], topics, seed=self.seed)
        return float(values.mean()), float(low[0]), float(high[0])


def push(
    clean: Run,
    corrupted: Run,
    *,
    layers: Sequence[int] | None = None,
    draws: int = 8,
    ask: Question | None = None,
) -> Pushed:
    """Take away what tells clean from corrupted prompts, and random directions as long.

    Args:
        clean, corrupted: one model's prompts, as many of each; row by row of one topic.
        layers: blocks to push after; all if left out.
        draws: random pushes per block.
        ask: metric (the emoji log-odds if left out), metric positions, topics, seed, rows per
            forward pass (32 if left out), see `Question`.

    Raises:
        InputError: for prompts of two models or unequal numbers, one topic only, no random push, or
            a block that is not there.
    """
    ask = asked(ask)
    if clean.model is not corrupted.model or len(clean.tokens) != len(corrupted.tokens):
        raise InputError("a push needs one model, and as many clean prompts as corrupted ones")
    if draws < 1:
        raise InputError(f"draws must be at least 1, got {draws}: a push alone proves nothing")
    metric = resolve(ask.metric, clean.model)
    topics = ask.topics_of(len(clean.tokens), clean.tokens, corrupted.tokens)
    first, second = (torch.from_numpy(half) for half in halves(topics, len(clean.tokens), ask.seed))
    if not first.any():
        raise InputError("one topic cannot give directions and judge them; ask about more")
    every = range(int(clean.model.cfg.n_layers))
    blocks = tuple(every if layers is None else dict.fromkeys(layers))
    if not blocks or not set(blocks) <= set(every):
        raise InputError(f"blocks {list(blocks)} are none of this model's {len(every)}, from 0 on")
    ends = [_ends(run, blocks, metric, ask) for run in (clean, corrupted)]
    gaps = ends[0][:, first].mean(1) - ends[1][:, first].mean(1)
    judged = torch.cat([end[:, second] for end in ends], 1)
    read = einsum(judged, gaps, "layer batch d, layer d -> layer batch")
    one, other = read.chunk(2, 1)
    values = torch.stack([_under(clean, block, -_as_long(gap, draws, ask.seed), metric, ask)
                          for block, gap in zip(blocks, gaps, strict=True)])  # fmt: skip
    none = torch.zeros(1, gaps.shape[1])
    return Pushed(
        values=values, before=_under(clean, blocks[0], none, metric, ask)[0],
        auroc=((one[:, :, None] > other[:, None]).double()
               + (one[:, :, None] == other[:, None]).double() / 2).mean((1, 2)).float(),
        judges=second, layers=blocks, metric=label(metric),
        unit=unit_of(metric, ask.unit), seed=ask.seed,
        topics=topics,
    )  # fmt: skip


def _slot(run: Run, metric: Metric, ask: Question) -> Int[Tensor, " batch"]:
    """The column of each prompt's slot: the metric's, or of two that it reads the first."""
    found = read_columns(metric, run, metric_columns(run, ask.places))
    return found.reshape(len(found), -1)[:, 0]


def _ends(
    run: Run, blocks: Sequence[int], metric: Metric, ask: Question
) -> Float[Tensor, "layer batch d_model"]:
    """Residual streams after the blocks at the slots."""
    at = _slot(run, metric, ask).cpu()
    rows = torch.arange(len(at))
    return at_positions(
        run.model, run.tokens, run.mask, text=rows, pos=at, layers=list(blocks), ask=ask
    ).values


def _as_long(
    gap: Float[Tensor, " d_model"], draws: int, seed: int
) -> Float[Tensor, "push d_model"]:
    """The direction, then random ones of its length."""
    others = torch.randn(draws, len(gap), generator=torch.Generator().manual_seed(seed))
    others *= gap.norm() / others.norm(dim=-1, keepdim=True)
    return torch.cat([gap[None], others])


def _under(
    run: Run, block: int, pushes: Float[Tensor, "push d_model"], metric: Any, ask: Question
) -> Float[Tensor, "push batch"]:
    """The metric of every prompt under each push."""
    at = read_columns(metric, run, metric_columns(run, ask.places))
    slot = _slot(run, metric, ask)

    def under(shift: Tensor, some: list[int]) -> Tensor:
        place = torch.tensor(some, device=run.tokens.device)
        part = Run(run.model, run.tokens[place], run.mask[place])

        def add(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
            value = value.clone()
            value[torch.arange(len(some)), slot[place]] += shift.to(value)
            return value

        with torch.no_grad():
            return logits_at(part, at[place], [(f"blocks.{block}.hook_resid_post", add)])

    found = []
    for number, shift in enumerate(pushes):
        batches = memory.in_batches(
            len(run.tokens), ask.batch_size or 32, partial(under, shift),
            what="pushes", device=run.tokens.device, unit="prompt",
        )  # fmt: skip
        found.append(measure(metric, torch.cat([logits for _, logits in batches])).cpu())
        ask.tell(f"pushes after block {block}", number + 1, len(pushes))
    return torch.stack(found)
