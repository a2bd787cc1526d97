"""ES and DD: edit success and drawdown on given answers, as PersonalityEdit defines them.

Both read pre-written answers (the opinion QA's) and need no sampling. For a topic, `pos` are its
answers in the target trait's voice and `neg` those of the other traits; `lp` is the mean
log-probability per token over all tokens of a set of answers, nats.

*ES* (edit success; arXiv 2310.02168, after SERAC's ConvSent, arXiv 2206.06520):
`sigmoid(lp_after(pos) - lp_after(neg)) * min(1, exp(lp_after(pos) - lp_before(pos)))`. The first
factor asks whether the edited model prefers the target trait's answers, the second whether it did
not lose the topic. It lies in (0, 1); an edit that changes nothing scores the first factor.

*DD* (drawdown): `KL(before || after)` of the next-token distribution, mean over answer positions of
rows on topics that were *not* edited, nats per token; 0 is untouched. An adapter is trained on all
topics at once, so give it held-out topics and read DD as how far the model moved in general.

Where this differs from EasyEdit's code (zjunlp/EasyEdit at 14cea82): there the target tokens
include the separator before the answer, are compared with the logits at their own positions rather
than the positions before, and sequences are cut at 96 tokens. Here exactly the answer's tokens
count, each predicted by the position before it. The interval is over topics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour.scoring import tail_logits, token_log_probs
from interp.behaviour.shares import Rows, frame
from interp.models.tokens import ChatFormat, pad_id
from interp.text.data import OpinionQA
from interp.text.data.schema import OpinionRow, topic_key


@dataclass(frozen=True)
class EditScores(Result):
    """ES and DD by topic.

    Attributes:
        trait: the target.
        prefers: `sigmoid(lp_after(pos) - lp_after(neg))` of each edited topic, `[topic]`.
        keeps: `min(1, exp(lp_after(pos) - lp_before(pos)))`, `[topic]`.
        topics: the edited topics.
        n_left_out: topics without answers of the trait, or of any other.
        drawdown: mean KL of each untouched topic, nats per token, `[other]`.
        others: the untouched topics.
    """

    kind: ClassVar[str] = "edit scores"

    trait: str
    prefers: Float[Tensor, " topic"]
    keeps: Float[Tensor, " topic"]
    topics: tuple[str, ...]
    n_left_out: int
    drawdown: Float[Tensor, " other"]
    others: tuple[str, ...]
    level: float
    seed: int

    @property
    def success(self) -> Float[Tensor, " topic"]:
        """ES of each edited topic."""
        return self.prefers * self.keeps

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n` topics: ES, its factors, DD."""
        table = Rows(self.level, self.seed)
        rows = [
            table.probability("ES", self.success.tolist(), self.topics),
            table.probability("ES: prefers the trait", self.prefers.tolist(), self.topics),
            table.probability("ES: keeps the topic", self.keeps.tolist(), self.topics),
            table.within("DD", self.drawdown.tolist(), self.others, (0.0, math.inf)),
        ]
        return frame(rows)


