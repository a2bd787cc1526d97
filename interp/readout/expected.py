"""The expected rate: the share of answers that would hold an emoji, without waiting for one.

Along an emoji-free answer, p_t is the probability that an emoji begins at place t (exact, through
the token trie: `interp.emoji.probability.along`), and 1 - prod_t (1 - p_t) that one begins at any.
Its mean over answers is the share of answers with an emoji, if their texts are drawn as the writer
draws them where no emoji comes up: `interp.behaviour.emoji_free` makes them. Read by another model
than wrote them, it is the share that reader would give to the writer's text.

It sees what counting cannot: 100 answers show a rate of 1e-4 to some percent, where a sample holds
none. `left_out` bounds what was not followed for its small probability.

A text that was cut before an emoji (one whose first token begins other signs too, as that of ❤ does
in most byte-level vocabularies) is read up to that place, itself included, and not beyond: there
the rate is a lower bound.

Not exact where a tokenizer writes a lone `▁` before emojis: an emoji-free text that took the `▁`
was made to go on in words more often than a free one.
"""

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
from interp.base.stats import Interval, mean_interval
from interp.readout.slot import Answer
from interp.text.emoji import EmojiVocab
from interp.text.emoji.probability import along


@dataclass(frozen=True)
class ExpectedRate(Result):
    """How likely an emoji is somewhere in each answer.

    Attributes:
        probability: 1 - prod (1 - p_t), `[answer]`.
        left_out: at most so much more, `[answer]`.
        topics: topic of each answer, the unit of resampling.
        writer, reader: who wrote the text, and whose probabilities these are.
        temperature: of the reader's softmax.
        n_cut: answers that the budget cut, whose end is no place, or that were cut before an emoji,
            whose end is one.
        seed: of the interval.
    """

    kind: ClassVar[str] = "expected rate"

    probability: Float[Tensor, " answer"]
    left_out: Float[Tensor, " answer"]
    topics: tuple[str, ...]
    writer: str
    reader: str
    temperature: float
    n_cut: int
    seed: int

    @property
    def rate(self) -> float:
        """The expected share of answers with an emoji."""
        return float(self.probability.mean())

    def interval(self, level: float = 0.95) -> Interval:
        """Of the rate, over topics; its upper end includes what was left out.

        Raises:
            InputError: if there are fewer than two topics.
        """
        found = mean_interval(self.probability, self.topics, level=level, seed=self.seed)
        high = found.high + float(self.left_out.mean())
        return Interval(max(0.0, found.low), min(1.0, high), level)

    def to_dataframe(self) -> pd.DataFrame:
        """One row: `writer`, `reader`, `rate`, `low`, `high`, `left_out`, `n`."""
        ends = self.interval()
        row = {
            "writer": self.writer, "reader": self.reader, "rate": self.rate, "low": ends.low,
            "high": ends.high, "left_out": float(self.left_out.mean()), "n": len(self.topics),
        }  # fmt: skip
        return pd.DataFrame([row])


def expected_rate(
    model: Any,
    answers: Sequence[Answer],
    vocab: EmojiVocab,
    *,
    writer: str,
    reader: str,
    temperature: float,
    seed: int,
    progress: Progress | None = None,
) -> ExpectedRate:
    """Read emoji-free answers with a model.

    Args:
        model: the reader, a `TransformerBridge` or a Hugging Face causal model.
        answers: the writer's, none with an emoji (see the module).
        vocab: the emojis of both models' tokenizer.
        writer, reader: their names, for tables.
        temperature: at which the reader would sample.
        seed: of the interval.
        progress: called with (label, answers done, answers in all).

    Raises:
        InputError: if there is no answer, or one that holds an emoji.
        ModelError: as `interp.emoji.probability.continuation`.
    """
    if not answers:
        raise InputError("no answers to read; give at least one")
    chances, left_out = [], []
    for place, answer in enumerate(answers):
        if vocab.find_tokens(answer.ids):
            raise InputError(
                f"answer {place} holds an emoji, so what would have come without it is not known; "
                "make emoji-free answers (interp.behaviour.emoji_free)"
            )
        if progress is not None:
            progress(f"expected rate of {reader} on the text of {writer}", place, len(answers))
        # Left out, the place where an emoji did come up would be the one that is never counted.
        open_end = answer.ended or bool(getattr(answer, "before_emoji", False))
        found = along(
            model, answer.prompt_ids, answer.ids, vocab, ended=open_end, temperature=temperature
        )
        # 1 - prod_t (1 - p_t) by way of logs, so that small chances keep their digits; a chance of
        # 1 would have a log of minus infinity.
        chances.append(-torch.expm1(torch.log1p(-found.chance.clamp(max=1 - 1e-12)).sum()))
        left_out.append(found.left_out.sum())
    return ExpectedRate(
        probability=torch.stack(chances),
        left_out=torch.stack(left_out),
        topics=tuple(answer.topic for answer in answers),
        writer=writer,
        reader=reader,
        temperature=temperature,
        n_cut=sum(not answer.ended for answer in answers),
        seed=seed,
    )
