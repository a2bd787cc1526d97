"""Two runs beside each other: rates with their differences, what each answers, what was asked.

Read from results and from the summaries that each run's report has written; nothing is traced or
drawn. Answers of two runs are taken as independent: where they are to the same questions, an
interval of a difference is too wide.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from interp.base.errors import RunError
from interp.base.files import write_text
from interp.base.outcomes import Asked, reworded
from interp.base.traits import Trait
from interp.report.blocks import TABLES
from interp.report.collect import Contents, collect
from interp.report.effect import apart, points
from interp.report.facts import settings
from interp.report.page import environment, policy, sheet
from interp.report.sections.rates import estimate
from interp.report.summary import SUMMARY
from interp.report.wording import share
from interp.study.catalogue import RATES
from interp.study.runs import RunFolder


@dataclass(frozen=True)
class Line:
    """Something of both runs, as words; `apart` is the second minus the first, where it is one."""

    what: str
    first: str
    second: str
    apart: str = ""


@dataclass(frozen=True)
class Compared:
    """Two runs beside each other.

    Attributes:
        names: of the runs.
        rates: share of tuned answers with an emoji, a line per label that either has.
        numbers: the same for programs: `first`, `second` and `difference` (second minus first),
            each as `value`, `low`, `high` and `n`; None where it was not measured, and of two
            outcomes.
        findings: a line per question of the summaries.
        asked: settings that differ.
        outcome: what the first traced, which the page speaks of.
    """

    names: tuple[str, str]
    rates: tuple[Line, ...]
    numbers: list[dict[str, Any]]
    findings: tuple[Line, ...]
    asked: tuple[Line, ...]
    outcome: Asked


def compare(first: Path | str, second: Path | str) -> Compared:
    """Compare two runs whose reports are written.

    Raises:
        RunError: if one is no run folder, or has no report.
    """
    runs = tuple(collect(RunFolder.open(run)) for run in (first, second))
    found = [_summary(run) for run in runs]
    config = [dict(settings({"config": run.manifest.get("config", {})})) for run in runs]
    for one in config:
        one.pop("command", None)
    rates, numbers = _rates(*runs)
    return Compared(
        names=(str(first), str(second)),
        rates=tuple(rates),
        numbers=numbers,
        findings=_beside(*found, differing=False),
        asked=_beside(*config, differing=True),
        outcome=runs[0].asked,
    )


def write(compared: Compared, folder: Path) -> Path:
    """Write the page of a comparison beside the first run's report; return its path."""
    style = sheet(())
    page = (
        environment(compared.outcome)
        .get_template("compare.html")
        .render(compared=compared, style=Markup(style), policy=policy(style, ""))
    )
    name = Path(compared.names[1]).resolve().name
    return write_text(folder / f"compare-{name}.html", page)


def _summary(contents: Contents) -> dict[str, str]:
    path = contents.folder.file(TABLES, SUMMARY)
    if not path.is_file():
        raise RunError(
            f"{contents.folder}: its report is not there; write it first: interp report "
            f"{contents.folder}"
        )
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["question"]: f"{row['verdict']} {row['numbers']}" for row in csv.DictReader(file)
        }


def _rates(one: Contents, other: Contents) -> tuple[list[Line], list[dict[str, Any]]]:
    first, second = one.having(RATES), other.having(RATES)
    lines, numbers = [], []
    for label in dict.fromkeys([*first, *second]):
        said, difference = "", None
        mine, theirs = first.get(label), second.get(label)
        if mine is not None and theirs is not None and one.asked == other.asked:
            found = apart(
                theirs.response_esr, theirs.response_interval,
                mine.response_esr, mine.response_interval,
            )  # fmt: skip
            n = min(mine.n_responses, theirs.n_responses)
            said = points(found)
            difference = dict(zip(("value", "low", "high"), found, strict=True)) | {"n": n}
        shares = [_share(run, label, one.asked == other.asked) for run in (one, other)]
        lines.append(Line(str(label), shares[0], shares[1], said))
        both = {"first": estimate(mine), "second": estimate(theirs), "difference": difference}
        numbers.append({"trait": str(label), **both})
    return lines, numbers


def _share(run: Contents, label: Trait, same: bool) -> str:
    """A run's rate; of which outcome, where the two runs traced different ones."""
    found = run.having(RATES).get(label)
    if found is None:
        return "not measured"
    of = "" if same else reworded(" (with an emoji)", run.asked.name)
    return share(found.response_esr, found.response_interval) + of


def _beside(first: dict[str, str], second: dict[str, str], *, differing: bool) -> tuple[Line, ...]:
    names = dict.fromkeys([*first, *second])
    lines = (Line(name, first.get(name, ""), second.get(name, "")) for name in names)
    return tuple(line for line in lines if not differing or line.first != line.second)