def score_edit(
    before: Any,
    after: Any,
    form: ChatFormat,
    edited: OpinionQA,
    untouched: OpinionQA,
    trait: Trait | str,
    *,
    after_form: ChatFormat | None = None,
    level: float = 0.95,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> EditScores:
    """ES and DD of an edit.

    Args:
        before: the model before the edit.
        after: the edited model; for an edit by prompt, the same model.
        form: how questions become ids.
        edited: answers of the trait and of others on the edited topics.
        untouched: answers on topics that were not edited; may be empty.
        trait: the target.
        after_form: how the edited side puts the questions, where that is the edit: with a trait
            instruction or demonstrations before them. As `form` if left out.
        level: confidence level.
        seed: of the intervals' bootstrap over topics.
        batch_size: answers at a time.
        progress: called with `(label, done, total)`.

    Raises:
        InputError: if fewer than two topics have answers of the trait and of others.
    """
    wanted = Trait.parse(trait)
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(edited.rows):
        groups.setdefault(topic_key(row.topic), []).append(index)
    both = {
        topic: rows
        for topic, rows in groups.items()
        if {edited.rows[i].trait == wanted for i in rows} == {True, False}
    }
    if len(both) < 2:
        raise InputError(
            f"{edited.source}: {len(both)} of {len(groups)} topics have answers of {wanted} and of "
            "another trait; ES needs two such topics. Load the rows of all traits"
        )
    size, other_form = batch_size, after_form or form
    first = _answers(before, form, edited.rows, batch_size=size, progress=progress)
    second = _answers(after, other_form, edited.rows, batch_size=size, progress=progress)
    prefers, keeps = [], []
    for rows in both.values():
        pos = [i for i in rows if edited.rows[i].trait == wanted]
        neg = [i for i in rows if edited.rows[i].trait != wanted]
        new, old, other = _mean(second, pos), _mean(first, pos), _mean(second, neg)
        prefers.append(torch.sigmoid(new - other))
        keeps.append((new - old).exp().clamp_max(1.0))
    sides = (before, form), (after, other_form)
    topics, moved = _drawdown(*sides, untouched, batch_size=size, progress=progress)
    return EditScores(
        trait=str(wanted),
        prefers=torch.stack(prefers),
        keeps=torch.stack(keeps),
        topics=tuple(both),
        n_left_out=len(groups) - len(both),
        drawdown=moved,
        others=topics,
        level=level,
        seed=seed,
    )


def _mean(parts: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    return torch.cat([parts[i] for i in rows]).double().mean()


def _encode(
    form: ChatFormat, rows: Sequence[OpinionRow]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Prompts and answers of the rows as ids."""
    made = [form.example(row.question, row.answer) for row in rows]
    prompts = [example.ids[: example.answer_start] for example in made]
    return prompts, [example.ids[example.answer_start : example.answer_end] for example in made]


def _answers(
    model: Any,
    form: ChatFormat,
    rows: Sequence[OpinionRow],
    *,
    batch_size: int,
    progress: Progress | None,
) -> list[Float[Tensor, " token"]]:
    prompts, answers = _encode(form, rows)
    return token_log_probs(
        model, prompts, answers, pad_id(form.tokenizer),
        batch_size=batch_size, progress=progress, label="edit success",
    )  # fmt: skip


def _drawdown(
    before: tuple[Any, ChatFormat],
    after: tuple[Any, ChatFormat],
    data: OpinionQA,
    *,
    batch_size: int,
    progress: Progress | None,
) -> tuple[tuple[str, ...], Float[Tensor, " other"]]:
    """Topics of `data` and the mean KL over the answer positions of each."""
    sums: dict[str, list[float]] = {}
    for start in range(0, len(data.rows), batch_size):
        rows = data.rows[start : start + batch_size]
        old, new = _distributions(*before, rows), _distributions(*after, rows)
        for index, row in enumerate(rows):
            p, q = old[index], new[index]
            if len(p) != len(q):
                raise InputError(
                    f"the answer {row.answer[:40]!r} has other tokens on the edited side; DD needs "
                    "the same tokens: use forms of one tokenizer and style"
                )
            kept = sums.setdefault(topic_key(row.topic), [0.0, 0.0])
            kept[0] += float((p.exp() * (p - q)).sum().clamp_min(0))
            kept[1] += len(p)
        if progress:
            progress("drawdown", start + len(rows), len(data.rows))
    means = torch.tensor([total / count for total, count in sums.values()], dtype=torch.float64)
    return tuple(sums), means


def _distributions(
    model: Any, form: ChatFormat, rows: Sequence[OpinionRow]
) -> dict[int, Float[Tensor, "pos vocab"]]:
    """Log-probabilities of the next token at each answer position, float64."""
    prompts, answers = _encode(form, rows)
    whole = [prompt + answer[:-1] for prompt, answer in zip(prompts, answers, strict=True)]
    read = tail_logits(
        model, whole, [len(a) for a in answers], pad_id(form.tokenizer), batch_size=len(rows)
    )
    return {index: logits.double().log_softmax(-1) for index, logits in read}
