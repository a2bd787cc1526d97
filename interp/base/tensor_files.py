"""Safetensors files from strangers: the header is checked before the library maps the file.

`safetensors` itself checks that the header fits the file. Checked here besides: that the path is a
file, that no tensor stands twice in the header (the library keeps the last), and that no dimension
is larger than the file, which an empty tensor may declare. Cost: the header is parsed once more.
"""

import contextlib
import hashlib
import struct
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from interp.base.errors import InputError
from interp.base.files import check_fetched, check_regular, parse_json

_LONGEST_HEADER = 32 * 2**20
_MOST_TENSORS = 50_000
_METADATA = "__metadata__"


class _Tensor(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dtype: str
    shape: list[int] = Field(max_length=16)
    data_offsets: list[int] = Field(min_length=2, max_length=2)


def check_safetensors(path: Path | str, error: type[InputError] = InputError) -> dict[str, str]:
    """The tensors' types, by name, of a safetensors file whose header and size are sound.

    Types are the format's own words: `F32`, `F16`, `BF16`, `I64`, `BOOL`, ...

    Raises:
        InputError: (or the subclass given as `error`) if the file is missing, truncated, or is no
            safetensors file.
    """
    path = Path(path)
    check_regular(path, error)
    with contextlib.suppress(OSError), path.open("rb") as file:
        check_fetched(path, file.read(64), error)
    damaged = f"{path}: damaged or truncated safetensors file"
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        size, header = path.stat().st_size, _header(path)
    except (SafetensorError, OSError, MemoryError) as problem:
        first = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise error(f"{damaged} ({first}); copy it again") from None
    return _types(names, header, size, path, error)


def read_safetensors(
    path: Path | str, error: type[InputError] = InputError
) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a file, checked as `check_safetensors` does, and the file's SHA-256.

    The file is opened once and held in memory while it is read.

    Raises:
        InputError: (or the subclass given as `error`) as `check_safetensors` does.
    """
    path = Path(path)
    check_regular(path, error)
    try:
        content = path.read_bytes()
        check_fetched(path, content, error)
        tensors = safetensors.torch.load(content)
    except (SafetensorError, OSError, MemoryError, KeyError, RuntimeError, ValueError) as problem:
        first = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise error(
            f"{path}: damaged or truncated safetensors file ({first}); copy it again"
        ) from None
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].decode("utf-8", "replace")
    _types(list(tensors), header if length <= _LONGEST_HEADER else None, len(content), path, error)
    return tensors, hashlib.sha256(content).hexdigest()


def _types(
    names: list[str], header: str | None, size: int, path: Path, error: type[InputError]
) -> dict[str, str]:
    """The tensors' types, from a header whose every entry is checked."""
    damaged = f"{path}: damaged or truncated safetensors file"
    if len(names) > _MOST_TENSORS:
        raise error(f"{path}: holds {len(names):,} tensors; a file of weights has fewer")
    if header is None:
        raise error(f"{damaged} (header too large); copy it again")
    found = parse_json(header, f"{path}: header", error)
    types = {}
    for name in names:
        try:
            tensor = _Tensor.model_validate(found[name])
        except (ValidationError, KeyError, TypeError):
            raise error(f"{damaged} (what describes {name!r:.60}); copy it again") from None
        if any(length > size for length in tensor.shape):
            raise error(f"{path}: {name} declares shape {tensor.shape}, more than the file holds")
        types[name] = tensor.dtype
    return types


def metadata(path: Path | str) -> dict[str, Any]:
    """The strings that a checked safetensors file carries beside its tensors."""
    with safe_open(Path(path), framework="pt") as file:
        return file.metadata() or {}


def _header(path: Path) -> str | None:
    """The header's text; `None` if it is too long to be one."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            return None
        return file.read(length).decode("utf-8", "replace")
