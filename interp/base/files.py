"""Files that are whole when they exist: atomic writes, hashes, JSON with named errors.

`open_plain` is the one function that opens a file whose kind is not known: a pipe would be waited
for, a device read for ever. `write_bytes` is the one that writes: into a guarded folder (a run's)
never through a link.

What is read may come from a stranger. JSON is read strictly: no field twice in an object, no NaN
or infinity, no half of a surrogate pair, no more than `LARGEST_JSON` bytes or `_MOST_VALUES`
values, which together bound what parsing takes (about 0.5 GB; a short list costs 30 times its
text).
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn

from interp.base.errors import InputError, RunError, visible

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5
LARGEST_JSON = 64 * 2**20
_MOST_VALUES = 3_000_000
_TEMPORARY = ".tmp"
_KEPT = 50  # characters of a name; with 4 bytes each, they leave room for the rest
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_FORMULA = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")  # the wide ones are read so, too
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_guarded: set[Path] = set()


def guard(folder: Path | str) -> None:
    """From here on nothing in this process is written below `folder` by way of a link."""
    _guarded.add(Path(folder).absolute())


def check_place(path: Path | str) -> None:
    """Check that `path`, if it is in a guarded folder, is reached without a link and stays there.

    Raises:
        RunError: naming the link.
    """
    path = Path(path).absolute()
    for folder in _guarded.intersection(path.parents):
        inside = path.relative_to(folder)
        if ".." in inside.parts:
            raise RunError(f"{path}: leads out of {folder}; nothing is written there")
        for place in (folder / parent for parent in inside.parents if parent.name):
            if place.is_symlink():
                raise RunError(
                    f"{place}: is a link, and nothing is written through one; remove it, or put a "
                    "folder in its place"
                )


def write_bytes(path: Path | str, content: bytes) -> Path:
    """`write_from` for bytes that are there."""

    def fill(file: BinaryIO) -> None:
        file.write(content)

    return write_from(path, fill)


def write_from(path: Path | str, fill: Callable[[BinaryIO], None]) -> Path:
    """Write what `fill` writes by way of a temporary file beside `path`, synced, then renamed.

    Both are as open to other users as the umask says, and the temporary file's name fits where
    that of `path` does.

    Raises:
        OSError: naming `path`.
        RunError: if a link of a guarded folder leads there.
    """
    path = Path(path)
    check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(temporary_name(path.name))
        try:
            with temporary.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as problem:
        problem.filename, problem.filename2 = str(path), None
        raise
    return path


def temporary_name(name: str) -> str:
    """What a file is called until it is whole."""
    return f".{name[:_KEPT]}.{secrets.token_hex(4)}{_TEMPORARY}"


def is_temporary(name: str) -> bool:
    """Whether a file of this name, or path, is one that is not whole yet."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(_TEMPORARY)


def _sync(folder: Path) -> None:
    """Make a renaming last; not every file system lets a folder be synced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


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


def write_csv(path: Path | str, table: "pd.DataFrame") -> Path:
    """Write a table without its index, safe to open in a spreadsheet.

    Text that begins like a formula (`=`, `+`, `-`, `@`, tab, after blanks too) gets an apostrophe
    before it, unless it is a number, and control characters are written out; numbers stay as they
    are.
    """
    safe = table.map(lambda cell: _cell(cell) if isinstance(cell, str) else cell)
    return write_text(path, safe.rename(columns=lambda name: _cell(str(name))).to_csv(index=False))


def _cell(text: str) -> str:
    text = visible(text)
    begins = text.lstrip(" \n\ufeff\u200b").startswith(_FORMULA)
    return f"'{text}" if begins and not _NUMBER.fullmatch(text) else text


def write_json(path: Path | str, value: Any) -> Path:
    """Write `value` as indented JSON, keys in the order given, non-ASCII as it is."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(
    path: Path | str, error: type[InputError] = InputError, *, limit: int = LARGEST_JSON
) -> Any:
    """Read a JSON file.

    Raises:
        InputError: (or the subclass given as `error`) if the file is missing, has more than `limit`
            bytes, or is no strict JSON.
    """
    content = read_bytes(path, error, limit=limit)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not valid JSON ({problem})") from None
    return parse_json(text, str(path), error)


