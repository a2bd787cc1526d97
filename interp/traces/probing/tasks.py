"""What is probed for: which positions or texts, their labels, topics and types."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.base.errors import DataError, InputError
from interp.base.outcomes import reworded
from interp.base.traits import Trait, in_order
from interp.models.tokens import TokenBatch
from interp.readout.outcome import Outcome
from interp.readout.slot import Slots


@dataclass(frozen=True, eq=False)
class Task:
    """Examples with labels.

    Attributes:
        name: what is asked, for figures.
        classes: name of each label.
        labels: index into `classes`, `[example]`.
        groups: topic of each example: never in training and held-out data at once.
        types: type of each example for the control task.
        control_split: `groups` if types recur across topics, `rows` if not.
        text: row of the tokens that each example is from, `[example]`.
        pos: its column, `[example]`; None if the whole text is pooled.
        counts: how many of what, for captions.
    """

    name: str
    classes: tuple[str, ...]
    labels: Int[Tensor, " example"] = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    types: tuple[str, ...] = field(repr=False)
    control_split: str
    text: Int[Tensor, " example"] = field(repr=False)
    pos: Int[Tensor, " example"] | None = field(default=None, repr=False)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """How many slots become examples.

    Attributes:
        ratio: negatives per positive, drawn without replacement; fewer if there are not enough.
        most: at most so many positives.
        types: what a control label hangs on: `bigram` (this token and the one before) or `token`.
            Sentences end in a handful of tokens, so that with `token` there would be hardly
            anything to memorise.

    Raises:
        InputError: for an unknown choice.
    """

    ratio: float = 1.0
    most: int = 300
    types: str = "bigram"

    def __post_init__(self) -> None:
        if self.types not in ("bigram", "token"):
            raise InputError("types is 'bigram' or 'token'")
        if self.ratio <= 0 or self.most < 1:
            raise InputError("ratio must be above 0 and most at least 1")


EVENLY = Draw()


def onset_task(
    found: Slots, batch: TokenBatch, outcome: Outcome, *, draw: Draw = EVENLY, seed: int = 0
) -> Task:
    """ "The next token begins an emoji" (or another outcome), at the slots of answers.

    Positive are slots after which the outcome was written, straight or after a lone `▁`; negative
    all others, where the writer stopped or went on in words. Both are ends of sentences, so that
    telling a full stop from the middle of a sentence does not help.

    Args:
        found: the slots of some answers.
        batch: these answers with their prompts, one row each and in their order.
        outcome: what may have been written next.
        draw: how many slots become examples.
        seed: of the drawing.

    Raises:
        InputError: for slots of other answers than those of the batch.
        DataError: if there are no positives or no negatives.
    """
    places, labels = _labelled(found, batch, outcome)
    counts = {"positives_found": int(labels.sum()), "negatives_found": int((~labels).sum())}
    for kind, count in zip(("is followed by", "goes on without"), counts.values(), strict=True):
        if not count:
            raise DataError(
                f"none of the {len(found)} slots of {found.n_answers} answers {kind} "
                f"{reworded('an emoji', outcome.name)}; ask more questions"
            )
    rng = np.random.default_rng(seed)
    kept = _draw(places[labels], draw.most, rng)
    rest = _draw(places[~labels], max(1, round(draw.ratio * len(kept))), rng)
    chosen = torch.cat([kept, rest])
    order = torch.from_numpy(np.lexsort((chosen[:, 1].numpy(), chosen[:, 0].numpy())))
    drawn = torch.cat([torch.ones(len(kept)), torch.zeros(len(rest))]).long()
    text, pos = chosen[order].T
    topics = {slot.answer: slot.topic for slot in found}
    return Task(
        name=reworded("the next token begins an emoji", outcome.name),
        classes=(f"no {outcome.name}", outcome.name),
        labels=drawn[order],
        groups=tuple(topics[row] for row in text.tolist()),
        types=tuple(_type(batch, row, col, draw.types) for row, col in chosen[order].tolist()),
        control_split="groups",
        text=text,
        pos=pos,
        counts=counts,
    )


def trait_task(
    traits: Sequence[Trait | str],
    topics: Sequence[str],
    *,
    target: Trait | str | None = None,
    against: Trait | str | None = None,
    types: Sequence[str] | None = None,
) -> Task:
    """The trait of a text, one example per text.

    Args:
        traits: trait of each text.
        topics: topic of each text.
        target: None to tell all traits apart; a trait for that one against the rest.
        against: another label: texts of the two alone are told apart, say of a trait's two poles.
        types: what the control task's labels hang on, a name per text: the question, where several
            traits answer it. None for the topic, of which there are often fewer than dimensions,
            so that a linear probe memorises any labelling and selectivity is low for any model.

    Raises:
        InputError: if there are not as many topics (or types) as texts, or `against` without
            another target.
        TraitError: for what cannot be a label.
    """
    types = topics if types is None else types
    if not len(traits) == len(topics) == len(types):
        raise InputError(
            f"{len(traits)} texts but {len(topics)} topics and {len(types)} types; give one each"
        )
    parsed = [Trait.parse(trait) for trait in traits]
    kept = list(range(len(parsed)))
    if against is not None:
        pair = [Trait.parse(one) for one in (against, target or against)]
        if pair[0] == pair[1]:
            raise InputError(f"against={against!r}: needs a target that is another label")
        kept = [place for place in kept if parsed[place] in pair]
        classes = tuple(str(one) for one in pair)
        labels = [int(parsed[place] == pair[1]) for place in kept]
        name = f"the text is {pair[1]}, not {pair[0]}"
    elif target is None:
        present = in_order(set(parsed))
        classes = tuple(str(trait) for trait in present)
        labels = [present.index(trait) for trait in parsed]
        name = "trait of the text"
    else:
        wanted = Trait.parse(target)
        classes = ("another trait", str(wanted))
        labels = [int(trait == wanted) for trait in parsed]
        name = f"the text is {wanted}"
    return Task(
        name=name,
        classes=classes,
        labels=torch.tensor(labels, dtype=torch.long),
        groups=tuple(topics[place] for place in kept),
        types=tuple(types[place] for place in kept),
        control_split="rows",
        text=torch.tensor(kept, dtype=torch.long),
    )


def _labelled(
    found: Slots, batch: TokenBatch, outcome: Outcome
) -> tuple[Int[Tensor, "slot two"], Bool[Tensor, " slot"]]:
    """Each slot's row and column, and whether the outcome was written next."""
    if found.n_answers != len(batch):
        raise InputError(
            f"slots of {found.n_answers} answers, but a batch of {len(batch)}; give the batch of "
            "just these answers"
        )
    rows = [
        row[kept].tolist() for row, kept in zip(batch.tokens, batch.attention_mask, strict=True)
    ]
    first = batch.attention_mask.int().argmax(1).tolist()
    places, labels = [], []
    for slot in found:
        ids, length = rows[slot.answer], len(slot.ids)
        if tuple(ids[:length]) != slot.ids:
            raise InputError(
                f"a slot of answer {slot.answer} is not in row {slot.answer} of the batch; give "
                "prompts and answers in the order of the answers"
            )
        places.append((slot.answer, first[slot.answer] + length - 1))
        labels.append(_begins(outcome, ids[length : length + 2]))
    return torch.tensor(places).reshape(-1, 2), torch.tensor(labels, dtype=torch.bool)


def _begins(outcome: Outcome, ids: list[int]) -> bool:
    """Whether what stands after a slot is the outcome."""
    if len(ids) == 2 and ids[0] == outcome.space:
        return ids[1] in outcome.after_ids
    return bool(ids) and ids[0] in outcome.ids


def _type(batch: TokenBatch, row: int, col: int, how: str) -> str:
    tokens, mask = batch.tokens, batch.attention_mask
    before = int(tokens[row, col - 1]) if col > 0 and bool(mask[row, col - 1]) else -1
    return f"{before} {int(tokens[row, col])}" if how == "bigram" else str(int(tokens[row, col]))


def _draw(
    places: Int[Tensor, "n two"], most: int, rng: np.random.Generator
) -> Int[Tensor, "kept two"]:
    if len(places) <= most:
        return places
    return places[torch.from_numpy(rng.choice(len(places), most, replace=False))]
