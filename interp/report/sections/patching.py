"""Which layers, positions and heads carry the decision, and which of its two factors.

Shown first is the factor that carries the difference between the two runs; the log-odds, which hold
both, are in the fold.
"""

from dataclasses import replace

import pandas as pd
import torch

from interp.base.traits import Trait
from interp.readout.factors import PARTS, Split
from interp.report import factors
from interp.report.blocks import LAST, Cell, Face, FigureBlock, Finding, Maker, Part, Row, Section
from interp.report.collect import Contents, TraitResults
from interp.report.wording import Estimate, extent, minus, number, verdict
from interp.show import plots
from interp.show.plots.parts import count_range, plural
from interp.study.catalogue import PATCHING, SITES
from interp.traces.patching import PatchingByMetric, PatchingResult

_ALPHA = 0.05
# A place that restores this much of the gap, carries the greater part of it.
_HALF = 0.5
# With fewer prompts no test of signs comes below 5 %, and an interval over prompts says little.
_FEWEST = 6
_SITES = {"attn_out": "Attention output", "mlp_out": "MLP output", "z": "Head"}
_CONTRASTS = {"model": "tuned against base", "prompt": "tuned voice against the base's"}
_STEMS = {"model": "model", "prompt": "voice"}
_DIFFERENCE = {
    "model": "the difference between tuned model and base on the same text",
    "prompt": "the difference between the tuned model's text and the base's",
}
_RUNS = ("corrupted", "clean")


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which layers, positions and heads carry the decision."""
    having = [one for one in contents.traits if one.those(PATCHING)]
    if not having:
        return None
    splits = {contrast: _splits(having, contrast) for contrast in _CONTRASTS}
    made = Section(_title(splits), "", method=_method(contents))
    rows, whole = [], []
    heads: dict[str, dict[Trait, pd.Series]] = {"model": {}, "prompt": {}}
    for one in having:
        part, tables = _part(one, {c: splits[c].get(one.trait) for c in splits}, maker)
        made.parts.append(part)
        for (contrast, factor), by_site in tables.items():
            whole.append(
                _by_site(by_site).assign(trait=str(one.trait), contrast=contrast, metric=factor)
            )
            split = splits[contrast][one.trait]
            if factor == split.leading:
                rows.append(Row(one.trait, _cells(contrast, split, by_site)))
                if "z" in by_site:
                    heads[contrast][one.trait] = _best(by_site["z"])
    made.finding = _finding(heads["model"], splits["model"])
    made.answer = _answer(heads, splits, made.finding)
    if rows:
        caption = (
            "The single place of each kind that restores most of the gap when it alone is patched "
            "(0: nothing, 1: all of it), in the factor that carries most of the difference between "
            "the two runs, with 95 % intervals over prompts. The "
            "best of many places was picked, so its interval is optimistic; p is said where, "
            "corrected over all places, it is above 0.05. Position 0 is the last of the text."
        )
        columns = ("Contrast", "Factor", *_SITES.values(), "Prompts")
        made.tables.append(
            maker.table("patching", caption, pd.concat(whole, ignore_index=True), rows, columns)
        )
    return made


def _title(splits: dict[str, dict[Trait, Split]]) -> str:
    """Names the factor where one carries every trait's difference between models."""
    led = {split.carries for split in splits["model"].values()}
    verb = {frozenset({part}): f"carry {factors.NAMES[part]}" for part in PARTS}
    return f"Which layers, positions and heads {verb.get(frozenset(led), 'carry it')}?"


def _splits(having: list[TraitResults], contrast: str) -> dict[Trait, Split]:
    """What the two factors add to the difference between a contrast's two runs, by trait."""
    found = {}
    for one in having:
        for _, sweep in one.those(PATCHING):
            if sweep.contrast == contrast and one.trait not in found:
                ends = [[getattr(sweep.of(part), run) for part in PARTS] for run in _RUNS]
                low, high = (torch.stack(run) for run in ends)
                found[one.trait] = Split.between(low, high, sweep.topics)
    return found


