"""Which layers, positions and heads carry the decision, and which of its two factors.

Shown first is the factor that carries the difference between the two runs; the log-odds, which hold
both, are in the fold.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from interp.base.traits import Trait
from interp.readout.factors import PARTS, Split
from interp.report import best_places, factors
from interp.report.best_places import SITES, Maps, Place
from interp.report.blocks import (
    LAST,
    Cell,
    Face,
    FigureBlock,
    Finding,
    Fold,
    Maker,
    Part,
    Row,
    Section,
)
from interp.report.collect import Contents
from interp.report.wording import extent, number, verdict
from interp.show import plots
from interp.show.plots.parts import count_range, plural
from interp.study import catalogue
from interp.study.catalogue import PATCHING

_ALPHA = 0.05
# A place that restores this much of the gap, carries the greater part of it.
_HALF = 0.5
# With fewer prompts no test of signs comes below 5 %, and an interval over prompts says little.
_FEWEST = 6
_CONTRASTS = {"model": "models", "voice": "voices"}
_FOLDS = {
    "other": "The other contrast",
    "noising": "The reverse (noising)",
    "log-odds": "Both factors together (log-odds)",
    "small": "Gaps too small to have a share of",
}
_DIFFERENCE = {
    "model": "the difference between tuned model and base on the same text",
    "voice": "the difference between the tuned model's text and the base's",
}


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which layers, positions and heads carry the decision."""
    made = best_places.maps(contents)
    if not made:
        return None
    splits = {
        contrast: {one.trait: one.split for one in made if one.contrast == contrast}
        for contrast in _CONTRASTS
    }
    leads = [one for one in made if one.leads and one.direction == "denoising"]
    found = Section(_title(splits), "", method=_method(contents))
    _draw(found, made, maker)
    found.parts = _whys(made)
    _write(made, maker)
    found.finding = finding(leads)
    found.detail = _detail(splits)
    found.answer = found.finding.text if found.finding else found.detail
    if leads:
        caption = (
            "The single place of each kind that restores most of the gap when it alone is patched "
            "(0: nothing, 1: all of it), in the factor that carries most of the difference between "
            "the two runs: chosen on half of the topics, judged on the other half, with 95 % "
            "intervals over topics; p, of all places in the table as one family, is said where it "
            f"is above 0.05. Position 0 is the last of the text. {factors.CONTRASTS}"
        )
        columns = ("Contrast", "Factor", "Gap (nats)", *SITES.values(), "Prompts")
        whole = pd.concat([_table(one) for one in made], ignore_index=True)
        rows = [Row(one.trait, _cells(one)) for one in leads]
        found.tables.append(maker.table("patching", caption, whole, rows, columns))
    return found


def _title(splits: dict[str, dict[Trait, Split]]) -> str:
    """Names the factor where one carries every trait's difference between models."""
    led = {split.carries for split in splits["model"].values()}
    verb = {frozenset({part}): f"carry {factors.NAMES[part]}" for part in PARTS}
    return f"Which layers, positions and heads {verb.get(frozenset(led), 'carry it')}?"


def _detail(splits: dict[str, dict[Trait, Split]]) -> str:
    return " ".join(
        f"{factors.carrier(by_trait, _DIFFERENCE[contrast])} {factors.amounts(by_trait)}"
        for contrast, by_trait in splits.items()
        if by_trait
    )


def finding(leads: Sequence[Maps]) -> Finding | None:
    """Whether one place carries half of a difference, of the contrast that has one to explain.

    Args:
        leads: the denoised maps of the leading factors.
    """
    if not leads:
        return None
    best = strongest(leads)
    muted = " ".join(_why(one) for one in leads if one.muted)
    if not best:
        return Finding("There is no gap that one place could restore.", muted, bold=False)
    estimates = {trait: place.estimate for trait, (_, place) in best.items()}
    sure = [trait for trait, (one, place) in best.items() if one.worth and place.n >= _FEWEST]
    more = [trait for trait in sure if estimates[trait][1] > _HALF]
    less = [trait for trait in sure if estimates[trait][2] < _HALF]
    groups = (
        ("A single place restores more than half of the gap", more),
        ("No single place restores half of the gap", less),
    )
    unsettled = "Whether one place restores half of the gap is not settled"
    said = [_restored(contrast, best) for contrast in _CONTRASTS]
    numbers = f"The strongest alone restores {', and '.join(filter(None, said))}; 1 is all."
    return Finding(verdict(groups, unsettled, best), numbers, bold=bool(more or less))


