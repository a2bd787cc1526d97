"""From a file, a folder or a hub id to plain records (a dict per row), with named errors.

Only CSV, TSV, JSON, JSON Lines, parquet and what `datasets` saves to a disk are read; nothing is
unpickled or unpacked and no code from the hub runs. Text is UTF-8, or UTF-16 with a byte order
mark. What a file is, its content says where that is clear: CSV separated by semicolons or tabs,
JSON Lines under `.json`, records wrapped in an object or written column by column. CSV is read
strictly: a quote that never closes or a row of the wrong length is an error, where lenient
readers would swallow rows into one field; so is JSON. A file has at most 64 MiB, 250,000 rows and
2 million values, and a parquet file at most 128 MiB once it is expanded, which its size does not
say: what it says of itself is checked before it is read, the texts before each has its own copy.
"""

import codecs
import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from interp.base.errors import DataError, said
from interp.base.files import read_bytes, strict_json
from interp.text.data.shapes import kind_of_json, rows_of

Record = dict[str, Any]
_LARGEST = 64 * 2**20
_MOST_ROWS = 250_000
_MOST_VALUES = 2_000_000
_MOST_TEXT = 128 * 2**20
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"
_SEPARATORS = (",", ";", "\t", "|")
_SEP_LINE = re.compile(rb"(?:\xef\xbb\xbf)?sep=(.)\r?\n", re.IGNORECASE)
_SPLIT = r"(?:^|[-_.]){}(?:$|[-_.])"


@dataclass(frozen=True)
class Table:
    """The records of one file (or of one split on the hub)."""

    name: str
    columns: tuple[str, ...]
    records: tuple[Record, ...]
    sha256: str


