"""The shapes in which tools write records: wrapped, column by column, as chats."""

import contextlib
from typing import Any

from interp.base.errors import DataError
from interp.base.files import strict_json

Record = dict[str, Any]
CHATS = ("messages", "conversations", "conversation")
PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
"""Columns under which chats, and prompts with their answers, usually stand."""
_USER, _ASSISTANT = ("user", "human"), ("assistant", "gpt", "model")
_SYSTEM = ("system", "developer")


def rows_of(value: Any, where: str) -> list[Any]:
    """The records of a JSON value: a list of them, wrapped in an object, or column by column.

    Raises:
        DataError: if it is none of these, or holds several lists of records.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and value:
        if {"columns", "data"} <= set(value) and isinstance(value["columns"], list):
            return _split(value, where)  # pandas' orient="split"
        lists = [n for n, one in value.items() if _is_records(one) and n not in CHATS]
        if len(lists) > 1:
            raise DataError(
                f"{where}: holds several lists of records ({', '.join(lists[:6])}); keep one in a "
                "file, or make a folder with a file for each split"
            )
        if lists:
            return list(value[lists[0]])
        if found := _from_columns(value):
            return found
    raise DataError(f"{where}: JSON must be a list of records, not {kind_of_json(value)}")


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _split(value: Record, where: str) -> list[Record]:
    names, rows = value["columns"], value["data"]
    fits = isinstance(rows, list) and all(
        isinstance(row, list) and len(row) == len(names) for row in rows
    )
    if not fits or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: its data do not fit its {len(names)} columns; save it again")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _from_columns(value: Record) -> list[Record]:
    """Records of `{column: [values]}`, `{column: {row: value}}` or `{row: {column: value}}`."""
    columns = list(value.values())
    if all(isinstance(one, list) for one in columns):
        if len({len(one) for one in columns}) != 1 or len(columns) < 2:
            return []
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not all(isinstance(one, dict) and one for one in columns):
        return []
    if all(name.lstrip("-").isdigit() for name in value):
        return columns
    if len({tuple(one) for one in columns}) != 1:
        return []
    return [{name: one[row] for name, one in value.items()} for row in columns[0]]


def kind_of_json(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def unpacked(value: Any) -> Any:
    """A value, or the chat that it spells in JSON, as tables without lists hold one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            if is_chat(found := strict_json(value)):
                return found
    return value


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns: role and content, or ShareGPT's from and value."""
    return _is_records(value) and all(_turn(one) is not None for one in value)


def said(value: Any, field: str) -> str:
    """The question, or the answer, of a chat; a system's turn goes before the question.

    Raises:
        ValueError: what of the chat is not one question and one answer.
    """
    turns = [turn for one in value if (turn := _turn(one)) is not None]
    asked = [text for who, text in turns if who in _USER]
    answered = [text for who, text in turns if who in _ASSISTANT]
    if strange := [who for who, _ in turns if who not in (*_USER, *_ASSISTANT, *_SYSTEM)]:
        raise ValueError(f"has a turn of {strange[0]!r:.40}")
    if len(asked) > 1 or len(answered) > 1:
        raise ValueError(f"has {len(asked)} questions and {len(answered)} answers")
    if asked and answered and turns[-1][0] in _USER:
        raise ValueError("has the answer before the question")
    if field == "answer":
        return answered[0] if answered else ""
    before = [text for who, text in turns if who in _SYSTEM and text.strip()]
    return " ".join([*before, *asked]) if asked else ""


def _turn(value: Record) -> tuple[str, str] | None:
    """Who speaks, and what; `None` if it is no turn."""
    for who, what in (("role", "content"), ("from", "value")):
        text = value.get(what)
        parts = text if isinstance(text, list) and _is_records(text) else []
        if parts and all(set(one) == {"type", "text"} for one in parts):
            text = "\n".join(map(str, (one["text"] for one in parts)))
        if isinstance(value.get(who), str) and isinstance(text, str):
            return value[who].lower(), text
    return None
