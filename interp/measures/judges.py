"""Judges: who says how far an answer shows a trait.

Anything with the method of `Judge` will do. Here is `LocalJudge`, a causal model that is asked for
adjectives and needs no network; `interp.measures.endpoint_judge` asks a chat endpoint. A judge
never raises for a single answer: what it cannot judge becomes a verdict with a problem, so that it
can be counted. What is made of the verdicts is in `interp.measures.adjectives`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange

from interp.base import labels
from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.behaviour.scoring import Choice, choice_log_probs
from interp.models.tokens import ChatFormat, pad_id

LOWEST, HIGHEST = 1.0, 5.0
_NEUTRAL = "No opinion."


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one answer: a score from 1 to 5, or why there is none."""

    score: float | None
    problem: str = ""

    def __post_init__(self) -> None:
        if (self.score is None) == (not self.problem):
            raise InputError("a verdict has either a score or a problem")
        if self.score is not None and not LOWEST <= self.score <= HIGHEST:
            raise InputError(f"a judge's score lies in 1..5, got {self.score}")


@runtime_checkable
class Judge(Protocol):
    """Scores how far each answer shows a trait."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def judge(
        self,
        answers: Sequence[tuple[str, str]],
        trait: Trait,
        *,
        progress: Progress | None = None,
    ) -> list[Verdict]:
        """One verdict for each (question, answer), in order; never raises for a single one."""


@dataclass(frozen=True, eq=False)
class LocalJudge:
    """A causal model that is asked for an adjective of whoever gave the answer.

    For each of the trait's (high, low) adjective pairs, both are scored as the model's answer to
    "how would you describe the person?", less their scores after a neutral answer: what the
    adjectives are worth by themselves cancels (Holtzman et al. 2021, arXiv 2104.08315). The score
    is 1 + 4 times the mean over pairs of P(high | high or low). An empty answer is a failure.

    Cost: one short forward pass per answer and adjective (14 adjectives).

    Attributes:
        model: a hooked model or a Hugging Face causal model.
        form: how questions become its ids.
        name: what it is called in tables.
        batch_size: forward passes at a time.
    """

    model: Any
    form: ChatFormat
    name: str = "local model"
    batch_size: int = 32

    def judge(
        self,
        answers: Sequence[tuple[str, str]],
        trait: Trait,
        *,
        progress: Progress | None = None,
    ) -> list[Verdict]:
        """One verdict for each (question, answer)."""
        asked = [i for i, (_, answer) in enumerate(answers) if answer.strip()]
        pairs = labels.of(trait).markers
        texts = [answers[i] for i in asked]
        baseline = [(question, _NEUTRAL) for question in dict.fromkeys(q for q, _ in texts)]
        choices = [self._choice(q, a, pairs) for q, a in [*texts, *baseline]]
        scores = choice_log_probs(
            self.model, choices, pad_id(self.form.tokenizer),
            batch_size=self.batch_size, progress=progress, label=f"judging {trait}",
        )  # fmt: skip
        neutral = {q: s for (q, _), s in zip(baseline, scores[len(texts) :], strict=True)}
        verdicts = [Verdict(None, "empty answer")] * len(answers)
        for index, (question, _), score in zip(asked, texts, scores[: len(texts)], strict=True):
            gain = (score - neutral[question]).double()
            up, down = rearrange(gain, "(pair pole) -> pole pair", pole=2)
            high = torch.sigmoid(up - down).mean()
            verdicts[index] = Verdict(LOWEST + (HIGHEST - LOWEST) * float(high))
        return verdicts

    def _choice(self, question: str, answer: str, pairs: Sequence[tuple[str, str]]) -> Choice:
        """The adjectives, high and low in turn, as answers to one request."""
        request = (
            f"Someone was asked: {question}\nThe person said: {answer}\n"
            "Describe this person's character in one word."
        )
        options = []
        for adjective in (word for pair in pairs for word in pair):
            made = self.form.example(request, adjective)
            prompt = made.ids[: made.answer_start]
            options.append(made.ids[made.answer_start : made.answer_end])
        return Choice(prompt, tuple(options))
