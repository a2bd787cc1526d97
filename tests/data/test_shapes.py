"""Data files as tools write them: read where it is clear what they hold, else named."""

import json

import pytest

from interp.data import load, load_train_test
from interp.errors import DataError

NAMES = ["Target Personality", "Edit Topic", "Question", "Answer"]
ROWS = [
    dict(zip(NAMES, ["extraversion", topic, f"What of {topic}?", f"I love {topic}, and you?"],
             strict=True))
    for topic in ("tea", "rain; in town", "dogs")
]  # fmt: skip
WANTED = [tuple(row.values()) for row in ROWS]


def csv(separator, first="", end="\n"):
    lines = [separator.join(NAMES)]
    lines += [separator.join(f'"{value}"' for value in row.values()) for row in ROWS]
    return first + end.join(lines) + end


def by_column(made):
    return json.dumps({name: made([row[name] for row in ROWS]) for name in NAMES})


LINES = "\n".join(map(json.dumps, ROWS))
SPLIT = {"columns": NAMES, "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]}
FILES = {
    "semicolons.csv": csv(";"), "tabs.csv": csv("\t"), "pipes.csv": csv("|"),
    "commas.tsv": csv(","), "sep.csv": csv(",", "sep=,\n"), "sep-semi.csv": csv(";", "sep=;\r\n"),
    "windows.csv": csv(";", end="\r\n"), "lines.json": LINES, "lines-open.json": LINES + "\n\n",
    "array.jsonl": json.dumps(ROWS), "array-indented.jsonl": json.dumps(ROWS, indent=2),
    "wrapped.json": json.dumps({"data": ROWS}), "wrapped-noted.json": json.dumps(
        {"version": "1", "n": 3, "rows": ROWS}, indent=1),
    "columns-lists.json": by_column(list),
    "columns-pandas.json": by_column(lambda values: dict(zip("012", values, strict=True))),
    "index-pandas.json": json.dumps(dict(zip("012", ROWS, strict=True))),
    "split-pandas.json": json.dumps(SPLIT),
}  # fmt: skip


def found(data):
    return [(str(row.trait), row.topic, row.question, row.answer) for row in data.rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_clear_is_read(tmp_path, name, encoding):
    (tmp_path / name).write_bytes(FILES[name].encode(encoding))
    assert found(load(tmp_path / name)) == WANTED


CHATS = {
    "messages": lambda q, a: [{"role": "user", "content": q}, {"role": "assistant", "content": a}],
    "conversations": lambda q, a: [{"from": "human", "value": q}, {"from": "gpt", "value": a}],
}
PACKED = {
    "text": json.dumps,
    "parts": lambda turns: [
        turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns
    ],
}  # of messages


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("mapped", [True, False])
def test_chats_are_read_as_question_and_answer(tmp_path, name, mapped):
    path = tmp_path / "chat.jsonl"
    rows = [{name: CHATS[name](row["Question"], row["Answer"])} for row in ROWS]
    path.write_text("\n".join(map(json.dumps, rows)))
    columns = {"question": name, "answer": name, "topic": "", "trait": "=extraversion"}
    data = load(path, columns=columns) if mapped else load(path, trait="extraversion")
    assert [(row.question, row.answer) for row in data.rows] == [one[2:] for one in WANTED]
    assert set(data.traits) == {"extraversion"}


@pytest.mark.parametrize("how", PACKED)
def test_a_chat_in_a_text_or_in_parts_is_read_as_one(tmp_path, how):
    chats = [CHATS["messages"](row["Question"], row["Answer"]) for row in ROWS]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps({"messages": PACKED[how](chat)}) for chat in chats))
    data = load(path, trait="extraversion")
    assert [(row.question, row.answer) for row in data.rows] == [one[2:] for one in WANTED]


