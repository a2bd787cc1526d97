"""Write opinion QA back to a file in the published columns, for instance a cleaned copy."""

import csv
import io
import json
from pathlib import Path

from interp.base.errors import DataError
from interp.base.files import write_bytes
from interp.text.data.schema import PUBLISHED, OpinionQA


def save(data: OpinionQA, path: Path | str) -> Path:
    """Write `data` as `.csv`, `.json`, `.jsonl` or `.parquet`, atomically; `load` reads it back.

    Raises:
        DataError: if the suffix is none of these.
    """
    path = Path(path)
    records = [
        {PUBLISHED[name]: str(getattr(row, name)) for name in PUBLISHED} for row in data.rows
    ]
    if path.suffix == ".csv":
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, list(PUBLISHED.values()))
        writer.writeheader()
        writer.writerows(records)
        return write_bytes(path, buffer.getvalue().encode())
    if path.suffix == ".json":
        return write_bytes(path, json.dumps(records, indent=1, ensure_ascii=False).encode())
    if path.suffix == ".jsonl":
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        return write_bytes(path, "".join(lines).encode())
    if path.suffix == ".parquet":
        frame = data.to_dataframe().rename(columns=PUBLISHED)
        return write_bytes(path, frame.to_parquet(index=False))
    raise DataError(f"{path}: cannot write {path.suffix!r}; use .csv, .json, .jsonl or .parquet")
