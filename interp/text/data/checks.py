"""The checks that rows must pass before anything is trained on them.

Rows are numbered as data rows, from 1 (a CSV's header is not one). All problems of a file are
collected; the error shows the first few and the number of all. The emoji check is the one that the
paper's claim rests on: the answers that a model is fine-tuned on hold none (arXiv 2409.10245).
"""

import re
from dataclasses import dataclass, field
from typing import Any

from interp.base.errors import DataError, TraitError
from interp.base.traits import Trait
from interp.text.data.columns import ColumnMap, Constant
from interp.text.data.records import Record
from interp.text.data.schema import OpinionQA, OpinionRow, topic_key
from interp.text.data.shapes import is_chat, said, unpacked
from interp.text.emoji import EmojiMatch, find

_SHOWN = 5
_MOST = 500
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_CLOSES = re.compile(r"[ \t]*(?:[\n\r.,;:!?)]|$)")


@dataclass
class Problems:
    """Collects what is wrong with the rows of one file, kind by kind."""

    where: str
    found: list[tuple[int, str, str]] = field(default_factory=list)
    """(row, what is wrong there, the mend)."""

    def add(self, row: int, what: str, mend: str) -> None:
        """Note one problem of data row `row`.

        Raises:
            DataError: if so many are found that the rest will not be looked at.
        """
        self.found.append((row, what, mend))
        if len(self.found) == _MOST:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise what was collected, in row order.

        Raises:
            DataError: one line with the first few problems, the number of all, and each mend once.
        """
        if not self.found:
            return
        self.found.sort(key=lambda problem: problem[0])
        shown = "; ".join(f"row {row}: {what}" for row, what, _ in self.found[:_SHOWN])
        rest = len(self.found) - _SHOWN
        more = f"; and {rest} more" if rest > 0 else ""
        count = f"{len(self.found)} problem{'s' if len(self.found) > 1 else ''}"
        if len(self.found) >= _MOST:
            count = f"at least {count}"
        mends = "; ".join(dict.fromkeys(mend for _, _, mend in self.found))
        raise DataError(f"{self.where}: {count}: {shown}{more}. {mends}")


def to_row(
    record: Record, number: int, columns: ColumnMap, problems: Problems
) -> OpinionRow | None:
    """One record as a row, or `None` with what is wrong noted in `problems`.

    White space at either end of a field is not part of it.
    """
    before = len(problems.found)
    if columns.question == columns.answer and not is_chat(unpacked(record.get(columns.question))):
        what = f"{columns.question} is no chat: {record.get(columns.question)!r:.60}"
        problems.add(number, what, "A chat is a list of turns, each with its role and text")
        return None
    at = (record, number, problems)
    question = _text(*at, "question", columns.question)
    answer = _text(*at, "answer", columns.answer)
    if columns.context and (context := _text(*at, "context", columns.context, optional=True)):
        question = f"{question}\n{context}"
    topic = question if columns.topic is None else _text(*at, "topic", columns.topic)
    label = _text(*at, "trait", columns.trait)
    try:
        trait = Trait.parse(label)
    except TraitError as problem:
        if label:
            what, _, mend = str(problem).partition("; ")
            problems.add(number, what, f"For the trait, {mend}")
        return None
    if len(problems.found) > before:
        return None
    return OpinionRow(trait, topic, question, answer)


def _text(
    record: Record,
    number: int,
    problems: Problems,
    name: str,
    column: str | Constant,
    optional: bool = False,
) -> str:
    """A field's text, stripped; what is wrong with it is noted, not raised."""
    value: Any = column.value if isinstance(column, Constant) else record.get(column)
    if name in ("question", "answer") and is_chat(value := unpacked(value)):
        try:
            value = said(value, name)
        except ValueError as problem:
            what = f"{column} {problem}"
            problems.add(number, what, "One question and one answer are read of a chat: split it")
            return ""
    if value is not None and not isinstance(value, str):
        problems.add(number, f"{name} is {value!r:.40}, not text", "make it text")
        return ""
    if value and any("\ud800" <= character <= "\udfff" for character in value):
        problems.add(number, f"{name} has half a surrogate pair", "save the text as UTF-8 again")
    elif value and (control := _CONTROL.search(value)):
        what = f"{name} has the control character {control[0]!r}"
        problems.add(number, what, "take control characters out of the text")
    elif not optional and not (value or "").strip():
        problems.add(number, f"empty {name}", "fill or delete the row")
    return (value or "").strip()


def note_emojis(number: int, row: OpinionRow, problems: Problems) -> None:
    """Note the emojis of one row's answer, if there are any."""
    found = list(dict.fromkeys(match.text for match in _emojis(row.answer)))
    if found:
        more = f" and {len(found) - 3} others" if len(found) > 3 else ""
        what = f"emoji {' '.join(found[:3])}{more} in the answer"
        problems.add(number, what, 'Clean them with on_emoji="clean" (--clean), or mend the file')


def _emojis(text: str) -> list[EmojiMatch]:
    """`interp.emoji.find`, without the wait where the text is plain ASCII, which holds none."""
    return [] if text.isascii() else find(text)


def without_emojis(text: str) -> tuple[str, int]:
    """`text` without its emojis, and how many were taken out.

    The blanks around an emoji close up to one, and to none before punctuation or at a line's end:
    no double space or dangling blank tells the model where an emoji was.
    """
    count = 0
    while found := _emojis(text):
        count += len(found)
        for match in reversed(found):
            before, after = text[: match.start], text[match.end :].lstrip("\ufe0e\ufe0f\u200d")
            bare = before.rstrip(" \t")
            if not bare or bare.endswith("\n") or _CLOSES.match(after):
                before, after = bare, after.lstrip(" \t")
            elif before.endswith((" ", "\t")):
                after = after.lstrip(" \t")
            text = before + after
    return text.strip() if count else text, count


def check_trainable(data: OpinionQA) -> None:
    """Check a set that may not have come through `load`: it has rows, of one trait, emoji-free.

    Raises:
        DataError: naming the rows (by their place in the set, from 1) and the mend.
    """
    if len(data.traits) != 1:
        what = ", ".join(data.traits) or "no rows"
        raise DataError(f"{data.source}: holds {what}; one trait is trained: data.for_trait(...)")
    problems = Problems(data.source)
    for number, row in enumerate(data.rows, start=1):
        note_emojis(number, row, problems)
    problems.raise_if_any()


def check_splits(train: OpinionQA, test: OpinionQA) -> None:
    """Check that no topic stands in both sets (case and white space do not tell topics apart).

    Raises:
        DataError: naming the first few shared topics and the number of all.
    """
    in_test = {topic_key(topic) for topic in test.topics}
    shared = [topic for topic in train.topics if topic_key(topic) in in_test]
    if shared:
        shown = ", ".join(f"{topic!r:.60}" for topic in shared[:_SHOWN])
        rest = len(shared) - _SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        count = f"{len(shared)} topic{'s' if len(shared) > 1 else ''}"
        raise DataError(
            f"{train.source} and {test.source}: {count} in train and in test: {shown}{more}; "
            "move each to one side, or join the files and split by topic"
        )
