"""Opinion QA files and folders, column mappings, trait names, and names of files, broken."""

import gzip
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from broken_bytes import NOT_FILES, NOT_JSON
from corpus import Case, put

NAMES = ["Target Personality", "Edit Topic", "Question", "Answer"]
HEADER = ",".join(NAMES)
ROW = "extraversion,tea,What of tea?,I like it."
ROWS = [["extraversion", "tea", "What of tea?", "I like it."],
        ["openness", "art", "What of art?", "It opens worlds."]]  # fmt: skip
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
JSON = json.dumps(RECORDS)

CSV: dict[str, bytes | str] = {
    "empty": "",
    "blank": "\n\n \n",
    "header-only": HEADER + "\n",
    "no-header": ROW + "\n",
    "quote-unclosed": f'{HEADER}\n{ROW}\nopenness,art,"What of art?,It is.\n' + ROW * 50,
    "quote-inside": f'{HEADER}\nopenness,art,What "of" it,"It "is".\n',
    "quote-unclosed-ten-megabytes": f'{HEADER}\nopenness,art,"' + "x,\n" * 3_400_000,
    "field-of-megabytes": f"{HEADER}\nopenness,art,Why?," + "x" * 5_000_000 + "\n",
    "row-too-long": f"{HEADER}\n{ROW},more\n",
    "row-too-short": f"{HEADER}\nopenness,art\n",
    "column-lost": "Target Personality,Edit Topic,Question\nopenness,art,Why?\n",
    "column-twice": f"{HEADER},Answer\n{ROW},x\n",
    "columns-by-the-hundred-thousand": ",".join(f"c{i}" for i in range(200_000)) + "\n1\n",
    "columns-all-one": "a," * 200_000 + "a\n",
    "trait-unknown": f"{HEADER}\nextravertion,art,Why?,So.\n",
    "trait-empty": f"{HEADER}\n,art,Why?,So.\n",
    "question-empty": f"{HEADER}\nopenness,art,,So.\n",
    "answer-blank": f"{HEADER}\nopenness,art,Why?,  \n",
    "topic-empty": f"{HEADER}\nopenness,,Why?,So.\n",
    "emoji-in-answer": f"{HEADER}\nopenness,art,Why?,So 😊.\n",
    "keycap-in-answer": f"{HEADER}\nopenness,art,Why?,So 1\ufe0f\u20e3.\n",
    "row-twice": f"{HEADER}\n{ROW}\n{ROW}\n",
    "nul-byte": f"{HEADER}\nopenness,art,Why?,So\0.\n",
    "escape-sequence": f"{HEADER}\nopenness,art,Why?,So \x1b[31mred\x1b[0m.\n",
    "escape-in-trait": f"{HEADER}\n\x1b]0;title\x07,art,Why?,So.\n",
    "escape-in-header": f"\x1b[2J{HEADER}\n{ROW}\n",
    "all-nul": b"\0" * 5000,
    "utf-16-big": f"{HEADER}\n{ROW}\n".encode("utf-16-be"),
    "latin-1": f"{HEADER}\nopenness,art,Why?,Naïve.\n".encode("latin-1"),
    "surrogate": f"{HEADER}\nopenness,art,Why?,So \ud83d.\n",
    "utf-8-cut": f"{HEADER}\nopenness,art,Why?,Naïve é".encode()[:-1],
    "zip": b"PK\x03\x04" + b"\0" * 200,
    "gzip": gzip.compress(f"{HEADER}\n{ROW}\n".encode()),
    "fields-by-the-million": ",".join(f"c{i}" for i in range(3000)) + ("\n" + "," * 2999) * 700,
    "rows-by-the-million": HEADER + "\n,,," * 300_000,
    "rows-all-wrong": HEADER + "\n,,," * 200_000,
    "html": "<!DOCTYPE html><html><body>404 not found</body></html>",
    "lfs-pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "json-inside": JSON,
}


def _records(**changes: Any) -> str:
    return json.dumps([RECORDS[0] | changes, RECORDS[1]])


def _without(*names: str) -> str:
    return json.dumps([{n: v for n, v in one.items() if n not in names} for one in RECORDS])


ROWS_JSON: dict[str, str] = {
    "object": json.dumps({"train": RECORDS, "test": RECORDS}),
    "list-of-lists": json.dumps(ROWS),
    "list-of-texts": json.dumps(["a", "b"]),
    "empty-list": "[]",
    "empty-objects": "[{}, {}]",
    "null-row": json.dumps([None, *RECORDS]),
    "answer-number": _records(Answer=3),
    "answer-null": _records(Answer=None),
    "answer-list": _records(Answer=["a"]),
    "answer-object": _records(Answer={"text": "a"}),
    "answer-boolean": _records(Answer=True),
    "answer-surrogate": _records(Answer="half \ud83d").replace("\ud83d", "\\ud83d"),
    "answer-nul": _records(Answer="a\0b"),
    "answer-deep": JSON.replace('"I like it."', "[" * 400 + "]" * 400),
    "question-number": _records(Question=3.5),
    "topic-object": _records(**{"Edit Topic": {}}),
    "trait-number": _records(**{"Target Personality": 3}),
    "trait-unknown": _records(**{"Target Personality": "extravertion"}),
    "column-lost-everywhere": _without("Answer"),
    "column-lost-once": json.dumps([RECORDS[0], {"Question": "Why?"}]),
    "emoji": _records(Answer="Yes 🎉"),
}


