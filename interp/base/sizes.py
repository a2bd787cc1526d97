"""Sizes of memory, and times, as people write them."""

import re

from interp.base.errors import InputError

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4,
          "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}  # fmt: skip


def parse(size: str | int) -> int:
    """Bytes of a size such as `4GiB`, `500 MB` or `1.5G`; text without a unit is no size.

    Raises:
        InputError: for anything else, or less than one byte.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)(b?)\s*", str(size).lower())
    unit = _UNITS.get(found[2]) if found else None
    number = int(float(found[1]) * unit) if found and unit else 0
    if isinstance(size, str) and found and not found[2] and not found[3]:
        raise InputError(f"memory size {size!r} has no unit; write it as 4GiB or 500MB")
    if number < 1:
        raise InputError(f"memory size {size!r} cannot be read; write it as 4GiB or 500MB")
    return number


def show(size: int) -> str:
    """A number of bytes for a person."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


def seconds(text: str) -> float:
    """Seconds of a time such as `30m`, `1h30m` or `90s`.

    Raises:
        InputError: for anything else, or none.
    """
    found = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", text.strip().lower())
    parts = zip(found.groups("0"), (3600, 60, 1), strict=True) if found else ()
    total = sum(int(part) * size for part, size in parts)
    if not total:
        raise InputError(f"time {text!r:.40} cannot be read; write it as 30m, 2h or 1h30m")
    return float(total)


def show_time(seconds: float) -> str:
    """Seconds for a person: `40 s`, `12 min`, `3.1 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
