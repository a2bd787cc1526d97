"""`load`: the way from a file, folder or hub id to checked rows.

Nothing is changed unless it is asked for: an emoji in an answer or a repeated row is an error, and
with `on_emoji="clean"` or `on_duplicate="drop"` it is mended and counted in `OpinionQA.cleaning`.
Cost: the file is held in memory; 2,000 answers take well under a second.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from interp.base.errors import DataError
from interp.base.files import kind_of
from interp.base.hub import is_hub_id
from interp.base.traits import Trait
from interp.text.data.checks import Problems, check_splits, note_emojis, to_row, without_emojis
from interp.text.data.columns import ColumnMap
from interp.text.data.hub import read_hub
from interp.text.data.records import Table, find_files, is_saved, read_file
from interp.text.data.schema import Cleaning, OpinionQA, OpinionRow
from interp.text.data.splits import split_by_topic

Columns = ColumnMap | Mapping[str, str | None] | None


def load(
    source: Path | str,
    *,
    split: str | None = None,
    columns: Columns = None,
    on_emoji: Literal["error", "clean"] = "error",
    on_duplicate: Literal["error", "drop"] = "error",
    trait: Trait | str | None = None,
) -> OpinionQA:
    """Read and check opinion QA.

    Args:
        source: a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file, a folder with a file per
            split or as `datasets` saves it to a disk, or a hub id (`owner/name`,
            `owner/name@revision`). Chats (`messages`, `conversations`, `prompt` and `completion`)
            of one question and one answer are read as such.
        split: which split of a folder or hub dataset (`"train"`, `"test"`); a single file has none.
        columns: where the fields are, if not in the published columns; see `ColumnMap`.
        on_emoji: `"error"`, or `"clean"` to take emojis out of the answers. An answer that was
            nothing but emojis is left out, and counted.
        on_duplicate: `"error"`, or `"drop"` to keep the first of equal rows.
        trait: keep this trait's rows only; the others are counted but not checked for emojis.

    Raises:
        DataError: if the source cannot be read, lacks a column, or any row fails a check; rows are
            numbered as data rows from 1.
        TraitError: if `trait` cannot be a label.
    """
    wanted = None if trait is None else Trait.parse(trait)
    mapping = ColumnMap.of(columns)
    checker = _Checker(mapping, wanted, clean=on_emoji == "clean", drop=on_duplicate == "drop")
    tables = _tables(source, split)
    for table in tables:
        checker.take(table)
    cleaning = Cleaning(**checker.counts)
    if not checker.rows:
        raise DataError(
            f"{source}: no row is left{f' for {wanted}' if wanted else ''} "
            f"({cleaning.other_traits} of other traits, {cleaning.emptied_dropped} of nothing but "
            "emojis); give a file with rows to keep"
        )
    name = tables[0].name  # of a file its path, of a hub dataset also commit and split
    if kind_of(source) == "folder":
        name = str(source) if split is None else f"{source}[{split}]"
    return OpinionQA(tuple(checker.rows), name, _joint_hash(tables), cleaning)


def load_train_test(
    source: Path | str,
    *,
    test_share: float,
    seed: int,
    columns: Columns = None,
    on_emoji: Literal["error", "clean"] = "error",
    on_duplicate: Literal["error", "drop"] = "error",
    trait: Trait | str | None = None,
) -> tuple[OpinionQA, OpinionQA]:
    """Train and test rows that share no topic.

    A folder or hub dataset brings its own splits `train` and `test`, which are checked; a single
    file is split by topic with `test_share` and `seed` (see `split_by_topic`).

    Raises:
        DataError: as `load`, `check_splits` and `split_by_topic` do.
    """

    def part(split: str | None) -> OpinionQA:
        return load(
            source,
            split=split,
            columns=columns,
            on_emoji=on_emoji,
            on_duplicate=on_duplicate,
            trait=trait,
        )

    if kind_of(source) == "file" or is_saved(Path(source)):
        return split_by_topic(part(None), test_share=test_share, seed=seed)
    train, test = part("train"), part("test")
    check_splits(train, test)
    return train, test


def _tables(source: Path | str, split: str | None) -> list[Table]:
    """Read every file that belongs to `source` and `split`."""
    path, there = Path(source), kind_of(source)
    if there == "folder":
        return [read_file(file) for file in find_files(path, split)]
    if there != "absent":
        if split is not None:
            raise DataError(f"{path}: one file has no splits; give the folder, or no split")
        return [read_file(path)]
    if isinstance(source, str) and not path.suffix and is_hub_id(source):
        return [read_hub(source, split)]
    raise DataError(f"{source}: no such file or folder, and no hub id (owner/name)")


@dataclass
class _Checker:
    """Takes tables one by one; keeps the rows that pass and counts what was changed."""

    columns: ColumnMap
    wanted: Trait | None
    clean: bool
    drop: bool
    rows: dict[OpinionRow, str] = field(default_factory=dict)
    """Each row once, with the place it was first seen."""
    counts: Counter[str] = field(default_factory=Counter)
    """By the field names of `Cleaning`."""

    def take(self, table: Table) -> None:
        """Check one table's rows; raises all its problems together."""
        columns = self.columns.fitted(table.columns, self.wanted)
        columns.check(table.columns, table.name)
        problems = Problems(table.name)
        for number, record in enumerate(table.records, start=1):
            row = to_row(record, number, columns, problems)
            if row is None:
                continue
            if self.wanted is not None and row.trait != self.wanted:
                self.counts["other_traits"] += 1
                continue
            self.counts["rows_read"] += 1
            cleaned = self._cleaned(row) if self.clean else row
            if cleaned is None:
                continue
            if not self.clean:
                note_emojis(number, row, problems)
            self._keep(cleaned, number, table.name, problems)
        problems.raise_if_any()

    def _cleaned(self, row: OpinionRow) -> OpinionRow | None:
        """The row without emojis in its answer; `None` if nothing else was in it."""
        answer, count = without_emojis(row.answer)
        if not count:
            return row
        self.counts["emojis_removed"] += count
        self.counts["answers_cleaned"] += 1
        if answer:
            return replace(row, answer=answer)
        self.counts["emptied_dropped"] += 1
        return None

    def _keep(self, row: OpinionRow, number: int, name: str, problems: Problems) -> None:
        first = self.rows.setdefault(row, place := f"row {number} of {name}")
        if first == place:
            return
        if self.drop:
            self.counts["duplicates_dropped"] += 1
        else:
            mend = 'Drop repeated rows with on_duplicate="drop" (--drop-duplicates)'
            problems.add(number, f"the same as {first.removesuffix(f' of {name}')}", mend)


def _joint_hash(tables: list[Table]) -> str:
    """The file's own hash; of several files, the hash of their names and hashes."""
    if len(tables) == 1:
        return tables[0].sha256
    lines = "".join(f"{table.sha256}  {Path(table.name).name}\n" for table in tables)
    return hashlib.sha256(lines.encode()).hexdigest()
