"""TA and TPEI: do the answers voice the trait, and how far did an edit move them?

*TA* (trait alignment; arXiv 2409.10245, which is PersonalityEdit's Acc, arXiv 2310.02168): the
share of answers that a classifier gives to the target trait.

*TPEI* (target personality edit index, arXiv 2310.02168): the classifier's cross-entropy for the
target trait on the answer before the edit minus that on the answer after,
`log p(trait | after) - log p(trait | before)`, in nats, mean over questions; above zero means moved
towards the trait. PersonalityEdit's code leaves out pairs in which an answer's n-gram entropy is
below 3.5 bits ("incoherent"). Here every pair counts, and the value that this rule would have given
stands beside it, with the number of pairs it leaves out.

Emojis may carry the classifier instead of words: TA is given for the answers as they are and with
their emojis taken out. An answer without a word is aligned with nothing and counts as a miss; in
TPEI it has what the classifier gives an empty text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import Interval, share_interval
from interp.base.traits import Trait
from interp.behaviour.generate import Response
from interp.behaviour.shares import Rows, frame
from interp.measures.classifier import Classifier, Holdout
from interp.measures.fluency import ngram_entropy
from interp.text.data.checks import without_emojis

COHERENT = 3.5
"""N-gram entropy (bits) below which PersonalityEdit's code leaves a pair out of TPEI and PAE."""


