"""Whether a run's report is the one that its results and this version's drawing would make."""

import hashlib
from pathlib import Path
from typing import Any

from interp.base.files import sha256
from interp.report.blocks import FIGURES, TABLES
from interp.study.runs import RunFolder
from interp.study.runs.step import digest, versions

_DRAWING = ("show/**/*", "report/**/*", "study/catalogue.py")
_PACKAGES = ("matplotlib", "jinja2", "pandas", "pillow")


def is_current(folder: RunFolder) -> bool:
    """Whether the report lies there as it was written, from the results that lie there now."""
    noted = folder.manifest.get("report", {})
    return noted.get("key") == _key(folder) and noted.get("files") == _files(folder)


def note(folder: RunFolder) -> None:
    """Remember what the report was made from, and its files."""
    manifest = folder.manifest
    manifest["report"] = {"key": _key(folder), "files": _files(folder)}
    folder.write_manifest(manifest)


def _key(folder: RunFolder) -> str:
    manifest = folder.manifest
    steps: dict[str, dict[str, Any]] = manifest.get("steps", {})
    shown = {
        name: (record.get("state"), record.get("content"), record.get("reason"))
        for name, record in steps.items()
    }
    facts = {name: manifest.get(name) for name in ("config", "status", "started", "seconds")}
    return digest({"steps": shown, "facts": facts, "code": _code()})


def _code() -> dict[str, str]:
    root, own = Path(__file__).parent.parent, hashlib.sha256()
    for pattern in _DRAWING:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                own.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return versions(_PACKAGES) | {"drawing": own.hexdigest()}


def _files(folder: RunFolder) -> dict[str, str]:
    paths = [folder.file("report.html"), *folder.file(FIGURES).glob("*"),
             *folder.file(TABLES).glob("*")]  # fmt: skip
    return {
        path.relative_to(folder.path).as_posix(): sha256(path)
        for path in sorted(paths)
        if path.is_file()
    }
