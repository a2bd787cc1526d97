"""How a result shows itself in a notebook: what was measured, its noise floor, a table, a figure.

The table is the head of the result's `summary()` (means with their intervals) where it has one,
else of `to_dataframe()`. Each can take long on a large result, so each is asked only up to so many
numbers (`_MOST`); above all of these the card has no table and says so.

Figures are drawn on the roof (`interp.show.plots`), results made on the floors below, which import
nothing from there. So the roof hangs its drawers here: `interp.show.plots`, when it is imported,
gives `register` one drawer per kind of result that has a figure; without that import the same card
comes without a figure, and without matplotlib's time. Who asks for a figure
(`Result.plot`) has the roof opened for it.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import fields
from html import escape
from importlib import import_module
from typing import Any, NamedTuple

import pandas as pd
import torch

from interp.base.errors import InputError, one_line, said
from interp.base.html import card, note, table


class Picture(NamedTuple):
    """A figure as it goes into a page."""

    svg: bytes
    alt: str
    caption: str


Drawer = Callable[[Any], Picture | None]
Figure = Callable[[Any], Any]
_DRAWERS: dict[str, tuple[Drawer, Figure]] = {}
_ROOF = "interp.show.plots"
_MOST = {"summary": 20_000, "onset_summary": 2_000_000, "to_dataframe": 100_000}
_NOISE = ("noise_floor", "noise", "readout_error")
_FEW = 6


def register(kind: str, drawer: Drawer, figure: Figure) -> None:
    """Draw results of a kind.

    Args:
        kind: the kind.
        drawer: makes a card's picture; None where that cannot or should not be drawn.
        figure: makes the figure, however long that takes.
    """
    _DRAWERS[kind] = drawer, figure


def result_figure(result: Any) -> Any:
    """The figure of a result.

    Raises:
        InputError: if results of this kind have none.
    """
    import_module(_ROOF)
    if result.kind not in _DRAWERS:
        raise InputError(
            f"a {result.kind} has no figure of its own; use to_dataframe(), or interp.show.plots"
        )
    return _DRAWERS[result.kind][1](result)


def result_text(result: Any) -> str:
    """A result in a terminal: one line per field, shapes instead of tensors."""
    lines = [f"{type(result).__name__}: {result.kind}"]
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, torch.Tensor) and value.ndim:
            said = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        else:
            said = one_line(str(_short(value.item() if isinstance(value, torch.Tensor) else value)))
        lines.append(f"  {field.name:<20} {said:.76}")
    return "\n".join(lines)


def result_card(result: Any) -> str:
    """HTML of an `interp.base.results.Result`."""
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    floor = {name: values.pop(name) for name in _NOISE if name in values}
    shapes = {name: one for name, one in values.items() if isinstance(one, torch.Tensor)}
    more = None if shapes else _row(result)
    facts = {
        name.replace("_", " "): _short(one)
        for name, one in (values | (more or {})).items()
        if name not in shapes and name not in floor
    }
    measured = "Measured: " + ", ".join(
        f"{name} {list(one.shape)}" if one.ndim else name for name, one in shapes.items()
    )
    parts = [note(measured + ".")] if shapes else []
    said = [_floor(name, one, str(values.get("unit", ""))) for name, one in floor.items()]
    parts += [note(line) for line in said if line]
    parts += [_table(result) if more is None else "", _figure(result)]
    heading = str(result.kind).replace("-", " ")
    return card(heading[:1].upper() + heading[1:], type(result).__name__, facts, parts)


def result_table(result: Any) -> pd.DataFrame | None:
    """The table whose head a card shows; None for a result too large for it.

    A summary that needs more than one prompt gives way to the plain table.

    Raises:
        TypeError: if this kind of result has no table.
    """
    count = numbers(result)
    *summaries, plain = [name for name in _MOST if hasattr(result, name)]
    for name in summaries:
        if count <= _MOST[name]:
            try:
                return _asked(result, name)
            except InputError:
                continue
    return _asked(result, plain) if count <= _MOST[plain] else None


def _asked(result: Any, name: str) -> pd.DataFrame:
    made: pd.DataFrame = getattr(result, name)()
    return made


def numbers(result: Any) -> int:
    """How many numbers the tensors of a result hold."""
    values = [getattr(result, field.name) for field in fields(result)]
    return sum(one.numel() for one in values if isinstance(one, torch.Tensor))


def _row(result: Any) -> dict[str, Any] | None:
    """What a table of one row, of a result's own fields, has beside these; None for any other."""
    try:
        frame = result.to_dataframe()
    except Exception:  # none, or one that says why where the table would stand
        return None
    own = {field.name for field in fields(result)}
    if len(frame) != 1 or not own <= set(frame.columns):
        return None
    return {name: float(frame[name].iloc[0]) for name in frame.columns if name not in own}


def _table(result: Any) -> str:
    try:
        frame = result_table(result)
    except TypeError:  # this kind has none
        return ""
    except Exception as problem:  # what can be shown is shown
        return note(f"No table: {said(problem)}")
    if frame is None:
        return note(f"No table here: {numbers(result):,} numbers would take long. Ask for it.")
    return table(frame)


def _figure(result: Any) -> str:
    if result.kind not in _DRAWERS:
        return ""
    try:
        found = _DRAWERS[result.kind][0](result)
    except Exception as problem:
        return note(f"No figure: {said(problem)}")
    if found is None:
        return ""
    return (
        f'<figure><img alt="{escape(found.alt)}" '
        f'src="data:image/svg+xml;base64,{b64encode(found.svg).decode()}">'
        f"<figcaption>{escape(found.caption)}</figcaption></figure>"
    )


def _short(value: Any) -> object:
    """A field's value in a few words; of a long tuple its length."""
    if isinstance(value, tuple | list):
        if len(value) <= _FEW and all(isinstance(one, str | int | float) for one in value):
            return ", ".join(str(one) for one in value) if value else "none"
        different = len(set(map(str, value)))
        return (
            f"{len(value)}" if different == len(value) else f"{len(value)}, {different} different"
        )
    if isinstance(value, dict):
        plain = all(isinstance(one, str | int | float) for one in value.values())
        if plain and len(value) <= _FEW:
            return ", ".join(f"{name} {one}" for name, one in value.items())
        return f"{len(value)}"
    return value if isinstance(value, str | int | float | None) else type(value).__name__


def _floor(name: str, value: Any, unit: str) -> str:
    several = value if isinstance(value, tuple | list) else (value,)
    numbers = [one for one in several if one is not None]
    if not numbers:
        return ""
    what = "Readout error" if name == "readout_error" else "Noise floor"
    return f"{what}: {', '.join(f'{float(one):.2g}' for one in numbers)} {unit}".strip() + "."