def strongest(leads: Sequence[Maps]) -> dict[Trait, tuple[Maps, Place]]:
    """Each trait's strongest place, of whichever contrast has a gap to restore, and its maps."""
    found: dict[Trait, tuple[Maps, Place]] = {}
    for one in leads:
        place = one.best
        if place and (one.trait not in found or place.chosen > found[one.trait][1].chosen):
            found[one.trait] = one, place
    return found


def _restored(contrast: str, best: dict[Trait, tuple[Maps, Place]]) -> str:
    """`0.97 [0.95, 0.99] (block 0, position 0's MLP output) of the gap in going on, …`."""
    these = {trait: (one, p) for trait, (one, p) in best.items() if one.contrast == contrast}
    if not these:
        return ""
    between = {
        "model": "between tuned model and base on the same tokens",
        "voice": "between the ends of the tuned model's and the base's answers to the same "
        "questions, both read by the tuned model",
    }
    notes = {trait: _place(place) for trait, (_, place) in these.items()}
    counts = count_range([place.n for _, place in these.values()], "prompt")
    led = {one.factor for one, _ in these.values()}
    what = factors.NAMES[led.pop()] if len(led) == 1 else "the factor that carries more of it"
    values = {trait: place.estimate for trait, (_, place) in these.items()}
    return f"{extent(values, notes=notes)} of the gap in {what}, {between[contrast]} ({counts})"


def _place(place: Place) -> str:
    """`MLP output of block 0, position −3`, `block 3, last token`: amid a sentence."""
    kinds = {"attn_out": "attention output of ", "mlp_out": "MLP output of "}
    return f"{kinds.get(place.site, '')}{place.name.replace('position 0', 'last token')}"


def _why(one: Maps) -> str:
    """Why a contrast has no map of its own."""
    what = _DIFFERENCE[one.contrast]
    return (
        f"{what[0].upper()}{what[1:]} is {number(*one.gap, '+')} nats in "
        f"{factors.NAMES[one.factor]} for {one.trait}, {one.muted}, so that its maps are folded."
    )


def _draw(found: Section, made: Sequence[Maps], maker: Maker) -> None:
    """Maps of all traits: of the contrast that more of them answer from, then folds of others."""
    best = [one.contrast for one, _ in strongest([m for m in made if m.leads]).values()]
    first = max(best, key=best.count, default=made[0].contrast)
    groups: dict[tuple[str, str, bool, bool], list[Maps]] = {}
    for one in made:
        key = one.contrast, one.direction, one.leads, bool(one.muted)
        groups.setdefault(key, []).append(one)
    folded: dict[str, list[FigureBlock]] = {}
    for (contrast, direction, leads, muted), those in groups.items():
        stem = f"patching-{contrast}-{direction}{'' if leads else '-log-odds'}"
        drawn = _figures(f"{stem}-small" if muted else stem, those, maker)
        kind = "small" if muted else "noising" if direction == "noising" else "log-odds"
        if leads and kind == "log-odds":
            kind = "first" if contrast == first else "other"
        folded.setdefault(kind, []).extend(drawn)
    found.figures = folded.pop("first", [])
    found.folds = [Fold(key, said, folded[key]) for key, said in _FOLDS.items() if key in folded]


def _whys(made: Sequence[Maps]) -> list[Part]:
    """Why a trait lacks maps of its own, where it does."""
    said: dict[Trait, list[str]] = {}
    for one in made:
        if one.leads and one.muted and one.direction == "denoising":
            said.setdefault(one.trait, []).append(_why(one))
    return [Part(trait, " ".join(whys)) for trait, whys in said.items()]