def _frame(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame(RECORDS).assign(**changes)


def _bytes(table: pa.Table | pd.DataFrame, **options: Any) -> bytes:
    made = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table)
    buffer = io.BytesIO()
    pq.write_table(made, buffer, **options)
    return buffer.getvalue()


def _table(**columns: Any) -> pa.Table:
    return pa.table(
        {name: columns.get(name, pa.array([r[name] for r in RECORDS])) for name in NAMES}
    )


def _bomb(n_rows: int = 200_000) -> bytes:
    """Kilobytes on disk, terabytes of text once every row has its own copy."""
    long = pa.DictionaryArray.from_arrays(
        pa.array([0] * n_rows, pa.int32()), pa.array(["x" * 10**6])
    )
    short = pa.array(["openness"] * n_rows)
    table = pa.table(
        dict(
            zip(
                NAMES,
                [short, short, short, long.cast(pa.dictionary(pa.int32(), pa.string()))],
                strict=True,
            )
        )
    )
    return _bytes(table, compression="zstd")


def _many_rows() -> bytes:
    column = pa.array(["openness"] * 2_500_000).dictionary_encode()
    return _bytes(pa.table(dict.fromkeys(NAMES, column)), compression="zstd")


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


PARQUET: dict[str, Callable[[], bytes]] = {
    "other-columns": lambda: _bytes(pd.DataFrame({"a": [1], "b": ["x"]})),
    "column-lost": lambda: _bytes(_frame().drop(columns="Answer")),
    "no-rows": lambda: _bytes(_frame().head(0)),
    "no-columns": lambda: _bytes(pa.table({})),
    "answers-numbers": lambda: _bytes(_frame(Answer=[1, 2])),
    "answers-null": lambda: _bytes(_frame(Answer=[None, None])),
    "answers-lists": lambda: _bytes(_frame(Answer=[["a"], ["b"]])),
    "answers-bytes": lambda: _bytes(_frame(Answer=[b"a", b"\xff"])),
    "answers-dates": lambda: _bytes(_frame(Answer=pd.to_datetime(["2020-01-01", "2021-01-01"]))),
    "answers-objects": lambda: _bytes(_frame(Answer=[{"a": 1}, {"a": 2}])),
    "traits-numbers": lambda: _bytes(_frame(**{"Target Personality": [1, 2]})),
    "traits-unknown": lambda: _bytes(_frame(**{"Target Personality": ["extravertion", "opennes"]})),
    "emoji": lambda: _bytes(_frame(Answer=["a 🎉", "b"])),
    "expands": _bomb,
    "expands-plainly": lambda: _bytes(
        _table(Answer=pa.array(["x" * 70_000_000] * 2)), compression="zstd", use_dictionary=False
    ),
    "list-of-millions": lambda: _bytes(
        _table(Answer=pa.array([[0] * 3_000_000] * 2, pa.list_(pa.int8())))
    ),
    "millions-of-rows": _many_rows,
    "half": lambda: _bytes(_frame())[: len(_bytes(_frame())) // 2],
    "footer-lost": lambda: _bytes(_frame())[:-8],
    "last-byte-lost": lambda: _bytes(_frame())[:-1],
    "first-byte-lost": lambda: _bytes(_frame())[1:],
    "magic-only": lambda: b"PAR1PAR1",
    "magic-encrypted": lambda: _bytes(_frame())[:-4] + b"PARE",
    "footer-length-absurd": lambda: _bytes(_frame())[:-8] + b"\xff\xff\xff\x7fPAR1",
    "page-flipped": lambda: _flipped(_bytes(_frame()), 10),
    "feather": lambda: b"ARROW1\0\0" + b"\0" * 64,
    "empty": lambda: b"",
    "csv-inside": lambda: f"{HEADER}\n{ROW}\n".encode(),
}

FOLDERS: dict[str, dict[str, str]] = {
    "empty": {},
    "other-files": {"readme.md": "# data", "model.bin": "x"},
    "train-only": {"train.csv": f"{HEADER}\n{ROW}\n"},
    "test-only": {"test.csv": f"{HEADER}\n{ROW}\n"},
    "topic-in-both": {"train.csv": f"{HEADER}\n{ROW}\n", "test.csv": f"{HEADER}\n{ROW}\n"},
    "two-trains": {
        "train.csv": f"{HEADER}\n{ROW}\n", "my-train.csv": f"{HEADER}\n{ROW}\n",
        "test.csv": f"{HEADER}\n{ROW.replace('tea', 'art')}\n",
    },
    "test-broken": {"train.csv": f"{HEADER}\n{ROW}\n", "test.csv": "\0\0"},
    "one-topic": {"all.csv": f"{HEADER}\n{ROW}\n"},
}  # fmt: skip

SUFFIXES = (
    "",
    ".txt",
    ".xlsx",
    ".pkl",
    ".npy",
    ".csv.gz",
    ".zip",
    ".tar",
    ".arrow",
    ".html",
    ".yaml",
)
"""Files of kinds that are not opened, whatever is in them."""

TRAITS = (
    "", " ", "gr/it", "extra version", "extraversion\0", "E\x1b[31m", "E.E", "0", "-1",
    "open\nness", "😊", "OCEAN?", "extraversion;", "__class__", "\u202eopenness", "x" * 1_000_000,
    "null.", "o:o",
)  # fmt: skip

MAPPING_TEXTS = (
    "question", "question=", "answer=,question=a", "trait==", "trait==gr/it", "topic== ",
    "nothing=a", "question==constant", "question=a,question=b", "=a", "a=b=c", "Question=a",
    "\x1b[31m=x", "trait=", "context==x",
)  # fmt: skip

MAPPINGS: dict[str, Any] = {
    "number": {"question": 5},
    "list": {"question": ["a"]},
    "none": {"question": None},
    "unknown": {"query": "a"},
    "number-key": {5: "a"},
    "a-list": ["question", "answer"],
    "a-text": "question=a",
    "trait-constant-empty": {"trait": "="},
    "answer-constant": {"answer": "=yes"},
    "topic-constant-blank": {"topic": "=  "},
}

STRANGE = {
    "newline": "new\nline",
    "escape": "red\x1b[31m",
    "bell": "bell\x07",
    "emoji": "emoji 👩‍🚀",
    "right-to-left": "right\u202eleft",
    "mark": "mark\u200f",
    "not-utf-8": "caf\udce9",
    "blanks": "two  blanks ",
    "markup": "[bold red]a[/] {x} %s",
    "long": "n" * 200,
}
"""Names of folders; the file in them is broken, and its name must come out safely."""


def cases() -> list[Case]:
    made = [_file("csv", name, ".csv", content) for name, content in CSV.items()]
    made += [_file("tsv", name, ".tsv", CSV[name]) for name in ("nul-byte", "html")]
    for name, spoil in NOT_JSON.items():
        if name not in ("lone-surrogate", "larger-than-is-read", "utf-16"):
            # a column that is not read; 64 MiB; an encoding that is read
            made.append(_file("json", name, ".json", partial(spoil, JSON)))
    lines = "\n".join(map(json.dumps, RECORDS))
    for name in ("last-brace-lost", "nul-bytes", "field-twice", "nan", "deep-objects",
                 "pickle", "millions-of-lists", "huge-integer", "comment", "number"):  # fmt: skip
        made.append(_file("jsonl", name, ".jsonl", partial(NOT_JSON[name], lines)))
    made += [_file("json rows", name, ".json", text) for name, text in ROWS_JSON.items()]
    made += [_file("parquet", name, ".parquet", make) for name, make in PARQUET.items()]
    for suffix in SUFFIXES:
        made.append(_file("kind", suffix or "none", suffix, f"{HEADER}\n{ROW}\n"))
    for name, make in NOT_FILES.items():
        made.append(Case(f"data: {name}", "data", partial(_not_a_file, make)))
    made += [
        Case(f"data: folder {n}", "splits", partial(_folder, files)) for n, files in FOLDERS.items()
    ]
    made += [Case(f"data: named {n}", "data", partial(_named, text)) for n, text in STRANGE.items()]
    made.append(Case("data: name-too-long", "data", lambda folder: str(folder / ("n" * 3000))))
    made.append(Case("data: name-with-nul", "data", lambda folder: f"{folder}/a\0b.csv"))
    made += [Case(f"trait: {n}", "trait", lambda _, t=text: t) for n, text in enumerate(TRAITS)]
    made += [
        Case(f"columns: text {n}", "column-text", lambda _, t=t: t)
        for n, t in enumerate(MAPPING_TEXTS)
    ]
    made += [Case(f"columns: {n}", "column-mapping", lambda _, v=v: v) for n, v in MAPPINGS.items()]
    return made


def _file(
    group: str, name: str, suffix: str, content: bytes | str | Callable[[], bytes | str]
) -> Case:
    def make(folder: Path) -> str:
        return str(put(folder / f"answers{suffix}", content() if callable(content) else content))

    return Case(f"{group}: {name}", "data", make)


def _not_a_file(make: Callable[[Path], None], folder: Path) -> str:
    make(folder / "answers.csv")
    return str(folder / "answers.csv")


def _folder(files: dict[str, str], folder: Path) -> str:
    for name, text in files.items():
        put(folder / name, text)
    return str(folder / "all.csv" if "all.csv" in files else folder)


def _named(name: str, folder: Path) -> str:
    return str(put(folder / name / "answers.csv", "nothing\n"))