def read_file(path: Path) -> Table:
    """Read one file, by its suffix.

    Raises:
        DataError: if the file is missing, empty, malformed, or of a kind that is not read.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; {_KINDS}")
    content = read_bytes(path, DataError, limit=_LARGEST)
    plain = _utf8(content, str(path))
    if not plain.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError(f"{path}: the file is empty; give one with a row per answer")
    if content.startswith(_ARCHIVES):
        raise DataError(f"{path}: is an archive under another name; unpack it first")
    columns, records = reader(plain, str(path))
    if not records:
        raise DataError(f"{path}: no data rows; give a file with a row per answer")
    digest = hashlib.sha256(content).hexdigest()
    return Table(str(path), tuple(columns), tuple(records), digest)


def is_saved(folder: Path) -> bool:
    """Whether a folder is one data set that `datasets` saved to a disk."""
    return (folder / _SAVED).is_file() and any(folder.glob("*.arrow"))


def find_files(folder: Path, split: str | None) -> list[Path]:
    """The data file or shards of one split in `folder` or its subfolder `data`.

    A split's files carry its name as a word of theirs (`train.csv`, `opinion_qa-test.json`,
    `train-00000-of-00002.parquet`). Without `split` the folder must hold one data file.

    Raises:
        DataError: if there is no such file, or if it is not clear which is meant.
    """
    if (folder / _SAVED_SPLITS).is_file() and split is not None:
        if not (folder / split / _SAVED).is_file():
            raise DataError(f"{folder}: no split {split!r} in it")
        return find_files(folder / split, None)
    if is_saved(folder) and split is None:
        return sorted(path for path in folder.glob("*.arrow") if path.is_file())
    there = sorted(
        path
        for place in (folder, folder / "data")
        if place.is_dir()
        for path in place.iterdir()
        if path.suffix.lower() in _READERS and path.is_file()
    )
    if not there:
        raise DataError(f"{folder}: no data file in this folder; {_KINDS}")
    names = ", ".join(str(path.relative_to(folder)) for path in there[:6])
    if split is None:
        if len(there) == 1:
            return there
        raise DataError(f"{folder}: holds several files ({names}); say which split, or name one")
    pattern = re.compile(_SPLIT.format(re.escape(split)), re.IGNORECASE)
    found = [path for path in there if pattern.search(path.stem)]
    if not found:
        raise DataError(f"{folder}: no file for the split {split!r}; it holds {names}")
    shards = re.compile(r"-\d+-of-\d+$")
    if len(found) > 1 and not all(shards.search(path.stem) for path in found):
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise DataError(f"{folder}: several files for the split {split!r} ({names}); keep one")
    return found


def _utf8(content: bytes, where: str) -> bytes:
    """UTF-16 with a byte order mark as UTF-8; anything else as it is."""
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content
    try:
        return content.decode("utf-16").encode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{where}: broken UTF-16 ({problem.reason}); save it as UTF-8") from None


def _text(content: bytes, where: str) -> str:
    if b"\0" in content:
        raise DataError(f"{where}: holds zero bytes (UTF-16 without its mark?); save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise DataError(
            f"{where}: not UTF-8 text (byte 0x{content[problem.start]:02x} in line {line}); "
            "save it as UTF-8"
        ) from None


def _read_csv(content: bytes, where: str, delimiter: str = ",") -> tuple[list[str], list[Record]]:
    _text(content, where)  # is UTF-8; read from the bytes, or it stands in memory four times
    if said := _SEP_LINE.match(content):  # what Excel is told, and some tools write
        content, delimiter = content[said.end() :], said[1].decode()
    else:
        delimiter = _separator(content, delimiter)
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows = _csv_rows(reader, where)
    header = [name.strip() for name in next(rows)]
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise DataError(f"{where}: the column {name!r:.60} stands twice; rename one")
    records: list[Record] = []
    for number, row in enumerate(rows, start=1):
        if number > _MOST_ROWS or number * len(header) > _MOST_VALUES:
            raise _too_many(where)
        if len(row) != len(header):
            raise DataError(
                f"{where}: row {number} has {len(row)} fields, the header {len(header)} (separated "
                f"by {delimiter!r}); put fields that contain the separator or a quote in double "
                "quotes"
            )
        records.append(dict(zip(header, row, strict=True)))
    return header, records


def _separator(content: bytes, usual: str) -> str:
    """What cuts the header into most columns; the usual one where that is no difference."""
    lines = content.removeprefix(codecs.BOM_UTF8).lstrip().splitlines()
    first = (lines[0] if lines else b"").decode("utf-8", "replace")
    counts: dict[str, int] = {}
    for one in (usual, *_SEPARATORS):
        try:
            counts.setdefault(one, len(next(csv.reader([first], delimiter=one, strict=True))))
        except (csv.Error, StopIteration):  # a header over several lines
            counts.setdefault(one, 0)
    return max(counts, key=lambda one: counts[one])


def _csv_rows(reader: Any, where: str) -> Iterator[list[str]]:
    """The rows that are not blank lines; a syntax error names the row it is in."""
    number = -1  # the header is row 0
    try:
        for row in reader:
            if reader.line_num > _MOST_VALUES:
                raise _too_many(where)
            if row:
                number += 1
                yield row
    except csv.Error as problem:
        hint = "a quote is not closed or not doubled" if "field larger" not in str(problem) else ""
        raise DataError(
            f"{where}: malformed CSV in row {number + 1}, up to line {reader.line_num} "
            f"({hint or problem}); quote the field and double the quotes inside it"
        ) from None


def _read_tsv(content: bytes, where: str) -> tuple[list[str], list[Record]]:
    return _read_csv(content, where, delimiter="\t")


def _read_json(content: bytes, where: str, lines: bool = False) -> tuple[list[str], list[Record]]:
    """JSON, or JSON Lines: as the content is, else as the suffix says."""
    text = _text(content, where)
    if sum(map(text.count, ("\n,[{" if lines else ",[{"))) > _MOST_VALUES:
        raise _too_many(where)
    if _is_lines(text, lines):
        return _records(_json_lines(text, where), where, "row")
    try:
        value = strict_json(text)
    except (ValueError, RecursionError) as problem:
        at_end = isinstance(problem, JSONDecodeError) and not text[problem.pos :].strip()
        mend = "; it ends too early: copy or download it again" if at_end else ""
        raise DataError(f"{where}: not valid JSON ({problem}){mend}") from None
    return _records(rows_of(value, where), where, "row")


def _read_jsonl(content: bytes, where: str) -> tuple[list[str], list[Record]]:
    return _read_json(content, where, lines=True)


def _is_lines(text: str, usual: bool) -> bool:
    """Whether JSON text is one record per line."""
    start = text.lstrip()
    if start.startswith("["):
        return False
    first, _, rest = start.partition("\n")
    try:
        whole = isinstance(strict_json(first), dict)
    except (ValueError, RecursionError):
        whole = False
    return (whole and (usual or bool(rest.strip()))) or (usual and first.strip() not in ("{", ""))


def _json_lines(text: str, where: str) -> list[Any]:
    values: list[Any] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values.append(strict_json(line))
            except (ValueError, RecursionError) as problem:
                raise DataError(
                    f"{where}: line {number} is not valid JSON ({problem}); "
                    "JSON Lines holds one record per line"
                ) from None
    return values


def _records(values: list[Any], where: str, word: str) -> tuple[list[str], list[Record]]:
    """Check that each value is an object; columns are those that any record has."""
    if len(values) > _MOST_ROWS:
        raise _too_many(where)
    columns: dict[str, None] = {}
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(
                f"{where}: {word} {number} is {kind_of_json(value)}, not a record with fields"
            )
        columns.update(dict.fromkeys(value))
    return list(columns), values


def _read_parquet(content: bytes, where: str) -> tuple[list[str], list[Record]]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        _check_size(file.metadata, where)
        schema = file.schema
        columns = [schema.column(index) for index in range(len(schema))]
        texts = [one.path for one in columns if one.physical_type == "BYTE_ARRAY"]
        # Kept as dictionaries: a text that is stored once for a million rows stays one text.
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)
        table = file.read(use_threads=False)
        if sum(map(_expanded, table.columns)) > _MOST_TEXT:
            raise _too_large(where)
        names, records = list(table.column_names), table.to_pylist()
    except DataError:
        raise
    except Exception as problem:  # of Arrow, of the system, of decoding: all mean the same here
        raise DataError(
            f"{where}: not a readable parquet file ({said(problem)}); copy it again"
        ) from None
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise DataError(f"{where}: the column {name!r:.60} stands twice; rename one")
    return names, records


def _check_size(metadata: Any, where: str) -> None:
    """Check what a parquet file says of itself, before its pages are expanded."""
    if metadata.num_rows > _MOST_ROWS:
        raise _too_many(where)
    size = values = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            size, values = size + chunk.total_uncompressed_size, values + chunk.num_values
            if values > _MOST_VALUES:
                raise _too_many(where)
            if size > _MOST_TEXT:
                raise _too_large(where)


def _too_many(where: str) -> DataError:
    return DataError(
        f"{where}: more than {_MOST_ROWS:,} rows or {_MOST_VALUES:,} values; split the file, or "
        "keep the columns that are needed"
    )


def _too_large(where: str) -> DataError:
    return DataError(f"{where}: more than {_MOST_TEXT // 2**20} MiB once expanded; split the file")


def _expanded(column: Any) -> int:
    """Bytes of a column's values, each counted as often as it stands."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    total = 0
    for chunk in column.chunks:
        lengths = pc.take(pc.cast(pc.binary_length(chunk.dictionary), pa.int64()), chunk.indices)
        total += pc.sum(lengths).as_py() or 0
    return total


def _read_arrow(content: bytes, where: str) -> tuple[list[str], list[Record]]:
    """A shard that `datasets` saved to a disk: an Arrow stream."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(io.BytesIO(content)).read_all()
        if table.num_rows > _MOST_ROWS or table.num_rows * table.num_columns > _MOST_VALUES:
            raise _too_many(where)
        return list(table.column_names), table.to_pylist()
    except DataError:
        raise
    except Exception as problem:  # of Arrow, of decoding: all mean the same here
        raise DataError(
            f"{where}: not a readable Arrow file ({said(problem)}); save it again"
        ) from None


_READERS: dict[str, Callable[[bytes, str], tuple[list[str], list[Record]]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
_KINDS = f"files that can be read: {', '.join(_READERS)}"
