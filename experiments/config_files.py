"""An experiment's config from a YAML file: plain values, no field twice, every field checked.

YAML itself keeps the last of two fields of one name; here that is an error, because the other one
was meant by somebody. Tags that make objects are refused by PyYAML's safe loader.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from interp.base.files import read_bytes
from interp.errors import InputError

LARGEST_CONFIG = 64 * 1024  # bytes; ours have some hundred, and PyYAML reads slowly
C = TypeVar("C", bound=BaseModel)


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
        return super().construct_mapping(node, deep)


def read_config(kind: type[C], path: Path, changes: dict[str, Any]) -> C:
    """A YAML config, checked, with the options' values in place of its own.

    Raises:
        InputError: if the file is missing, larger than `LARGEST_CONFIG` or no YAML mapping, or a
            field is wrong or stands twice.
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
    try:
        return kind.model_validate(values | changes)
    except ValidationError as problem:
        first = problem.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "config"
        raise InputError(
            f"{path}: {name}: {first['msg']}; the fields are {', '.join(kind.model_fields)}"
        ) from None