def _write(made: Sequence[Maps], maker: Maker) -> None:
    """The numbers of all maps, a file per trait, contrast and direction."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for one in made:
        named = f"patching-{one.trait}-{one.contrast}-{one.direction}"
        tables.setdefault(named, []).append(_table(one))
    for named, parts in tables.items():
        maker.csv(named, pd.concat(parts, ignore_index=True))


def _figures(stem: str, those: Sequence[Maps], maker: Maker) -> list[FigureBlock]:
    """By layer and position, and by head: a row or a panel for each trait."""
    made = []
    sites = [site for site in catalogue.SITES if site != "z"]
    placed = {str(m.trait): [s for s in sites if s in m.sweeps] for m in those}
    some = {str(m.trait): m for m in those if placed[str(m.trait)]}
    if some:
        figure = plots.patching_maps(
            {name: [m.sweeps[s] for s in placed[name]] for name, m in some.items()},
            last=LAST,
            summaries={name: [m.tables[s] for s in placed[name]] for name, m in some.items()},
        )
        made.append(maker.figure(f"{stem}-positions", figure))
    heads = {str(m.trait): m for m in those if "z" in m.sweeps}
    if heads:
        figure = plots.patching_heads(
            {name: m.sweeps["z"] for name, m in heads.items()},
            summary={name: m.tables["z"] for name, m in heads.items()},
        )
        made.append(maker.figure(f"{stem}-heads", figure))
    small = [
        f"the gap is {number(*one.gap, '+')} nats for {one.trait}, {one.muted}"
        for one in those
        if one.muted
    ]
    if not small:
        return made
    why = f"Recovery says little here: {'; '.join(small)}."
    return [replace(block, caption=f"{why} {block.caption}") for block in made]


def _cells(one: Maps) -> tuple[Cell, ...]:
    gap = Cell(number(*one.gap, "+"), one.gap[0], one.muted)
    cells = [Cell(_CONTRASTS[one.contrast]), Cell(factors.SHORT[one.factor]), gap]
    counts = []
    for site in SITES:
        place = one.places.get(site)
        if place is None:
            cells.append(Cell("not said" if one.muted else "not measured"))
            continue
        counts.append(place.n)
        unclear = "" if place.p < _ALPHA else f"; p\u00a0=\u00a0{place.p:.2g}"
        cells.append(Cell(number(*place.estimate), place.estimate[0], f"{place.name}{unclear}"))
    return (*cells, Cell(f"{max(counts):,}", max(counts)) if counts else Cell("none"))


def _table(one: Maps) -> pd.DataFrame:
    """The sweeps of all sites in one table, with what tells it from others."""
    frames = [
        table.rename(columns={"pos": "unit", "head": "unit"}).assign(site=site)
        for site, table in one.tables.items()
    ]
    told = {"trait": str(one.trait), "contrast": one.contrast, "direction": one.direction}
    return pd.concat(frames, ignore_index=True).assign(**told, metric=one.factor)


def _method(contents: Contents) -> str:
    sweeps = [sweep for one in contents.traits for _, sweep in one.those(PATCHING)]
    undefined = sum(sweep.of("log_odds").n_undefined for sweep in sweeps)
    pairs = contents.manifest.get("voice_pairs", {})
    alone = {trait: plural(row.get("unpaired", 0), "prompt") for trait, row in pairs.items()}
    said = "; ".join(
        f"{trait}: {plural(row.get('pairs', 0), 'pair')} of answers to the same question, aligned "
        f"from the end; {row.get('exact', 0)} of them are of equal length, of the others the "
        f"longer is cut at its front, and {alone[trait]} would have lost more than half"
        for trait, row in pairs.items()
    )
    counts = count_range([len(sweep.metric_positions) for sweep in sweeps], "prompt")
    return (
        "One activation at a time, all else recomputed. Recovery is mean(patched − corrupted) / "
        "mean(clean − corrupted), in going on (words against stop) or in the emoji given that the "
        "writer goes on (emoji against words), whichever adds more to the difference in emoji "
        "log-odds, which is exactly the sum of both parts; prompts whose two runs differ by "
        f"less than {sweeps[0].min_gap:g} {sweeps[0].unit[0]} are left out ({undefined} times over "
        f"all maps of log-odds). Over {counts} per map. Red "
        "marks what carries the difference between two runs; intervals are over topics "
        "(bootstrap-t), and dots survive correction of the p-values (sign flips) over the cells of "
        "all maps of the study, one family. Maps whose gap is too small are folded."
        + (f" Voice contrast: {said}." if said else "")
    )


FACE = Face("Heads and positions", section, "What carries it?")
