"""How strongly to steer: a bounded search with few evaluations.

The loss of a strength is, by `objective`:

- `voice` (default): the steered model answers validation questions (emojis are taken out of the
  answers, so the search cannot choose them); loss = cross-entropy of a text classifier (TF-IDF and
  logistic regression, fitted on the fitting answers) that should say "in the trait's voice", plus
  how much less likely the answers are under the unsteered base than real answers in the trait's
  voice. Both in nats; the second keeps the search from gibberish.
- `likelihood`: negative log-likelihood of the trait's validation answers under the steered model,
  forced, in nats per token. Cheaper and smoother, but it stops short: it rates the words of an
  answer given all words before, and never sees whether the model would begin such an answer.

Brent's bounded search (scipy) looks for the minimum; strength 0 is evaluated too, and the best of
all that was evaluated is taken. Where nothing beats 0 the strength is 0: steering does not help.

PAS picks the best of {0, 1, 2, 4, 6, 8} by questionnaire answers; the authors of persona vectors
choose by a judge's scores. Cost per evaluation: `questions` short answers, or one pass over the
validation answers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from interp.base.errors import InputError
from interp.behaviour.generate import Sampling, generate
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.editing.opposed import Answers, OpposedAnswers, answer_nll
from interp.methods.editing.steering import Steering
from interp.text.emoji import find

Objective = Callable[[Steering], float]
OBJECTIVES = ("voice", "likelihood")
_BATCH, _HIGH = 32, 1e9
Trace = tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Search:
    """How the strength is searched for.

    Attributes:
        objective: `voice`, `likelihood`, or any function from a steering to a loss.
        evaluations: per layer or method, strength 0 not counted.
        questions: validation questions that `voice` asks.
        max_new_tokens: of the answers to them.
        seed: of the answers to them.
    """

    objective: str | Objective = "voice"
    evaluations: int = 8
    questions: int = 32
    max_new_tokens: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if self.evaluations < 1 or self.questions < 1:
            raise InputError("a search needs one evaluation and one question, or more")
        if not callable(self.objective) and self.objective not in OBJECTIVES:
            raise InputError(f"unknown objective {self.objective!r}; use voice or likelihood")

    def loss(self, base: HookedBase, answers: OpposedAnswers) -> Objective:
        """The objective for one base and its answers."""
        if callable(self.objective):
            return self.objective
        if self.objective == "likelihood":
            return _likelihood(base, answers.validation)
        return _voice(base, answers, self)


SEARCH = Search()


def _likelihood(base: HookedBase, answers: Answers) -> Objective:
    wanted = answers.only(True)

    def loss(steering: Steering) -> float:
        found = []
        for part in wanted.parts(_BATCH):
            with steering.active(base.model, part.answer):
                found.append(answer_nll(base, part, batch_size=_BATCH))
        return float(torch.cat(found).mean())

    return loss


def _voice(base: HookedBase, answers: OpposedAnswers, search: Search) -> Objective:
    classifier = _classifier(answers.fitting)
    real = answers.validation.only(True)
    asked = real.rows[:: max(1, len(real) // search.questions)][: search.questions]
    usual = float(answer_nll(base, real).mean())
    sampling = Sampling(max_new_tokens=search.max_new_tokens, seed=search.seed)

    def loss(steering: Steering) -> float:
        with steering.active(base.model):
            made = generate(
                base.model, base.format, [(row.question, row.topic) for row in asked], sampling
            )
        texts = [_bare(response.text) for response in made]
        with threadpool_limits(limits=1, user_api="blas"):
            voice = -classifier.predict_log_proba(texts)[:, 1].mean()
        written = [
            replace(row, answer=text) for row, text in zip(asked, texts, strict=True) if text
        ]
        if not written:
            return float("inf")
        under = answer_nll(base, Answers.encode(base, written, [True] * len(written)))
        return float(voice) + max(0.0, float(under.mean()) - usual)

    return loss


def _classifier(answers: Answers) -> Any:
    model = make_pipeline(
        TfidfVectorizer(), LogisticRegression(max_iter=1000, class_weight="balanced")
    )
    with threadpool_limits(limits=1, user_api="blas"):
        return model.fit([row.answer for row in answers.rows], answers.positive.numpy())


def _bare(text: str) -> str:
    """A text without its emojis."""
    for match in reversed(find(text)):
        text = text[: match.start] + text[match.end :]
    return text.strip()


def find_strength(
    steering: Steering,
    objective: Objective,
    *,
    largest: float,
    evaluations: int,
    layer: int = -1,
) -> tuple[Steering, float, Trace]:
    """The strength in `[0, largest]` at which the objective is lowest.

    Args:
        steering: its own strength is disregarded.
        objective: maps a steering to a loss.
        largest: upper bound.
        evaluations: how many to spend, strength 0 not counted.
        layer: named in the trace.

    Returns:
        the steering at the best strength, its loss, and `(layer, strength, loss)` of each.

    Raises:
        InputError: if the bound is not positive, or no loss is a finite number.
    """
    if largest <= 0:
        raise InputError(f"the search needs a largest strength above 0, got {largest}")
    best, lowest, tried = bounded(
        lambda strength: objective(steering.at(strength)),
        (0.0, largest),
        evaluations,
        0.01 * largest,
    )
    if not np.isfinite(lowest):
        raise InputError("the objective is not finite at any strength; check it")
    return steering.at(best), lowest, tuple((layer, place, loss) for place, loss in tried)


def bounded(
    loss: Callable[[float], float],
    bounds: tuple[float, float],
    evaluations: int,
    precision: float,
) -> tuple[float, float, tuple[tuple[float, float], ...]]:
    """Brent's bounded search for the place of lowest loss; 0 is tried first, and wins ties.

    Args:
        loss: of a place; one that is not finite counts as very high.
        bounds: where to look.
        evaluations: how many to spend, the one at 0 not counted.
        precision: of the place, at which the search stops.

    Returns:
        the best place tried, its loss (infinite if none was finite), and `(place, loss)` of each.
    """
    tried: list[tuple[float, float]] = []

    def counted(place: float) -> float:
        value = loss(float(place))
        tried.append((float(place), value if np.isfinite(value) else _HIGH))
        return tried[-1][1]

    counted(0.0)
    options = {"maxiter": evaluations, "xatol": precision}
    minimize_scalar(counted, bounds=bounds, method="bounded", options=options)
    best, lowest = min(tried, key=lambda one: one[1])
    return best, lowest if lowest < _HIGH else float("inf"), tuple(tried)
