"""Which single matrix of an adapter matters most: half of the topics choose, the others judge.

An effect is what is lost when the matrix alone is switched off: positive where the whole adapter
had it, in text, figure and table alike. The one that is named is the largest of either sign. A
matrix survives if its effect, over all prompts, is beyond the smallest effect of interest and
beyond chance, all matrices, factors and labels of a study being one family of tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from interp.base.stats import fdr_bh, halves, mean_ends
from interp.base.traits import Trait
from interp.report.best_places import one_family
from interp.report.collect import Contents
from interp.report.effect import judged, smallest
from interp.report.wording import Estimate, minus, number
from interp.study.catalogue import EXACT, FACTORS, NECESSITY
from interp.traces.adapters import PartEffects

_ALPHA = 0.05


@dataclass(frozen=True)
class Matrices:
    """One trait's matrices in one factor, or in the share of written answers.

    Attributes:
        factor: `log_odds`, `go_on`, `given_go_on` or `written`.
        table: `PartEffects.summary`, with `p_adjusted` over the study, and `survives`.
        name, effect, p, n: the largest one, as the half that did not choose it has it.
    """

    trait: Trait
    factor: str
    result: PartEffects
    table: pd.DataFrame
    name: str
    effect: Estimate
    p: float
    n: int

    @property
    def survivors(self) -> pd.DataFrame:
        """The matrices that survive, largest first."""
        found = self.table[self.table["survives"]]
        return found.sort_values("effect", key=lambda effect: -effect.abs())

    @property
    def whole(self) -> Estimate:
        """The whole adapter's effect."""
        gap = (self.result.tuned - self.result.base)[None].double()
        low, high = mean_ends(gap, self.result.topics, seed=self.result.seed)
        return float(gap.mean()), float(low[0]), float(high[0])

    def said(self, effect: Estimate) -> str:
        """`+0.52 [0.31, 0.75] nats` or `25 points [8, 43]`."""
        return points(effect) if self.factor == "written" else f"{number(*effect, '+')} nats"


def matrices(contents: Contents) -> list[Matrices]:
    """All that a study measured of its adapters' matrices, exact factors first."""
    exact, written = contents.having(EXACT), contents.having(NECESSITY)
    found = [
        (trait, factor, one.of(factor))
        for factor in FACTORS
        for trait, one in exact.items()
        if factor in one.names
    ]
    found += [(trait, "written", result) for trait, result in written.items()]
    tables = [result.summary() for *_, result in found]
    one_family(tables)
    for (_, factor, _), table in zip(found, tables, strict=True):
        kind: Literal["rate", "nats"] = "rate" if factor == "written" else "nats"
        least = smallest(contents, kind)
        ends = table[["effect", "low", "high"]].to_numpy(dtype=float)
        beyond = [judged((v, low, high), least) in ("more", "less") for v, low, high in ends]
        table["survives"] = np.array(beyond) & (table["p_adjusted"] < _ALPHA) & table["above_noise"]
    made = [
        Matrices(trait, factor, result, table, *_largest(result))
        for (trait, factor, result), table in zip(found, tables, strict=True)
    ]
    ps = fdr_bh([one.p for one in made]) if made else ()
    return [
        Matrices(
            one.trait, one.factor, one.result, one.table, one.name, one.effect, float(p), one.n
        )
        for one, p in zip(made, ps, strict=True)
    ]


def _largest(result: PartEffects) -> tuple[str, Estimate, float, int]:
    """Name, effect, p and prompts of the matrix that half of the topics chose, by the other half.

    With one topic all choose and nobody judges: there is no interval, and p is 1.
    """
    first, second = (
        torch.from_numpy(half) for half in halves(result.topics, result.n_prompts, result.seed)
    )
    chooser = first if first.any() else second
    unit = int(result.values[:, chooser].mean(1).abs().argmax())
    topics = result.topics and tuple(
        topic for topic, use in zip(result.topics, second.tolist(), strict=True) if use
    )
    judge = PartEffects(
        **{name: getattr(result, name) for name in ("measure", "by", "metric", "unit",
           "noise_floor", "min_gap", "seed", "notes")},
        values=result.values[unit : unit + 1, second], base=result.base[second],
        tuned=result.tuned[second], units=result.units[unit : unit + 1],
        layers=result.layers[unit : unit + 1], projections=result.projections[unit : unit + 1],
        topics=topics,
    )  # fmt: skip
    row = judge.summary().iloc[0]
    effect = (float(row["effect"]), float(row["low"]), float(row["high"]))
    return name_of(row), effect, float(row["p"]) if first.any() else 1.0, judge.n_prompts


def name_of(row: pd.Series) -> str:
    """`block 3's o`."""
    layer = "" if pd.isna(row["layer"]) else f"block {int(row['layer'])}'s "
    return f"{layer}{row['projection'].removesuffix('_proj')}"


def points(effect: Sequence[float]) -> str:
    """`25 points [8, 43]`."""
    value, low, high = (f"{round(100 * part, 0) + 0.0:.0f}" for part in effect)
    return minus(f"{value} points {'(no interval)' if low == 'nan' else f'[{low}, {high}]'}")
