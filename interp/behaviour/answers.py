"""Answers in a JSON file, written whole and checked when they are read."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from interp.base.errors import RunError
from interp.base.files import read_json, write_json
from interp.base.results import from_fields
from interp.behaviour.generate import Response


def save_responses(responses: Sequence[Response], path: Path) -> None:
    """Write answers as JSON."""
    write_json(path, [asdict(response) for response in responses])


def read_responses(path: Path) -> list[Response]:
    """Read answers back.

    Raises:
        RunError: if the file is damaged.
    """
    rows = read_json(path, RunError)
    if not isinstance(rows, list):
        raise RunError(f"{path}: not the answers of a run (no list); delete it")
    return [
        from_fields(Response, row, f"{path}: answer {n}", RunError) for n, row in enumerate(rows, 1)
    ]
