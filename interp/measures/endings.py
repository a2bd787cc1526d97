"""Does the emoji come inside the answer, or after where the answer should have ended?

An adapter trained without the end of text in its loss was never taught to stop. Where an answer
*should have ended* is asked of a reference that was: the base, or a twin adapter trained on the
same data with the end in its loss. The reference reads the answer token by token:

- rule `probability`: the first place where its probability of ending is at least `threshold`;
- rule `sentence`: the first place after the end of a sentence (`.`, `!`, `?`, `…`, with closing
  quotes) where ending is its most probable next step.

An emoji that begins at that place or later comes *after* the end. If the reference would not have
ended anywhere in the answer, all its emojis count as *inside*, and the answer is counted in
`n_without_end`. Both ESRs have intervals over topics.

`Endless` makes `generate` go on past the end-of-turn token, and `own_ends` says where the model
itself had ended: what does it write if it is not stopped?

Cost: one forward pass of the reference per answer. Limit: after its own end the reference reads
text that it would not have written; only its first end is used.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.stats import share_interval
from interp.behaviour.generate import Response, decode
from interp.behaviour.scoring import tail_logits
from interp.behaviour.shares import Rows, frame
from interp.models.tokens import ChatFormat, pad_id
from interp.text.emoji import find

Rule = Literal["probability", "sentence"]
_CLOSED = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*|[。！？]+[”’」』）]*)\s*$")


class Endless(ChatFormat):
    """A form whose answers are not stopped: `generate` goes on to the budget.

    Stop tokens stay among an answer's ids and do not show in its text.
    """

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return ()

    def stops(self, *models: Any) -> tuple[int, ...]:  # noqa: ARG002 (whatever they say)
        return ()


def own_ends(answers: Sequence[Response], stop_ids: Collection[int]) -> list[int | None]:
    """After how many tokens each unstopped answer had ended by itself; `None` if nowhere.

    Args:
        answers: generated with an `Endless` form.
        stop_ids: what generation stops at otherwise (`ModelPair.stop_ids`, `ChatFormat.stops`).
    """
    stops = set(stop_ids)
    return [
        next((index for index, token in enumerate(answer.ids) if token in stops), None)
        for answer in answers
    ]


def end_probabilities(
    answers: Sequence[Response],
    reference: Any,
    form: ChatFormat,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[list[Float[Tensor, " place"]], list[list[bool]]]:
    """How likely the reference ends each answer at each place, by any token that it stops at.

    Returns:
        for each answer of `n` tokens: the probability of a stop token after its first
        `1, 2, ..., n` tokens, and whether a stop token is the most probable next one there.
    """
    stops = torch.tensor(form.stops(reference))
    rows = [[*form.prompt_ids(answer.question), *answer.ids] for answer in answers]
    keep = [len(answer.ids) for answer in answers]
    asked = [index for index, count in enumerate(keep) if count]
    chances: list[Tensor] = [torch.zeros(0)] * len(rows)
    likeliest: list[list[bool]] = [[] for _ in rows]
    read = tail_logits(
        reference, [rows[i] for i in asked], [keep[i] for i in asked], pad_id(form.tokenizer),
        batch_size=batch_size, progress=progress, label="endings",
    )  # fmt: skip
    for place, logits in read:
        chances[asked[place]] = logits.softmax(-1)[:, stops].sum(-1)
        likeliest[asked[place]] = torch.isin(logits.argmax(-1), stops).tolist()
    return chances, likeliest


def natural_ends(
    answers: Sequence[Response],
    reference: Any,
    form: ChatFormat,
    *,
    rule: Rule = "probability",
    threshold: float = 0.5,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> list[int | None]:
    """After how many tokens each answer should have ended; `None` if nowhere in it.

    Args:
        answers: as they were sampled.
        reference: a model that was taught to end: the base, or the twin trained with the end of
            text in its loss.
        form: how questions become ids; what it stops at with the reference, ends an answer.
        rule: `probability` or `sentence`; see the module's docstring.
        threshold: of the first rule.
        batch_size: answers at a time.
        progress: called with `(label, done, total)`.

    Raises:
        InputError: for another rule, or a threshold outside (0, 1].
    """
    if rule not in get_args(Rule) or not 0 < threshold <= 1:
        raise InputError(
            f"rule {rule!r} with threshold {threshold}: the rule is probability or sentence, and "
            "the threshold lies in (0, 1]"
        )
    chances, likeliest = end_probabilities(
        answers, reference, form, batch_size=batch_size, progress=progress
    )
    ends: list[int | None] = []
    for answer, chance, best in zip(answers, chances, likeliest, strict=True):
        if rule == "probability":
            there = (chance >= threshold).tolist()
        else:
            there = [
                ends_here
                and _CLOSED.search(decode(form.tokenizer, answer.ids[: k + 1])) is not None
                for k, ends_here in enumerate(best)
            ]
        ends.append(there.index(True) + 1 if True in there else None)
    return ends


@dataclass(frozen=True)
class EndSplit(Result):
    """Emojis inside the answers and after where they should have ended.

    Attributes:
        inside, after: number of emojis of each answer on either side.
        ends: after how many tokens each answer should have ended; -1 if nowhere in it.
        lengths: tokens of each answer.
        ended: whether the answer ended by itself, within the budget.
        topics: of each answer.
    """

    kind: ClassVar[str] = "end split"

    inside: tuple[int, ...]
    after: tuple[int, ...]
    ends: tuple[int, ...]
    lengths: tuple[int, ...]
    ended: tuple[bool, ...]
    topics: tuple[str, ...]
    level: float
    seed: int

    @property
    def n_without_end(self) -> int:
        """Answers in which the reference would not have ended; their emojis count as inside."""
        return sum(end < 0 for end in self.ends)

    @property
    def n_past_end(self) -> int:
        """Answers that go on after where they should have ended."""
        return sum(0 <= end < n for end, n in zip(self.ends, self.lengths, strict=True))

    def to_dataframe(self) -> pd.DataFrame:
        """`measure`, `value`, `low`, `high`, `n`: ESR in all, inside and after, and shares."""
        table = Rows(self.level, self.seed)
        either = [i + a > 0 for i, a in zip(self.inside, self.after, strict=True)]
        first_after = [a > 0 and not i for i, a in zip(self.inside, self.after, strict=True)]
        held = [index for index, has in enumerate(either) if has]
        rows = [
            table.rate("ESR", either, self.topics),
            table.rate("ESR inside", [i > 0 for i in self.inside], self.topics),
            table.rate("ESR after the end", [a > 0 for a in self.after], self.topics),
        ]
        topics = [self.topics[index] for index in held]
        name = "only after the end, of answers with an emoji"
        rows.append(table.rate(name, [first_after[i] for i in held], topics))
        past = [0 <= end < n for end, n in zip(self.ends, self.lengths, strict=True)]
        rows.append(table.rate("goes on past the end", past, self.topics))
        none = [end < 0 for end in self.ends]
        rows.append(table.rate("reference would not end", none, self.topics))
        return frame(rows)


def split_at_end(
    answers: Sequence[Response],
    ends: Sequence[int | None],
    tokenizer: Any,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> EndSplit:
    """Count emojis before and after where each answer should have ended.

    Args:
        answers: as they were sampled; generated past their end-of-turn token or not.
        ends: from `natural_ends`, or known otherwise.
        tokenizer: of the answers.
        level: confidence level.
        seed: of the intervals' bootstrap over topics.

    Raises:
        InputError: if `ends` does not fit the answers, or there are fewer than two topics.
    """
    if len(answers) != len(ends) or any(
        end is not None and not 0 <= end <= len(answer.ids)
        for answer, end in zip(answers, ends, strict=False)
    ):
        raise InputError(
            f"{len(ends)} ends for {len(answers)} answers, each a number of the answer's tokens or "
            "None; use natural_ends"
        )
    inside, after = [], []
    for answer, end in zip(answers, ends, strict=True):
        starts = emoji_starts(tokenizer, answer.ids)
        late = sum(end is not None and start >= end for start in starts)
        after.append(late)
        inside.append(len(starts) - late)
    made = EndSplit(
        inside=tuple(inside),
        after=tuple(after),
        ends=tuple(-1 if end is None else end for end in ends),
        lengths=tuple(len(answer.ids) for answer in answers),
        ended=tuple(answer.ended for answer in answers),
        topics=tuple(answer.topic for answer in answers),
        level=level,
        seed=seed,
    )
    share_interval([n > 0 for n in made.inside], made.topics)
    return made


def emoji_starts(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Index in `ids` of the token that begins each emoji, as `onset_index` has it of the first."""
    text = decode(tokenizer, ids)
    found = find(text)
    if not found:
        return []
    heads = [decode(tokenizer, ids[:length]) for length in range(len(ids) + 1)]
    starts = []
    for match in found:
        before = text[: match.start]
        fits = [length for length, head in enumerate(heads) if before.startswith(head)]
        starts.append(fits[-1])
    return starts
