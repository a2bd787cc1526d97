"""One sweep read under several metrics, as one result and one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import ByMetric, Result
from interp.traces.patching.result import PatchingResult, check_gap, side_by_side
from interp.traces.patching.sweep_plan import Units


@dataclass(frozen=True)
class PatchingByMetric(ByMetric[PatchingResult]):
    """The same patches under each of some metrics; `of` gives each as a `PatchingResult`.

    Attributes:
        values, clean, corrupted: of each metric, along a leading axis.
        names: the metrics by the names they were asked for with, as `log_odds`.
        metric, unit, notes, noise_floor: one per metric.

    All else is as in `PatchingResult`.
    """

    kind: ClassVar[str] = "patching by metric"
    one: ClassVar[type[Result]] = PatchingResult
    stacked: ClassVar[tuple[str, ...]] = ("values", "clean", "corrupted")

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

    def select(self, prompts: slice | Bool[Tensor, " batch"]) -> "PatchingByMetric":
        """The same patches over some of the prompts only."""
        return self.stack({name: self.of(name).select(prompts) for name in self.names})


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
