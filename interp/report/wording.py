"""Numbers as a reader wants them: rounded to what their interval carries, with the interval."""

from collections.abc import Sequence

from interp.plots.parts import minus, percent
from interp.stats import Interval

__all__ = ["between", "listing", "minus", "number", "percent", "share"]

_ZEROS = ("-0.00", "+0.00")


def share(value: float, interval: Interval) -> str:
    """`86 % [80, 90]`."""
    return f"{percent(value)} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def number(value: float, low: float, high: float, sign: str = "") -> str:
    """`1.24 [1.10, 1.39]`; `sign="+"` writes the plus of positive numbers."""
    texts = [f"{part:{sign}.2f}" for part in (value, low, high)]
    value_text, low_text, high_text = ("0.00" if t in _ZEROS else minus(t) for t in texts)
    return f"{value_text} [{low_text}, {high_text}]"


def between(values: Sequence[float], form: str = ".2f") -> str:
    """`0.41`, or `0.41 to 0.87` over several."""
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return minus(low if low == high else f"{low} to {high}")


def listing(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else "none"
