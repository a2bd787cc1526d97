"""Files that are whole when they exist: atomic writes, hashes, JSON with named errors."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from interp.errors import InputError

_TEMPORARY = ".tmp"


def write_bytes(path: Path | str, content: bytes) -> Path:
    """Write `content` to `path` by way of a temporary file beside it, synced, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(_TEMPORARY, f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def remove_temporary(folder: Path | str) -> int:
    """Remove what `write_bytes` left below `folder` when its process was killed; how many files.

    Only for a folder that nobody is writing to.
    """
    left = list(Path(folder).rglob(f".*{_TEMPORARY}"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def write_text(path: Path | str, text: str) -> Path:
    """`write_bytes` for UTF-8 text."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> Path:
    """Write `value` as indented JSON, keys in the order given, non-ASCII as it is."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str, error: type[InputError] = InputError) -> Any:
    """Read a JSON file.

    Raises:
        InputError: (or the subclass given as `error`) if the file is missing or is no JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as problem:
        raise error(f"{path}: not valid JSON ({problem})") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a string's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
