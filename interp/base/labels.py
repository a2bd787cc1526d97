"""What is known of a label beside its name: a prompt, markers and items, from one JSON file.

`labels.json` holds those of the Big Five; their 120 items are in `interp/measures/assets`. The low
pole of each (`introversion`) has its trait's markers the other way round. A file of the same form
makes any other label known, for as long as the process runs: see `add`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interp.base.errors import DataError, TraitError
from interp.base.files import read_json
from interp.base.traits import LOW, Trait

Text = Annotated[str, Field(pattern=r"\S", max_length=1000)]
_ADDED: dict[Trait, "Label"] = {}


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Text
    facet: Text
    key: Literal[1, -1]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prompt: Text
    markers: list[tuple[Text, Text]] = Field(min_length=1, max_length=1000)
    items: list[_Item] = Field(default=[], max_length=1000)


class _File(BaseModel):
    labels: dict[Trait, _Stored] = Field(min_length=1)


@dataclass(frozen=True)
class Label:
    """What is known of one label.

    Attributes:
        name: the label.
        prompt: a sentence that asks a model to answer so.
        markers: pairs of adjectives, of who has much of it and who has little.
        items: statements `(text, facet, key)`; agreement raises (`key` 1) or lowers (-1) the score.
    """

    name: Trait
    prompt: str
    markers: tuple[tuple[str, str], ...]
    items: tuple[tuple[str, str, int], ...]


def add(path: Path | str) -> tuple[Trait, ...]:
    """Make the labels of a file known: `{"labels": {"humour": {"prompt": …, "markers": …}}}`.

    Returns:
        The labels that the file holds.

    Raises:
        DataError: if the file is missing, has a wrong field, or a label that is known already
            otherwise.
    """
    found = _read(path)
    for name, label in found.items():
        if _known().get(name, label) != label:
            raise DataError(f"{path}: {name} is known already; give the label another name")
    _ADDED.update(found)
    return tuple(found)


def of(trait: Trait | str) -> Label:
    """What is known of a label.

    Raises:
        TraitError: if nothing is.
    """
    label = Trait.parse(trait)
    found = _known().get(label)
    if found is None:
        raise TraitError(
            f"{label}: no prompt and no markers of it are known; write them into a file and name "
            "that first: interp.base.labels.add(FILE)"
        )
    return found


def added() -> tuple[Label, ...]:
    """The labels that `add` made known."""
    return tuple(_ADDED.values())


@cache
def _shipped() -> Mapping[Trait, Label]:
    high = _read(Path(__file__).with_name("labels.json"))
    return MappingProxyType(high | {LOW[trait]: _pole(label) for trait, label in high.items()})


def _pole(label: Label) -> Label:
    """What is known of the low pole of a Big Five trait."""
    markers = tuple((low, high) for high, low in label.markers)
    few = ", ".join(word for word, _ in markers[:5])
    prompt = f"Answer as a person with a low level of {label.name}: {few}."
    return Label(LOW[label.name], prompt, markers, ())


def _known() -> dict[Trait, Label]:
    return {**_shipped(), **_ADDED}


def _read(path: Path | str) -> dict[Trait, Label]:
    try:
        stored = _File.model_validate(read_json(path, DataError)).labels
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: holds no labels ({field}: {first['msg']})") from None
    return {
        name: Label(
            name, one.prompt, tuple(one.markers), tuple((i.text, i.facet, i.key) for i in one.items)
        )
        for name, one in stored.items()
    }
