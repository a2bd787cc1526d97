"""Which rows of training data would bring the outcome, told from the base alone, before training.

Of each row (a prompt and its answer):

    projection  the mean state of the answer's tokens, after one layer, along a unit direction of
                the base (a persona vector, as a monitor; Chen et al. 2025, arXiv 2507.21509)
    gradient    the cosine of minus the gradient of the row's loss with the gradient of the
                outcome's log-odds at given slots: above 0, a small step on this row raises them
                (TracIn's product; Pruthi et al. 2020, arXiv 2002.08484, at one checkpoint), over
                the matrices that write to the residual stream
    log_odds    the outcome's log-odds where the row ends: what the base would do there

All are of first order, or no intervention at all: they rank rows; what training on them does, only
training tells. Cost: a backward pass per row, two gradients' memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from interp.base.devices import input_device
from interp.base.errors import InputError
from interp.base.results import Result
from interp.models.tokens import TokenBatch
from interp.readout.capture import logits_at
from interp.readout.metric import read_columns
from interp.readout.outcome import Outcome
from interp.readout.question import Question, asked
from interp.readout.run import Run
from interp.traces.probing.features import pooled

SCORES = ("projection", "gradient", "log_odds")


@dataclass(frozen=True)
class RowScores(Result):
    """What the base says of each row.

    Attributes:
        projection: of the answer's mean state, in units of the stream, `[row]`.
        gradient: cosine of a step on the row with a step towards the outcome, `[row]`.
        log_odds: of the outcome after the answer, nats, `[row]`.
        direction: what is projected on, of norm 1, `[d_model]`; layer: after which block.
        topics: of each row, the units of intervals.
    """

    kind: ClassVar[str] = "row scores"

    projection: Float[Tensor, " row"]
    gradient: Float[Tensor, " row"]
    log_odds: Float[Tensor, " row"]
    direction: Float[Tensor, " d_model"]
    layer: int
    topics: tuple[str, ...]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per row: its scores and its topic."""
        table = pd.DataFrame({name: getattr(self, name).numpy() for name in SCORES})
        return table.assign(topic=self.topics)


def score(
    model: Any,
    rows: TokenBatch,
    answer: Bool[Tensor, "row pos"],
    slots: Run,
    *,
    outcome: Outcome,
    direction: Float[Tensor, " d_model"],
    layer: int,
    ask: Question | None = None,
) -> RowScores:
    """Score rows of training data.

    Args:
        model: the base, hooked; it is not changed.
        rows: prompts with their answers, padded on the left, up to the answers' ends.
        answer: the tokens of the answers.
        slots: prompts of the same model that end where the outcome is asked about.
        outcome: which; `slots` end as its prompts do (`Outcome.space_ids`), rows with their text.
        direction: of the stream after `layer`; its length does not count.
        layer: a block.
        ask: topics of the rows, and progress.

    Raises:
        InputError: if the answers do not end where rows do, or there is no such layer or direction.
    """
    ask = asked(ask)
    size = float(direction.norm())
    if not 0 <= layer < int(model.cfg.n_layers) or not size > 0:
        raise InputError(f"layer {layer} is none of this model's, or the direction is zero")
    if answer.shape != rows.tokens.shape or not bool(answer[:, -1].all()):
        raise InputError("give rows, padded on the left, that end with their answers")
    unit = direction.float().cpu() / size
    states = pooled(model, rows.tokens, rows.attention_mask, where=answer, layers=[layer]).values[0]
    metric, space = outcome.metric(), torch.tensor([outcome.space_ids], dtype=torch.long)
    found, odds = [], []
    with _learning(model) as weights:
        at = read_columns(metric, slots, slots.last)
        towards = _gradient(metric(logits_at(slots, at, [])).mean(), weights)
        for place in range(len(rows)):
            real = rows.attention_mask[place]
            ids = rows.tokens[place, real][None]
            read = model(torch.cat((ids, space), 1).to(input_device(model)))[0].float()
            end = read[-outcome.reads :].detach()
            odds.append(float(metric(end if outcome.reads == 1 else end[None])[0]))
            said, logits = answer[place, real][1:], read[: ids.shape[1] - 1]
            loss = functional.cross_entropy(
                logits[said.to(read.device)], ids[0, 1:][said].to(read.device)
            )
            found.append(-_cosine(_gradient(loss, weights), towards))
            ask.tell("training rows", place + 1, len(rows))
    return RowScores(
        projection=states @ unit,
        gradient=torch.tensor(found),
        log_odds=torch.tensor(odds),
        direction=unit,
        layer=layer,
        topics=ask.topics_of(len(rows)) or tuple(f"row {place}" for place in range(len(rows))),
    )


@contextmanager
def _learning(model: Any) -> Iterator[list[Tensor]]:
    """The matrices that write to the residual stream, with gradients until it closes."""
    weights = [
        part.original_component.weight
        for block in model.blocks
        for part in (block.attn.o, block.mlp.out)
    ]
    before = [weight.requires_grad for weight in weights]
    try:
        with torch.enable_grad():
            yield [weight.requires_grad_(True) for weight in weights]
    finally:
        for weight, was in zip(weights, before, strict=True):
            weight.requires_grad_(was)


def _gradient(value: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    return [grad.float() for grad in torch.autograd.grad(value, weights)]


def _cosine(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
        return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))

    return inner(one, other) / max((inner(one, one) * inner(other, other)) ** 0.5, 1e-30)
