"""What is not on the page, and how to get it: one line each, with the mend."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interp.base.traits import Trait
from interp.report.collect import Contents
from interp.report.wording import listing
from interp.show.plots.parts import plural
from interp.study.catalogue import Row

_NOT_DONE = "not done yet"
_STATES = {
    "running": "This run was not finished when this page was written",
    "stopped": "This run was stopped before its end",
    "failed": "This run ended with an error",
}


@dataclass(frozen=True)
class Absent:
    """Something that the page lacks.

    Attributes:
        what: the trait and its steps.
        why: the reason, in one line, with the mend where it is not a command.
        command: the command that mends it, or nothing.
    """

    what: str
    why: str
    command: str = ""


@dataclass(frozen=True)
class Gaps:
    """All that is missing, and the notice at the page's top (empty where nothing is)."""

    notice: str
    command: str
    rows: tuple[Absent, ...]


def gaps(contents: Contents, undrawn: Mapping[tuple[Trait | None, str], str]) -> Gaps:
    """What a run lacks; steps of one trait that were not reached share a line.

    Args:
        contents: the run.
        undrawn: reasons why a section could not be drawn, by trait (None: all) and section.
    """
    resume = f"interp run resume {shlex.quote(str(contents.folder.path))}"
    rows = [row for one in contents.traits for row in _of_trait(one.trait, contents, resume)]
    for (trait, section), reason in undrawn.items():
        rows.append(Absent(f"{trait or 'all traits'}: {section}", _line(reason)))
    status = str(contents.manifest.get("status"))
    notice = []
    if status != "complete":
        notice.append(f"{_STATES.get(status, f'This run is {status}')}.")
    if rows:
        count = sum(1 for _ in contents.missing) + len(undrawn)
        notice.append(f"{plural(count, 'result').capitalize()} missing; all others are shown.")
    needs = status != "complete" or any(row.command for row in rows)
    return Gaps(" ".join(notice), resume if needs else "", tuple(rows))


def _of_trait(trait: Trait, contents: Contents, resume: str) -> list[Absent]:
    """A line for each reason, with all steps that share it; what nobody reached yet comes last."""
    skipped = contents.manifest.get("skipped", {})
    shared: dict[tuple[str, str], list[Row[Any]]] = {}
    for who, row, reason in contents.missing:
        if who == trait:
            mend = "" if f"{trait}/{row.name}" in skipped else resume
            shared.setdefault((_line(reason), mend), []).append(row)
    order = sorted(shared, key=lambda key: key[0] == _NOT_DONE)
    return [Absent(f"{trait}: {listing(_grouped(shared[key]))}", *key) for key in order]


def _grouped(rows: list[Row[Any]]) -> list[str]:
    """Rows of one family as `patching (12)`."""
    families: dict[str, list[str]] = {}
    for row in rows:
        families.setdefault(row.family or row.name, []).append(row.name)
    return [
        f"{family} ({len(names)})" if len(names) > 1 else names[0]
        for family, names in families.items()
    ]


def _line(text: str) -> str:
    return " ".join(text.split())
