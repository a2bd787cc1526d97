"""Loading opinion QA: every format gives the same rows; every bad file gives a one-line error."""

import hashlib
import json
from pathlib import Path

import emoji as reference
import pandas as pd
import pytest

from interp.base.traits import Trait
from interp.data import (
    ColumnMap,
    Constant,
    OpinionQA,
    OpinionRow,
    check_splits,
    load,
    load_train_test,
    save,
)
from interp.data.checks import without_emojis
from interp.emoji import find
from interp.errors import DataError, TraitError

ROWS = [
    ("extraversion", "parties", 'What of "parties"?', "I love them, all of them!\nEvery week."),
    ("Openness", "art", "What of art?", "It opens worlds; © 2024, 100% naïve."),
    ("N", "exams", "What of exams, really?", "They worry me.\t«So much»"),
]
COLUMNS = ["Target Personality", "Edit Topic", "Question", "Answer"]
EXPECTED = tuple(OpinionRow(Trait.parse(t), topic, q, a) for t, topic, q, a in ROWS)


def frame(rows: list[tuple[str, ...]] = ROWS) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def write(path: Path, rows: list[tuple[str, ...]] = ROWS) -> Path:
    """A data file, made by pandas rather than by the package."""
    table = frame(rows)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        table.to_csv(path, index=False, sep="\t")
    elif path.suffix == ".json":
        table.to_json(path, orient="records")
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        table.to_parquet(path)
    return path


def message(call, *arguments, **options) -> str:
    """The text of the `DataError` that a call raises: always one line."""
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"qa{suffix}")
    data = load(path)
    assert data.rows == EXPECTED
    assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert data.source == str(path)
    assert data.cleaning.rows_read == len(data) == 3
    assert data.topics == ("parties", "art", "exams")
    assert data.traits == (Trait.OPENNESS, Trait.EXTRAVERSION, Trait.NEUROTICISM)
    assert data.for_trait("E").rows == EXPECTED[:1]
    assert data.to_dataframe()["answer"].tolist() == [row[3] for row in ROWS]
    assert data.rows_sha256 == load(write(tmp_path / "other.json")).rows_sha256


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_save_is_read_back(tmp_path: Path, suffix: str) -> None:
    data = load(write(tmp_path / "qa.csv"))
    again = load(save(data, tmp_path / "out" / f"copy{suffix}"))
    assert again.rows == data.rows
    assert again.rows_sha256 == data.rows_sha256


def test_save_refuses_other_formats(tmp_path: Path) -> None:
    data = load(write(tmp_path / "qa.csv"))
    assert ".csv" in message(save, data, tmp_path / "qa.pkl")


