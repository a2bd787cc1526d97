"""What steering is fitted on: answers in a trait's voice against answers that are not.

Positive examples are the training split's answers for the trait. Negative ones are, by `against`:

- `base`: the base's own answers to the same questions (a trait's voice against no voice);
- `others`: the answers of all other traits in the data (this trait's voice against other voices);
- a label: the answers of that one, say of the trait's low pole (`introversion`).

Topics are split into a fitting and a validation part, so that what is chosen on validation answers
never saw their topics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import DataError
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.behaviour.generate import Sampling, generate
from interp.methods.editing.hooked_base import HookedBase
from interp.models import TokenBatch, pad
from interp.readout import Question
from interp.text.data import OpinionQA, split_by_topic
from interp.text.data.schema import OpinionRow
from interp.traces.probing.features import pooled

AGAINST = ("base", "others")


@dataclass(frozen=True, eq=False)
class Answers:
    """Answered questions as ids.

    Attributes:
        rows: the questions and answers as text.
        batch: prompt and answer, left-padded.
        answer: true on the answer's tokens, `[batch, pos]`.
        positive: whether the answer is in the trait's voice, `[batch]`.
    """

    rows: tuple[OpinionRow, ...]
    batch: TokenBatch
    answer: Bool[Tensor, "batch pos"]
    positive: Bool[Tensor, " batch"]

    @classmethod
    def encode(
        cls, base: HookedBase, rows: Sequence[OpinionRow], positive: Sequence[bool]
    ) -> "Answers":
        """Rows as ids, each up to the end of its answer."""
        made = [base.format.example(row.question, row.answer) for row in rows]
        batch = pad([example.ids[: example.answer_end] for example in made], base.pad_id)
        width = batch.tokens.shape[1]
        starts = torch.tensor([width - one.answer_end + one.answer_start for one in made])
        answer = torch.arange(width) >= starts[:, None]
        return cls(tuple(rows), batch, answer, torch.tensor(list(positive)))

    def __len__(self) -> int:
        return len(self.batch)

    def only(self, positive: bool) -> "Answers":
        """The positive or the negative ones."""
        return self._at((self.positive == positive).nonzero().flatten().tolist())

    def parts(self, size: int) -> Iterator["Answers"]:
        """The answers, `size` at a time, all padded alike."""
        for start in range(0, len(self), size):
            yield self._at(list(range(start, min(start + size, len(self)))))

    def _at(self, index: list[int]) -> "Answers":
        rows = tuple(self.rows[one] for one in index)
        return Answers(rows, self.batch[index], self.answer[index], self.positive[index])

    def features(
        self,
        base: HookedBase,
        site: str,
        layers: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> Float[Tensor, "layer batch width"]:
        """Mean activation over each answer's tokens, float32 on the CPU."""
        return pooled(
            base.model,
            self.batch.tokens,
            self.batch.attention_mask,
            where=self.answer,
            site=site,
            layers=range(int(base.model.cfg.n_layers)) if layers is None else layers,
            ask=Question(progress=progress),
        ).values


@dataclass(frozen=True, eq=False)
class OpposedAnswers:
    """Positive and negative answers, apart by topic into fitting and validation.

    Attributes:
        fitting, validation: the answers; no topic is in both.
        trait: of the positive ones.
        against: what the negative ones are.
        topics: all topics, those of validation included.
    """

    fitting: Answers
    validation: Answers
    trait: Trait
    against: str
    topics: tuple[str, ...]


