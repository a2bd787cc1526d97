"""Numbers as a reader wants them: rounded to what their interval carries, with the interval."""

from collections.abc import Collection, Mapping, Sequence
from math import isnan
from typing import Literal

from interp.base.stats import Interval
from interp.base.traits import Trait
from interp.show.plots.parts import fraction, minus, percent, plural

__all__ = [
    "Estimate", "between", "extent", "for_traits", "fraction", "listing", "minus", "number",
    "percent", "share", "verdict",
]  # fmt: skip

Estimate = tuple[float, float, float]
"""A value with the ends of its interval."""

Kind = Literal["", "+", "p"]
"""What a number is: anything, a difference (with its sign), a probability (which ends at 1)."""


def _size(value: float) -> str:
    return fraction(value) if value < 0.5 else f"{value:.2f}"


def _difference(value: float) -> str:
    """With its sign, and without one where nothing is left at this precision."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("-0.00", "+0.00") else minus(text)


_WORDED = {"": _size, "+": _difference, "p": fraction}


def share(value: float, interval: Interval) -> str:
    """`86 % [80, 90]`."""
    low, high = (percent(end).removesuffix(" %") for end in (interval.low, interval.high))
    return f"{percent(value)} [{low}, {high}]"


def number(value: float, low: float, high: float, kind: Kind = "") -> str:
    """`1.24 [1.10, 1.39]`, `+1.24 [+1.10, +1.39]` or, a probability, `0.9996 [0.98, 1.00]`."""
    texts = [_WORDED[kind](part) for part in (value, low, high)]
    if isnan(low) or isnan(high):
        return f"{texts[0]} (no interval)"
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def between(shares: Sequence[float]) -> str:
    """`0.41`, or `0.41 to 0.87` over several."""
    low, high = fraction(min(shares)), fraction(max(shares))
    return low if low == high else f"{low} to {high}"


def extent(
    values: Mapping[Trait, Estimate], kind: Kind = "", notes: Mapping[Trait, str] | None = None
) -> str:
    """The one estimate, or smallest and largest: `0.41 [0.30, 0.52] (openness) to 0.87 [...]`.

    Args:
        values: an estimate per trait, at least one.
        kind: as for `number`.
        notes: what to say of a trait's value, beside the trait.
    """
    order = sorted(values, key=lambda trait: values[trait][0])
    texts = []
    for trait in dict.fromkeys((order[0], order[-1])):
        said = [str(trait)] if len(order) > 1 else []
        said += [notes[trait]] if notes else []
        brackets = f" ({', '.join(said)})" if said else ""
        texts.append(f"{number(*values[trait], kind)}{brackets}")
    return " to ".join(texts)


def for_traits(some: Collection[Trait], of: Collection[Trait]) -> str:
    """`for all 5 traits`, `for 2 of 5 traits (openness and extraversion)`, `not for openness`."""
    if len(of) == 1:
        only = next(iter(of))
        return f"for {only}" if some else f"not for {only}"
    if not some or len(some) == len(of):
        return f"for {'all' if some else 'none of the'} {plural(len(of), 'trait')}"
    names = listing([str(trait) for trait in of if trait in some])
    return f"for {len(some)} of {plural(len(of), 'trait')} ({names})"


def verdict(
    groups: Sequence[tuple[str, Collection[Trait]]], unsettled: str, of: Collection[Trait]
) -> str:
    """What holds for how many: `No head does for 4 of 5 traits; not settled for openness.`

    Args:
        groups: what is said, and the traits that it holds for; a trait is in one group at most.
        unsettled: what is said first where most traits are in no group.
        of: all traits.
    """
    known = {trait for _, traits in groups for trait in traits}
    parts = [(phrase, f"{phrase[:1].lower()}{phrase[1:]}", traits) for phrase, traits in groups]
    parts.append((unsettled, "not settled", [trait for trait in of if trait not in known]))
    held = sorted((part for part in parts if part[2]), key=lambda part: -len(part[2]))
    said = held[0][0]
    if len(held) > 1:
        said += f" for {len(held[0][2])} of {plural(len(of), 'trait')}"
    for _, phrase, traits in held[1:]:
        said += f"; {phrase} for {listing([str(trait) for trait in of if trait in traits])}"
    return f"{said}."


def listing(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else "none"
