"""The effect of each word of a prompt on the outcome's log-odds and both factors at its slot.

    deletion   value with all words - value of the row without this one
    exchange   the same, with a neutral word in its place (a mean over the likeliest few)
    gradient   integrated gradients along embeddings (Sundararajan et al. 2017), from the mean
               embedding to the word's own: a screen, one backward pass per step and factor

Nats, positive where the word calls for the outcome (or for going on). Deletion and exchange are
exact for what they ask; a text without a word may be no language, so the exchange is the one to
read. Words that say the same hide each other: taken out alone, none of them may have an effect.
`kept` answers for sets: beginning with every word exchanged, words are put back, at each step the
one that raises the log-odds most, until they keep a share of what all words do.

Cost: a pass per word and exchange (rows of one prompt, batched) and one for proposals; the set a
pass per word and step; 64 forward passes per prompt for gradients, and three times back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base import memory
from interp.base.devices import input_device
from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import mean_ends
from interp.models.tokens import pad, pad_id
from interp.readout.capture import logits_at
from interp.readout.metric import Several, measure, read_columns
from interp.readout.outcome import FACTORS, Outcome
from interp.readout.question import Question, asked
from interp.readout.run import Run
from interp.readout.slot import Slots
from interp.text.emoji.encode import token_bytes
from interp.traces.inputs.gradients import integrated
from interp.traces.inputs.words import Kind, Word, exchanged, proposals, split

METHODS = ("deletion", "exchange", "gradient")
MOST_KEPT = 8
"""Words that are put back at most; what they keep then is said."""
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class WordEffects(Result):
    """What each word of some prompts does at their slots.

    Attributes:
        deletion, exchange, gradient: effect of each word on each factor, nats, `[factor word]`;
            exchange is NaN where no neutral word is known.
        kept: the words that keep `share` of the log-odds that all words bring.
        prompt: the prompt of each word; the words of a prompt stand in their order.
        in_answer: whether a word is the answer's; else it is the question's.
        texts: the words.
        full, none: each factor with all words, and with all exchanged, `[factor batch]`.
        reached: share of the log-odds between these that `kept` keeps; NaN where all words bring
            no more than `min_gap`, which leaves nothing to keep.
        share, min_gap: as asked.
        unexplained: how far sums of gradients are from the differences that they integrate, at
            most, in nats.
        factors: names of the factors.
        topics: topic of each prompt, the units of intervals.
    """

    kind: ClassVar[str] = "word effects"

    deletion: Float[Tensor, "factor word"]
    exchange: Float[Tensor, "factor word"]
    gradient: Float[Tensor, "factor word"]
    kept: Bool[Tensor, " word"]
    prompt: Int[Tensor, " word"]
    in_answer: Bool[Tensor, " word"]
    texts: tuple[str, ...]
    full: Float[Tensor, "factor batch"]
    none: Float[Tensor, "factor batch"]
    reached: Float[Tensor, " batch"]
    share: float
    min_gap: float
    unexplained: float
    factors: tuple[str, ...]
    topics: tuple[str, ...]
    seed: int = 0

    def to_dataframe(self) -> pd.DataFrame:
        """One row per word and factor, with its effect by each method."""
        parts = []
        for place, factor in enumerate(self.factors):
            part = pd.DataFrame({name: getattr(self, name)[place].numpy() for name in METHODS})
            part.insert(0, "factor", factor)
            part.insert(0, "word", [text.strip() for text in self.texts])
            part.insert(0, "in_answer", self.in_answer.numpy())
            part.insert(0, "prompt", self.prompt.numpy())
            parts.append(part.assign(kept=self.kept.numpy(), unit="nats"))
        return pd.concat(parts, ignore_index=True)

    def moved(self, method: str = "exchange") -> Float[Tensor, " word"]:
        """By how much each word raises the outcome's probability at its slot."""
        full = self.full[self.factors.index("log_odds"), self.prompt]
        effect = getattr(self, method)[self.factors.index("log_odds")]
        return full.sigmoid() - (full - effect).sigmoid()

    def by_word(self, method: str = "exchange", factor: str = "log_odds") -> pd.DataFrame:
        """Mean effect of each word of the answers over its occurrences, strongest first.

        Columns: `word`, `mean`, `low`, `high` (95 % over topics; NaN of one), `n`.
        """
        values = getattr(self, method)[self.factors.index(factor)]
        groups: dict[str, list[int]] = {}
        for place, text in enumerate(self.texts):
            if bool(self.in_answer[place]) and bool(values[place].isfinite()):
                groups.setdefault(text.strip().lower(), []).append(place)
        rows = []
        for word, places in groups.items():
            some, topics = values[places], [self.topics[self.prompt[place]] for place in places]
            low, high = mean_ends(some[None], topics, seed=self.seed)
            rows.append((word, float(some.mean()), float(low[0]), float(high[0]), len(places)))
        table = pd.DataFrame(rows, columns=["word", "mean", "low", "high", "n"])
        return table.sort_values("mean", ascending=False, ignore_index=True)

    def set_sizes(self) -> pd.DataFrame:
        """Of each prompt, its words, how many are kept, and the share that these keep."""
        counts = torch.zeros(2, len(self.topics), dtype=torch.long)
        counts[0].index_add_(0, self.prompt, torch.ones_like(self.prompt))
        counts[1].index_add_(0, self.prompt, self.kept.long())
        return pd.DataFrame(
            {"words": counts[0].numpy(), "kept": counts[1].numpy(), "share": self.reached.numpy()}
        )


