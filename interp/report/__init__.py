"""The report: a run folder in, one self-contained HTML page (and its figures and tables) out.

`write` draws every figure into `RUN/figures` (PNG and SVG), writes every table to `RUN/tables`
(CSV) and the page to `RUN/report.html`. Each section asks one question, answers it in two
sentences computed from the results, and shows tables and figures after. What is missing from the
run, or cannot be drawn, is said with its reason and the mend; what is there, is shown. Cost: some
6 s per trait, most of it bootstraps and figures.
"""

import os
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from interp.base.errors import said
from interp.base.files import check_place, write_text
from interp.base.outcomes import reworded
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.report.absent import gaps
from interp.report.blocks import FIGURES, TABLES, Face, Maker, Section
from interp.report.collect import Contents, TraitResults, collect
from interp.report.effect import fold, unexplained
from interp.report.lighten import lighten
from interp.report.page import page
from interp.report.retelling import retell
from interp.report.sections import rates
from interp.report.summary import SUMMARY, summarise
from interp.show.plots.style import among
from interp.study import catalogue
from interp.study.runs import RunFolder

__all__ = ["PAGE", "notice", "outcome", "summary", "write"]

PAGE = "report.html"


def write(
    run: RunFolder | Path | str, progress: Progress | None = None, *, pdf: bool = False
) -> Path:
    """Write a run's report, figures and tables; return the page's path.

    Args:
        run: a run folder, finished or not.
        progress: called with (label, sections done, sections in all).
        pdf: whether to write each figure as a PDF too, for a paper.

    Raises:
        RunError: if `run` is no run folder.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    contents = collect(folder)
    with among(contents.labels):
        return _written(folder, contents, progress, pdf)


def _written(folder: RunFolder, contents: Contents, progress: Progress | None, pdf: bool) -> Path:
    for name in (FIGURES, TABLES):
        check_place(folder.path / name / "*")
    maker = Maker(folder.path, pdf)
    sections: list[Section] = []
    undrawn: dict[tuple[Trait | None, str], str] = {}
    names, nothing = catalogue.sections(), unexplained(contents)
    traced = contents.asked.name
    for done, name in enumerate(names):
        if progress:
            progress("report", done, len(names))
        face: Face = catalogue.section(name).FACE
        section, reasons = _made(face, contents, maker)
        if section:
            section.key, section.short = name, face.name
            if face.trace:
                fold(section, contents, nothing)
            retell(section, traced)
            sections.append(section)
        short = reworded(face.name, traced).lower()
        undrawn |= {(trait, short): reason for trait, reason in reasons.items()}
    lighten(sections, folder.path / FIGURES)
    if progress:
        progress("report", len(names), len(names))
    top = summarise(contents, sections)
    if top:
        maker.csv(Path(SUMMARY).stem, top.to_dataframe())
    return write_text(folder.path / PAGE, page(contents, top, sections, gaps(contents, undrawn)))


def _made(
    face: Face, contents: Contents, maker: Maker
) -> tuple[Section | None, dict[Trait | None, str]]:
    """A section; where a result cannot be drawn, the section of the other traits, and why.

    A file of another version may hold values that fit nothing; that must not cost the page, so what
    comes of values is said on it. What no file can cause passes: a full disk, a missing name.
    """

    def made(traits: tuple[TraitResults, ...]) -> tuple[Section | None, str]:
        try:
            return face.make(replace(contents, traits=traits), maker), ""
        except (OSError, MemoryError, ImportError, NameError):
            raise
        except Exception as problem:
            if os.environ.get("INTERP_DEBUG"):
                raise
            return None, _reason(problem)

    section, why = made(contents.traits)
    if not why:
        return section, {}
    alone: dict[Trait | None, str] = {one.trait: made((one,))[1] for one in contents.traits}
    reasons = {trait: reason for trait, reason in alone.items() if reason}
    if reasons:
        section, why = made(tuple(one for one in contents.traits if one.trait not in reasons))
    if why:  # each can be drawn, together they cannot
        reasons[None] = why
    return section, reasons


def _reason(problem: Exception) -> str:
    """What went wrong while drawing, and where: the file's doing, or ours."""
    ours = Path(__file__).parents[1]
    frames = traceback.extract_tb(problem.__traceback__)
    last = [frame for frame in frames if Path(frame.filename).is_relative_to(ours)][-1]
    return (
        f"cannot be drawn ({said(problem)}, in {Path(last.filename).name}:{last.lineno}); is the "
        "file of this version? If it is, the fault is interp's: INTERP_DEBUG=1 shows it whole"
    )


def summary(run: RunFolder | Path | str) -> pd.DataFrame:
    """One row per trait: share of answers with an emoji, tuned and base, with intervals.

    Raises:
        RunError: if `run` is no run folder.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    return rates.summary(collect(folder))


def numbers(run: RunFolder | Path | str) -> list[dict[str, Any]]:
    """One dictionary per trait: the share of answers with an emoji of `tuned` and `base`, each as
    `value`, `low`, `high` (95 %) and `n` (answers); `merge_error` and `adapter_effect` likewise,
    in nats of KL per position, without an interval.

    Raises:
        RunError: if `run` is no run folder.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    return rates.numbers(collect(folder))


def outcome(run: RunFolder | Path | str) -> str:
    """The name of what a run traces.

    Raises:
        RunError: if `run` is no run folder.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    return collect(folder).asked.name


def notice(run: RunFolder | Path | str) -> str:
    """What a run lacks and the command that mends it, in one line; nothing where all is there.

    Raises:
        RunError: if `run` is no run folder.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    lacks = gaps(collect(folder), {})
    return f"{lacks.notice} Go on with: {lacks.command}" if lacks.command else lacks.notice
