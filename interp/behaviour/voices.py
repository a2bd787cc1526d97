"""The same question answered in two voices, as prompts of equal length that end at slots.

Both answers of a pair are to one question, and both are read up to a slot of the same kind: their
ends, or the ends of sentences. Of all such slots those are taken that differ least in length. The
rest of the difference is cut from the front of the longer answer, so that prompts are aligned from
the end: the question is whole in both, and so is what stands last.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from interp.base.errors import InputError
from interp.models.tokens import TokenBatch, pad
from interp.readout.outcome import Outcome
from interp.readout.slot import Slot, Slots


@dataclass(frozen=True)
class VoiceContrast:
    """Pairs of prompts, row by row of the same length and padding.

    Attributes:
        clean, corrupted: the prompts of the two voices.
        topics: each pair's topic.
        n_exact: pairs of which nothing was cut.
        n_unpaired: answers in the first voice without a partner: nobody answered that question in
            the second, or more than half of an answer would have to be cut.
    """

    clean: TokenBatch
    corrupted: TokenBatch
    topics: tuple[str, ...]
    n_exact: int
    n_unpaired: int


@dataclass(frozen=True)
class _Pair:
    slot: Slot
    one: tuple[int, ...]
    other: tuple[int, ...]
    cut: int


def voice_contrast(
    clean: Slots,
    corrupted: Slots,
    pad_with: int,
    limit: int | None = None,
    *,
    seed: int = 0,
    outcome: Outcome | None = None,
) -> VoiceContrast:
    """Pair the answers of two voices to the same questions, at most one pair per answer.

    Args:
        clean, corrupted: the slots of each voice's answers.
        pad_with: id to pad with.
        limit: at most so many pairs, drawn from the topics in turn; all if left out.
        seed: of that drawing.
        outcome: what will be read; if at two positions, prompts end with the lone space.

    Raises:
        InputError: if fewer than two answers find a partner.
    """
    answers = _by_question(corrupted)
    used: dict[int, int] = defaultdict(int)
    found: list[_Pair] = []
    ours = [slots for each in _by_question(clean).values() for slots in each.values()]
    for slots in ours:
        choices = [
            (used[number], pair.cut, pair.slot.kind != "end", number, pair)
            for number, others in answers.get(slots[0].question, {}).items()
            for pair in _pairs(slots, others)
        ]
        if choices:
            *_, number, pair = min(choices, key=lambda choice: choice[:4])
            used[number] += 1
            found.append(pair)
    if len(found) < 2:
        raise InputError(
            f"only {len(found)} of {len(ours)} answers have a partner in the other voice: an "
            "answer to the same question of at least half the length; ask both more questions"
        )
    by_slot = {pair.slot: pair for pair in found}
    rows = replace(clean, rows=tuple(by_slot)).spread(
        len(by_slot) if limit is None else limit, seed
    )
    kept = [by_slot[slot] for slot in rows]
    space = () if outcome is None else outcome.space_ids
    return VoiceContrast(
        clean=pad([(*pair.one, *space) for pair in kept], pad_with),
        corrupted=pad([(*pair.other, *space) for pair in kept], pad_with),
        topics=tuple(pair.slot.topic for pair in kept),
        n_exact=sum(pair.cut == 0 for pair in kept),
        n_unpaired=len(ours) - len(found),
    )


def _by_question(slots: Slots) -> dict[str, dict[int, list[Slot]]]:
    """The slots of each answer, by question and number of the answer."""
    found: dict[str, dict[int, list[Slot]]] = {}
    for slot in slots:
        found.setdefault(slot.question, {}).setdefault(slot.answer, []).append(slot)
    return found


def _pairs(ours: list[Slot], others: list[Slot]) -> Iterator[_Pair]:
    """All ways to pair two answers that leave at least half of each."""
    for slot in ours:
        for other in others:
            if slot.kind != other.kind:
                continue
            one, two = slot.ids, other.ids
            cut = abs(len(one) - len(two))
            # What the two begin with alike is the question, and may be some of the answer.
            alike = next(
                (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b),
                min(len(one), len(two)),
            )
            if cut > (max(len(one), len(two)) - alike) / 2:
                continue
            if len(one) > len(two):
                one = one[:alike] + one[alike + cut :]
            else:
                two = two[:alike] + two[alike + cut :]
            if one != two:
                yield _Pair(slot, one, two, cut)
