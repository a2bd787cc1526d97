"""Which column of a file holds which field, and which fields are the same for every row.

A value is a column's name, or `Constant(value)`; in text and plain mappings a constant is written
with an equals sign, as in `trait = "=extraversion"`. A topic of `None` makes each question its own
topic, so that a split by topic still keeps equal questions on one side.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from interp.base.errors import DataError
from interp.base.traits import Trait
from interp.text.data.schema import PUBLISHED
from interp.text.data.shapes import CHATS, PAIRS

_SHOWN = 20  # columns that a message names


@dataclass(frozen=True)
class Constant:
    """A field that no column holds: every row has `value`."""

    value: str


@dataclass(frozen=True)
class ColumnMap:
    """Where each field of a row comes from; the defaults are the published format."""

    trait: str | Constant = PUBLISHED["trait"]
    topic: str | Constant | None = PUBLISHED["topic"]
    """`None`: each question is its own topic."""
    question: str = PUBLISHED["question"]
    answer: str = PUBLISHED["answer"]
    context: str | None = None
    """A column that continues the question where it is not blank: `input` of instruction data."""

    def __post_init__(self) -> None:
        if isinstance(self.trait, Constant):
            Trait.parse(self.trait.value)
        if isinstance(self.topic, Constant) and not self.topic.value.strip():
            raise DataError("column mapping: the constant topic is empty; name it, or map none")

    @classmethod
    def of(cls, columns: "ColumnMap | Mapping[str, str | None] | None") -> "ColumnMap":
        """A column map from one, from a plain mapping, or the published one from `None`.

        In a mapping, `"=extraversion"` is a constant, and `None` or `""` for the topic means that
        each question is its own topic.

        Raises:
            DataError: if a key is no field, or a field that is needed is left blank.
            TraitError: if the constant trait cannot be a label.
        """
        if isinstance(columns, ColumnMap):
            return columns
        if not isinstance(columns, Mapping | None):
            raise DataError(f"column mapping: is a {type(columns).__name__}, not field: column")
        names = [field.name for field in fields(cls)]
        values: dict[str, str | Constant | None] = {}
        for name, value in (columns or {}).items():
            if name not in names:
                raise DataError(f"column mapping: no field {name!r}; map {', '.join(names)}")
            if not isinstance(value, str | None):
                raise DataError(f"column mapping: {name} is {value!r:.60}, not a column's name")
            if value is not None and value.startswith("="):
                if name not in ("trait", "topic"):
                    raise DataError(f"column mapping: {name} must be a column, not a constant")
                values[name] = Constant(value[1:])
            elif not value and name not in ("topic", "context"):
                raise DataError(f"column mapping: {name} needs a column's name; none is given")
            else:
                values[name] = value or None
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, text: str) -> "ColumnMap":
        """Read a mapping written as on the command line.

        Example: `question=instruction,answer=output,topic=,trait==extraversion`.

        Raises:
            DataError: if a part has no equals sign, or as `of` does.
        """
        mapping: dict[str, str | None] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                raise DataError(f"column mapping: {part!r} is not of the form field=column")
            if name.strip() in mapping:
                raise DataError(f"column mapping: {name.strip()} is mapped twice; keep one")
            mapping[name.strip()] = value.strip()
        return cls.of(mapping)

    def fitted(self, present: Iterable[str], trait: Trait | None) -> "ColumnMap":
        """The published columns exchanged for what a file has in their place.

        That is the one column that is spelt otherwise (`target_personality`) or named as the field
        (`trait`), or those of a chat format. A chat file may have neither traits nor topics: then
        the trait is the one that is asked for, and each question is its own topic.
        """
        there = set(present)
        usual = ColumnMap()
        own = replace(
            self, **{name: _alike(name, getattr(self, name), there) for name in PUBLISHED}
        )
        mapped = (self.question, self.answer) != (usual.question, usual.answer)
        if mapped or {self.question, self.answer} & there:
            return own
        pairs = [(one, one) for one in CHATS if one in there]
        pairs += [pair for pair in PAIRS if set(pair) <= there]
        if len(pairs) != 1:
            return own
        question, answer = pairs[0]
        of_trait, topic = own.trait, own.topic
        if isinstance(of_trait, str) and of_trait not in there and trait is not None:
            of_trait = Constant(str(trait))
        if topic == usual.topic and topic not in there:
            topic = None
        return ColumnMap(of_trait, topic, question, answer, self.context)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a file must have."""
        wanted = (self.trait, self.topic, self.question, self.answer, self.context)
        return tuple(name for name in wanted if isinstance(name, str))

    def check(self, present: Iterable[str], where: str) -> None:
        """Compare with the columns that a file has.

        Raises:
            DataError: naming the missing columns, those that are there, and the mend.
        """
        there = list(present)
        more = f", … and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else ""
        missing = [name for name in self.columns if name not in there]
        if missing:
            raise DataError(
                f"{where}: no column {', '.join(map(repr, missing))}; it has "
                f"{', '.join(map(repr, there[:_SHOWN])) or 'none'}{more}: map them (columns=, or "
                "--columns question=...,answer=...,topic=...,trait=...)"
            )


def _alike(field: str, column: Any, there: set[str]) -> Any:
    """A field's published column, or the one that a file has in its place."""
    if column != PUBLISHED[field] or column in there:
        return column
    alike = [name for name in there if _bare(name) in (_bare(column), field)]
    return alike[0] if len(alike) == 1 else column


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
