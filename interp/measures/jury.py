"""A jury: several judges on the same answers, and how far they agree.

All answers, of every model, go to each judge as one list in an order of its own: no judge is told
which model wrote what, nor can it tell from the order. Before that, each judge is heard on
reference answers (`judge_auroc`); one whose AUROC is not above chance (its interval reaches 1/2 or
below) is left out, and its row says so. An answer's score is the mean of the judges' that are used;
where one of them gave none, it has none: the mean of the others would move by who is missing.

*Krippendorff's alpha* for interval data (Krippendorff 2004, chapter 11): 1 less observed over
expected squared disagreement, over answers that two or more judges scored. 1 is agreement, 0 what
scores dealt at random would give; below .667 even tentative conclusions are not usual.

Cost: every judge on every answer, and on the reference answers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour.generate import Response
from interp.measures.adjectives import Judgements, judge_answers
from interp.measures.classifier import Classifier
from interp.measures.judge_check import judge_auroc
from interp.measures.judges import HIGHEST, LOWEST, Judge, Verdict
from interp.text.data import OpinionQA


@dataclass(frozen=True, eq=False)
class ClassifierJudge:
    """A judge made of a classifier: 1 + 4 times its probability of the trait."""

    classifier: Classifier

    @property
    def name(self) -> str:
        return self.classifier.name

    def judge(
        self,
        answers: Sequence[tuple[str, str]],
        trait: Trait,
        *,
        progress: Progress | None = None,  # noqa: ARG002 (done at once)
    ) -> list[Verdict]:
        """One verdict for each (question, answer); the question is not read.

        Raises:
            InputError: if the classifier does not know the trait.
        """
        if str(trait) not in self.classifier.traits:
            raise InputError(f"{self.name}: knows {', '.join(self.classifier.traits)}, not {trait}")
        column = self.classifier.traits.index(str(trait))
        chances = self.classifier.log_probs([answer for _, answer in answers])[:, column].exp()
        return [
            Verdict(LOWEST + (HIGHEST - LOWEST) * min(1.0, float(chance))) if answer.strip()
            else Verdict(None, "empty answer")
            for chance, (_, answer) in zip(chances, answers, strict=True)
        ]  # fmt: skip


@dataclass(frozen=True)
class Jury(Result):
    """What several judges said of several models' answers.

    Attributes:
        trait: the target.
        judges: all that were heard.
        auroc: of each judge on reference answers, with its interval, `[judge estimate]` of value,
            low, high.
        scores: 1 to 5, `nan` where a judgement failed or the judge is left out, `[judge answer]`.
        models: whose each answer is; questions, topics: of each answer.
    """

    kind: ClassVar[str] = "jury"

    trait: str
    judges: tuple[str, ...]
    auroc: Float[Tensor, "judge estimate"]
    scores: Float[Tensor, "judge answer"]
    models: tuple[str, ...]
    questions: tuple[str, ...]
    topics: tuple[str, ...]
    level: float
    seed: int

    @property
    def used(self) -> tuple[str, ...]:
        """The judges above chance."""
        return tuple(n for n, low in zip(self.judges, self.auroc[:, 1], strict=True) if low > 0.5)

    @property
    def alpha(self) -> float | None:
        """Krippendorff's alpha of the judges that are used; `None` of one, or without spread."""
        return krippendorff_alpha(self.scores)

    def of(self, model: str) -> Judgements:
        """One model's answers, each with the mean of its scores, if all judges gave one.

        Raises:
            InputError: if no answers of this model were judged.
        """
        mine = [place for place, name in enumerate(self.models) if name == model]
        if not mine:
            raise InputError(f"no answers of {model!r} before this jury")
        used = [name in self.used for name in self.judges]
        means = self.scores[used][:, mine].mean(0)
        return Judgements(
            trait=self.trait,
            judge=f"jury of {', '.join(self.used)}",
            scores=means,
            problems=tuple("a judge gave no score" if bad else "" for bad in means.isnan()),
            questions=tuple(self.questions[place] for place in mine),
            topics=tuple(self.topics[place] for place in mine),
            level=self.level,
            seed=self.seed,
        )

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n`, `note`: each judge's AUROC, and alpha."""
        rows = [
            {"measure": f"judge's AUROC: {name}", "value": value, "low": low, "high": high,
             "n": int((~said.isnan()).sum()),
             "note": "" if name in self.used else "not above chance: left out"}
            for name, (value, low, high), said in zip(
                self.judges, self.auroc.tolist(), self.scores, strict=True)
        ]  # fmt: skip
        both = int(((~self.scores.isnan()).sum(0) > 1).sum())
        rows.append({"measure": "Krippendorff's alpha", "value": self.alpha, "low": None,
                     "high": None, "n": both, "note": f"{len(self.used)} judges"})  # fmt: skip
        return pd.DataFrame(rows)


def hear(
    answers: Mapping[str, Sequence[Response]],
    trait: Trait | str,
    judges: Sequence[Judge],
    reference: OpinionQA,
    *,
    limit: int = 100,
    level: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
) -> Jury:
    """Have the answers of several models judged by all judges that can hear the trait.

    Args:
        answers: by model.
        trait: the target.
        judges: two or more; with one there is no agreement to measure.
        reference: answers of several traits that judges are checked on.
        limit: reference answers of the trait, and as many of others.
        level: confidence level.
        seed: of the order in which each judge reads, and of the draw of reference answers.
        progress: called with `(label, done, total)`.

    Raises:
        InputError: if judges share a name, none is above chance, or all judgements of one failed.
    """
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise InputError(f"two judges of a jury have one name: {', '.join(names)}")
    wanted = Trait.parse(trait)
    checks = [
        judge_auroc(judge, reference, wanted, limit=limit, seed=seed, progress=progress)
        for judge in judges
    ]
    if not any(check.low > 0.5 for check in checks):  # of one topic there is no interval
        heard = ", ".join(f"{c.judge} {c.auroc:.2f} [{c.low:.2f}, {c.high:.2f}]" for c in checks)
        few = any(math.isnan(check.low) for check in checks)
        mend = "give reference answers about more topics" if few else "ask others"
        raise InputError(f"no judge tells {wanted} above chance (AUROC {heard}); {mend}")
    every = [(name, answer) for name, some in answers.items() for answer in some]
    scores = torch.full((len(judges), len(every)), float("nan"), dtype=torch.float64)
    for number, (judge, check) in enumerate(zip(judges, checks, strict=True)):
        if check.low > 0.5:
            order = np.random.default_rng((seed, number)).permutation(len(every))
            shuffled = [every[place][1] for place in order]
            made = judge_answers(shuffled, wanted, judge, progress=progress)
            scores[number, torch.from_numpy(order)] = made.scores
    return Jury(
        trait=str(wanted),
        judges=tuple(names),
        auroc=torch.tensor([[c.auroc, c.low, c.high] for c in checks], dtype=torch.float64),
        scores=scores,
        models=tuple(name for name, _ in every),
        questions=tuple(answer.question for _, answer in every),
        topics=tuple(answer.topic for _, answer in every),
        level=level,
        seed=seed,
    )


def krippendorff_alpha(scores: Float[Tensor, "judge unit"]) -> float | None:
    """Krippendorff's alpha for interval data; `nan` is a missing score.

    `None` where no two judges scored one unit, or the scores do not vary.
    """
    values = scores.double().numpy()
    values = values[:, (~np.isnan(values)).sum(0) > 1]  # one score pairs with none
    counts = (~np.isnan(values)).sum(0)
    known = values[~np.isnan(values)]
    if not len(known) or np.ptp(known) < 1e-12:
        return None
    # Sum over ordered pairs of (x - y)^2 is 2 m sum of squares about the mean, of m scores.
    within = (2 * counts * np.nansum((values - np.nanmean(values, 0)) ** 2, 0) / (counts - 1)).sum()
    expected = 2 * len(known) * ((known - known.mean()) ** 2).sum() / (len(known) - 1)
    return float(1 - within / expected)
