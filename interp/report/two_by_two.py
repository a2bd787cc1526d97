"""Text or weights: the writer x reader table as a two-by-two, on the scale of logs.

All four cells are of the same questions. A contrast is a sum of logs of mean probabilities with
signs: what is lost without the tuned text, without the tuned weights, and their interaction, which
is 0 where each multiplies the probability whatever the other does. Means come before logs, so an
answer without any chance of an emoji weighs no more than others; the error is linearised per
question, which pairs the cells, and topics are its units.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from interp.base.stats import mean_interval
from interp.behaviour import Origin
from interp.report.effect import judged
from interp.report.wording import Estimate

Answer = Literal["text", "weights", "both", "either", "less", "nothing", "untold"]
_LEAST = 1e-9
_FEWEST = 6
"""Topics, below which no interval holds what it promises (`benchmarks/coverage.py`)."""


@dataclass(frozen=True)
class TwoByTwo:
    """The table's contrasts.

    Attributes:
        gap: probability in the tuned model's own reading minus that in the base's.
        text: nats that the tuned reader loses where it reads the base's text.
        weights: nats that are lost where the base reads the tuned model's text.
        interaction: `weights` minus what the tuned reader adds on the base's text.
        topics: how many there are.
    """

    gap: Estimate
    text: Estimate
    weights: Estimate
    interaction: Estimate
    topics: int

    @classmethod
    def of(cls, origin: Origin) -> "TwoByTwo":
        """The contrasts over the questions that all four cells have.

        Raises:
            InputError: if fewer than two topics have all four.
        """
        cells = origin.probability.double()
        kept = (~cells.isnan().any(0).any(0)).nonzero().flatten().tolist()
        cells, topics = cells[..., kept], [origin.topics[place] for place in kept]

        def contrast(signs: tuple[tuple[int, int], tuple[int, int]]) -> Estimate:
            mean = cells.mean(-1).clamp(min=_LEAST)
            value = float((torch.tensor(signs) * mean.log()).sum())
            spread = torch.tensor(signs)[..., None] * (cells - cells.mean(-1)[..., None])
            return around(value, (spread / mean[..., None]).sum((0, 1)).numpy())

        def around(value: float, errors: np.ndarray) -> Estimate:
            ends = mean_interval(value + errors, topics, seed=origin.seed)
            return value, ends.low, ends.high

        gaps = cells[1, 1] - cells[0, 0]
        mean = float(gaps.mean())
        return cls(
            gap=around(mean, (gaps - mean).numpy()),
            text=contrast(((0, -1), (0, 1))),
            weights=contrast(((0, 0), (-1, 1))),
            interaction=contrast(((1, -1), (-1, 1))),
            topics=len(set(topics)),
        )

    def answer(self, probability: float, nats: float) -> Answer:
        """What the emoji takes, given the smallest effects: what it does not survive the loss of.

        Either is enough where the emoji survives the loss of each.
        """
        whole = judged(self.gap, probability)
        if whole != "more":
            return whole
        lost = judged(self.text, nats), judged(self.weights, nats)
        if "untold" in lost or self.topics < _FEWEST:
            return "untold"
        table: dict[tuple[bool, bool], Answer] = {
            (True, True): "both", (True, False): "text", (False, True): "weights",
            (False, False): "either",
        }  # fmt: skip
        return table[lost[0] == "more", lost[1] == "more"]