@dataclass(frozen=True)
class _Reader:
    """All factors of a model at the ends of rows."""

    model: Any
    outcome: Outcome
    fill: int
    batch_size: int

    def __call__(self, rows: Rows) -> Float[Tensor, "factor row"]:
        metrics = Several(tuple(self.outcome.metrics().values()))
        found, device = torch.zeros(len(FACTORS), len(rows)), input_device(self.model)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))

        def read(places: list[int]) -> Tensor:
            some = pad([[*rows[order[p]], *self.outcome.space_ids] for p in places], self.fill)
            run = Run(self.model, some.to(device))
            at = read_columns(metrics, run, run.last)
            with torch.no_grad():
                return measure(metrics, logits_at(run, at, [])).cpu()

        for places, values in memory.in_batches(
            len(rows), self.batch_size, read, what="words", device=device
        ):
            found[:, [order[place] for place in places]] = values
        return found


@dataclass(frozen=True)
class Neutral:
    """Who proposes words: a hooked model, and the ids of neutral words (`neutral_ids`)."""

    model: Any
    ids: Mapping[Kind, Sequence[int]]
    count: int = 3


def effects(
    model: Any,
    slots: Slots,
    neutral: Neutral,
    *,
    outcome: Outcome,
    share: float = 0.8,
    ask: Question | None = None,
) -> WordEffects:
    """The effect of each word at each slot.

    Args:
        model: a hooked model, the one whose decision is asked about.
        slots: where it decides.
        neutral: who proposes the words that others are exchanged for.
        outcome: what is read, with both factors.
        share: how much of what all words bring the smallest set keeps.
        ask: topics (else the slots'), seed, rows per pass (64 if left out), progress, and
            `min_gap`: prompts whose words together bring no more have no smallest set.

    Raises:
        InputError: if there is no slot, the share is not in (0, 1], metric or places are asked, or
            topics are not one per slot.
        TokenizerError: if no stop token is known.
    """
    ask = asked(ask)
    if ask.metric is not None or ask.places is not None:
        raise InputError("words are read by the outcome's factors at slots; give outcome=")
    if not len(slots) or not 0 < share <= 1:
        raise InputError(f"give slots (got {len(slots)}), and a share in (0, 1] (got {share})")
    pieces, fill = token_bytes(model.tokenizer), pad_id(model.tokenizer)
    read = _Reader(model, outcome.with_stop, fill, ask.batch_size or 64)
    made = []
    for number, slot in enumerate(slots):
        row = list(slot.ids)
        words = split(pieces, row)
        swaps = _swaps(neutral, row, words)
        one = _one(read, row, words, swaps)
        one["kept"], one["reached"] = _smallest(read, row, words, swaps, one, share, ask.min_gap)
        one["gradient"], one["unexplained"] = integrated(model, row, words, outcome)
        one["in_answer"] = torch.tensor([word.start >= slot.start for word in words])
        one["prompt"], one["texts"] = torch.full((len(words),), number), [w.text for w in words]
        made.append(one)
        ask.tell("words", number + 1, len(slots))
    return _joined(made, ask.topics_of(len(slots)) or slots.topics, share, ask)


