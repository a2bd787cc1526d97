"""The manifest of a run: what it holds, how it begins, and how facts are added.

A manifest may come from somewhere else, and much is done with its fields: the types of those that
are used are checked when it is read.
"""

import logging
import os
import platform
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interp.base.errors import RunError
from interp.base.files import read_json
from interp.study.runs.step import versions

MANIFEST = "manifest.json"
"""What was asked, with what, and how far each step came."""

_TYPES: dict[str, Any] = {
    "status": str, "job": str, "command": str, "host": str, "system": str, "started": str,
    "resumed": str, "finished": str, "seconds": int | float, "pid": int, "seed": int | None,
    "config": dict, "asked": dict, "versions": dict, "hashes": dict, "steps": dict, "skipped": dict,
    "inputs": dict, "report": dict, "voice_pairs": dict, "base_kinds": dict,
    "reproducibility": list,
}  # fmt: skip
_INNER: dict[str, Any] = {
    "steps": dict, "inputs": dict, "voice_pairs": dict, "base_kinds": str, "skipped": str,
    "versions": str | None,
}  # fmt: skip
_RECORD: dict[str, Any] = {
    "state": str, "key": str, "content": str, "by": str, "reason": str, "started": str,
    "ended": str, "seconds": int | float, "peak_mib": int | float,
}  # fmt: skip
_NAMES = {dict: "an object of fields", str: "a text", int: "a whole number", list: "a list",
          int | float: "a number", int | None: "a whole number", str | None: "a text"}  # fmt: skip
_log = logging.getLogger("interp.study.runs")


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest, its fields checked.

    Raises:
        RunError: if it is damaged.
    """
    found = read_json(path, RunError)
    if not isinstance(found, dict):
        raise RunError(f"{path}: must be an object of fields; restore the file")
    _check(found, _TYPES, path, "")
    for name, kind in _INNER.items():
        inside = found.get(name, {})
        _check(inside, dict.fromkeys(inside, kind), path, f"{name}.")
    for name, record in found.get("steps", {}).items():
        _check(record, _RECORD, path, f"steps.{name}.")
        if "state" not in record:
            raise RunError(f"{path}: steps.{name}.state is missing; restore the file")
    starts = dict(enumerate(found.get("reproducibility", [])))
    _check(starts, dict.fromkeys(starts, dict), path, "reproducibility.")
    files = found.get("report", {}).get("files", {})
    _check({"files": files}, {"files": dict}, path, "report.")
    _check(files, dict.fromkeys(files, str), path, "report.files.")
    return found


def _check(held: Mapping[Any, Any], types: Mapping[Any, Any], path: Path, place: str) -> None:
    for name, kind in types.items():
        value = held.get(name)
        if name in held and (not isinstance(value, kind) or isinstance(value, bool)):
            raise RunError(f"{path}: {place}{name} must be {_NAMES[kind]}; restore the file")


def fresh_manifest(config: dict[str, Any], job: str) -> dict[str, Any]:
    """The manifest of a run that begins."""
    return {
        "status": "running",
        "job": job,
        "command": " ".join(["interp", *map(_shown, sys.argv[1:])]),
        "config": config,
        "seed": config.get("seed"),
        "versions": versions(),
        "started": now(),
        **this_process(),
        "reproducibility": environments([]),
        "hashes": {},
        "steps": {},
        "skipped": {},
    }


def _shown(argument: str) -> str:
    """An argument as text: bytes that are no UTF-8, as a path may have, are written out."""
    return argument.encode("utf-8", "backslashreplace").decode()


def environments(before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What would have to be equal to get the same numbers: of every start that differed."""
    from interp.base.environment import reproducibility

    found = reproducibility()
    if before and found not in before:
        _log.warning("this run goes on in another environment; the manifest lists both")
    return before if found in before else [*before, found]


def merged(manifest: dict[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with `facts` added, dictionaries merged one level deep."""
    found = dict(manifest)
    for name, value in facts.items():
        old = found.get(name)
        if isinstance(old, dict) and isinstance(value, Mapping):
            value = {**old, **value}
        found[name] = value
    return found


def differences(held: dict[str, Any], asked: dict[str, Any]) -> str:
    """The first few fields in which two configurations differ."""
    names = [name for name in sorted({*held, *asked}) if held.get(name) != asked.get(name)]
    return "different " + ", ".join(names[:4])


def this_process() -> dict[str, Any]:
    """Who works on the run."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "system": platform.platform()}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
