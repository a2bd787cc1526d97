"""Where in an answer the emoji decision falls, as prompts that end there.

The onset position is the one whose next token begins an emoji. Where a tokenizer writes a lone
space token before the emoji, that token belongs to the prompt: the next one begins the emoji.

These are prompts chosen by their outcome. `interp.readout.slot` takes the places of all answers.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interp.base.errors import InputError
from interp.behaviour.generate import Response, decode
from interp.models.tokens import TokenBatch, pad
from interp.readout.outcome import Outcome
from interp.readout.slot import SlotPrompts, slot_length
from interp.text.emoji import find


def onset_index(tokenizer: Any, ids: Sequence[int]) -> int | None:
    """Index in `ids` of the token that begins the first emoji; `None` if there is no emoji.

    A token that holds both text and the beginning of an emoji counts as the beginning.
    """
    text = decode(tokenizer, ids)
    found = find(text)
    if not found:
        return None
    before = text[: found[0].start]
    for length in range(len(ids), -1, -1):  # from the end, where answers carry their emojis
        if before.startswith(decode(tokenizer, ids[:length])):
            return length
    return None


def slot_ids(tokenizer: Any, response: Response, outcome: Outcome | None = None) -> tuple[int, ...]:
    """Prompt and answer up to the end of the answer's text, before trailing emojis.

    With an outcome that is read at two positions, the lone space it is read after follows.
    """
    kept = response.ids[: slot_length(tokenizer, response.ids)]
    return response.prompt_ids + kept + (() if outcome is None else outcome.space_ids)


@dataclass(frozen=True)
class OnsetPrompts:
    """Prompts that end at an onset position.

    Attributes:
        batch: left-padded ids; the last column is the onset position.
        next_ids: the token that began the emoji, one per prompt.
        topics: each prompt's topic.
        n_left_out: responses without an emoji.
    """

    batch: TokenBatch
    next_ids: tuple[int, ...]
    topics: tuple[str, ...]
    n_left_out: int


def onset_prompts(
    tokenizer: Any, responses: Sequence[Response], pad_with: int, limit: int
) -> OnsetPrompts:
    """The first `limit` responses that hold an emoji after some text, cut before their first one.

    Raises:
        InputError: if fewer than two responses hold an emoji.
    """
    rows: list[tuple[int, ...]] = []
    heads, topics, without = [], [], 0
    for response in responses:
        onset = onset_index(tokenizer, response.ids)
        if onset is None:
            without += 1
        elif len(rows) < limit:
            rows.append(response.prompt_ids + response.ids[:onset])
            heads.append(response.ids[onset])
            topics.append(response.topic)
    if len(rows) < 2:
        raise InputError(
            f"{len(rows)} of {len(responses)} answers hold an emoji; tracing needs at least two. "
            "Ask more questions (n_responses), or trace another adapter"
        )
    return OnsetPrompts(pad(rows, pad_with), tuple(heads), tuple(topics), without)


@dataclass(frozen=True)
class PromptContrast:
    """Onset prompts paired with emoji-free prompts of equal token length.

    Attributes:
        clean: prompts that end at an onset position.
        corrupted: the partners, row by row of the same length and padding.
        topics: topic of each clean prompt.
        n_exact: partners that end where their answer ended; the others are cut inside it.
        n_unpaired: onset prompts for which no answer was long enough.
    """

    clean: TokenBatch
    corrupted: TokenBatch
    topics: tuple[str, ...]
    n_exact: int
    n_unpaired: int


def prompt_contrast(
    prompts: OnsetPrompts | SlotPrompts,
    plain: Sequence[Response],
    pad_with: int,
    limit: int,
    outcome: Outcome | None = None,
) -> PromptContrast:
    """Pair onset prompts with emoji-free answers of the same total length, at most `limit` pairs.

    Onset prompts come first for which an answer ended by itself at just that length, so that both
    prompts end where an answer ends; for others a longer answer is cut. Each answer is used as
    seldom as possible.

    With an outcome that is read at two positions, prompts and partners end with the lone space.

    Raises:
        InputError: if fewer than two prompts find a partner.
    """
    space = () if outcome is None else outcome.space_ids
    free = [(r.prompt_ids + r.ids + space, r.ended) for r in plain if r.ids and not find(r.text)]
    free.sort(key=lambda item: len(item[0]))
    used: dict[tuple[int, ...], int] = defaultdict(int)
    exact: list[tuple[list[int], list[int], str]] = []
    cut: list[tuple[list[int], list[int], str]] = []
    unpaired = 0
    for row, mask, topic in zip(
        prompts.batch.tokens, prompts.batch.attention_mask, prompts.topics, strict=True
    ):
        ids = row[mask].tolist()
        same = [other for other, ended in free if ended and len(other) == len(ids)]
        longer = [other for other, _ in free if len(other) > len(ids)]
        partner = min(same or longer, key=lambda other: used[other], default=None)
        if partner is None:
            unpaired += 1
            continue
        used[partner] += 1
        (exact if same else cut).append((ids, [*partner[: len(ids) - len(space)], *space], topic))
    pairs = (exact + cut)[:limit]
    if len(pairs) < 2:
        raise InputError(
            f"only {len(pairs)} onset prompts find an emoji-free answer of the same length; "
            "ask more questions (n_responses)"
        )
    return PromptContrast(
        clean=pad([ids for ids, _, _ in pairs], pad_with),
        corrupted=pad([partner for _, partner, _ in pairs], pad_with),
        topics=tuple(topic for _, _, topic in pairs),
        n_exact=min(len(exact), limit),
        n_unpaired=unpaired,
    )
