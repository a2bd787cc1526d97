"""YAML files of plain values: configurations, read and written.

YAML itself keeps the last of two fields of one name; here that is an error, because the other one
was meant by somebody. A number is one as people write it: what YAML 1.1 takes for base sixty
(`1:59:59`) or eight (`010`), or for a date, is the text that stands there, and so is every field's
name. Tags that make objects are refused by PyYAML's safe loader.
"""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from interp.base.errors import InputError
from interp.base.files import read_bytes, write_text

LARGEST_CONFIG = 64 * 1024  # bytes; ours have some hundred, and PyYAML reads slowly
C = TypeVar("C", bound=BaseModel)
_TAG = "tag:yaml.org,2002:"
_OURS = {
    "int": r"[-+]?(0|[1-9][0-9]*)$",
    "float": r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(?i:inf)|\.(?i:nan))$",
    "timestamp": "",
}


class _FieldTwiceError(yaml.YAMLError):
    """A key that stands twice in one mapping; the text names it and its lines."""


class _Loader(yaml.SafeLoader):
    """Plain values only; a key that stands twice is an error, where YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused below: it is no name
            line = key.start_mark.line + 1
            if key.value in first:
                raise _FieldTwiceError(
                    f"{key.value!r:.60} stands twice (lines {first[key.value]} and {line}); "
                    "keep one of them"
                )
            first[key.value] = line
            if key.tag != f"{_TAG}merge":
                key.tag = f"{_TAG}str"
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in found if tag.removeprefix(_TAG) not in _OURS]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _form in _OURS.items():
    if _form:
        _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(_form), list("+-.0123456789"))


def read_mapping(path: Path) -> dict[str, Any]:
    """The fields of a YAML file.

    Raises:
        InputError: if the file is missing, larger than `LARGEST_CONFIG` or no YAML mapping, or a
            field stands twice.
    """
    content = read_bytes(path, InputError, limit=LARGEST_CONFIG)
    try:
        values = yaml.load(content.decode("utf-8"), _Loader) or {}
    except _FieldTwiceError as problem:
        raise InputError(f"{path}: {problem}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as problem:
        raise InputError(
            f"{path}: not a readable YAML file ({problem}); write one `field: value` a line"
        ) from None
    if not isinstance(values, dict):
        raise InputError(
            f"{path}: must be a mapping of fields, is a {type(values).__name__}; write one "
            "`field: value` a line"
        )
    return values


def read_config(kind: type[C], path: Path, changes: dict[str, Any]) -> C:
    """A YAML config, checked, with the options' values in place of its own.

    Raises:
        InputError: as `read_mapping`, or if a field is wrong.
    """
    try:
        return kind.model_validate(read_mapping(path) | changes)
    except ValidationError as problem:
        first = problem.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "config"
        raise InputError(
            f"{path}: {name}: {first['msg']}; the fields are {', '.join(kind.model_fields)}"
        ) from None


def write_mapping(path: Path, values: Mapping[str, Any], says: str) -> Path:
    """Write fields as YAML that `read_mapping` reads, below a comment of one line."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
    return write_text(path, f"# {says}\n{text}")


def meant(name: str, known: Collection[str]) -> str:
    """`; did you mean seed?`, or nothing."""
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
