"""Can a judge hear the trait at all? Its AUROC on reference answers."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.stats import jackknife_ends, without_each
from interp.base.traits import Trait
from interp.measures.judges import Judge
from interp.text.data import OpinionQA
from interp.text.data.schema import topic_key


@dataclass(frozen=True)
class JudgeCheck(Result):
    """Whether a judge tells reference answers of a trait from those of other traits.

    Attributes:
        auroc: chance that an answer of the trait is scored above one of another trait (ties half);
            0.5 is a judge who cannot hear it.
        low, high: interval, topics resampled.
        n_own, n_other, n_failed: numbers of answers.
    """

    kind: ClassVar[str] = "judge check"

    trait: str
    judge: str
    auroc: float
    low: float
    high: float
    n_own: int
    n_other: int
    n_failed: int

    def to_dataframe(self) -> pd.DataFrame:
        names = [name for name in self.__dataclass_fields__ if name != "kind"]
        return pd.DataFrame([{name: getattr(self, name) for name in names}])


def judge_auroc(
    judge: Judge,
    data: OpinionQA,
    trait: Trait | str,
    *,
    limit: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> JudgeCheck:
    """Have reference answers judged, and see whether the trait's own score higher.

    Args:
        judge: who.
        data: reference answers of several traits.
        trait: the target.
        limit: how many answers of the trait, and as many of others, are drawn.
        seed: of the draw.
        progress: called with `(label, done, total)`.

    Raises:
        InputError: if there are no answers of the trait, or of others, that could be judged.
    """
    wanted = Trait.parse(trait)
    rng = np.random.default_rng(seed)
    own = [row for row in data.rows if row.trait == wanted]
    other = [row for row in data.rows if row.trait != wanted]
    drawn = [rows[i] for rows in (own, other) for i in rng.permutation(len(rows))[:limit]]
    verdicts = judge.judge([(row.question, row.answer) for row in drawn], wanted, progress=progress)
    kept = [(v.score, row) for v, row in zip(verdicts, drawn, strict=True) if v.score is not None]
    scores = np.array([score for score, _ in kept])
    mine = np.array([row.trait == wanted for _, row in kept], dtype=bool)
    if not mine.any() or mine.all():
        raise InputError(
            f"{judge.name}: judged {int(mine.sum())} answers of {wanted} and {int((~mine).sum())} "
            "of other traits; an AUROC needs both"
        )
    names = [topic_key(row.topic) for _, row in kept]
    found = []
    for weights in without_each(names):
        rows = weights > 0
        both = 0 < mine[rows].sum() < rows.sum()
        found.append(_auroc(scores[rows], mine[rows]) if both else np.nan)
    pairs = min(len(set(np.array(names)[mine == side])) for side in (True, False))
    low, high = jackknife_ends(found, units=pairs)
    return JudgeCheck(
        trait=str(wanted),
        judge=judge.name,
        auroc=found[0],
        low=low,
        high=high,
        n_own=int(mine.sum()),
        n_other=int((~mine).sum()),
        n_failed=len(drawn) - len(kept),
    )


def _auroc(scores: Any, positive: Any) -> float:
    """Mann and Whitney's U over the number of pairs."""
    ranks, n = rankdata(scores), int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))
