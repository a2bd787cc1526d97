"""A corpus of broken files: every loader of the package, every way that we know to break its input.

`cases()` gives them all. A case writes its files into an empty folder and names a loader (see
`loaders.py`) and what to call it with; `refusals.run` does it in child processes that have little
time and memory. Two cases with the same loader and the same files are one malformed input.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Attributes:
        name: unique among all cases.
        loader: a name in `loaders.LOADERS`.
        make: writes into an empty folder; returns what the loader is called with.
    """

    name: str
    loader: str
    make: Callable[[Path], Any]


def cases() -> list[Case]:
    """All malformed inputs, in a fixed order."""
    import broken_adapters
    import broken_data
    import broken_models
    import broken_records

    rooms = (broken_models, broken_adapters, broken_data, broken_records)
    found = [case for room in rooms for case in room.cases()]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "two cases have one name"
    return found


def digest(loader: str, folder: Path, argument: Any) -> str:
    """What tells malformed inputs apart: the loader, the files' names and contents."""
    made = hashlib.sha256(loader.encode())
    for path in sorted(folder.rglob("*")):
        made.update(str(path.relative_to(folder)).encode("utf-8", "surrogateescape"))
        if path.is_symlink():
            made.update(str(path.readlink()).encode())
        elif path.is_file():
            made.update(path.read_bytes())
        else:
            made.update(oct(path.lstat().st_mode).encode())
    where = str(folder)
    made.update(repr(argument).replace(where, "").encode("utf-8", "surrogatepass"))
    return made.hexdigest()


# Good files that are broken one at a time ---------------------------------------------------


@cache
def workshop() -> Path:
    """A folder for this process, removed when it ends."""
    import atexit

    path = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def copy_of(good: Path, folder: Path) -> Path:
    """The good files linked into `folder`; `put` breaks one without touching the original."""
    where = folder / good.name
    shutil.copytree(good, where, copy_function=lambda a, b: Path(b).hardlink_to(a))
    return where


def put(path: Path, content: bytes | str) -> Path:
    """Write `content` as a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )
    return path


def edit(path: Path, **changes: Any) -> Path:
    """Change fields of a JSON object; `None` values are written as null."""
    return put(path, json.dumps(json.loads(path.read_text()) | changes))


def change(path: Path, keys: tuple[str | int, ...], value: Any) -> Path:
    """Change one value deep inside a JSON file; the class `Gone` takes it out."""
    whole = json.loads(path.read_text())
    at = whole
    for key in keys[:-1]:
        at = at[key]
    if value is Gone:
        del at[keys[-1]]
    else:
        at[keys[-1]] = value
    return put(path, json.dumps(whole))


class Gone:
    """In place of a value: the field is left out."""
