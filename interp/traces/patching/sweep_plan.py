"""What a sweep is going to do, checked before anything is patched.

Shared by the exact engine and its naive twin, so that both patch the same cells of the same runs
and differ in the arithmetic alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.memory import in_batches
from interp.readout.capture import hook_name, run_and_keep
from interp.readout.metric import measure, read_columns, resolve, unit_of
from interp.readout.question import Metric, Question
from interp.readout.run import Run, check_pair, metric_columns

Direction = Literal["denoising", "noising", "ablation"]
Units = tuple[int, ...] | tuple[tuple[int, int], ...]

RESIDUAL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEADS = ("z", "q", "k", "v", "pattern")
NEURONS = ("mlp_post",)
SITES = RESIDUAL + HEADS + NEURONS
WAYS = {
    **dict.fromkeys(RESIDUAL, ("pos",)),
    **dict.fromkeys(HEADS, ("head", "head_pos")),
    **dict.fromkeys(NEURONS, ("neuron", "neuron_pos")),
}
EVERYWHERE = -1


@dataclass(frozen=True)
class Cells:
    """Which part of the map to sweep; everything that is left out.

    Attributes:
        layers: negative numbers count from the end, here and below.
        positions: columns of the token batch, for sweeps by position.
        heads: for sites of heads; for `k` and `v` these are key/value heads.
        neurons: for `mlp_post`.
    """

    layers: Sequence[int] | None = None
    positions: Sequence[int] | None = None
    heads: Sequence[int] | None = None
    neurons: Sequence[int] | None = None


ALL = Cells()


@dataclass
class SweepPlan:
    """A checked sweep.

    Attributes:
        base: the run that is patched into.
        source: the run that activations are taken from; for a mean ablation the run that is
            averaged over, for a zero ablation None.
        by: `pos`, `head`, `head_pos`, `neuron` or `neuron_pos`: what one cell of the map is.
        at: metric column of each row.
        columns: the columns whose logits the metric needs, `[batch]` or `[batch reads]`.
        first: the first column of each row at which a patch can change anything.
        layers, positions, elements: what to sweep; elements are heads or neurons.
    """

    base: Run
    source: Run | None
    site: str
    by: str
    direction: Direction
    contrast: str
    metric: Metric
    unit: str | None
    at: Int[Tensor, " batch"]
    columns: Int[Tensor, "batch *reads"]
    first: Int[Tensor, " batch"]
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    elements: tuple[int, ...]

    @property
    def metric_unit(self) -> str:
        """The unit given, else the metric's own, else plain `metric units`."""
        return unit_of(self.metric, self.unit)

    @property
    def units(self) -> Units:
        """The second axis of the values: columns, heads, neurons, or pairs (element, column)."""
        if self.by == "pos":
            return self.positions
        if self.by in ("head", "neuron"):
            return self.elements
        return tuple((element, column) for element in self.elements for column in self.positions)

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Each unit as (element, column): element 0 where there is none, column -1 for all."""
        if self.by == "pos":
            return [(0, column) for column in self.positions]
        if self.by in ("head", "neuron"):
            return [(element, EVERYWHERE) for element in self.elements]
        return [(element, column) for element in self.elements for column in self.positions]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the units; columns count from the metric position if all rows share it."""
        common = int(self.at[0]) if bool((self.at == self.at[0]).all()) else 0
        names = {"pos": "{1}", "head": "{0}", "neuron": "{0}"}
        name = names.get(self.by, "{0}@{1}")
        return tuple(name.format(element, column - common) for element, column in self.cells)

    @property
    def present(self) -> Bool[Tensor, "unit batch"]:
        """Whether a prompt has a token in a cell's column, not right of its metric column."""
        columns = torch.tensor([column for _, column in self.cells], device=self.at.device)
        here = self.base.mask[:, columns] & (columns <= self.at[:, None])
        return (here | (columns == EVERYWHERE)).T.contiguous()

    def taken(self) -> tuple[list[Tensor], Float[Tensor, "*metric batch"] | None]:
        """Run the source: its activations at the site per layer, and its metric.

        For an ablation there is no metric. Mean ablation averages over all attended tokens of the
        source; both kinds have the base's shape.
        """
        if self.direction != "ablation":
            assert self.source is not None  # see make_plan
            kept = run_and_keep(self.source, (self.site,), self.columns)
            return kept.acts[self.site], measure(self.metric, kept.logits)
        shape = self.base.tokens.shape
        if self.source is None:
            one = Run(self.base.model, self.base.tokens[:1], self.base.mask[:1])
            acts = run_and_keep(one, (self.site,), one.last).acts[self.site]
            return [
                torch.zeros_like(act).expand(len(self.at), *act.shape[1:]) for act in acts
            ], None
        means = attended_means(self.source, self.site)
        return [mean.expand(*shape, *mean.shape) for mean in means], None


