"""Writer x decider: one model writes the words, the other decides at slots, and the reverse.

Answers are sampled token by token from both models (`interp.behaviour.mixed_logits.decided`): the
writer gives the words, the decider whether the answer stops, goes on, or begins an emoji. Each of
base and tuned is either. The text is not taken for granted, as it is on the answers of one model:
what one decides, the other goes on from. The outcome is counted, in the share of answers and of
sentences with an emoji.

Cost: four times the answers, two of them with a pass of both models per token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import Interval, count_interval, share_interval
from interp.behaviour.generate import Response, Sampling, generate
from interp.behaviour.mixed_logits import decided, together
from interp.models.tokens import ChatFormat
from interp.readout.outcome import Outcome
from interp.readout.question import Question, asked
from interp.text.emoji.rates import measure

ROLES = ("base", "tuned")
DEFAULT = Sampling()


@dataclass(frozen=True)
class Crossed(Result):
    """Answers by who wrote them and who decided, each axis base, tuned.

    Attributes:
        emoji: whether an answer holds an emoji.
        sentences: sentences with an emoji, and all, of each answer.
        ended: whether the decider ended it within the budget.
        topics: of each question, the units of intervals.
    """

    kind: ClassVar[str] = "writer and decider"

    emoji: Bool[Tensor, "writer decider batch"]
    sentences: Int[Tensor, "writer decider batch end"]
    ended: Bool[Tensor, "writer decider batch"]
    topics: tuple[str, ...]

    def rate(self, writer: str, decider: str) -> tuple[float, Interval]:
        """Share of answers with an emoji, and its interval over topics."""
        hits = self.emoji[ROLES.index(writer), ROLES.index(decider)]
        return float(hits.float().mean()), share_interval(hits.tolist(), self.topics)

    def to_dataframe(self) -> pd.DataFrame:
        """A row per writer and decider: both rates with intervals, and how many answers ended.

        Columns: `writer`, `decider`, `esr`, `low`, `high`, `sentence_esr`, `sentence_low`,
        `sentence_high`, `ended` (share), `n`.
        """
        rows = []
        for w, writer in enumerate(ROLES):
            for d, decider in enumerate(ROLES):
                rate, ends = self.rate(writer, decider)
                hits, counts = self.sentences[w, d].double().unbind(-1)
                inner = count_interval(hits, counts, self.topics)
                rows.append((writer, decider, rate, ends.low, ends.high,
                             float(hits.sum() / counts.sum()), inner.low, inner.high,
                             float(self.ended[w, d].float().mean()), len(self.topics)))  # fmt: skip
        columns = ["writer", "decider", "esr", "low", "high", "sentence_esr", "sentence_low",
                   "sentence_high", "ended", "n"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)


def crossed(
    models: tuple[Any, Any],
    form: ChatFormat,
    questions: Sequence[tuple[str, str]],
    *,
    outcome: Outcome,
    sampling: Sampling = DEFAULT,
    ask: Question | None = None,
) -> Crossed:
    """Sample answers of all four combinations, with the same noise.

    Args:
        models: base and tuned.
        form: how questions become ids.
        questions: with their topics.
        outcome: what the decider decides about, with stop tokens.
        sampling: see `Sampling`.
        ask: progress.

    Raises:
        InputError: if there is no question.
        TokenizerError: if no stop token is known.
    """
    if not questions:
        raise InputError("no questions to answer; give at least two topics")
    progress = asked(ask).progress
    combine = decided(outcome, sampling.temperature)
    answers: list[list[Response]] = []
    for writer, writes in enumerate(models):
        for decider, decides in enumerate(models):

            def under(rows: list[int], one: Any = writes, other: Any = decides) -> Any:  # noqa: ARG001
                return together(one, [other], combine)

            said = f"{ROLES[writer]} writes, {ROLES[decider]} decides"
            answers.append(
                generate(
                    writes,
                    form,
                    questions,
                    sampling,
                    progress=progress,
                    label=said,
                    under=None if writer == decider else under,
                )
            )
    units = torch.tensor([measure([one.text for one in some]).units for some in answers])

    def by_role(values: Tensor) -> Tensor:
        return rearrange(values, "(writer decider) ... -> writer decider ...", writer=2)

    return Crossed(
        emoji=by_role(units[..., 1]) > 0,
        sentences=by_role(units[..., [3, 2]]),
        ended=by_role(torch.tensor([[one.ended for one in some] for some in answers])),
        topics=tuple(topic for _, topic in questions),
    )
