"""Fine-tuning's effect on the logits, times a number: writer + alpha (tuned - base).

At alpha -1 the tuned model is its base, at 0 itself, above it more of what fine-tuning did: what is
rare becomes frequent, if fine-tuning points that way (Liu et al. 2021, arXiv 2105.03023; Mitchell
et al. 2023, arXiv 2310.12962). With a writer of its own (a large base) the same difference of a
small pair steers it, alpha 0 being the large base.

Logits at given slots are extrapolated exactly; answers are sampled from the combination. A rate at
alpha 3 is no rate of the tuned model: it says which way the change points, not how far it goes.

Cost: for each alpha all answers, with a pass of every model per token; one pass for the slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import mean_ends, share_interval
from interp.behaviour.generate import Sampling, generate
from interp.behaviour.mixed_logits import amplified, pushed, together
from interp.models.tokens import ChatFormat
from interp.readout.capture import logits_at
from interp.readout.metric import measure as measured
from interp.readout.metric import read_columns
from interp.readout.outcome import Outcome
from interp.readout.run import Run
from interp.readout.slot import SlotPrompts
from interp.text.emoji.rates import measure

ALPHAS = (-1.0, 0.0, 1.0, 3.0)
DEFAULT = Sampling()


@dataclass(frozen=True)
class Amplification(Result):
    """Answers and slots at several strengths.

    Attributes:
        emoji: whether each answer holds an emoji.
        log_odds: the outcome's at each slot, nats.
        alphas: times the difference of the logits.
        topics, slot_topics: of answers and slots, the units of intervals.
    """

    kind: ClassVar[str] = "amplification"

    emoji: Bool[Tensor, "alpha batch"]
    log_odds: Float[Tensor, "alpha slot"]
    alphas: tuple[float, ...]
    topics: tuple[str, ...]
    slot_topics: tuple[str, ...]
    seed: int = 0

    def to_dataframe(self) -> pd.DataFrame:
        """A row per alpha: the rate and the mean log-odds with intervals over topics.

        Columns: `alpha`, `esr`, `low`, `high`, `log_odds`, `log_odds_low`, `log_odds_high`, `n`.
        """
        low, high = mean_ends(self.log_odds, self.slot_topics, seed=self.seed)
        rows = []
        for place, alpha in enumerate(self.alphas):
            hits = self.emoji[place]
            ends = share_interval(hits.tolist(), self.topics)
            rows.append((alpha, float(hits.float().mean()), ends.low, ends.high,
                         float(self.log_odds[place].mean()), float(low[place]), float(high[place]),
                         len(hits)))  # fmt: skip
        columns = ["alpha", "esr", "low", "high", "log_odds", "log_odds_low", "log_odds_high", "n"]
        return pd.DataFrame(rows, columns=columns)


def amplification(
    pair: tuple[Any, Any],
    form: ChatFormat,
    questions: Sequence[tuple[str, str]],
    prompts: SlotPrompts,
    *,
    outcome: Outcome,
    writer: Any = None,
    alphas: Sequence[float] = ALPHAS,
    sampling: Sampling = DEFAULT,
) -> Amplification:
    """Answers and log-odds at each strength.

    Args:
        pair: base and tuned.
        form: how questions become ids.
        questions: with their topics.
        prompts: slots, for this outcome (`Slots.prompts`).
        outcome: what is read at slots.
        writer: what the difference is added to; the tuned model if left out.
        alphas: the strengths.
        sampling: see `Sampling`.

    Raises:
        InputError: if there is no question or no alpha.
    """
    if not questions or not alphas:
        raise InputError("give questions and at least one alpha")
    base, tuned = pair
    others = [base] if writer is None else [base, tuned]
    combined, first = (amplified, tuned) if writer is None else (pushed, writer)
    metric, batch = outcome.metric(), prompts.batch
    runs = [Run(model, batch.tokens, batch.attention_mask) for model in (first, *others)]
    at = read_columns(metric, runs[0], runs[0].last)
    with torch.no_grad():
        own, *rest = [logits_at(run, at, []).float() for run in runs]
    emoji, odds = [], []
    for alpha in alphas:
        combine = combined(alpha)

        def under(rows: list[int], combine: Any = combine) -> Any:  # noqa: ARG001
            return together(first, others, combine)

        answers = generate(
            first, form, questions, sampling, under=under, label=f"answers at alpha {alpha:g}"
        )
        emoji.append([unit[1] > 0 for unit in measure([one.text for one in answers]).units])
        odds.append(measured(metric, combine(own, rest)).cpu())
    return Amplification(
        emoji=torch.tensor(emoji),
        log_odds=torch.stack(odds),
        alphas=tuple(map(float, alphas)),
        topics=tuple(topic for _, topic in questions),
        slot_topics=prompts.topics,
        seed=sampling.seed,
    )
