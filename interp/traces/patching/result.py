"""What a patching sweep found."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import RESAMPLES, fdr_bh, mean_ends, ratio_ends, sign_flip_ps
from interp.traces.patching.sweep_plan import Units


@dataclass(frozen=True)
class PatchingResult(Result):
    """Metric of every prompt under every patch.

    Recovery is (patched - corrupted) / (clean - corrupted) in both directions: in denoising (clean
    activation into the corrupted run) no effect is 0 and full restoration 1; in noising no effect
    is 1 and full destruction 0. Over prompts it is a ratio of means, never a mean of ratios, and
    says nothing where the mean gap is small against its spread (`gap`). It is undefined where
    |clean - corrupted| <= `min_gap`; such prompts are left out of every mean and counted in
    `n_undefined`. A prompt that has no token in a
    column (padding, or right of its metric position) is left out of that column's mean; its value
    there is that of the unpatched run, which is what such a patch does.

    Attributes:
        values: the metric under each patch, in `unit`, `[layer, pos or head, batch]` (see `axis`).
        clean, corrupted: the metric of the two unpatched runs, `[batch]`.
        present: whether a prompt has the patched position (all true for heads), `[unit batch]`.
        layers: the model's layer of each row of the map.
        units: the column (position), head or neuron of each column of the map, or pairs of head
            (neuron) and column.
        unit_labels: names for the axis: columns relative to the metric position (`0` is the metric
            position, `-1` the one left of it) if that is one column in all prompts, else absolute.
        axis: what the second axis is: `pos`, `head`, `head_pos`, `neuron` or `neuron_pos`.
        site, direction, contrast, metric, unit: what was patched and measured.
        min_gap: the threshold below which a prompt's recovery is undefined, in `unit`.
        engine: `"exact"` or `"naive"`.
        notes: what a reader should be told (halved chunks, prompts left out).
        noise_floor: how far batch size and rounding can move a value, in `unit`; None where it was
            not measured (the naive twin).
        topics: one per prompt, the units of intervals and p-values; None: each prompt is one.
    """

    kind: ClassVar[str] = "patching"

    values: Float[Tensor, "layer unit batch"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    present: Bool[Tensor, "unit batch"]
    metric_positions: Int[Tensor, " batch"]
    layers: tuple[int, ...]
    units: Units
    unit_labels: tuple[str, ...]
    axis: str
    site: str
    direction: str
    contrast: str
    metric: str
    unit: str
    min_gap: float
    engine: str
    notes: tuple[str, ...] = ()
    noise_floor: float | None = None
    topics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        sizes = (len(self.layers), len(self.units), len(self.clean))
        if self.values.shape != sizes or len(self.unit_labels) != len(self.units):
            raise InputError(
                f"values {list(self.values.shape)} do not fit {sizes} layers, units, prompts"
            )

    @property
    def n_prompts(self) -> int:
        """Prompts in the sweep, undefined ones included."""
        return len(self.clean)

    @property
    def defined(self) -> Bool[Tensor, " batch"]:
        """Prompts that count: |clean - corrupted| > `min_gap`, or for an ablation all."""
        if self.direction == "ablation":
            return torch.ones_like(self.clean, dtype=torch.bool)
        return (self.clean - self.corrupted).abs() > self.min_gap

    @property
    def n_undefined(self) -> int:
        """Prompts left out because clean and corrupted (nearly) agree."""
        return int((~self.defined).sum())

    def gap(
        self, *, level: float = 0.95, n_resamples: int = RESAMPLES, seed: int = 0
    ) -> tuple[float, float, float]:
        """What recovery is a share of: mean clean - corrupted, and its interval over topics.

        Over the prompts that count; NaN where there are too few.
        """
        use = self.defined
        gaps = (self.clean - self.corrupted)[use].double()
        if not len(gaps):
            return float("nan"), float("nan"), float("nan")
        low, high = mean_ends(
            gaps[None], self._groups(use), level=level, n_resamples=n_resamples, seed=seed
        )
        return float(gaps.mean()), float(low[0]), float(high[0])

    def select(self, prompts: slice | Bool[Tensor, " batch"]) -> "PatchingResult":
        """The same patches over some of the prompts only."""
        topics = None if self.topics is None else np.array(self.topics, dtype=object)[prompts]
        return replace(
            self,
            values=self.values[..., prompts],
            clean=self.clean[prompts],
            corrupted=self.corrupted[prompts],
            present=self.present[:, prompts],
            metric_positions=self.metric_positions[prompts],
            topics=None if topics is None else tuple(topics),
        )

    def cell(self, layer: int, unit: int) -> "PatchingResult":
        """One cell of the map, by its row and column."""
        return replace(
            self,
            values=self.values[layer : layer + 1, unit : unit + 1],
            present=self.present[unit : unit + 1],
            layers=(self.layers[layer],),
            units=self.units[unit : unit + 1],
            unit_labels=(self.unit_labels[unit],),
        )

    def recovery(self) -> Float[Tensor, "layer unit batch"]:
        """Recovery per prompt; NaN where it is undefined (see the class).

        Raises:
            InputError: for an ablation, which has no second run.
        """
        self._check_two_runs()
        gap = torch.where(self.defined, self.clean - self.corrupted, torch.nan)
        return (self.values - self.corrupted) / gap

    def effect(self) -> Float[Tensor, "layer unit batch"]:
        """Patched minus unpatched metric per prompt, in `unit`; defined for every prompt."""
        before = self.corrupted if self.direction == "denoising" else self.clean
        return self.values - before

    def mean_recovery(self) -> Float[Tensor, "layer unit"]:
        """Ratio of mean effect and mean gap over the prompts that count; NaN for a column of none.

        Raises:
            InputError: for an ablation, which has no second run.
        """
        self._check_two_runs()
        counts = self._counts.double()
        moved = ((self.values - self.corrupted) * counts).sum(-1)
        return (moved / ((self.clean - self.corrupted) * counts).sum(-1)).float()

    @property
    def _counts(self) -> Bool[Tensor, "unit batch"]:
        return self.present & self.defined

    def _check_two_runs(self) -> None:
        if self.direction == "ablation":
            raise InputError("an ablation has no second run to recover; read effect()")

    def _groups(self, use: Bool[Tensor, " batch"]) -> list[Hashable] | None:
        """Topics of some prompts."""
        return (
            None if self.topics is None else [t for t, u in zip(self.topics, use, strict=True) if u]
        )

    def summary(
        self,
        *,
        clusters: tuple[str, ...] | list[str] | None = None,
        level: float = 0.95,
        n_resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> pd.DataFrame:
        """One row per cell of the map: means, interval and p-value over prompts.

        For an ablation there is no recovery; `se`, `low` and `high` are then the effect's.

        Args:
            clusters: one label per prompt; whole clusters are resampled. Left out, the topics.
            level: confidence level of the recovery's interval (`interp.base.stats`).
            n_resamples: bootstrap resamples.
            seed: the same seed gives the same table.

        Returns:
            Columns `layer`, the axis' name (column or head), `label`, `n`, `effect` (mean, in
            `unit`), `recovery` (ratio of means), `se` (its standard error over prompts, the error
            linearised), `low`, `high`, `p` (sign-flip test of the effect being zero) and
            `p_adjusted` (false discovery rate over the map, Benjamini and Hochberg 1995). With
            fewer than two prompts or clusters, or where the mean gap's interval holds 0, there is
            no interval: NaN. A cell with no prompt is left out.

        Raises:
            InputError: if `clusters` does not have one label per prompt.
        """
        clusters = self.topics if clusters is None else clusters
        if clusters is not None and len(clusters) != self.n_prompts:
            raise InputError(f"{self.n_prompts} prompts but {len(clusters)} cluster labels")
        ablation = self.direction == "ablation"
        effect = self.effect().double().numpy()
        gaps = torch.ones_like(self.clean) if ablation else self.clean - self.corrupted
        above = effect if ablation else (self.values - self.corrupted).double().numpy()
        counts = self._counts.numpy()
        drawn: dict[str, Any] = {"level": level, "n_resamples": n_resamples, "seed": seed}
        labels = None if clusters is None else np.array(clusters, dtype=object)
        together: dict[bytes, list[int]] = {}  # units that the same prompts have
        for j in np.flatnonzero(counts.any(1)).tolist():
            together.setdefault(counts[j].tobytes(), []).append(j)
        columns = ["layer", self.axis, "label", "n", "effect", "recovery", "se", "low", "high", "p",
                   "order"]  # fmt: skip
        tables = [] if together else [pd.DataFrame(columns=columns)]
        for units in together.values():
            use = counts[units[0]]
            groups = None if labels is None else labels[use].tolist()
            here, moved = (x[:, units][:, :, use].reshape(-1, use.sum()) for x in (above, effect))
            gap = gaps[use].double().numpy()
            low, high = ratio_ends(here, gap, groups, **drawn)
            bottom, top = mean_ends(gap[None], groups, **drawn)
            if bottom[0] <= 0 <= top[0]:
                low[:], high[:] = np.nan, np.nan  # a share of what may be nothing has no bounds
            whole = here.sum(1) / gap.sum()
            left = here - whole[:, None] * gap
            spread = left.std(1, ddof=1) if here.shape[1] > 1 else np.nan
            column = {
                "layer": np.repeat(self.layers, len(units)),
                self.axis: [self.units[j] for j in units] * len(self.layers),
                "label": [self.unit_labels[j] for j in units] * len(self.layers),
                "n": here.shape[1], "effect": moved.mean(1), "recovery": whole,
                "se": spread / abs(gap.mean()) / here.shape[1] ** 0.5, "low": low, "high": high,
                "p": sign_flip_ps(moved, seed, topics=groups), "order": units * len(self.layers),
            }  # fmt: skip
            tables.append(pd.DataFrame(column))
        table = pd.concat(tables).sort_values(["layer", "order"], ignore_index=True)
        table = table.drop(columns="order")
        table["p_adjusted"] = fdr_bh(table["p"].to_numpy()) if len(table) else table["p"]
        return table.drop(columns="recovery") if ablation else table

    def to_dataframe(self) -> pd.DataFrame:
        """One row per layer, position (or head) and prompt, with value, effect and recovery."""
        index = np.indices(self.values.shape).reshape(3, -1)
        units = np.array(self.units)[index[1]]
        places = {self.axis: units}
        if units.ndim == 2:
            element, _ = self.axis.split("_")
            places = {element: units[:, 0], "pos": units[:, 1]}
        table = pd.DataFrame(
            {
                "layer": np.array(self.layers)[index[0]],
                **places,
                "label": np.array(self.unit_labels)[index[1]],
                "prompt": index[2],
                "present": self.present.numpy()[index[1], index[2]],
                "value": self.values.flatten().numpy(),
                "effect": self.effect().flatten().numpy(),
            }
        )
        if self.direction != "ablation":
            table["recovery"] = self.recovery().flatten().numpy()
        return table


def concatenated(parts: Sequence[PatchingResult], min_gap: float) -> PatchingResult:
    """Sweeps of the same patches over different prompts, as one, in which one has a recovery.

    Raises:
        InputError: as `side_by_side`, and if no prompt of any is above `min_gap`.
    """
    whole = side_by_side(parts, min_gap)
    check_gap(whole.clean, whole.corrupted, min_gap)
    return whole


def side_by_side(parts: Sequence[PatchingResult], min_gap: float) -> PatchingResult:
    """Sweeps of the same patches over different prompts, as one.

    Args:
        parts: what was swept in parts; all but the prompts must be the same.
        min_gap: the threshold of the whole, see `PatchingResult`.

    Raises:
        InputError: if there is no part, or parts differ.
    """
    if not parts:
        raise InputError("there is no part of a sweep to put together")
    same = ("layers", "units", "unit_labels", "axis", "site", "direction", "contrast", "metric",
            "unit", "engine")  # fmt: skip
    for name in same:
        if len({getattr(part, name) for part in parts}) > 1:
            raise InputError(f"parts of a sweep differ in {name}; make them anew")
    topics = [part.topics for part in parts if part.topics is not None]
    if len(topics) not in (0, len(parts)):
        raise InputError("some parts of a sweep have topics and others none; make them anew")
    return replace(
        parts[0],
        values=torch.cat([part.values for part in parts], -1),
        clean=torch.cat([part.clean for part in parts]),
        corrupted=torch.cat([part.corrupted for part in parts]),
        present=torch.cat([part.present for part in parts], -1),
        metric_positions=torch.cat([part.metric_positions for part in parts]),
        min_gap=min_gap,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        topics=tuple(topic for some in topics for topic in some) if topics else None,
        noise_floor=max((p.noise_floor for p in parts if p.noise_floor is not None), default=None),
    )


def check_gap(
    one: Float[Tensor, "*metric batch"],
    other: Float[Tensor, "*metric batch"] | None,
    min_gap: float,
) -> None:
    """Refuse a sweep in which no prompt has a recovery, under any metric.

    Raises:
        InputError: if the two runs agree within `min_gap` on every prompt.
    """
    if other is None:
        return  # an ablation has no second run
    widest = float((one - other).abs().max())
    if widest <= min_gap:
        raise InputError(
            f"clean and corrupted differ by at most {widest:.3g} on every prompt (min_gap "
            f"{min_gap:.3g}), so there is nothing to recover; use prompts or models further apart"
        )
