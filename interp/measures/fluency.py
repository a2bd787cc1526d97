"""Fluency: perplexity under the base, variety of words, and the share of gibberish.

*Perplexity*: exp of the mean surprisal (negative log-probability, nats) per token of the answers,
read by the base after the plain question, whatever instruction the answer was made with. All tokens
weigh the same; the token that ended the answer is not counted. Emojis are costly to a base that
writes none, so it is also given for what stands before each answer's first emoji.

*distinct-n* (Li et al. 2016, arXiv 1510.03055): distinct n-grams over all n-grams of all answers'
words. It falls with the amount of text; compare equal numbers of answers only.

*n-gram entropy* (Meng et al. 2022, arXiv 2202.05262): mean of 2/3 of the bigram and 4/3 of the
trigram entropy of an answer's words, in bits. It grows with an answer's length.

*Gibberish*: an answer that, its emojis taken out, meets one of three conditions.
- empty: no letter or digit.
- loop: at least eight tokens, and either more than half of its 4-grams occurred before in it
  (seq-rep-4, Welleck et al. 2020, arXiv 1908.04319), or one n-gram repeats three or more times in
  a row over at least a third of it.
- salad: its mean surprisal under the base is above the 99th percentile of reference answers (the
  train split's), so 1 % of fluent answers are called salad by construction.

Cost: one forward pass of the base per answer and one more for answers with emojis.
"""

import math
import re
from collections import Counter
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
from interp.behaviour.generate import Response
from interp.behaviour.onsets import onset_index
from interp.behaviour.scoring import token_log_probs
from interp.behaviour.shares import Row, Rows, frame
from interp.models.tokens import ChatFormat, pad_id
from interp.text.data import OpinionQA
from interp.text.data.checks import without_emojis
from interp.text.emoji import find

