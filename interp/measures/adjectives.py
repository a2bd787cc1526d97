"""PAE: a judge says how far an answer shows the trait, before and after an edit.

*PAE* (personality adjective evaluation; arXiv 2310.02168, and by that name arXiv 2409.10245): a
judge reads an answer and the adjectives of the target trait and scores from 1 (very inaccurate) to
5 (very accurate); PAE is the score after the edit minus the score before, mean over questions. In
PersonalityEdit the judge is GPT-4, pairs with an "incoherent" answer are left out, and a judge that
keeps answering nonsense ends the run. Here the judge is anything with the method of `Judge`, no
pair is left out, and a judgement that fails is counted: the mean is over the pairs judged on both
sides, and beside it stand the bounds that the mean over all pairs cannot leave, whatever the judge
would have said (each missing score at its best and at its worst).

A judge's scores are only as good as its ear: `judge_auroc` (`interp.measures.judge_check`) asks
whether it can tell reference answers of the trait from those of other traits at all.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.behaviour.generate import Response
from interp.behaviour.shares import Rows, frame
from interp.measures.alignment import check_same
from interp.measures.judges import HIGHEST, LOWEST, Judge


@dataclass(frozen=True)
class Judgements(Result):
    """A judge's verdicts on one model's answers.

    Attributes:
        trait, judge: the target, and who judged.
        scores: 1 to 5, `nan` where the judgement failed, `[answer]`.
        problems: why each failed; empty where it did not.
        questions, topics: of each answer.
    """

    kind: ClassVar[str] = "judgements"

    trait: str
    judge: str
    scores: Float[Tensor, " answer"]
    problems: tuple[str, ...]
    questions: tuple[str, ...]
    topics: tuple[str, ...]
    level: float
    seed: int

    @property
    def n_failed(self) -> int:
        """Judgements that failed."""
        return sum(bool(problem) for problem in self.problems)

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n`: mean score, its bounds, failures by kind."""
        bounds = [float(self.scores.nan_to_num(end).mean()) for end in (LOWEST, HIGHEST)]
        return _table(self, ("judge's score", "score"), self.scores, bounds, (LOWEST, HIGHEST))


def judge_answers(
    answers: Sequence[Response],
    trait: Trait | str,
    judge: Judge,
    *,
    level: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judgements:
    """Have one model's answers judged.

    Raises:
        InputError: if there are no answers, or every single judgement failed.
    """
    if not answers:
        raise InputError("no answers to judge")
    wanted = Trait.parse(trait)
    verdicts = judge.judge([(a.question, a.text) for a in answers], wanted, progress=progress)
    if len(verdicts) != len(answers):
        raise InputError(f"{judge.name}: {len(verdicts)} verdicts for {len(answers)} answers")
    problems = tuple(verdict.problem for verdict in verdicts)
    if all(problems):
        common, count = Counter(problems).most_common(1)[0]
        raise InputError(
            f"{judge.name}: all {len(answers)} judgements failed, {count} of them with: {common}"
        )
    scores = [float("nan") if v.score is None else v.score for v in verdicts]
    return Judgements(
        trait=str(wanted),
        judge=judge.name,
        scores=torch.tensor(scores, dtype=torch.float64),
        problems=problems,
        questions=tuple(answer.question for answer in answers),
        topics=tuple(answer.topic for answer in answers),
        level=level,
        seed=seed,
    )


@dataclass(frozen=True)
class AdjectiveEvaluation(Result):
    """PAE of an edit.

    Attributes:
        differences: score after minus score before, `nan` where one is missing, `[question]`.
        bounds: the smallest and largest value that each difference could have, `[question end]`.
        problems: of either side, empty where both were judged.
        topics, trait, judge: as in `Judgements`.
    """

    kind: ClassVar[str] = "adjective evaluation"

    trait: str
    judge: str
    differences: Float[Tensor, " question"]
    bounds: Float[Tensor, "question end"]
    problems: tuple[str, ...]
    topics: tuple[str, ...]
    level: float
    seed: int

    @property
    def n_failed(self) -> int:
        """Pairs of which at least one side could not be judged."""
        return sum(bool(problem) for problem in self.problems)

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n`: PAE, its bounds, failures by kind."""
        most, bounds = HIGHEST - LOWEST, self.bounds.mean(0).tolist()
        return _table(self, ("PAE", "PAE"), self.differences, bounds, (-most, most))


def adjective_evaluation(before: Judgements, after: Judgements) -> AdjectiveEvaluation:
    """PAE from the verdicts on the answers before and after an edit.

    Raises:
        InputError: if the two are of other questions, traits or judges.
    """
    check_same(before, after, "PAE", "judge")
    low, high = (after.scores.nan_to_num(end) for end in (LOWEST, HIGHEST))
    first_low, first_high = (before.scores.nan_to_num(end) for end in (LOWEST, HIGHEST))
    return AdjectiveEvaluation(
        trait=before.trait,
        judge=before.judge,
        differences=after.scores - before.scores,
        bounds=torch.stack([low - first_high, high - first_low], -1),
        problems=tuple(
            second or first for first, second in zip(before.problems, after.problems, strict=True)
        ),
        topics=before.topics,
        level=before.level,
        seed=before.seed,
    )


def _table(
    made: Judgements | AdjectiveEvaluation,
    names: tuple[str, str],
    values: Tensor,
    bounds: Sequence[float],
    ends: tuple[float, float],
) -> pd.DataFrame:
    """The mean of what is known, the bounds of the whole mean, failures in all and by kind."""
    known = [i for i, problem in enumerate(made.problems) if not problem]
    table, n = Rows(made.level, made.seed), len(made.problems)
    whole = Interval(bounds[0], bounds[1], made.level)
    topics = [made.topics[i] for i in known]
    rows = [
        table.within(names[0], [float(values[i]) for i in known], topics, ends),
        table.plain(f"{names[1]}, whatever the failures", None, n, whole),
        table.plain("failed", float(made.n_failed), n),
    ]
    for problem, count in Counter(filter(None, made.problems)).most_common(5):
        rows.append(table.plain(f"failed: {problem}", float(count), n))
    return frame(rows)
