"""What direct attribution found."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.traces.attribution.intervals import table_of_means

_NAME = re.compile(r"(?P<part>[am])(?P<layer>\d+)(?:\.(?P<unit>[hn])(?P<element>\d+))?")
_KINDS = {("a", None): "attention", ("m", None): "mlp", ("a", "h"): "head", ("m", "n"): "neuron"}


@dataclass(frozen=True)
class Attribution(Result):
    """Contributions of every component to the emoji direction, per prompt.

    Whatever the split (`by`), the components of a run sum to `total`.

    Attributes:
        values: contribution of each component, `[run component batch]`, in the metric's unit along
            the directions `path` and `gradient` (in logits along `fixed`).
        total: the final norm's output along the direction, `[run batch]`.
        metric_values: the metric of each run, `[run batch]`, in `unit`.
        names: of the components: `input`, `a0`, `m0`, `a1.h3`, `m2.n7`, `bias`.
        runs: `("base", "tuned")`, `("corrupted", "clean")`, or one run.
        by: `component`, `head` or `neuron`.
        direction: `path`, `gradient` or `fixed`.
        unexplained: for `path`, the largest difference over prompts between the metric's change and
            the change of `total` (numerical integration); None for other directions.
        contrast, metric, unit: what was compared and measured.
        noise_floor: how far batch size and rounding can move a value.
        topics: one per prompt, the units of intervals and p-values; None: each prompt is one.
    """

    kind: ClassVar[str] = "direct attribution"

    values: Float[Tensor, "run component batch"]
    total: Float[Tensor, "run batch"]
    metric_values: Float[Tensor, "run batch"]
    names: tuple[str, ...]
    runs: tuple[str, ...]
    by: str
    direction: str
    unexplained: float | None
    contrast: str
    metric: str
    unit: str
    noise_floor: float | None = None
    topics: tuple[str, ...] | None = None

    @property
    def n_prompts(self) -> int:
        return self.values.shape[2]

    def of(self, name: str) -> Float[Tensor, "run batch"]:
        """The contributions of one component.

        Raises:
            InputError: if there is no such component.
        """
        if name not in self.names:
            raise InputError(
                f"no component {name!r} in an attribution by {self.by}; names look like "
                f"{', '.join(self.names[:4])}"
            )
        return self.values[:, self.names.index(name)]

    def difference(self) -> Float[Tensor, "component batch"]:
        """Second run minus first, tuned minus base or clean minus corrupted, per prompt.

        Raises:
            InputError: if there is one run only.
        """
        if len(self.runs) != 2:
            raise InputError("there is one run only, so no difference; use attribution.compare")
        return self.values[1] - self.values[0]

    def summary(
        self,
        *,
        clusters: Sequence[Hashable] | None = None,
        level: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> pd.DataFrame:
        """One row per component, in order.

        Args:
            clusters: one label per prompt; whole clusters are resampled. Left out, the topics.
            level: confidence level of the intervals.
            n_resamples: bootstrap resamples.
            seed: the same seed gives the same table.

        Returns:
            Columns `name`, `kind`, `layer`, `element` (head or neuron), the mean of each run under
            its name with `<run>_low` and `<run>_high`; with two runs `difference`, `low`, `high`;
            then `p` (sign-flip test of the difference, or of the one run, being zero),
            `p_adjusted` (false discovery rate over all components) and `n`.

        Raises:
            InputError: with fewer than two prompts or clusters, or labels that do not match.
        """
        options = {
            "clusters": clusters or self.topics,
            "level": level,
            "n_resamples": n_resamples,
            "seed": seed,
        }
        table = self._places()
        for run, values in zip(self.runs, self.values, strict=True):
            found = table_of_means(values, **options)  # type: ignore[arg-type]
            table[run] = found["mean"]
            table[f"{run}_low"], table[f"{run}_high"] = found["low"], found["high"]
        if len(self.runs) == 2:
            found = table_of_means(self.difference(), **options)  # type: ignore[arg-type]
            table["difference"] = found["mean"]
            table["low"], table["high"] = found["low"], found["high"]
        for column in ("p", "p_adjusted", "n"):
            table[column] = found[column]
        return table

    def grid(self, kind: str = "head") -> Float[Tensor, "run layer element"]:
        """Mean contribution of every head (`head`) by layer; NaN for layers that were not split.

        Raises:
            InputError: if the attribution was made by something else.
        """
        if self.by != kind or kind not in ("head", "neuron"):
            raise InputError(f"this attribution is by {self.by}; make one by='{kind}'")
        places = self._places()
        rows = places[places["kind"] == kind]
        layers, elements = rows["layer"].to_numpy(int), rows["element"].to_numpy(int)
        depth = int(places["layer"].max()) + 1
        grid = torch.full((len(self.runs), depth, int(elements.max()) + 1), torch.nan)
        grid[:, layers, elements] = self.values[:, rows.index.to_numpy()].mean(2)
        return grid

    def to_dataframe(self) -> pd.DataFrame:
        """One row per run, component and prompt."""
        index = np.indices(self.values.shape).reshape(3, -1)
        table = self._places().iloc[index[1]].reset_index(drop=True)
        table.insert(0, "run", np.array(self.runs)[index[0]])
        table["prompt"] = index[2]
        table["value"] = self.values.flatten().numpy()
        return table

    def _places(self) -> pd.DataFrame:
        rows = [_parsed(name) for name in self.names]
        table = pd.DataFrame(rows, columns=["name", "kind", "layer", "element"])
        return table.astype({"layer": "Int64", "element": "Int64"})


def _parsed(name: str) -> tuple[str, str, int | None, int | None]:
    found = _NAME.fullmatch(name)
    if found is None:
        return name, name, None, None
    element = found["element"]
    kind = _KINDS[found["part"], found["unit"]]
    return name, kind, int(found["layer"]), None if element is None else int(element)