def _answer(
    heads: dict[str, dict[Trait, pd.Series]],
    splits: dict[str, dict[Trait, Split]],
    finding: Finding | None,
) -> str:
    parts = [
        f"{factors.carrier(by_trait, _DIFFERENCE[contrast])} {factors.amounts(by_trait)}"
        for contrast, by_trait in splits.items()
        if by_trait
    ]
    said = [_restored(contrast, best, splits[contrast]) for contrast, best in heads.items() if best]
    if not said:
        parts.append("No heads were patched; the maps show layers and positions.")
    else:
        first = f"{finding.verdict} " if finding else ""
        parts.append(f"{first}The strongest head alone restores {', and '.join(said)}.")
    return " ".join(parts)


def _restored(contrast: str, best: dict[Trait, pd.Series], splits: dict[Trait, Split]) -> str:
    between = {
        "model": "between tuned model and base on the same tokens (1 is all of it; ",
        "prompt": "between the ends of the tuned model's and the base's answers to the same "
        "questions, both read by the tuned model (",
    }
    one = len(best) == 1
    notes = {trait: _place(row) for trait, row in best.items()} if one else None
    values = {trait: _estimate(row) for trait, row in best.items()}
    counts = count_range([int(row["n"]) for row in best.values()], "prompt")
    led = {splits[trait].leading for trait in best}
    what = factors.NAMES[led.pop()] if len(led) == 1 else "the factor that carries more of it"
    return f"{extent(values, '', notes)} of the gap in {what}, {between[contrast]}{counts})"


def _finding(heads: dict[Trait, pd.Series], splits: dict[Trait, Split]) -> Finding | None:
    """Whether one head carries half of what sets the tuned model apart from its base."""
    if not heads:
        return None
    values = {trait: _estimate(row) for trait, row in heads.items()}
    enough = [trait for trait, row in heads.items() if int(row["n"]) >= _FEWEST]
    more = [trait for trait in enough if values[trait][1] > _HALF]
    less = [trait for trait in enough if values[trait][2] < _HALF]
    groups = (
        ("A single head restores more than half of what fine-tuning changed", more),
        ("No single head restores half of what fine-tuning changed", less),
    )
    unsettled = "Whether one head restores half of what fine-tuning changed is not settled"
    carrier = factors.carrier(splits, _DIFFERENCE["model"])
    numbers = f"The strongest head alone restores {_restored('model', heads, splits)}. {carrier}"
    return Finding(verdict(groups, unsettled, values), numbers)


def _part(
    one: TraitResults, splits: dict[str, Split | None], maker: Maker
) -> tuple[Part, dict[tuple[str, str], dict[str, pd.DataFrame]]]:
    """The figures of one trait, and the tables of its denoising sweeps by contrast and factor."""
    part = Part(one.trait)
    kept: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    sweeps = [sweep for _, sweep in one.those(PATCHING)]
    for contrast, direction in dict.fromkeys((s.contrast, s.direction) for s in sweeps):
        split = splits[contrast]
        assert split is not None  # there is a sweep of the contrast
        stem = f"patching-{one.trait}-{_STEMS[contrast]}-{direction}"
        tables: dict[str, dict[str, pd.DataFrame]] = {}
        for factor in (split.leading, "log_odds"):
            found = _found(sweeps, (contrast, direction), factor)
            leads = factor == split.leading
            if not found or not (leads or direction == "denoising"):
                continue
            tables[factor] = {site: sweep.summary() for site, sweep in found.items()}
            named = stem if leads else f"{stem}-log-odds"
            into = part.figures if leads and direction == "denoising" else part.folded
            into += _figures(named, found, tables[factor], one.trait, maker)
        frames = [_by_site(by).assign(metric=factor) for factor, by in tables.items()]
        if frames:
            maker.csv(stem, pd.concat(frames, ignore_index=True))
        if direction == "denoising":
            kept |= {(contrast, factor): by_site for factor, by_site in tables.items()}
    part.figures.sort(key=lambda block: not block.wide)  # heads of both contrasts side by side
    return part, kept