def _swaps(neutral: Neutral, row: list[int], words: Sequence[Word]) -> list[list[int]]:
    """The neutral words for each word, from one pass of the proposing model."""
    device = input_device(neutral.model)
    with torch.no_grad():
        logits = neutral.model(torch.tensor([row], device=device))[0].float().cpu()
    return [
        proposals(word, row, logits[max(word.start - 1, 0)], neutral.ids, neutral.count)
        for word in words
    ]


def _one(
    read: _Reader, row: list[int], words: Sequence[Word], swaps: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Every factor with all words, with none, and each word's effects, of one prompt."""
    single = [(place, token) for place, some in enumerate(swaps) for token in some]
    all_out = {word: some[:1] for word, some in zip(words, swaps, strict=True) if some}
    rows = [
        row,
        exchanged(row, all_out),
        *(exchanged(row, {word: ()}) for word in words),
        *(exchanged(row, {words[place]: (token,)}) for place, token in single),
    ]
    found = read(rows)
    full, n = found[:, :1], len(words)
    exchange = torch.full((len(full), n), torch.nan)
    for place in dict.fromkeys(place for place, _ in single):
        of = [2 + n + k for k, (other, _) in enumerate(single) if other == place]
        exchange[:, place] = (full - found[:, of]).mean(1)
    return {
        "full": full, "none": found[:, 1:2], "deletion": full - found[:, 2 : 2 + n],
        "exchange": exchange,
    }  # fmt: skip


def _smallest(
    read: _Reader,
    row: list[int],
    words: Sequence[Word],
    swaps: Sequence[Sequence[int]],
    one: Mapping[str, Tensor],
    share: float,
    min_gap: float,
) -> tuple[Bool[Tensor, " word"], Float[Tensor, " 1"]]:
    """Words put back one by one into the row of neutral words, and the share they keep."""
    kept, low = torch.zeros(len(words), dtype=torch.bool), one["none"][0]
    gap, level = one["full"][0] - low, low
    out = {word: some[:1] for word, some in zip(words, swaps, strict=True) if some}
    if float(gap) <= min_gap:
        return kept, torch.full((1,), torch.nan)
    while out and int(kept.sum()) < MOST_KEPT and float((level - low) / gap) < share:
        rows = [exchanged(row, {w: out[w] for w in out if w is not back}) for back in out]
        values = read(rows)[0]
        best = list(out)[int(values.argmax())]
        level = values.max()[None]
        kept[words.index(best)] = True
        del out[best]
    return kept, (level - low) / gap


def _joined(
    made: Sequence[Mapping[str, Any]], topics: Sequence[str], share: float, ask: Question
) -> WordEffects:
    def along(name: str) -> Tensor:
        return torch.cat([one[name] for one in made], -1)

    return WordEffects(
        **{name: along(name) for name in (*METHODS, "kept", "prompt", "in_answer")},
        texts=tuple(text for one in made for text in one["texts"]),
        full=along("full"),
        none=along("none"),
        reached=along("reached"),
        share=share,
        min_gap=ask.min_gap,
        unexplained=float(np.max([one["unexplained"] for one in made])),
        factors=tuple(FACTORS),
        topics=tuple(topics),
        seed=ask.seed,
    )