def attended_means(run: Run, site: str, layers: Sequence[int] | None = None) -> list[Tensor]:
    """Mean activation over all attended tokens of a run, `[...]` for each layer."""

    def sums(rows: list[int]) -> list[Tensor]:
        part = Run(run.model, run.tokens[rows], run.mask[rows])
        acts = run_and_keep(part, (site,), part.last).acts[site]
        wanted = range(len(acts)) if layers is None else layers
        return [acts[i][part.mask.to(acts[i].device)].double().sum(0) for i in wanted]

    batches = in_batches(
        len(run.tokens), len(run.tokens), sums, what=f"means of {site}", device=run.tokens.device,
        unit="prompt",
    )  # fmt: skip
    parts = [part for _, part in batches]
    kind = run.model.embed.original_component.weight.dtype
    return [(sum(layer) / int(run.mask.sum())).to(kind) for layer in zip(*parts, strict=True)]


def make_plan(
    base: Run,
    source: Run | None,
    site: str,
    *,
    direction: Direction,
    contrast: str,
    ask: Question,
    by: str | None = None,
    cells: Cells = ALL,
) -> SweepPlan:
    """Check a sweep's arguments; see `interp.patching.sweep` for them.

    Raises:
        InputError: for an unknown site or way to sweep it, a layer, head, neuron or position that
            does not exist, or a metric position outside its prompt.
        ModelError: if the architecture lacks the site.
    """
    if site not in SITES:
        raise InputError(f"unknown site {site!r}; use one of {', '.join(SITES)}")
    by = WAYS[site][0] if by is None else by
    if by not in WAYS[site]:
        raise InputError(f"site {site!r} cannot be swept by {by!r}; use {' or '.join(WAYS[site])}")
    for name, given, sites in (("heads", cells.heads, HEADS), ("neurons", cells.neurons, NEURONS)):
        if given is not None and site not in sites:
            raise InputError(f"site {site!r} has no {name}; leave {name} out")
    if cells.positions is not None and "pos" not in by:
        raise InputError(
            f"site {site!r} by {by} is patched at all positions; leave positions out or use "
            f"by='{by}_pos'"
        )
    for run in (base, source):
        if run is not None:
            hook_name(run.model, site, 0)
    ask.topics_of(len(base.tokens))  # one each, or an error before the work
    at = metric_columns(base, ask.places)
    first = base.first
    if source is not None and source.model is base.model and direction != "ablation":
        # Up to the first token that differs, one model computes the same twice.
        first = (base.tokens != source.tokens.to(base.tokens.device)).int().argmax(1)
    metric = resolve(ask.metric, base.model)
    columns = read_columns(metric, base, at)
    if source is not None and direction != "ablation":
        read_columns(metric, source, at)
    return SweepPlan(
        base=base,
        source=source,
        site=site,
        by=by,
        direction=direction,
        contrast=contrast,
        metric=metric,
        unit=ask.unit,
        at=at,
        columns=columns,
        first=torch.maximum(first, base.first),
        layers=_indices("layer", cells.layers, int(base.model.cfg.n_layers)),
        positions=_indices("position", cells.positions, base.tokens.shape[1])
        if "pos" in by
        else (),
        elements=_elements(base, site, cells),
    )


def oriented(clean: Run, corrupted: Run, direction: str) -> tuple[Run, Run, Direction, str]:
    """Base, source, direction and contrast of a sweep between two runs.

    Raises:
        InputError, ModelError: as `check_pair`, or for an unknown direction.
    """
    contrast = check_pair(clean, corrupted)
    if direction == "denoising":
        return corrupted, clean, "denoising", contrast
    if direction == "noising":
        return clean, corrupted, "noising", contrast
    raise InputError(f"unknown direction {direction!r}; use 'denoising' or 'noising'")


def _elements(base: Run, site: str, cells: Cells) -> tuple[int, ...]:
    cfg = base.model.cfg
    if site in HEADS:
        shared = site in ("k", "v")
        count = int((getattr(cfg, "n_key_value_heads", None) if shared else None) or cfg.n_heads)
        return _indices("key/value head" if shared else "head", cells.heads, count)
    if site in NEURONS:
        return _indices("neuron", cells.neurons, int(cfg.d_mlp))
    return ()


def _indices(what: str, wanted: Sequence[int] | None, size: int) -> tuple[int, ...]:
    """Indices in 0..size-1; negative ones count from the end."""
    if wanted is None:
        return tuple(range(size))
    if not len(wanted):
        raise InputError(f"no {what} to sweep; name at least one or leave the choice out")
    for index in wanted:
        if not -size <= index < size:
            raise InputError(f"{what} {index} does not exist; this model has {size}")
    return tuple(int(index) % size for index in wanted)
