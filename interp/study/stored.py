"""How a row's result lies in a run folder: answers as JSON, all else as it saves itself."""

from pathlib import Path
from typing import Any, cast

from interp.behaviour.answers import read_responses, save_responses
from interp.study.catalogue import R, Row


def save(row: Row[R], result: Any, path: Path) -> None:
    """Write a row's result."""
    if row.suffix == ".json":
        save_responses(result, path)
    else:
        result.save(path)


def load(row: Row[R], path: Path) -> R:
    """Read a row's result back.

    Raises:
        InputError: if the file is missing, damaged or holds another kind of result.
    """
    found: Any = read_responses(path) if row.suffix == ".json" else row.kind.load(path)
    return cast("R", found)