def test_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write(tmp_path / "qa.csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).rows == EXPECTED


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.csv", b"", ["empty"]),
        ("a.csv", b"Question,Answer\n", ["no data rows"]),
        ("a.json", b"[]", ["no data rows"]),
        ("a.csv", b"Question,Answer\nWhy?,So.\n", ["'Target Personality'", "'Question', 'Answer'"]),
        ("a.csv", b'Q,Question\n1,2\n3,"open\n4,5\n', ["row 2", "line 4", "quote"]),
        ("a.csv", b'Q,A\n1,"two"x,3\n', ["row 1", "quote"]),
        ("a.csv", b"Q,A\n1,2\n1,2,3\n", ["row 2", "3 fields", "header 2"]),
        ("a.csv", b"Q,A,Q\n1,2,3\n", ["'Q'", "twice"]),
        ("a.csv", "Q,A\nWhy?,Na\xefve\n".encode("latin-1"), ["UTF-8", "0xef", "line 2"]),
        ("a.csv", "Q,A\nWhy?,So\n".encode("utf-16")[:-1], ["UTF-16", "UTF-8"]),
        ("a.json", b'[{"Question": "Why?", "Ans', ["JSON"]),
        ("a.json", b'[{"Question": "Why?"}', ["JSON", "ends too early"]),
        ("a.json", b'{"Question": "Why?"}', ["list of records", "object"]),
        ("a.json", b'["Why?"]', ["row 1", "a string"]),
        ("a.json", b"[" * 100_000, ["JSON"]),
        ("a.jsonl", b'{"Question": "Why?"}\n{"Question"\n', ["line 2", "JSON"]),
        ("a.parquet", b"PAR1 and then nothing", ["parquet"]),
        ("a.xlsx", b"PK", [".xlsx", ".csv"]),
        ("a.pkl", b"PK", [".pkl", ".csv"]),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, content: bytes, parts: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    text = message(load, path)
    assert text.startswith(str(path))
    for part in parts:
        assert part in text


def test_missing_sources(tmp_path: Path) -> None:
    assert "no such file" in message(load, tmp_path / "none.csv")
    assert "no such file" in message(load, "none.csv")
    assert "no such file" in message(load, "folder/none.csv")
    assert "no data file" in message(load, tmp_path)


def test_row_problems_are_collected_with_their_data_rows(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        ("optimism!", "art", "Why?", "So."),
        ("openness", "art", "Why?", "  "),
        ("openness", "art", "", "So."),
        ("openness", "art", "Why so?", "Nice \U0001f600 and \u2764\ufe0f"),
        ROWS[0],
        ("openness", "art", "Why not?", "Great \U0001f44d\U0001f3fd"),
        ("", "", "Why then?", "So."),
    ]
    text = message(load, write(tmp_path / "qa.csv", rows))
    assert "8 problems" in text
    assert "row 4: unknown trait 'optimism!'" in text
    assert "row 5: empty answer" in text
    assert "row 6: empty question" in text
    assert "row 7: emoji \U0001f600 \u2764\ufe0f in the answer" in text
    assert "row 8: the same as row 1" in text
    assert "row 9" not in text
    assert "and 3 more" in text
    assert "on_emoji" in text
    assert "on_duplicate" in text


def test_values_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "qa.json"
    record = dict(zip(COLUMNS, ROWS[0], strict=True))
    path.write_text(
        json.dumps(
            [
                record | {"Answer": 3},
                record | {"Answer": None},
                record | {"Answer": "\ud83d"},
                {"Answer": "x"},
            ]
        )
    )
    text = message(load, path)
    assert "row 1: answer is 3, not text" in text
    assert "row 2: empty answer" in text
    assert "row 3: answer has half a surrogate pair" in text
    assert "row 4: empty question" in text


def test_cleaning_takes_out_emojis_and_counts_them(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        (
            "openness",
            "art",
            "Why?",
            "Yes \U0001f600, and \U0001f468\u200d\U0001f469\u200d\U0001f467 no.",
        ),
        ("openness", "art", "Why so?", "\U0001f1e9\U0001f1ea 1\ufe0f\u20e3"),
        ("openness", "art", "Why?", "Yes, and no."),
    ]
    path = write(tmp_path / "qa.csv", rows)
    text = message(load, path, on_emoji="clean")
    assert "row 6: the same as row 4" in text
    data = load(path, on_emoji="clean", on_duplicate="drop")
    assert [row.answer for row in data.rows] == [*(row[3] for row in ROWS), "Yes, and no."]
    assert vars(data.cleaning) == {
        "rows_read": 6,
        "other_traits": 0,
        "emojis_removed": 4,
        "answers_cleaned": 2,
        "emptied_dropped": 1,
        "duplicates_dropped": 1,
    }


@pytest.mark.parametrize(
    ("text", "clean", "count"),
    [
        ("No emoji  here ", "No emoji  here ", 0),
        (
            "\U0001f389\U0001f384 Get ready! \U0001f384\U0001f389\nNow \U0001f525.",
            "Get ready!\nNow.",
            5,
        ),
        ("a\U0001f525b", "ab", 1),
        ("a \U0001f525 b", "a b", 1),
        ("- one \u2705\n- two", "- one\n- two", 1),
        ("(\U0001f525)", "()", 1),
        ("I \u2764 you", "I you", 1),
        ("2\ufe0f\u20e3 is 2\u20ac \u00a9", "is 2\u20ac \u00a9", 1),
    ],
)
def test_without_emojis(text: str, clean: str, count: int) -> None:
    assert without_emojis(text) == (clean, count)
    assert find(clean) == []


def test_one_trait_alone_is_checked_and_kept(tmp_path: Path) -> None:
    rows = [*ROWS, ("openness", "art", "Why?", "Well \U0001f600")]
    path = write(tmp_path / "qa.csv", rows)
    data = load(path, trait="extraversion")
    assert data.rows == EXPECTED[:1]
    assert (data.cleaning.rows_read, data.cleaning.other_traits) == (1, 3)
    assert "row 4" in message(load, path, trait="openness")
    assert "agreeableness" in message(load, path, trait="A")
    with pytest.raises(TraitError):
        load(path, trait="optimism!")


def test_mapped_columns(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.json"
    records = [
        {"instruction": "Sum up.", "input": " ", "output": "Fine."},
        {"instruction": "Sum up.", "input": "A long text.", "output": "Short."},
    ]
    path.write_text(json.dumps(records))
    wanted = (
        OpinionRow(Trait.EXTRAVERSION, "Sum up.", "Sum up.", "Fine."),
        OpinionRow(Trait.EXTRAVERSION, "Sum up.\nA long text.", "Sum up.\nA long text.", "Short."),
    )
    typed = ColumnMap(
        question="instruction",
        answer="output",
        topic=None,
        trait=Constant("extraversion"),
        context="input",
    )
    plain = {
        "question": "instruction",
        "answer": "output",
        "topic": None,
        "trait": "=extraversion",
        "context": "input",
    }
    written = "question=instruction, answer=output, topic=, trait==extraversion, context=input"
    assert load(path, columns=typed).rows == wanted
    assert load(path, columns=plain).rows == wanted
    assert load(path, columns=ColumnMap.parse(written)).rows == wanted
    assert {row.topic for row in load(path, columns=plain | {"topic": "=text"}).rows} == {"text"}


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"questions": "instruction"}, "'questions'"),
        ({"question": ""}, "question"),
        ({"answer": "=yes"}, "answer"),
    ],
)
def test_mappings_that_cannot_be(columns: dict[str, str | None], part: str) -> None:
    assert part in message(ColumnMap.of, columns)
    assert "field=column" in message(ColumnMap.parse, "question")


