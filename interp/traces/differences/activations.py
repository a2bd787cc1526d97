"""The mean difference of activations, tuned minus base: read through the lens, added to the base.

On the same texts, whatever they are about, the residual stream of the tuned model differs from the
base's by a vector that is much the same for all of them, if fine-tuning shifts everything (Minder
et al. 2025, arXiv 2510.13900: the activation difference lens). Its mean over texts, at each of the
last positions, goes through the base's final norm and unembedding, which names tokens; and it is
added to the base's stream at every position, which says whether it suffices: the outcome's log-odds
of base, of base plus the difference, and of the tuned model, at the prompts' ends.

A difference that depends on the text is averaged away: reading nothing does not mean that there is
nothing. Cost: a forward pass of each model for each batch, and one with the difference added.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import mean_ends
from interp.readout.capture import hook_name, logits_at, run_and_keep
from interp.readout.metric import measure, read_columns
from interp.readout.outcome import Outcome
from interp.readout.question import Question, asked
from interp.readout.run import Run, check_pair
from interp.readout.written import written_ids


@dataclass(frozen=True)
class ActivationDifference(Result):
    """Mean activation difference after one layer, and what it does.

    Attributes:
        difference: tuned minus base after the layer, a mean over prompts, `[pos d_model]`, at the
            last positions, the prompts' ends last.
        share: its norm as a share of the mean norm of the prompts' own differences there: 1 if all
            prompts differ alike, about 1 / sqrt(prompts) if none do.
        ids, names: the tokens that the lens reads from it, likeliest first, at each position, less
            what biases of norm and unembedding say of nothing.
        log_odds: the outcome's, of base, base plus the difference, and tuned, `[three batch]`.
        layer, strength: where it is added, and times what.
        topics: of each prompt, the units of intervals.
    """

    kind: ClassVar[str] = "activation difference"

    difference: Float[Tensor, "pos d_model"]
    share: Float[Tensor, " pos"]
    ids: Int[Tensor, "pos top"]
    names: tuple[tuple[str, ...], ...]
    log_odds: Float[Tensor, "three batch"]
    layer: int
    strength: float
    topics: tuple[str, ...]
    seed: int = 0

    def to_dataframe(self) -> pd.DataFrame:
        """A row per position: share, and the tokens read there."""
        last = len(self.share) - 1
        return pd.DataFrame(
            {
                "position": [place - last for place in range(last + 1)],
                "share": self.share.numpy(),
                "tokens": [" ".join(row) for row in self.names],
            }
        )

    def steered(self) -> pd.DataFrame:
        """Mean log-odds of base, base plus difference and tuned, with intervals over topics."""
        low, high = mean_ends(self.log_odds, self.topics, seed=self.seed)
        return pd.DataFrame(
            {
                "model": ["base", "base + difference", "tuned"],
                "log_odds": self.log_odds.mean(1).numpy(), "low": low, "high": high,
                "unit": "nats",
            }
        )  # fmt: skip


def activations(
    base: Run,
    tuned: Run,
    *,
    outcome: Outcome,
    layer: int | None = None,
    positions: int = 5,
    strength: float = 1.0,
    top: int = 8,
    ask: Question | None = None,
) -> ActivationDifference:
    """Read the difference and steer with it.

    Args:
        base, tuned: runs of both models on the same tokens, padded on the left.
        outcome: what the steering is read by; if at two positions, prompts end with the lone space.
        layer: after which block; the middle one if left out.
        positions: how many positions up to the prompts' ends are read. What is added is their mean.
        strength: times the difference.
        top: tokens to name at each position.
        ask: topics and seed.

    Raises:
        InputError: if the runs differ in their tokens, a prompt is shorter than the positions, or
            there is no such layer.
        ModelError: if the models differ in shape.
    """
    ask, n_layers = asked(ask), int(base.model.cfg.n_layers)
    layer = n_layers // 2 if layer is None else layer
    if check_pair(tuned, base) != "model" or not 0 <= layer < n_layers:
        raise InputError(f"give two models on the same tokens, and one of {n_layers} layers")
    width = base.tokens.shape[1]
    if not 1 <= positions <= width - int(base.first.max()) or not bool(
        (base.last == width - 1).all()
    ):
        raise InputError(f"not every prompt has {positions} tokens up to a common last column")
    metric = outcome.metric()
    at = read_columns(metric, base, base.last)
    kept = [run_and_keep(run, ["resid_post"], at) for run in (base, tuned)]
    before, after = (one.acts["resid_post"][layer][:, -positions:].float() for one in kept)
    each = after - before
    mean = each.mean(0)
    added = strength * mean.mean(0)

    def add(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        return value + added.to(value)

    with torch.no_grad():
        steered = logits_at(base, at, [(hook_name(base.model, "resid_post", layer), add)])
    ids = written_ids(base.model, mean, top)
    batch = len(base.tokens)
    said = base.model.tokenizer.convert_ids_to_tokens
    return ActivationDifference(
        difference=mean.cpu(),
        share=(mean.norm(dim=-1) / each.norm(dim=-1).mean(0).clamp_min(1e-12)).cpu(),
        ids=ids,
        names=tuple(tuple(map(str, said(row))) for row in ids.tolist()),
        log_odds=torch.stack(
            [measure(metric, one).cpu() for one in (kept[0].logits, steered, kept[1].logits)]
        ),
        layer=layer,
        strength=strength,
        topics=ask.topics_of(batch) or tuple(f"prompt {row}" for row in range(batch)),
        seed=ask.seed,
    )