QUANTILE = 0.99
_SHORTEST_LOOP = 8
_WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and single punctuation marks, lower case."""
    return _WORDS.findall(text.lower())


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Distinct n-grams over all n-grams of the texts' words; `None` if there is no n-gram."""
    grams = [gram for text in texts for gram in _grams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else None


def ngram_entropy(text: str) -> float:
    """Mean of 2/3 bigram and 4/3 trigram entropy, bits; 0 for texts too short to have any."""
    total = 0.0
    for n, weight in ((2, 2 / 3), (3, 4 / 3)):
        counts = Counter(_grams(words(text), n))
        size = sum(counts.values())
        total -= weight * sum(c / size * math.log2(c / size) for c in counts.values())
    return total / 2


def repeats(ids: Sequence[int]) -> bool:
    """Whether a text of these tokens is a loop, by the rule in the module's docstring."""
    if len(ids) < _SHORTEST_LOOP:
        return False
    grams = _grams(list(ids), 4)
    if 1 - len(set(grams)) / len(grams) > 0.5:
        return True
    return any(3 * _longest_run(ids, n) >= len(ids) for n in range(1, len(ids) // 3 + 1))


def _longest_run(ids: Sequence[int], n: int) -> int:
    """Tokens in the longest stretch that repeats its first `n` tokens three times or more."""
    best = length = 0
    for place in range(n, len(ids)):
        length = length + 1 if ids[place] == ids[place - n] else 0
        best = max(best, length)
    return best + n if best >= 2 * n else 0


def _grams(items: Sequence[Any], n: int) -> list[tuple[Any, ...]]:
    return [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]


@dataclass(frozen=True)
class Reference:
    """How surprising fluent answers are to the base.

    Attributes:
        limit: 99th percentile of their mean surprisal, nats per token.
        mean: mean of it.
        n: number of answers.
        source: where they come from.
    """

    limit: float
    mean: float
    n: int
    source: str


def fluency_reference(
    base: Any, form: ChatFormat, data: OpinionQA, *, limit: int | None = 500, seed: int = 0
) -> Reference:
    """Read reference answers (the train split's) with the base.

    Args:
        base: the model that will read the answers.
        form: how questions become ids.
        data: questions with fluent answers.
        limit: how many of them, drawn without replacement; `None` for all.
        seed: of the draw.

    Raises:
        InputError: if there are fewer than 100 answers: no 99th percentile.
    """
    rows = list(data.rows)
    if limit is not None and len(rows) > limit:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        rows = [rows[int(index)] for index in order[:limit]]
    if len(rows) < 100:
        raise InputError(f"{data.source}: {len(rows)} answers; a 99th percentile needs 100 or more")
    bare = [without_emojis(row.answer)[0] for row in rows]
    kept = [(row.question, text) for row, text in zip(rows, bare, strict=True) if text]
    means = [float(part.mean()) for part in _surprisal_of_texts(base, form, kept, None)]
    values = torch.tensor(means)
    return Reference(
        float(values.quantile(QUANTILE)), float(values.mean()), len(means), data.source
    )


@dataclass(frozen=True)
class Fluency(Result):
    """Fluency of one model's answers, read by the base.

    Attributes:
        surprisal: of every token of every answer, nats, answers one after the other, `[token]`.
        lengths: tokens of each answer, `before_emoji` how many stand before its first emoji.
        bare_surprisal: mean surprisal of each answer without emojis, `[answer]`; 0 where empty.
        empty, loop, salad: the conditions for gibberish, one flag per answer.
        distinct: distinct-1, -2, -3 over all answers; `None` where there is no n-gram.
        entropies: n-gram entropy of each answer, bits.
        topics: of each answer.
        limit, reference_n, reference: the surprisal above which an answer is salad, and its source.
    """

    kind: ClassVar[str] = "fluency"

    surprisal: Float[Tensor, " token"]
    lengths: tuple[int, ...]
    before_emoji: tuple[int, ...]
    bare_surprisal: Float[Tensor, " answer"]
    empty: tuple[bool, ...]
    loop: tuple[bool, ...]
    salad: tuple[bool, ...]
    distinct: tuple[float | None, ...]
    entropies: tuple[float, ...]
    topics: tuple[str, ...]
    limit: float
    reference_n: int
    reference: str
    level: float
    seed: int

    @property
    def gibberish(self) -> list[bool]:
        """Whether each answer meets one of the three conditions."""
        return [any(flags) for flags in zip(self.empty, self.loop, self.salad, strict=True)]

    @property
    def perplexity(self) -> float:
        """Of all tokens of all answers.

        Raises:
            InputError: if all answers are empty.
        """
        if not len(self.surprisal):
            raise InputError("all answers are empty; they have no perplexity")
        return math.exp(float(self.surprisal.double().mean()))

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n`; intervals resample topics."""
        table = Rows(self.level, self.seed)
        rows = [self._perplexity_row("perplexity", self.lengths)]
        rows.append(self._perplexity_row("perplexity before the first emoji", self.before_emoji))
        for n, value in enumerate(self.distinct, start=1):
            rows.append(table.plain(f"distinct-{n}", value, len(self.lengths)))
        rows.append(table.within("n-gram entropy", self.entropies, self.topics, (0.0, math.inf)))
        for name, flags in (
            ("gibberish", self.gibberish),
            ("gibberish: empty", self.empty),
            ("gibberish: loop", self.loop),
            ("gibberish: salad", self.salad),
        ):
            rows.append(table.rate(name, flags, self.topics))
        return frame(rows)

    def _perplexity_row(self, name: str, counts: Sequence[int]) -> Row:
        parts = self.surprisal.split(list(self.lengths))
        values = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]).tolist()
        labels = [t for topic, n in zip(self.topics, counts, strict=True) for t in [topic] * n]
        row = Rows(self.level, self.seed).within(name, values, labels, (0.0, math.inf))
        logs = {key: row[key] for key in ("value", "low", "high")}
        return row | {k: None if v is None else math.exp(v) for k, v in logs.items()}


def read_fluency(
    answers: Sequence[Response],
    base: Any,
    form: ChatFormat,
    reference: Reference,
    *,
    level: float = 0.95,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Fluency:
    """Measure the fluency of one model's answers.

    Args:
        answers: of one model whose tokenizer is the base's.
        base: the model that reads them.
        form: how questions become ids, with the base's tokenizer.
        reference: from `fluency_reference` with the same base.
        level: confidence level.
        seed: of the intervals' bootstrap.
        batch_size: answers at a time.
        progress: called with `(label, done, total)`.

    Raises:
        InputError: if there are no answers, or fewer than two topics.
    """
    if not answers:
        raise InputError("no answers to measure the fluency of")
    if len({answer.topic for answer in answers}) < 2:
        raise InputError("the answers are about one topic; intervals over topics need two or more")
    fill = pad_id(form.tokenizer)
    read = token_log_probs(
        base, [form.prompt_ids(a.question) for a in answers], [a.ids for a in answers], fill,
        batch_size=batch_size, progress=progress, label="fluency",
    )  # fmt: skip
    texts = [answer.text for answer in answers]
    bare = [without_emojis(text)[0] if find(text) else text for text in texts]
    worded = [re.search(r"\w", text) is not None for text in bare]
    changed = [i for i, text in enumerate(texts) if find(text) and worded[i]]
    again = _surprisal_of_texts(base, form, [(answers[i].question, bare[i]) for i in changed], None)
    surprisals = [-part for part in read]
    for index, part in zip(changed, again, strict=True):
        surprisals[index] = part
    means = [float(part.mean()) if len(part) else 0.0 for part in surprisals]
    ids = [form.tokenizer(text, add_special_tokens=False)["input_ids"] for text in bare]
    onsets = [onset_index(form.tokenizer, answer.ids) for answer in answers]
    return Fluency(
        surprisal=-torch.cat(read),
        lengths=tuple(len(part) for part in read),
        before_emoji=tuple(
            len(part) if onset is None else onset for part, onset in zip(read, onsets, strict=True)
        ),
        bare_surprisal=torch.tensor(means),
        empty=tuple(not has for has in worded),
        loop=tuple(repeats(row) for row in ids),
        salad=tuple(m > reference.limit and w for m, w in zip(means, worded, strict=True)),
        distinct=tuple(distinct(texts, n) for n in (1, 2, 3)),
        entropies=tuple(ngram_entropy(text) for text in texts),
        topics=tuple(answer.topic for answer in answers),
        limit=reference.limit,
        reference_n=reference.n,
        reference=reference.source,
        level=level,
        seed=seed,
    )


def _surprisal_of_texts(
    base: Any, form: ChatFormat, rows: Sequence[tuple[str, str]], progress: Progress | None
) -> list[Float[Tensor, " token"]]:
    """Surprisal of each answer's tokens, encoded as in training."""
    made = [form.example(question, text) for question, text in rows]
    prompts = [example.ids[: example.answer_start] for example in made]
    texts = [example.ids[example.answer_start : example.answer_end] for example in made]
    parts = token_log_probs(base, prompts, texts, pad_id(form.tokenizer), progress=progress)
    return [-part for part in parts]
