"""What every result of a trace can do: save, load, tabulate.

A result is a frozen dataclass whose fields are tensors or plain JSON values. It is stored as one
safetensors file: the tensors as tensors, everything else as JSON in the file's metadata, so that a
result is one file that is either whole or absent, and reading it cannot run code.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from interp.errors import InputError
from interp.files import write_bytes

_FORMAT = "interp result 2"
R = TypeVar("R", bound="Result")


@dataclass(frozen=True)
class Result:
    """Base of all results; subclasses add fields and `to_dataframe`."""

    kind: ClassVar[str]

    def save(self, path: Path | str) -> Path:
        """Write the result to `path` (a `.safetensors` file) atomically."""
        tensors, rest = {}, {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                tensors[field.name] = value.detach().cpu().contiguous()
            else:
                rest[field.name] = value
        facts = {"format": _FORMAT, "kind": self.kind, "fields": rest}
        # One key: safetensors writes several in random order, and equal results are equal bytes.
        return write_bytes(path, save(tensors, {"interp": json.dumps(facts, ensure_ascii=False)}))

    @classmethod
    def load(cls: type[R], path: Path | str) -> R:
        """Read a result of this kind back.

        Raises:
            InputError: if the file is missing, damaged, or holds another kind of result.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such result file")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get("interp", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as problem:
            raise InputError(f"{path}: not a readable safetensors file ({problem})") from None
        if metadata.get("format") != _FORMAT or metadata.get("kind") != cls.kind:
            found = metadata.get("kind", "something else")
            raise InputError(f"{path}: holds {found}, not {cls.kind}; was it made by this version?")
        values = tensors | metadata["fields"]
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            wrong = ", ".join(sorted(set(values) ^ names))
            raise InputError(f"{path}: fields do not match a {cls.kind} result ({wrong})")
        return cls(**{name: _as_tuple(value) for name, value in values.items()})

    def to_dataframe(self) -> pd.DataFrame:
        """The result as a tidy table, one row per measured value."""
        raise TypeError(f"{type(self).__name__} does not define to_dataframe")


def _as_tuple(value: Any) -> Any:
    """JSON has lists only; results hold tuples, which are hashable and do not change."""
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
