"""The first emoji as an event in time: when does it come, if the answer lasts that long?

*Time* is the number of tokens (or sentences) up to and including the first emoji's first one. An
answer without an emoji is censored at its end. Two questions, two curves:

- *Kaplan-Meier* (1958): share still without an emoji by time t *if answers went on*, with log-log
  intervals (Kalbfleisch and Prentice; answers taken as independent). It takes the end of an answer
  as telling nothing about the emoji to come, which fails where the emoji stands at the end: read it
  together with the next.
- *Cumulative incidence* (Aalen and Johansen 1978): share of answers that *have* an emoji by time t,
  the end of the answer being a competing event and only the budget's cut censoring; it ends at the
  response ESR. Its band resamples topics.

Answers without a token (or sentence) are counted and left out. Cost: none to speak of.
`interp.measures.hazards` holds the cure model and the hazard ratios.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import Interval
from interp.behaviour.generate import Response
from interp.behaviour.onsets import onset_index
from interp.text.emoji import find
from interp.text.emoji.rates import sentences

Unit = Literal["token", "sentence"]


@dataclass(frozen=True)
class OnsetTimes(Result):
    """Time to the first emoji of each answer.

    Attributes:
        times: in units, at least 1, `[answer]`.
        events: whether the time is that of an emoji; else of the answer's end, `[answer]`.
        cut: whether the answer was cut by the budget; such an end is no event of any kind.
        topics: of each answer.
        unit: `token` or `sentence`.
        n_empty: answers left out because they have no token (or sentence).
    """

    kind: ClassVar[str] = "onset times"

    times: Int[Tensor, " answer"]
    events: Bool[Tensor, " answer"]
    cut: Bool[Tensor, " answer"]
    topics: tuple[str, ...]
    unit: str
    n_empty: int

    @property
    def n_events(self) -> int:
        """Answers with an emoji."""
        return int(self.events.sum())

    def to_dataframe(self) -> pd.DataFrame:
        """One row per answer: `time`, `event`, `cut`, `topic`."""
        return pd.DataFrame(
            {
                "time": self.times.tolist(),
                "event": self.events.tolist(),
                "cut": self.cut.tolist(),
                "topic": list(self.topics),
            }
        )


def onset_times(answers: Sequence[Response], tokenizer: Any, *, unit: Unit = "token") -> OnsetTimes:
    """When each answer's first emoji comes.

    Args:
        answers: of one model.
        tokenizer: of the answers.
        unit: `token`, or `sentence` as `interp.emoji.rates` splits them.

    Raises:
        InputError: for another unit, or if no answer has a token (or sentence).
    """
    if unit not in get_args(Unit):
        raise InputError(f"unknown unit {unit!r}; time is in token or sentence")
    rows = []
    for answer in answers:
        if unit == "token":
            onset, length = onset_index(tokenizer, answer.ids), len(answer.ids)
        else:
            holds = [bool(find(piece)) for piece in sentences(answer.text)]
            onset, length = (holds.index(True) if True in holds else None), len(holds)
        if length:
            time = length if onset is None else onset + 1
            rows.append((time, onset is not None, onset is None and not answer.ended, answer.topic))
    if not rows:
        raise InputError(
            f"none of {len(answers)} answers has a {unit}; there is no time to measure"
        )
    times, events, cut, topics = zip(*rows, strict=True)
    return OnsetTimes(
        times=torch.tensor(times),
        events=torch.tensor(events),
        cut=torch.tensor(cut),
        topics=tuple(topics),
        unit=unit,
        n_empty=len(answers) - len(rows),
    )


@dataclass(frozen=True)
class OnsetSurvival(Result):
    """Kaplan-Meier and cumulative incidence of the first emoji; see the module's docstring.

    All curves are at the same times `0, 1, ..., last` and hold until the next.

    Attributes:
        times: `[time]`.
        survival, low, high: Kaplan-Meier's share without an emoji, and its log-log interval.
        incidence, incidence_low, incidence_high: share with an emoji, and its band over topics.
        at_risk: answers that have neither had an emoji nor ended before each time.
        events: emojis at each time.
        n, n_events, n_cut, n_empty: answers, answers with an emoji, without one and cut, left out.
        unit, level: as given.
    """

    kind: ClassVar[str] = "onset survival"

    times: Int[Tensor, " time"]
    survival: Float[Tensor, " time"]
    low: Float[Tensor, " time"]
    high: Float[Tensor, " time"]
    incidence: Float[Tensor, " time"]
    incidence_low: Float[Tensor, " time"]
    incidence_high: Float[Tensor, " time"]
    at_risk: Int[Tensor, " time"]
    events: Int[Tensor, " time"]
    n: int
    n_events: int
    n_cut: int
    n_empty: int
    unit: str
    level: float

    @property
    def median(self) -> int | None:
        """First time at which half or fewer are left without an emoji; `None` if never."""
        there = (self.survival <= 0.5).tolist()
        return int(self.times[there.index(True)]) if True in there else None

    def to_dataframe(self) -> pd.DataFrame:
        """One row per time, the curves and their intervals as columns."""
        names = ("times", "at_risk", "events", "survival", "low", "high")
        more = ("incidence", "incidence_low", "incidence_high")
        return pd.DataFrame({name: getattr(self, name).tolist() for name in (*names, *more)})


def onset_survival(
    times: OnsetTimes, *, level: float = 0.95, n_resamples: int = 500, seed: int = 0
) -> OnsetSurvival:
    """Kaplan-Meier and cumulative incidence of the first emoji.

    No emoji at all is no error: survival stays 1 and `n_events` is 0.

    Raises:
        InputError: if there are fewer than two topics, or the level is not in (0, 1).
    """
    Interval(0.0, 1.0, level)  # refuses a level that is none
    if len(set(times.topics)) < 2:
        raise InputError("onset times of one topic; the band over topics needs two or more")
    from lifelines import KaplanMeierFitter

    when, event = times.times.numpy(), times.events.numpy()
    last = int(when.max())
    grid = np.arange(last + 1)
    fitted = KaplanMeierFitter(alpha=1 - level).fit(when, event, timeline=grid)
    band = fitted.confidence_interval_.to_numpy()
    # Rows of counts per topic, so that a resample of topics is a weighted sum.
    names = {topic: place for place, topic in enumerate(dict.fromkeys(times.topics))}
    unit = np.array([names[topic] for topic in times.topics])
    shape = (len(names), last + 1)
    emoji, ended, gone = (np.zeros(shape) for _ in range(3))
    np.add.at(emoji, (unit[event], when[event]), 1)
    stopped = ~event & ~times.cut.numpy()
    np.add.at(ended, (unit[stopped], when[stopped]), 1)
    np.add.at(gone, (unit, when), 1)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    weights = np.concatenate([np.ones((1, len(names))), drawn])
    curves = _incidence(weights @ emoji, weights @ ended, weights @ gone)
    low, high = np.quantile(curves[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return OnsetSurvival(
        times=torch.from_numpy(grid),
        survival=torch.from_numpy(fitted.survival_function_.to_numpy()[:, 0].copy()),
        low=torch.from_numpy(band[:, 0].copy()),
        high=torch.from_numpy(band[:, 1].copy()),
        incidence=torch.from_numpy(curves[0]),
        incidence_low=torch.from_numpy(low),
        incidence_high=torch.from_numpy(high),
        at_risk=torch.from_numpy(_at_risk(gone.sum(0)).astype(np.int64)),
        events=torch.from_numpy(emoji.sum(0).astype(np.int64)),
        n=len(when),
        n_events=times.n_events,
        n_cut=int(times.cut.sum()),
        n_empty=times.n_empty,
        unit=times.unit,
        level=level,
    )


def _at_risk(gone: NDArray[Any]) -> NDArray[Any]:
    """How many are left just before each time, from how many leave at each (last axis)."""
    left: NDArray[Any] = gone[..., ::-1].cumsum(-1)[..., ::-1]
    return left


def _incidence(emoji: NDArray[Any], ended: NDArray[Any], gone: NDArray[Any]) -> NDArray[Any]:
    """Aalen and Johansen's cumulative incidence of the emoji, `[resample, time]`."""
    risk = np.maximum(_at_risk(gone), 1e-300)
    free = np.cumprod(1 - (emoji + ended) / risk, axis=-1)
    before = np.concatenate([np.ones((len(free), 1)), free[:, :-1]], axis=1)
    made: NDArray[Any] = np.cumsum(before * emoji / risk, axis=-1)
    return made