@pytest.mark.parametrize("whole", [True, False])
def test_prompts_with_completions(tmp_path, whole):
    def said(who, text):
        return [{"role": who, "content": text}] if whole else text

    rows = [
        {"prompt": said("user", row["Question"]), "completion": said("assistant", row["Answer"])}
        for row in ROWS
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    data = load(tmp_path / "pairs.json", trait="extraversion")
    assert [(row.question, row.answer) for row in data.rows] == [one[2:] for one in WANTED]


def test_a_systems_turn_goes_before_the_question(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, *CHATS["messages"]("Tea?", "Yes.")]
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": turns}]))
    (row,) = load(tmp_path / "chat.json", trait="openness").rows
    assert (row.question, row.answer) == ("Be brief. Tea?", "Yes.")


@pytest.mark.parametrize("spelt", [str.upper, lambda name: name.lower().replace(" ", "_")])
def test_columns_spelt_otherwise_are_found(tmp_path, spelt):
    (tmp_path / "a.csv").write_text(csv(",").replace(",".join(NAMES), ",".join(map(spelt, NAMES))))
    assert found(load(tmp_path / "a.csv")) == WANTED


def test_columns_named_as_the_fields_are_read_even_where_a_trait_is_asked_for(tmp_path):
    own = ["trait", "topic", "question", "answer"]
    rows = [dict(zip(own, row.values(), strict=True)) for row in ROWS]
    rows.append(rows[0] | {"trait": "openness"})
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert found(load(tmp_path / "a.json", trait="extraversion")) == WANTED


def test_two_columns_that_could_be_one_field_are_left_to_the_mapping(tmp_path):
    names = ["trait", "Target_Personality", "Edit Topic", "Question", "Answer"]
    (tmp_path / "a.csv").write_text(",".join(names) + "\nopenness,extraversion,tea,Tea?,Yes.\n")
    with pytest.raises(DataError, match="no column 'Target Personality'"):
        load(tmp_path / "a.csv")


def test_a_developers_turn_is_a_systems(tmp_path):
    turns = [{"role": "developer", "content": "Be brief."}, *CHATS["messages"]("Tea?", "Yes.")]
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": turns}]))
    assert load(tmp_path / "chat.json", trait="openness").rows[0].question == "Be brief. Tea?"


REFUSED = {
    "two.json": (json.dumps({"train": ROWS, "test": ROWS}), "several lists of records"),
    "single.json": (json.dumps(ROWS[0]), "must be a list of records, not an object"),
    "ragged.json": (json.dumps(SPLIT | {"data": [[1]]}), "do not fit its 4 columns"),
    "uneven.json": (json.dumps({"a": [1], "b": [1, 2]}), "must be a list of records"),
    "broken-lines.json": (LINES[:-9], "line 3 is not valid JSON"),
    "broken.json": ('{"data": [' + LINES, "not valid JSON"),
    "long.jsonl": (
        json.dumps({"messages": CHATS["messages"]("a", "b") * 2}),
        "row 1: messages has 2 questions and 2 answers.*One question and one answer",
    ),
    "tool.jsonl": (
        json.dumps({"messages": [*CHATS["messages"]("a", "b"), {"role": "tool", "content": "c"}]}),
        "row 1: messages has a turn of 'tool'",
    ),
    "reversed.jsonl": (
        json.dumps({"messages": CHATS["messages"]("a", "b")[::-1]}),
        "row 1: messages has the answer before the question",
    ),
    "spelt-in-python.jsonl": (
        json.dumps({"messages": str(CHATS["messages"]("a", "b"))}),
        "1 problem: row 1: messages is no chat",
    ),
    "calls.jsonl": (
        json.dumps({"messages": [*CHATS["messages"]("a", "b")[:1], {"role": "assistant"}]}),
        "1 problem: row 1: messages is no chat",
    ),
    "mark.csv": ("\ufeff", "the file is empty"),
    "pointer.csv": ("version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull"),
    "zeros.csv": (csv(",") + "\0", "holds zero bytes"),
    "fields.csv": (csv(";") + '"one";"two"\n', "the header 4 .separated by ';'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_by_its_real_fault(tmp_path, name):
    text, said = REFUSED[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        load(tmp_path / name, trait="extraversion")


def test_what_datasets_saves_to_a_disk(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(str(tmp_path / "one"), num_shards=2)
    assert found(load(tmp_path / "one")) == WANTED
    train, test = load_train_test(tmp_path / "one", test_share=0.4, seed=0)
    assert len(train) + len(test) == 3
    both = datasets.DatasetDict({"train": rows.select([0, 1]), "test": rows.select([2])})
    both.save_to_disk(str(tmp_path / "two"))
    assert found(load(tmp_path / "two", split="test")) == WANTED[2:]
    train, test = load_train_test(tmp_path / "two", test_share=0.4, seed=0)
    assert (len(train), len(test)) == (2, 1)
    with pytest.raises(DataError, match="no split 'dev' in it"):
        load(tmp_path / "two", split="dev")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"ARROW1" + bytes(40))
    with pytest.raises(DataError, match="not a readable Arrow file"):
        load(tmp_path / "one")
