"""Slots: the places of an answer where its writer stops, goes on in words, or begins an emoji.

A slot is the last token of a sentence's text, *before* any white space: before the lone `▁` that
Llama-2 and Mistral-v1 write in front of a spaced emoji (see `Outcome` for how both ways are read).
Sentences are those of `interp.emoji.rates`. Slots come from all answers, not from those that
happened to get an emoji: an answer has one at the end of its text (`end`) if the writer ended it,
and one after each sentence that something follows (`sentence`). Emojis at an answer's end, and
punctuation among them, are no text of it: its end slot stands before them.

Without a slot are, and counted: the ends of answers that the budget cut; answers without any
letter before their first emoji; emojis inside a sentence, for where they stand is known only from
their having been sampled.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, Protocol, runtime_checkable

from interp.base.errors import InputError
from interp.models.tokens import TokenBatch, pad
from interp.readout.outcome import Outcome
from interp.text.emoji.encode import token_bytes
from interp.text.emoji.find import EmojiMatch, find
from interp.text.emoji.rates import MARK, SENTENCE_END

Kind = Literal["end", "sentence"]
_TRAILING = re.compile(rf"\s*{MARK}[\s{MARK}.!?…,;:)\]]*$")


@runtime_checkable
class Answer(Protocol):
    """What is asked of an answer; `interp.behaviour.Response` is one."""

    @property
    def question(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def prompt_ids(self) -> tuple[int, ...]: ...
    @property
    def ids(self) -> tuple[int, ...]: ...
    @property
    def ended(self) -> bool: ...


@dataclass(frozen=True)
class Slot:
    """One slot.

    Attributes:
        ids: prompt and answer, up to and with the slot.
        start: how many of them are the prompt's.
        question, topic, writer: whose answer to what.
        kind: `end` of an answer, or of a `sentence` after which it goes on.
        answer: the answer's place in the list.
        emoji: the emoji that followed; None if none did.
    """

    ids: tuple[int, ...] = field(repr=False)
    start: int
    question: str
    topic: str
    writer: str
    kind: Kind
    answer: int
    emoji: str | None


@dataclass(frozen=True)
class SlotPrompts:
    """Prompts that end at slots, left-padded, with their topics."""

    batch: TokenBatch
    topics: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Slots:
    """The slots of some answers, in their order.

    Attributes:
        rows: the slots.
        n_answers: answers they are from.
        n_cut: answers that the budget cut, which have no end.
        n_textless: answers without a letter before their first emoji, which have no slot.
        n_inside: emojis that follow no slot.
    """

    rows: tuple[Slot, ...] = field(repr=False)
    n_answers: int
    n_cut: int
    n_textless: int
    n_inside: int

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.rows)

    @property
    def topics(self) -> tuple[str, ...]:
        """Each slot's topic, the unit of resampling."""
        return tuple(slot.topic for slot in self.rows)

    @property
    def ends(self) -> "Slots":
        """The ends of answers only."""
        return replace(self, rows=tuple(slot for slot in self.rows if slot.kind == "end"))

    @property
    def last(self) -> "Slots":
        """Each answer's last: its end, or of a cut answer the end of its last whole sentence."""
        rows = {slot.answer: slot for slot in self.rows}
        return replace(self, rows=tuple(rows.values()))

    @property
    def with_emoji(self) -> "Slots":
        """Only those that an emoji followed: a choice on the outcome, to be said where it is."""
        return replace(self, rows=tuple(slot for slot in self.rows if slot.emoji is not None))

    def spread(self, limit: int, seed: int) -> "Slots":
        """At most `limit` slots, drawn by `seed` from the topics in turn; their order is kept."""
        rng = Random(seed)
        by_topic: dict[str, list[int]] = {}
        for place, slot in enumerate(self.rows):
            by_topic.setdefault(slot.topic, []).append(place)
        piles = list(by_topic.values())
        rng.shuffle(piles)
        for pile in piles:
            rng.shuffle(pile)
        turns = [pile[turn] for turn in range(len(self.rows)) for pile in piles if turn < len(pile)]
        return replace(self, rows=tuple(self.rows[place] for place in sorted(turns[:limit])))

    def prompts(self, pad_with: int, outcome: Outcome | None = None) -> SlotPrompts:
        """The slots as a batch of prompts.

        Args:
            pad_with: id to pad with.
            outcome: what will be read; if it is read at two positions, each prompt ends with the
                lone space, one token after its slot.

        Raises:
            InputError: if there is no slot.
        """
        if not self.rows:
            raise InputError(
                f"none of {self.n_answers} answers has a slot ({self.n_cut} were cut by the "
                f"budget, {self.n_textless} have no text before an emoji); raise max_new_tokens, "
                "or ask more questions"
            )
        space = () if outcome is None else outcome.space_ids
        return SlotPrompts(pad([slot.ids + space for slot in self.rows], pad_with), self.topics)

    def counts(self) -> dict[str, int]:
        """How many slots of each kind there are, and what has none."""
        ends = len(self.ends)
        return {
            "answers": self.n_answers,
            "ends": ends,
            "sentences": len(self) - ends,
            "followed_by_emoji": len(self.with_emoji),
            "cut": self.n_cut,
            "textless": self.n_textless,
            "emojis_inside": self.n_inside,
        }


