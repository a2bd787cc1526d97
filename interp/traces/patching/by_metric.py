"""One sweep read under several metrics, as one result and one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.traces.patching.result import PatchingResult, check_gap, side_by_side
from interp.traces.patching.sweep_plan import Units

_STACKED = ("values", "clean", "corrupted")
_EACH = ("metric", "unit", "notes", "noise_floor")


@dataclass(frozen=True)
class PatchingByMetric(Result):
    """The same patches under each of some metrics; `of` gives each as a `PatchingResult`.

    Attributes:
        values, clean, corrupted: of each metric, along a leading axis.
        names: the metrics by the names they were asked for with, as `log_odds`.
        metric, unit, notes, noise_floor: one per metric.

    All else is as in `PatchingResult`.
    """

    kind: ClassVar[str] = "patching by metric"

    values: Float[Tensor, "metric layer unit batch"]
    clean: Float[Tensor, "metric batch"]
    corrupted: Float[Tensor, "metric batch"]
    present: Bool[Tensor, "unit batch"]
    metric_positions: Int[Tensor, " batch"]
    layers: tuple[int, ...]
    units: Units
    unit_labels: tuple[str, ...]
    axis: str
    site: str
    direction: str
    contrast: str
    metric: tuple[str, ...]
    unit: tuple[str, ...]
    min_gap: float
    engine: str
    notes: tuple[tuple[str, ...], ...]
    noise_floor: tuple[float | None, ...]
    topics: tuple[str, ...] | None
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if {len(self.names)} != {len(self.values), *(len(getattr(self, n)) for n in _EACH)}:
            raise InputError(f"{len(self.names)} names, but values of {len(self.values)} metrics")
        self.of(self.names[0])

    @classmethod
    def stack(cls, results: Mapping[str, PatchingResult]) -> "PatchingByMetric":
        """Results of one sweep, by name, as `sweep_each` gives them."""
        every = list(results.values())
        made: dict[str, Any] = {f.name: getattr(every[0], f.name) for f in fields(PatchingResult)}
        made |= {name: torch.stack([getattr(one, name) for one in every]) for name in _STACKED}
        made |= {name: tuple(getattr(one, name) for one in every) for name in _EACH}
        return cls(**made, names=tuple(results))

    def of(self, name: str) -> PatchingResult:
        """The sweep under one metric.

        Raises:
            InputError: if it was not read.
        """
        if name not in self.names:
            raise InputError(f"no metric {name!r} was read; there are {', '.join(self.names)}")
        place = self.names.index(name)
        taken: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(PatchingResult)}
        taken |= {one: taken[one][place] for one in (*_STACKED, *_EACH)}
        return PatchingResult(**taken)

    def select(self, prompts: slice | Bool[Tensor, " batch"]) -> "PatchingByMetric":
        """The same patches over some of the prompts only."""
        return self.stack({name: self.of(name).select(prompts) for name in self.names})

    def to_dataframe(self) -> pd.DataFrame:
        """The tables of all metrics, one after the other, with the column `metric`."""
        tables = [self.of(name).to_dataframe().assign(metric=name) for name in self.names]
        return pd.concat(tables, ignore_index=True)


def concatenated_each(parts: Sequence[PatchingByMetric], min_gap: float) -> PatchingByMetric:
    """As `concatenated`, under each metric.

    Raises:
        InputError: if there is no part, parts differ, or no prompt of any is above `min_gap` under
            any metric.
    """
    if len({part.names for part in parts}) > 1:
        raise InputError("parts of a sweep differ in their metrics; make them anew")
    names = parts[0].names if parts else ("",)
    whole = PatchingByMetric.stack(
        {name: side_by_side([part.of(name) for part in parts], min_gap) for name in names}
    )
    check_gap(whole.clean, whole.corrupted, min_gap)
    return whole