def opposed_answers(
    base: HookedBase,
    trait: Trait,
    data: OpinionQA,
    *,
    against: str = "base",
    limit: int = 240,
    validation_share: float = 0.4,
    seed: int,
    progress: Progress | None = None,
) -> OpposedAnswers:
    """Collect positive and negative answers.

    Args:
        base: the base; with `against="base"` it answers the positive rows' questions.
        trait: of the positive answers.
        data: the training split, of this trait or of all.
        against: see the module.
        limit: most positive answers, and most negative ones, drawn evenly at random.
        validation_share: share of the topics kept for validation; 0.4 as in PAS.
        seed: of the draws, the split and the base's answers.
        progress: called with (label, done, total).

    Raises:
        DataError: if the data lack the trait, or have no other trait to set it against, or have
            one topic only.
    """
    positive = data.for_trait(trait)
    if not positive.rows:
        raise DataError(
            f"{data.source}: has no answers for {trait}; it has "
            f"{', '.join(data.traits) or 'no rows'}"
        )
    rng = np.random.default_rng(seed)
    positive = _drawn(positive, limit, rng)
    if against == "others":
        negative = _drawn(data.only(r for r in data.rows if r.trait != trait), limit, rng)
        if not negative.rows:
            raise DataError(
                f"{data.source}: holds {trait} only; give the rows of other traits too, or "
                "set it against the base's own answers (against='base')"
            )
    elif against == "base":
        negative = _own_answers(base, positive, seed, progress)
    else:
        negative = _drawn(
            data.only(r for r in data.rows if r.trait == against != trait), limit, rng
        )
        if not negative.rows:
            raise DataError(
                f"{data.source}: no answers of another label {str(against)!r} to set {trait} "
                f"against; it has {', '.join(data.traits)}, or use {' or '.join(AGAINST)}"
            )
    both = data.only([*positive.rows, *negative.rows])
    fitting, validation = split_by_topic(both, test_share=validation_share, seed=seed)
    marked = {id(row) for row in positive.rows}
    parts = [
        Answers.encode(base, part.rows, [id(row) in marked for row in part.rows])
        for part in (fitting, validation)
    ]
    if any(len(part.only(sign)) == 0 for part in parts for sign in (True, False)):
        raise DataError(
            f"{data.source}: too few topics: after the split, one side has no positive or no "
            "negative answers; give more rows"
        )
    return OpposedAnswers(parts[0], parts[1], trait, against, both.topics)


def _drawn(data: OpinionQA, limit: int, rng: np.random.Generator) -> OpinionQA:
    if len(data) <= limit:
        return data
    kept = sorted(rng.permutation(len(data))[:limit].tolist())
    return data.only(data.rows[index] for index in kept)


def _own_answers(
    base: HookedBase, asked: OpinionQA, seed: int, progress: Progress | None
) -> OpinionQA:
    """The base's answers to the same questions, as rows (their trait says nothing)."""
    questions = [(row.question, row.topic) for row in asked.rows]
    made = generate(
        base.model, base.format, questions, Sampling(seed=seed), progress=progress, label="base"
    )
    texts = [response.text.strip() for response in made]
    kept = [replace(row, answer=text) for row, text in zip(asked.rows, texts, strict=True) if text]
    if not kept:
        raise DataError(
            "the base's own answers are all empty; set the trait against other traits' answers "
            "(against='others')"
        )
    return asked.only(kept)


@torch.no_grad()
def answer_nll(base: HookedBase, answers: Answers, batch_size: int = 32) -> Float[Tensor, " batch"]:
    """Mean negative log-likelihood of each answer's tokens, in nats per token."""
    parts = []
    for part in answers.parts(batch_size):
        batch = part.batch.to(base.device)
        logits = base.model(batch.tokens, attention_mask=batch.attention_mask.long())
        parts.append(mean_nll(logits, batch.tokens, part.answer.to(base.device)).cpu())
    return torch.cat(parts)


def mean_nll(
    logits: Float[Tensor, "batch pos vocab"],
    tokens: Int[Tensor, "batch pos"],
    answer: Bool[Tensor, "batch pos"],
) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of each row's answer, mean over its tokens."""
    log_probs = logits[:, :-1].float().log_softmax(-1)
    found = log_probs.gather(-1, tokens[:, 1:, None])[..., 0]
    share = answer[:, 1:].float()
    return -(found * share).sum(1) / share.sum(1)
