"""What a sweep is going to do, checked before anything is patched.

Shared by the exact engine and its naive twin, so that both patch the same cells of the same runs
and differ in the arithmetic alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import InputError
from interp.patching.capture import Kept, hook_name, run_and_keep
from interp.patching.metric import Metric, measure, resolve
from interp.patching.run import Run, check_pair, metric_columns

Direction = Literal["denoising", "noising"]
Progress = Callable[[str, int, int], None]

RESIDUAL = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEADS = ("z",)
SITES = RESIDUAL + HEADS


@dataclass
class Plan:
    """A checked sweep.

    Attributes:
        base: the run that is patched into; source: the run that activations are taken from.
        at: metric column of each row.
        first: the first column of each row at which a patch can change anything.
        layers, positions, heads: what to sweep; `heads` is empty for sites by position.
    """

    base: Run
    source: Run
    site: str
    direction: Direction
    contrast: str
    metric: Metric
    unit: str | None
    at: Int[Tensor, " batch"]
    first: Int[Tensor, " batch"]
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def metric_unit(self) -> str:
        """The unit given, else the metric's own, else plain `metric units`."""
        return self.unit or str(getattr(self.metric, "unit", "metric units"))

    @property
    def units(self) -> tuple[int, ...]:
        """The second axis of the values: heads, or columns."""
        return self.heads or self.positions

    @property
    def present(self) -> Bool[Tensor, "pos batch"]:
        """Whether a prompt has a token in a swept column, not right of its metric column."""
        columns = torch.tensor(self.positions, dtype=torch.long, device=self.base.mask.device)
        return (self.base.mask[:, columns] & (columns <= self.at[:, None])).T.contiguous()

    def keep(self, run: Run, names: Iterable[str]) -> tuple[Kept, Float[Tensor, " batch"]]:
        """Run once; the kept activations and the metric."""
        kept = run_and_keep(run, names, self.at)
        return kept, measure(self.metric, kept.logits)


def make_plan(
    clean: Run,
    corrupted: Run,
    site: str,
    *,
    metric: Metric | None,
    unit: str | None,
    direction: str,
    layers: Sequence[int] | None,
    positions: Sequence[int] | None,
    heads: Sequence[int] | None,
    metric_positions: int | Tensor | None,
) -> Plan:
    """Check a sweep's arguments.

    Raises:
        InputError: for an unknown site or direction, a layer, head or position that does not exist,
            a metric position outside its prompt, or runs that cannot be patched into each other.
        ModelError: if the architecture lacks the site, or the models differ in shape.
    """
    if site not in SITES:
        raise InputError(f"unknown site {site!r}; use one of {', '.join(SITES)}")
    if direction not in ("denoising", "noising"):
        raise InputError(f"unknown direction {direction!r}; use 'denoising' or 'noising'")
    contrast = check_pair(clean, corrupted)
    base, source = (corrupted, clean) if direction == "denoising" else (clean, corrupted)
    at = metric_columns(base, metric_positions)
    cfg = base.model.cfg
    for run in (base, source):
        hook_name(run.model, site, 0)
    if heads is not None and site in RESIDUAL:
        raise InputError(f"site {site!r} has no heads; leave heads out")
    if positions is not None and site in HEADS:
        raise InputError(f"site {site!r} is patched at all positions; leave positions out")
    first = base.first
    if contrast == "prompt":
        # Up to the first token that differs, one model computes the same twice.
        first = (clean.tokens != corrupted.tokens.to(clean.tokens.device)).int().argmax(1)
    return Plan(
        base=base,
        source=source,
        site=site,
        direction="denoising" if direction == "denoising" else "noising",
        contrast=contrast,
        metric=resolve(metric, base.model),
        unit=unit,
        at=at,
        first=torch.maximum(first, base.first),
        layers=_indices("layer", layers, int(cfg.n_layers)),
        positions=_indices("position", positions, base.tokens.shape[1]) if site in RESIDUAL else (),
        heads=_indices("head", heads, int(cfg.n_heads)) if site in HEADS else (),
    )


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
