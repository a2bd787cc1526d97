"""Which single place restores most of a difference between two runs: chosen, then judged.

Of many places one is the largest by chance, so the place that is named is chosen on half of the
topics and judged on the other half. It is a share of the mean gap between the two runs; where that
gap is no more than the smallest effect of interest, or too small against its own spread to be told
from none, there is nothing to have a share of and the maps are muted. All cells that the section
shows are one family of tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from interp.base.stats import fdr_bh, halves
from interp.base.traits import Trait
from interp.readout.factors import Split
from interp.report.blocks import LAST
from interp.report.collect import Contents
from interp.report.effect import judged, smallest, too_small
from interp.report.wording import Estimate, minus
from interp.study.catalogue import PATCHING
from interp.traces.patching import PatchingByMetric, PatchingResult

SITES = {"attn_out": "Attention output", "mlp_out": "MLP output", "z": "Head"}
"""Sites whose places are named; the residual stream at the slot carries everything there is."""
RUNS = ("corrupted", "clean")


@dataclass(frozen=True)
class Place:
    """The place that restores most on one half of the topics, judged on the other.

    Attributes:
        chosen: its recovery on the half that chose it.
        estimate: its recovery on the other, with the interval.
        p: of its effect there; of all places that are named, as one family.
        n: prompts that judged.
    """

    site: str
    name: str
    chosen: float
    estimate: Estimate
    p: float
    n: int


@dataclass
class Maps:
    """The maps of one trait, contrast, direction and factor, by site.

    Attributes:
        gap: mean clean minus corrupted in the factor, nats, with its interval.
        muted: why recovery says nothing here, where it does not.
        worth: whether the whole gap is beyond the smallest effect, so that a verdict may be said.
        tables: by site; `p_adjusted` is over all maps of the study.
        places: by site, of those that are named (denoising, not muted).
    """

    trait: Trait
    contrast: str
    direction: str
    factor: str
    leads: bool
    split: Split
    sweeps: dict[str, PatchingResult]
    gap: Estimate
    muted: str
    worth: bool
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def best(self) -> Place | None:
        """The place of any site that the choosing half puts first."""
        return max(self.places.values(), key=lambda place: place.chosen, default=None)


def maps(contents: Contents) -> list[Maps]:
    """All maps that the study has: of the factor that leads, and denoised of the log-odds.

    Maps in which no prompt has a gap are left out.
    """
    least, seed = smallest(contents, "nats"), int(contents.manifest.get("seed") or 0)
    made = []
    for one in contents.traits:
        sweeps = [sweep for _, sweep in one.those(PATCHING)]
        for contrast, direction in dict.fromkeys((s.contrast, s.direction) for s in sweeps):
            these = [s for s in sweeps if (s.contrast, s.direction) == (contrast, direction)]
            split = split_of(next(s for s in sweeps if s.contrast == contrast))
            for factor in (split.leading, "log_odds"):
                read = {s.site: _in_view(s.of(factor)) for s in these}
                found = {site: s for site, s in read.items() if s.n_undefined < s.n_prompts}
                leads = factor == split.leading
                if found and (leads or direction == "denoising"):
                    gap = next(iter(found.values())).gap(seed=seed)
                    made.append(
                        Maps(one.trait, contrast, direction, factor, leads, split, found, gap,
                             too_small(gap, least), judged(gap, least) in ("more", "less"))
                    )  # fmt: skip
    _fill(made, seed)
    return made


def split_of(sweep: PatchingByMetric) -> Split:
    """What the two factors add to the difference between a contrast's two runs."""
    ends = [[getattr(sweep.of(part), run) for part in ("go_on", "given_go_on")] for run in RUNS]
    low, high = (torch.stack(run) for run in ends)
    return Split.between(low, high, sweep.topics)


def splits(contents: Contents, contrast: str) -> dict[Trait, Split]:
    """By trait, the factors of a contrast (`model` or `voice`) that was patched."""
    found = {}
    for one in contents.traits:
        sweeps = [sweep for _, sweep in one.those(PATCHING) if sweep.contrast == contrast]
        if sweeps:
            found[one.trait] = split_of(sweeps[0])
    return found


def _fill(made: Sequence[Maps], seed: int) -> None:
    """Tables and places of all maps, each one family of tests."""
    for one in made:
        one.tables = {site: sweep.summary() for site, sweep in one.sweeps.items()}
        if one.direction == "denoising" and not one.muted:
            sites = [site for site in SITES if site in one.sweeps]
            found = {site: judge(one.sweeps[site], seed) for site in sites}
            one.places = {site: place for site, place in found.items() if place}
    one_family([table for one in made for table in one.tables.values()])
    named = [(one, site) for one in made for site in one.places]
    ps = [one.places[site].p for one, site in named]
    for (one, site), p in zip(named, fdr_bh(ps) if ps else (), strict=True):
        one.places[site] = replace(one.places[site], p=float(p))


def one_family(tables: Sequence[pd.DataFrame]) -> None:
    """Correct the p-values of all tables as one family, in place."""
    if tables:
        adjusted = fdr_bh(np.concatenate([table["p"].to_numpy() for table in tables]))
        ends = np.cumsum([len(table) for table in tables])[:-1]
        for table, part in zip(tables, np.split(adjusted, ends), strict=True):
            table["p_adjusted"] = part


def judge(sweep: PatchingResult, seed: int) -> Place | None:
    """A sweep's best place, of those that the judging half has; None where there is one topic."""
    kept = sweep.select(sweep.defined)
    first, second = (torch.from_numpy(half) for half in halves(kept.topics, kept.n_prompts, seed))
    if not first.any():
        return None
    judge = kept.select(second)
    chosen = kept.select(first).mean_recovery()
    chosen[~chosen.isfinite() | ~judge.present.any(-1)] = -torch.inf
    layer, unit = divmod(int(chosen.argmax()), len(kept.units))
    row = judge.cell(layer, unit).summary(seed=seed).iloc[0]
    value, low, high = (float(row[name]) for name in ("recovery", "low", "high"))
    return Place(
        sweep.site, _name(row), float(chosen.max()), (value, low, high), float(row["p"]),
        int(row["n"]),
    )  # fmt: skip


def _name(row: pd.Series) -> str:
    if "head" in row.index:
        return f"block {row['layer']}, head {row['label']}"
    return f"block {row['layer']}, position {minus(str(row['label']))}"


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