def _found(
    sweeps: list[PatchingByMetric], what: tuple[str, str], factor: str
) -> dict[str, PatchingResult]:
    """A contrast's and direction's sweeps under one factor, by site, that have a prompt with a gap.

    Args:
        what: contrast and direction.
    """
    read = [s.of(factor) for s in sweeps if (s.contrast, s.direction) == what]
    return {sweep.site: _in_view(sweep) for sweep in read if sweep.n_undefined < sweep.n_prompts}


def _figures(
    stem: str,
    found: dict[str, PatchingResult],
    tables: dict[str, pd.DataFrame],
    trait: Trait,
    maker: Maker,
) -> list[FigureBlock]:
    made = []
    sites = [site for site in SITES if site in found and site != "z"]
    if sites:
        figure = plots.patching_maps(
            [found[s] for s in sites], trait, last=LAST, summaries=[tables[s] for s in sites]
        )
        made.append(maker.figure(f"{stem}-positions", figure))
    if "z" in found:
        figure = plots.patching_heads(found["z"], trait, summary=tables["z"])
        made.append(maker.figure(f"{stem}-heads", figure))
    return made


def _in_view(sweep: PatchingResult) -> PatchingResult:
    """The part of a sweep that is drawn: p-values are corrected for what the reader looks at."""
    if sweep.axis != "pos" or len(sweep.units) <= LAST:
        return sweep
    return replace(
        sweep,
        values=sweep.values[:, -LAST:],
        present=sweep.present[-LAST:],
        units=sweep.units[-LAST:],
        unit_labels=sweep.unit_labels[-LAST:],
    )


def _cells(contrast: str, split: Split, tables: dict[str, pd.DataFrame]) -> tuple[Cell, ...]:
    cells = [Cell(_CONTRASTS[contrast]), Cell(factors.NAMES[split.leading])]
    counts = []
    for site in _SITES:
        if site not in tables:
            cells.append(Cell("not measured"))
            continue
        row = _best(tables[site])
        counts.append(int(row["n"]))
        unclear = "" if row["p_adjusted"] < _ALPHA else f"; p\u00a0=\u00a0{row['p_adjusted']:.2g}"
        note = f"{_place(row)}{unclear}"
        cells.append(Cell(number(*_estimate(row)), float(row["recovery"]), note))
    return (*cells, Cell(f"{max(counts):,}", max(counts)) if counts else Cell("none"))


def _best(table: pd.DataFrame) -> pd.Series:
    return table.iloc[int(table["recovery"].to_numpy().argmax())]


def _estimate(row: pd.Series) -> Estimate:
    return float(row["recovery"]), float(row["low"]), float(row["high"])


def _place(row: pd.Series) -> str:
    if "head" in row.index:
        return f"block {row['layer']}, head {row['label']}"
    return f"block {row['layer']}, position {minus(str(row['label']))}"


def _by_site(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The sweeps of all sites in one table, with the column `site`."""
    frames = [
        table.rename(columns={"pos": "unit", "head": "unit"}).assign(site=site)
        for site, table in tables.items()
    ]
    return pd.concat(frames, ignore_index=True)


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
        "One activation at a time, all else recomputed. Recovery is (patched − "
        "corrupted) / (clean − corrupted), in going on (words against stop) or in the emoji given "
        "that the writer goes on (emoji against words), whichever adds more to the difference in "
        "emoji log-odds, which is exactly the sum of both parts; prompts whose two runs differ by "
        f"less than {sweeps[0].min_gap:g} {sweeps[0].unit[0]} are left out ({undefined} times over "
        f"all maps of log-odds). Over {counts} per map. Red "
        "marks what carries the difference between two runs; intervals are over topics "
        "(bootstrap-t), and dots survive correction of the p-values (sign flips) over the cells "
        "drawn." + (f" Voice contrast: {said}." if said else "")
    )


FACE = Face("Heads and positions", section, "Where?")
