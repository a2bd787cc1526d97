"""Which layers, positions and heads carry the decision."""

from dataclasses import replace

import pandas as pd

from interp.base.traits import Trait
from interp.report.blocks import LAST, Cell, Face, Finding, Maker, Part, Row, Section
from interp.report.collect import Contents, TraitResults
from interp.report.wording import Estimate, extent, minus, number, verdict
from interp.show import plots
from interp.show.plots.parts import count_range, plural
from interp.study.catalogue import PATCHING, SITES
from interp.traces.patching import PatchingResult

_ALPHA = 0.05
# A place that restores this much of the gap, carries the greater part of it.
_HALF = 0.5
# With fewer prompts no test of signs comes below 5 %, and an interval over prompts says little.
_FEWEST = 6
_SITES = {"attn_out": "Attention output", "mlp_out": "MLP output", "z": "Head"}
_CONTRASTS = {"model": "tuned against base", "prompt": "emoji against plain prompt"}


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which layers, positions and heads carry the decision."""
    having = [one for one in contents.traits if one.those(PATCHING)]
    if not having:
        return None
    made = Section("Which layers, positions and heads carry it?", "", method=_method(contents))
    rows, whole = [], []
    heads: dict[str, dict[Trait, pd.Series]] = {"model": {}, "prompt": {}}
    for one in having:
        part, tables = _part(one, maker)
        made.parts.append(part)
        for contrast, by_site in tables.items():
            rows.append(Row(one.trait, _cells(contrast, by_site)))
            whole.append(_by_site(by_site).assign(trait=str(one.trait), contrast=contrast))
            if "z" in by_site:
                heads[contrast][one.trait] = _best(by_site["z"])
    made.finding = _finding(heads["model"])
    made.answer = _answer(heads, made.finding)
    if rows:
        caption = (
            "The single place of each kind that restores most of the gap in emoji log-odds when it "
            "alone is patched (0: nothing, 1: all of it), with 95 % intervals over prompts. The "
            "best of many places was picked, so its interval is optimistic; p is said where, "
            "corrected over all places, it is above 0.05. Position 0 is the last of the text."
        )
        columns = ("Contrast", *_SITES.values(), "Prompts")
        made.tables.append(
            maker.table("patching", caption, pd.concat(whole, ignore_index=True), rows, columns)
        )
    return made


def _answer(heads: dict[str, dict[Trait, pd.Series]], finding: Finding | None) -> str:
    said = [_restored(contrast, best) for contrast, best in heads.items() if best]
    if not said:
        return "No heads were patched; the maps show layers and positions."
    first = f"{finding.verdict} " if finding else ""
    return f"{first}The strongest head alone restores {', and '.join(said)}."


def _restored(contrast: str, best: dict[Trait, pd.Series]) -> str:
    between = {
        "model": "the gap in emoji log-odds between tuned model and base on the same tokens (1 is "
        "all of it; ",
        "prompt": "the gap between the ends of the tuned model's and the base's answers to the "
        "same questions, both read by the tuned model (",
    }
    one = len(best) == 1
    notes = {trait: _place(row) for trait, row in best.items()} if one else None
    values = {trait: _estimate(row) for trait, row in best.items()}
    counts = count_range([int(row["n"]) for row in best.values()], "prompt")
    return f"{extent(values, '', notes)} of {between[contrast]}{counts})"


def _finding(heads: dict[Trait, pd.Series]) -> Finding | None:
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
    numbers = f"The strongest head alone restores {_restored('model', heads)}."
    return Finding(verdict(groups, unsettled, values), numbers)


def _part(one: TraitResults, maker: Maker) -> tuple[Part, dict[str, dict[str, pd.DataFrame]]]:
    """The figures of one trait, and the tables of its denoising sweeps by contrast and site."""
    part, kept = Part(one.trait), {}
    sweeps = [sweep for _, sweep in one.those(PATCHING)]
    for contrast, direction in dict.fromkeys((s.contrast, s.direction) for s in sweeps):
        stem = f"patching-{one.trait}-{contrast}-{direction}"
        into = part.folded if direction == "noising" else part.figures
        found = {
            sweep.site: _in_view(sweep)
            for sweep in sweeps
            if (sweep.contrast, sweep.direction) == (contrast, direction)
        }
        tables = {site: sweep.summary() for site, sweep in found.items()}
        maker.csv(stem, _by_site(tables))
        sites = [site for site in SITES if site in found and site != "z"]
        if sites:
            figure = plots.patching_maps(
                [found[s] for s in sites],
                one.trait,
                last=LAST,
                summaries=[tables[s] for s in sites],
            )
            into.append(maker.figure(f"{stem}-positions", figure))
        if "z" in found:
            figure = plots.patching_heads(found["z"], one.trait, summary=tables["z"])
            into.append(maker.figure(f"{stem}-heads", figure))
        if direction == "denoising":
            kept[contrast] = tables
    part.figures.sort(key=lambda block: not block.wide)  # heads of both contrasts side by side
    return part, kept


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


def _cells(contrast: str, tables: dict[str, pd.DataFrame]) -> tuple[Cell, ...]:
    cells = [Cell(_CONTRASTS[contrast])]
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
    undefined = sum(sweep.n_undefined for sweep in sweeps)
    pairs = contents.manifest.get("prompt_pairs", {})
    alone = {trait: plural(row.get("unpaired", 0), "prompt") for trait, row in pairs.items()}
    said = "; ".join(
        f"{trait}: {plural(row.get('pairs', 0), 'pair')} of answers to the same question, aligned "
        f"from the end; {row.get('exact', 0)} of them are of equal length, of the others the "
        f"longer is cut at its front, and {alone[trait]} would have lost more than half"
        for trait, row in pairs.items()
    )
    return (
        "One activation at a time, all else recomputed. Recovery is (patched − "
        "corrupted) / (clean − corrupted) in emoji log-odds; prompts whose two runs differ by less "
        f"than {sweeps[0].min_gap:g} {sweeps[0].unit} are left out ({undefined} times over all "
        f"maps). Over {count_range([sweep.n_prompts for sweep in sweeps], 'prompt')} per map. Red "
        "marks what carries the difference between two runs; intervals are over topics "
        "(bootstrap-t), and dots survive correction of the p-values (sign flips) over the cells "
        "drawn." + (f" Voice contrast: {said}." if said else "")
    )


FACE = Face("Heads and positions", section, "Where?")
