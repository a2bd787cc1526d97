"""Opinion QA: rows of (trait, topic, question, answer), and the set they form.

The published format (arXiv 2409.10245, `holistic-ai/personality_manipulation`) has the columns
`Target Personality`, `Edit Topic`, `Question` and `Answer`; `PUBLISHED` names them in the order of
`OpinionRow`'s fields.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from interp.base.traits import Trait, in_order

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED: dict[str, str] = {
    "trait": "Target Personality",
    "topic": "Edit Topic",
    "question": "Question",
    "answer": "Answer",
}


@dataclass(frozen=True)
class OpinionRow:
    """One answer, in the voice of `trait`, to a question about `topic`."""

    trait: Trait
    topic: str
    question: str
    answer: str


@dataclass(frozen=True)
class Cleaning:
    """What was done to the rows between the file and the set; all zero if nothing was asked for."""

    rows_read: int = 0
    """Rows in the file, of the wanted trait if one was asked for."""
    other_traits: int = 0
    """Rows left out because another trait was asked for."""
    emojis_removed: int = 0
    """Emojis taken out of answers (`on_emoji="clean"`)."""
    answers_cleaned: int = 0
    """Answers that lost at least one emoji."""
    emptied_dropped: int = 0
    """Rows left out because their answer was nothing but emojis."""
    duplicates_dropped: int = 0
    """Rows left out because an equal row came before (`on_duplicate="drop"`)."""


@dataclass(frozen=True)
class OpinionQA:
    """Checked opinion QA rows, with where they came from and what was done to them."""

    rows: tuple[OpinionRow, ...] = field(repr=False)
    source: str
    """The file, folder or hub id that the rows were read from; for a part, the whole's source."""
    sha256: str
    """The file's hash; of several files, that of their names and hashes; hub: the rows'."""
    cleaning: Cleaning = Cleaning()
    """Counts of what loading changed or left out, for the set as it was loaded."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics in order of first appearance; case and spacing do not tell topics apart."""
        first: dict[str, str] = {}
        for row in self.rows:
            first.setdefault(topic_key(row.topic), row.topic)
        return tuple(first.values())

    @property
    def traits(self) -> tuple[Trait, ...]:
        """The traits that have rows, in OCEAN order, other labels after them."""
        return in_order({row.trait for row in self.rows})

    @property
    def questions(self) -> list[tuple[str, str]]:
        """Every question once, with its topic, in the order of the rows."""
        return list(dict.fromkeys((row.question, row.topic) for row in self.rows))

    @property
    def rows_sha256(self) -> str:
        """Hash of the rows themselves: equal for equal rows, whatever file format they came in."""
        values = [[row.trait, row.topic, row.question, row.answer] for row in self.rows]
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def for_trait(self, trait: Trait | str) -> "OpinionQA":
        """The rows of one trait; may be empty.

        Raises:
            TraitError: if `trait` cannot be a label.
        """
        wanted = Trait.parse(trait)
        return self.only(row for row in self.rows if row.trait == wanted)

    def only(self, rows: Iterable[OpinionRow]) -> "OpinionQA":
        """The same set with other rows, for subsets; source, hash and cleaning stay the whole's."""
        return replace(self, rows=tuple(rows))

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per answer, columns `trait`, `topic`, `question`, `answer`."""
        import pandas as pd

        return pd.DataFrame(
            [(str(row.trait), row.topic, row.question, row.answer) for row in self.rows],
            columns=list(PUBLISHED),
        )


def topic_key(topic: str) -> str:
    """What two spellings of one topic share: case and white space do not tell topics apart."""
    return " ".join(topic.split()).casefold()