def slots(answers: Sequence[Answer], tokenizer: Any, *, writer: str = "model") -> Slots:
    """Every slot of every answer.

    Args:
        answers: sampled answers (`interp.behaviour.Response`).
        tokenizer: the writer's.
        writer: who wrote them, for tables.
    """
    pieces = token_bytes(tokenizer)
    rows: list[Slot] = []
    textless = inside = 0
    for number, answer in enumerate(answers):
        text = Written.of(pieces, answer.ids)
        places = text.slots(answer.ended)
        textless += not text.has_text
        followed = [emoji for *_, emoji in places if emoji is not None]
        inside += len(text.groups) - len(followed)
        rows += [
            Slot(
                answer.prompt_ids + answer.ids[:length], len(answer.prompt_ids), answer.question,
                answer.topic, writer, kind, number, None if emoji is None else emoji.canonical,
            )
            for length, kind, emoji in places
        ]  # fmt: skip
    cut = sum(not answer.ended for answer in answers)
    return Slots(tuple(rows), len(answers), cut, textless, inside)


def slot_length(tokenizer: Any, ids: Sequence[int]) -> int:
    """How many of an ended answer's ids lie up to its end slot; 0 without any text."""
    places = Written.of(token_bytes(tokenizer), ids).slots(ended=True)
    return places[-1][0] if places and places[-1][1] == "end" else 0


@dataclass(frozen=True)
class Written:
    """The text of some ids, with the token that holds each character.

    Attributes:
        text: as the tokens' bytes say, broken bytes as surrogates.
        masked: the same with every character of an emoji marked.
        emojis: found in it.
        last: for each character, the number of tokens up to the one with its last byte.
        ends: for each number of tokens, the character after them.
    """

    text: str
    masked: str
    emojis: tuple[EmojiMatch, ...]
    last: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, pieces: Sequence[bytes], ids: Sequence[int]) -> "Written":
        """Put pieces together."""
        token_of_byte = [place for place, token in enumerate(ids, 1) for _ in pieces[token]]
        text = b"".join(pieces[token] for token in ids).decode(errors="surrogateescape")
        last, byte = [], 0
        for character in text:
            byte += len(character.encode(errors="surrogateescape"))
            last.append(token_of_byte[byte - 1])
        ends = [0] * (len(ids) + 1)
        for place, tokens in enumerate(last, 1):
            ends[tokens] = place
        for tokens in range(1, len(ends)):  # a token without a character of its own adds none
            ends[tokens] = max(ends[tokens], ends[tokens - 1])
        found, masked = tuple(find(text)), list(text.replace(MARK, " "))
        for match in found:
            masked[match.start : match.end] = MARK * (match.end - match.start)
        return cls(text, "".join(masked), found, tuple(last), tuple(ends))

    @property
    def groups(self) -> list[EmojiMatch]:
        """The first of each run of emojis with nothing but white space between them."""
        firsts = []
        for place, match in enumerate(self.emojis):
            before = self.emojis[place - 1].end if place else 0
            if not place or self.text[before : match.start].strip():
                firsts.append(match)
        return firsts

    @property
    def has_text(self) -> bool:
        """Whether a letter stands before the first emoji."""
        first = self.emojis[0].start if self.emojis else len(self.text)
        return _worded(self.text[:first])

    def slots(self, ended: bool) -> list[tuple[int, Kind, EmojiMatch | None]]:
        """Each slot: tokens up to it, its kind, and the emoji that followed."""
        if not self.has_text:
            return []
        trailing = _TRAILING.search(self.masked)
        whole = len((self.masked[: trailing.start()] if trailing else self.masked).rstrip())
        found: list[tuple[int, Kind, EmojiMatch | None]] = []
        before = 0
        for end in [match.end() for match in SENTENCE_END.finditer(self.masked)] + [whole]:
            place = min(len(self.masked[:end].rstrip()), whole)
            if not _worded(self.masked[before:place]):
                continue
            kind: Kind = "end" if place == whole else "sentence"
            before = place
            tokens = self.last[place - 1]
            follows = self.masked[place:]
            # A token that holds more than the sentence and white space is no place to decide.
            if self.text[place : self.ends[tokens]].strip():
                continue
            if not ended:  # what follows the last text is not known, unless it was written
                kind = "sentence"
                if not follows.strip():
                    continue
            start = place + len(follows) - len(follows.lstrip())
            emoji = next((match for match in self.emojis if match.start == start), None)
            found.append((tokens, kind, emoji))
        return found


def _worded(text: str) -> bool:
    return any(character.isalpha() for character in text)
