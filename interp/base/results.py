"""What every result of a trace can do: save, load, tabulate.

A result is a frozen dataclass whose fields are tensors or plain JSON values. It is stored as one
safetensors file: the tensors as tensors, everything else as JSON in the file's metadata, so that a
result is one file that is either whole or absent, and reading it cannot run code. What is read is
checked against the fields' annotations: a tensor's type and shape (sizes with one name are one
size), the types of everything else, and that no plain number is NaN or infinite. Tensors may hold
NaN, where a room says what it means there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args, get_type_hints

import pandas as pd
import torch
from jaxtyping import AbstractArray, jaxtyped
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import save

from interp.base.cards import result_card, result_figure, result_text
from interp.base.errors import InputError, InterpError
from interp.base.files import parse_json, write_bytes
from interp.base.tensor_files import check_safetensors

_FORMAT = "interp result 2"
R = TypeVar("R", bound="Result")
T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """Base of all results; subclasses add fields and `to_dataframe`."""

    kind: ClassVar[str]

    def __init_subclass__(cls, **settings: Any) -> None:
        """Keep `__repr__` from being made of every number, which `dataclass` else does."""
        super().__init_subclass__(**settings)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """One screen: shapes instead of tensors, lengths instead of long lists."""
        return result_text(self)

    def save(self, path: Path | str) -> Path:
        """Write the result to `path` (a `.safetensors` file) atomically.

        Raises:
            InputError: if `path` is a folder.
            InterpError: if a plain number is NaN or infinite: it could not be read back.
        """
        if Path(path).is_dir():
            raise InputError(f"{path} is a folder; name the file: {Path(path, 'name.safetensors')}")
        tensors, rest = {}, {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                tensors[field.name] = value.detach().cpu().contiguous()
            else:
                rest[field.name] = value
                kind: Any = type(self)
                _, wrong = _checked(_checker(kind, field.name), value)
                if wrong.startswith(_NOT_FINITE):
                    raise InterpError(f"{path}: {self.kind}: {field.name}: {wrong}; not saved")
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
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get("interp", "{}")
            metadata = parse_json(stored, f"{path}: metadata", finite=False)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, tensor in tensors.items():
            if tensor.dtype == torch.bool and (tensor.view(torch.uint8) > 1).any():
                raise InputError(f"{path}: {name} holds bytes that are neither true nor false")
        held = metadata if isinstance(metadata, dict) else {}
        if held.get("kind") != cls.kind:
            found = held.get("kind", "something else")
            raise InputError(f"{path}: holds {found}, not {cls.kind}; was it made by this version?")
        if held.get("format") != _FORMAT:
            raise InputError(
                f"{path}: its format is {str(held.get('format'))[:80]!r}, and this version reads "
                f"{_FORMAT!r}; make the result again with this version"
            )
        rest = held.get("fields")
        if not isinstance(rest, dict) or set(rest) & set(tensors):
            raise InputError(f"{path}: its fields are damaged; was it made by this version?")
        return from_fields(cls, rest | tensors, str(path), InputError)

    def to_dataframe(self) -> pd.DataFrame:
        """The result as a tidy table, one row per measured value."""
        raise TypeError(f"{type(self).__name__} does not define to_dataframe")

    def plot(self) -> Any:
        """The result's figure, a `CaptionedFigure`; `interp.show.plots` has more of them.

        Raises:
            InputError: if results of this kind have no figure.
        """
        return result_figure(self)

    def _repr_html_(self) -> str | None:
        """A card for notebooks; None, which shows the text instead, where that fails."""
        try:
            return result_card(self)
        except Exception:  # a display that raises would hide the result
            return None


@dataclass(frozen=True)
class ByMetric(Result, Generic[R]):
    """One kind of result under several metrics of the same runs, in one file.

    A subclass has the fields of `one` and `names`, the metrics by the names they were asked for
    with. Of these the tensors `stacked` have a leading axis of metrics, and `EACH` are tuples.
    """

    EACH: ClassVar[tuple[str, ...]] = ("metric", "unit", "notes", "noise_floor")
    one: ClassVar[type[Result]]
    stacked: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        names: tuple[str, ...] = self.names  # type: ignore[attr-defined]
        if {len(names)} != {len(getattr(self, name)) for name in (*self.stacked, *self.EACH)}:
            raise InputError(f"{len(names)} names, but values of another number of metrics")
        self.of(names[0])

    @classmethod
    def stack(cls: type[T], results: Mapping[str, R]) -> T:
        """Results of the same runs, by name."""
        every, kind = list(results.values()), cast(Any, cls)
        made: dict[str, Any] = {f.name: getattr(every[0], f.name) for f in fields(kind.one)}
        made |= {name: torch.stack([getattr(r, name) for r in every]) for name in kind.stacked}
        made |= {name: tuple(getattr(r, name) for r in every) for name in kind.EACH}
        found: T = kind(**made, names=tuple(results))
        return found

    def of(self, name: str) -> R:
        """The result under one metric.

        Raises:
            InputError: if it was not read.
        """
        names: tuple[str, ...] = self.names  # type: ignore[attr-defined]
        if name not in names:
            raise InputError(f"no metric {name!r} was read; there are {', '.join(names)}")
        place, one = names.index(name), cast(Any, self.one)
        taken: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(one)}
        return one(**taken | {n: taken[n][place] for n in (*self.stacked, *self.EACH)})

    def to_dataframe(self) -> pd.DataFrame:
        """The tables of all metrics, one after the other, with the column `metric`."""
        names: tuple[str, ...] = self.names  # type: ignore[attr-defined]
        tables = [self.of(name).to_dataframe().assign(metric=name) for name in names]
        return pd.concat(tables, ignore_index=True)


def from_fields(kind: type[T], values: Any, where: str, error: type[InputError]) -> T:
    """A dataclass from what a file held, its fields checked against their annotations.

    Args:
        kind: the dataclass.
        values: the fields by name; lists stand for tuples.
        where: the file, for the message.
        error: the kind of error raised.

    Raises:
        InputError: (or the subclass given as `error`) if a field is missing, unknown or of another
            type or shape, or the dataclass refuses them.
    """
    name = getattr(kind, "kind", kind.__name__)
    if not isinstance(values, dict):
        raise error(f"{where}: must hold the fields of a {name}, not a {type(values).__name__}")
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if set(values) != names:
        wrong = ", ".join(sorted(map(str, set(values) ^ names)))
        raise error(f"{where}: fields do not match a {name} result ({wrong})")
    made, sort = {field: _as_tuple(value) for field, value in values.items()}, cast(Any, kind)
    with jaxtyped("context"):
        for field, value in made.items():
            made[field], wrong = _checked(_checker(sort, field), value)
            if wrong:
                raise error(f"{where}: {field}: {wrong}")
    try:
        return kind(**made)
    except (ValueError, TypeError, IndexError, KeyError, RuntimeError, InputError) as problem:
        raise error(f"{where}: is no {name} result ({problem})") from None


_NOT_FINITE = "NaN or infinite"


@cache
def _checker(kind: Any, field: str) -> Any:
    """What a field is checked with: a jaxtyping annotation (or `None` beside it), or pydantic."""
    hint = get_type_hints(kind)[field]
    arrays = [one for one in (hint, *get_args(hint)) if _is_array(one)]
    if arrays:
        return (*arrays, type(None)) if type(None) in get_args(hint) else tuple(arrays)
    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _checked(checker: Any, value: Any) -> tuple[Any, str]:
    """A value (a whole number for a float made one), and what is wrong with it, if anything."""
    if isinstance(checker, tuple):
        if isinstance(value, checker):
            return value, ""
        is_tensor = isinstance(value, torch.Tensor)
        shape = f"{value.dtype} {list(value.shape)}" if is_tensor else type(value).__name__
        return value, f"is {shape}, not {' or '.join(one.__name__ for one in checker)}"
    try:
        return checker.validate_python(value), ""
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
    place = "".join(f"[{part}]" for part in first["loc"])
    if first["type"] == "finite_number":
        return value, f"{_NOT_FINITE} {place}".strip()
    return value, f"{place} {first['msg']}, got {first['input']!r:.60}".strip()


def _as_tuple(value: Any) -> Any:
    """JSON has lists only; results hold tuples, which are hashable and do not change."""
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