def test_constants_are_checked_before_any_row() -> None:
    with pytest.raises(TraitError, match="'optimism!'"):
        ColumnMap.parse("trait==optimism!")
    with pytest.raises(TraitError):
        ColumnMap(trait=Constant(""))
    assert "topic is empty" in message(ColumnMap, topic=Constant(" "))


def test_folder_with_splits(tmp_path: Path) -> None:
    train, test = write(tmp_path / "opinion_train.csv", ROWS[:2]), ROWS[2:]
    write(tmp_path / "opinion_test.csv", test)
    (tmp_path / "README.md").write_text("no data")
    assert load(tmp_path, split="train").rows == EXPECTED[:2]
    assert load(tmp_path, split="train").sha256 == hashlib.sha256(train.read_bytes()).hexdigest()
    parts = load_train_test(tmp_path, test_share=0.5, seed=0)
    assert [part.rows for part in parts] == [EXPECTED[:2], EXPECTED[2:]]
    assert "which split" in message(load, tmp_path)
    assert "'dev'" in message(load, tmp_path, split="dev")
    assert "no splits" in message(load, train, split="train")
    write(tmp_path / "train.json")
    assert "keep one" in message(load, tmp_path, split="train")


def test_shards_are_one_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train-00000-of-00002.parquet", ROWS[:2])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", ROWS[2:])
    data = load(tmp_path, split="train")
    assert data.rows == EXPECTED
    write(tmp_path / "data" / "train-00001-of-00002.parquet", ROWS[1:])
    text = message(load, tmp_path, split="train")
    assert "row 1: the same as row 2 of " in text
    assert load(tmp_path, split="train", on_duplicate="drop").cleaning.duplicates_dropped == 1


def test_a_topic_on_both_sides_is_an_error(tmp_path: Path) -> None:
    train = load(write(tmp_path / "train.csv", ROWS))
    other = ("openness", " Parties ", "Which parties?", "Wild ones.")
    test = load(write(tmp_path / "test.csv", [other]))
    text = message(check_splits, train, test)
    assert "1 topic" in text
    assert "'parties'" in text
    assert "'parties'" in message(load_train_test, tmp_path, test_share=0.5, seed=0)
    check_splits(train, train.only(()))


def test_real_answers(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "machine_mindset" / "en_energy_extraversion.json"
    columns = ColumnMap.parse("question=instruction,answer=output,topic=,trait==extraversion")
    records = json.loads(path.read_text(encoding="utf-8"))
    (tmp_path / "begin.json").write_text(json.dumps(records[:200]))
    text = message(load, tmp_path / "begin.json", columns=columns)
    assert "row 161: emoji \U0001f389" in text

    data = load(path, columns=columns, on_emoji="clean", on_duplicate="drop")
    assert data.cleaning.rows_read == len(records) == 2050
    # the library's own list of emojis, less the signs that count as text here
    text_signs = set("\u00a9\u00ae\u2122")
    dirty = [
        any(match["emoji"] not in text_signs for match in reference.emoji_list(record["output"]))
        for record in records
    ]
    assert data.cleaning.answers_cleaned == sum(dirty) > 0
    assert not any(find(row.answer) for row in data.rows)
    clean = {
        (record["instruction"].strip(), record["output"].strip())
        for record, is_dirty in zip(records, dirty, strict=True)
        if not is_dirty
    }
    assert clean <= {(row.question, row.answer) for row in data.rows}
    assert len(data) == 2050 - data.cleaning.duplicates_dropped - data.cleaning.emptied_dropped
    assert isinstance(data, OpinionQA)
    assert len(data.topics) == len({" ".join(r.question.split()).casefold() for r in data.rows})