def read_bytes(path: Path | str, error: type[InputError], *, limit: int) -> bytes:
    """The content of a regular file.

    Raises:
        InputError: (or the subclass given as `error`) if it is missing, no file, or too large.
    """
    try:
        with open_plain(path, error) as file:
            content = file.read(limit + 1)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None
    if len(content) > limit:
        raise error(f"{path}: larger than the {limit / 2**20:.3g} MiB that are read of such a file")
    check_fetched(path, content, error)
    return content


def check_fetched(path: Path | str, begins: bytes, error: type[InputError]) -> None:
    """Check that a file that begins so is not what Git LFS leaves in place of one.

    Raises:
        InputError: (or the subclass given as `error`) if it is.
    """
    if begins.startswith(b"version https://git-lfs."):
        raise error(f"{path}: is a pointer of Git LFS in place of the file; fetch it: git lfs pull")


def open_plain(path: Path | str, error: type[InputError] = InputError) -> io.BufferedReader:
    """A regular file, opened for reading bytes.

    Raises:
        InputError: (or the subclass given as `error`) if it is missing or anything but a file.
        OSError: if it cannot be opened.
    """
    check_regular(path, error)
    # Should a pipe take its place in this moment, the opening does not wait for it.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise error(f"{path}: is no file (a folder, a pipe or a device); name a file")
    return file


def check_regular(path: Path | str, error: type[InputError]) -> None:
    """Check that `path` is a file: a pipe would be waited for, a device read for ever.

    Raises:
        InputError: (or the subclass given as `error`) if it is missing or anything but a file.
    """
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as problem:  # a circle of links; a zero byte in the name
        raise error(f"{path}: cannot be read ({problem})") from None
    if not stat.S_ISREG(mode):
        raise error(f"{path}: is no file (a folder, a pipe or a device); name a file")


def parse_json(
    text: str, where: str, error: type[InputError] = InputError, *, finite: bool = True
) -> Any:
    """Read JSON text strictly.

    Args:
        text: the JSON.
        where: what it came from, for the message.
        error: the kind of error raised.
        finite: whether NaN and infinity are refused.

    Raises:
        InputError: (or the subclass given as `error`) if it is no JSON, repeats a field, or holds a
            number or a character that JSON cannot hold.
    """
    try:
        found = strict_json(text, finite=finite)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise error(f"{where}: holds half a surrogate pair; save the text as UTF-8") from None
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not valid JSON ({problem})") from None
    return found


def strict_json(text: str, *, finite: bool = True) -> Any:
    """`json.loads` for text that may come from a stranger; halves of surrogate pairs pass.

    Raises:
        ValueError, RecursionError: if it is no JSON, repeats a field, holds a number that JSON
            cannot hold, or more values than fit into memory.
    """
    if sum(map(text.count, ",[{")) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES:,} values; split the file")
    numbers: dict[str, Any] = {"parse_constant": _no_number, "parse_float": _finite}
    return json.loads(text, object_pairs_hook=_object, **(numbers if finite else {}))


def kind_of(path: Path | str) -> Literal["file", "folder", "other", "absent"]:
    """What stands at `path`; a name that no file can have is absent, a circle of links is other."""
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "absent"
    except OSError as problem:
        return "absent" if problem.errno == errno.ENAMETOOLONG else "other"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def where_else(folder: Path | str, name: str) -> str:
    """Of a file that is not in `folder`: which folders inside have one; empty if none has."""
    inside = sorted(path.parent.name for path in Path(folder).glob(f"*/{name}"))[:_SHOWN]
    return f"{', '.join(inside)} in it has one: name that folder" if inside else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"field {twice!r:.60} stands twice")
    return found


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"number {digits:.20} is out of range")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def sha256(path: Path | str, error: type[InputError] = InputError) -> str:
    """Hex SHA-256 of a file's content.

    Raises:
        InputError: (or the subclass given as `error`) if it is missing, no file, or unreadable.
    """
    try:
        with open_plain(path, error) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a string's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
