"""Which decision makes a difference: going on, or the outcome given that the writer goes on.

Between two runs log_odds = given_go_on - softplus(-go_on) changes by the sum of two parts, exactly:
what given_go_on changes by, and what -softplus(-go_on) does, which is log P(words, not stop) among
those two. A part is in nats of the log-odds, positive where it moves them up; the two can be
compared, as changes of go_on and of given_go_on themselves cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.base.stats import mean_ends
from interp.readout.outcome import OUTCOME, STOP, WORDS

PARTS = ("go_on", "given_go_on")
SMALLEST = 0.25
"""Log-odds that differ by less (nats, in the mean) are no difference to explain."""


def parts(
    go_on: Float[Tensor, "*lead"], given_go_on: Float[Tensor, "*lead"]
) -> Float[Tensor, "two *lead"]:
    """The two terms that log-odds are the sum of."""
    return torch.stack([-F.softplus(-go_on), given_go_on])


def factors(chances: Float[Tensor, "*lead three"]) -> Float[Tensor, "two *lead"]:
    """`go_on` and `given_go_on`, nats, of probabilities of words, stop and outcome."""
    logs = chances.double().clamp(min=1e-30).log()
    return torch.stack([logs[..., WORDS] - logs[..., STOP], logs[..., OUTCOME] - logs[..., WORDS]])


def probabilities(
    go_on: Float[Tensor, "*lead"], given_go_on: Float[Tensor, "*lead"]
) -> Float[Tensor, "two *lead"]:
    """P(go on) and P(outcome given go on)."""
    return torch.stack([torch.sigmoid(go_on + F.softplus(given_go_on)), given_go_on.sigmoid()])


@dataclass(frozen=True)
class Split:
    """A difference between two runs in its two parts.

    Attributes:
        change: what each of `PARTS` adds to the log-odds, nats, `[two batch]`.
        before, after: mean P(go on) and P(outcome given go on) of each run.
        topics: one per prompt, the units of intervals; None: each prompt is one.
    """

    change: Float[Tensor, "two batch"]
    before: tuple[float, float]
    after: tuple[float, float]
    topics: tuple[str, ...] | None
    seed: int = 0

    @classmethod
    def between(
        cls,
        before: Float[Tensor, "two *lead batch"],
        after: Float[Tensor, "two *lead batch"],
        topics: Sequence[str] | None,
        seed: int = 0,
    ) -> "Split":
        """From `go_on` and `given_go_on` of each run, a mean over what stands between is taken."""
        low, high = before.double(), after.double()
        change = parts(*high) - parts(*low)
        ends = [probabilities(*run).flatten(1).mean(1).tolist() for run in (low, high)]
        return cls(
            change.flatten(1, -2).mean(1) if change.ndim > 2 else change,
            (ends[0][0], ends[0][1]),
            (ends[1][0], ends[1][1]),
            None if topics is None else tuple(topics),
            seed,
        )

    @property
    def mean(self) -> tuple[float, float]:
        """Mean of each part."""
        one, other = self.change.mean(1).tolist()
        return one, other

    def ends(self, part: str) -> tuple[float, float]:
        """The 95 % interval of a part's mean, over topics; NaN where there is one topic only."""
        return self._ends(self.change[PARTS.index(part)])

    def _ends(self, values: Float[Tensor, " batch"]) -> tuple[float, float]:
        low, high = mean_ends(values[None], self.topics, seed=self.seed)
        return float(low[0]), float(high[0])

    @property
    def leading(self) -> str:
        """The part that does more to bring the difference about; of `PARTS`."""
        return PARTS[0] if float(self._ahead.mean()) >= 0 else PARTS[1]

    @property
    def carries(self) -> str:
        """The leading part, if the difference is worth a word and the other surely does less."""
        low, high = self._ends(self._ahead)
        settled = low > 0 or high < 0
        return self.leading if settled and not self.is_small else ""

    @property
    def is_small(self) -> bool:
        """Whether the log-odds differ by less than `SMALLEST`."""
        return abs(sum(self.mean)) < SMALLEST

    @property
    def _ahead(self) -> Float[Tensor, " batch"]:
        """By how much going on does more in the difference's direction, per prompt."""
        toward = 1.0 if sum(self.mean) >= 0 else -1.0
        return toward * (self.change[0] - self.change[1])