@dataclass(frozen=True)
class TraitAlignment(Result):
    """What a classifier says of one model's answers.

    Attributes:
        trait: the target.
        classifier: its name; `traits` what it chooses from.
        log_probs: of each trait for each answer as it is, `[answer trait]`, nats.
        bare_log_probs: the same with emojis taken out.
        worded: whether the answer holds a letter or digit, and without emojis.
        questions, topics, entropies: of each answer; the entropy is `ngram_entropy`'s.
        holdout: the classifier's accuracy on held-out answers.
    """

    kind: ClassVar[str] = "trait alignment"

    trait: str
    classifier: str
    traits: tuple[str, ...]
    log_probs: Float[Tensor, "answer trait"]
    bare_log_probs: Float[Tensor, "answer trait"]
    worded: tuple[bool, ...]
    questions: tuple[str, ...]
    topics: tuple[str, ...]
    entropies: tuple[float, ...]
    holdout: Holdout
    level: float
    seed: int

    @property
    def hits(self) -> list[bool]:
        """Whether each answer was given to the target trait."""
        return self._hits(self.log_probs)

    @property
    def bare_hits(self) -> list[bool]:
        """The same with emojis taken out."""
        return self._hits(self.bare_log_probs)

    @property
    def share(self) -> float:
        """TA: the share of answers given to the target trait."""
        return sum(self.hits) / len(self.hits)

    @property
    def interval(self) -> Interval:
        """Interval of `share` over topics."""
        return share_interval(self.hits, self.topics, level=self.level)

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n`: TA, TA without emojis, the classifier's accuracy.

        The last two rows are the classifier's accuracy on held-out answers of the trait, and the
        share of other traits' held-out answers that it gives to the trait.
        """
        table = Rows(self.level, self.seed)
        rows = [
            table.rate("TA", self.hits, self.topics),
            table.rate("TA without emojis", self.bare_hits, self.topics),
        ]
        known = {row[0]: row[1:] for row in self.holdout}
        if self.trait in known:
            n, accuracy, low, high, alarms = known[self.trait]
            interval = None if low is None or high is None else Interval(low, high, 0.95)
            others = known["all"][0] - n
            rows.append(table.plain("classifier's accuracy", accuracy, n, interval))
            rows.append(table.plain("classifier's false alarms", alarms, others))
        return frame(rows)

    def _hits(self, log_probs: Tensor) -> list[bool]:
        target = self.traits.index(self.trait)
        best = log_probs.argmax(-1)
        return [bool(b == target) and w for b, w in zip(best, self.worded, strict=True)]


def trait_alignment(
    answers: Sequence[Response],
    trait: Trait | str,
    classifier: Classifier,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> TraitAlignment:
    """Classify one model's answers.

    Args:
        answers: of one model.
        trait: the target.
        classifier: a `TraitClassifier` or `HubClassifier`.
        level: confidence level.
        seed: of the intervals' bootstrap over topics.

    Raises:
        InputError: if there are no answers, fewer than two topics, or the classifier does not know
            the trait.
    """
    wanted = Trait.parse(trait)
    if not answers:
        raise InputError("no answers to classify")
    if wanted not in classifier.traits:
        raise InputError(
            f"{classifier.name}: does not know {wanted}, only {', '.join(classifier.traits)}; use "
            "a classifier that was trained on it"
        )
    texts = [answer.text for answer in answers]
    bare = [without_emojis(text)[0] for text in texts]
    made = TraitAlignment(
        trait=str(wanted),
        classifier=classifier.name,
        traits=tuple(str(name) for name in classifier.traits),
        log_probs=classifier.log_probs(texts),
        bare_log_probs=classifier.log_probs(bare),
        worded=tuple(re.search(r"\w", text) is not None for text in bare),
        questions=tuple(answer.question for answer in answers),
        topics=tuple(answer.topic for answer in answers),
        entropies=tuple(ngram_entropy(text) for text in texts),
        holdout=classifier.holdout,
        level=level,
        seed=seed,
    )
    share_interval(made.hits, made.topics)  # one topic is an error now, not in a table
    return made


@dataclass(frozen=True)
class EditIndex(Result):
    """TPEI of an edit.

    Attributes:
        values: `log p(trait | after) - log p(trait | before)`, nats, one per question.
        bare_values: the same with emojis taken out of both answers.
        coherent: whether PersonalityEdit's code would have kept the pair.
        topics: of each question.
        trait, classifier, holdout: as in `TraitAlignment`.
    """

    kind: ClassVar[str] = "edit index"

    trait: str
    classifier: str
    values: Float[Tensor, " question"]
    bare_values: Float[Tensor, " question"]
    coherent: tuple[bool, ...]
    topics: tuple[str, ...]
    holdout: Holdout
    level: float
    seed: int

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n`: TPEI of all pairs, without emojis, coherent."""
        table = Rows(self.level, self.seed)
        values, kept = self.values.tolist(), [i for i, keep in enumerate(self.coherent) if keep]
        topics = [self.topics[i] for i in kept]
        rows = [
            table.mean("TPEI", values, self.topics),
            table.mean("TPEI without emojis", self.bare_values.tolist(), self.topics),
            table.mean("TPEI, coherent pairs only", [values[i] for i in kept], topics),
        ]
        return frame(rows)


def edit_index(before: TraitAlignment, after: TraitAlignment) -> EditIndex:
    """TPEI from the classifier's readings of the answers before and after an edit.

    Raises:
        InputError: if the two are of other questions, traits or classifiers.
    """
    check_same(before, after, "TPEI", "classifier")
    target = before.traits.index(before.trait)
    return EditIndex(
        trait=before.trait,
        classifier=before.classifier,
        values=(after.log_probs - before.log_probs)[:, target],
        bare_values=(after.bare_log_probs - before.bare_log_probs)[:, target],
        coherent=tuple(
            min(pair) >= COHERENT for pair in zip(before.entropies, after.entropies, strict=True)
        ),
        topics=before.topics,
        holdout=before.holdout,
        level=before.level,
        seed=before.seed,
    )


def check_same(before: Any, after: Any, measure: str, reader: str) -> None:
    """Refuse answers to other questions, or read for another trait or by another `reader`."""
    if any(
        getattr(before, name) != getattr(after, name) for name in ("trait", reader, "questions")
    ):
        of = [
            f"{one.trait} by {getattr(one, reader)} ({len(one.questions)})"
            for one in (before, after)
        ]
        raise InputError(
            f"{measure} compares answers to the same questions, read by the same {reader} for the "
            f"same trait; these are {of[0]} and {of[1]}"
        )
