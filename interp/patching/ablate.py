"""Ablation: overwrite activations with zero, or with their mean, instead of another run's.

A zero takes the activation out altogether, a mean takes out what distinguishes these tokens from
the reference (Wang et al. 2023). There is no second run, so there is no recovery: read `effect()`,
the ablated minus the untouched metric.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp.errors import InputError, ModelError
from interp.patching import naive
from interp.patching.exact import assemble, in_parts, noise_floor
from interp.patching.metric import Metric
from interp.patching.plan import Progress, make_plan
from interp.patching.result import PatchingResult
from interp.patching.run import Run


def ablate(
    run: Run,
    site: str,
    *,
    using: str = "mean",
    reference: Run | None = None,
    engine: str = "exact",
    by: str | None = None,
    metric: Metric | None = None,
    unit: str | None = None,
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
    metric_positions: int | Tensor | None = None,
    max_memory: int | None = None,
    progress: Progress | None = None,
) -> PatchingResult:
    """Ablate one site at every layer and position (head, neuron).

    Args:
        run: the run to ablate in.
        site, by, metric, unit, layers, positions, heads, neurons, metric_positions, max_memory,
            progress: as for `interp.patching.sweep`.
        using: `"mean"` (over all attended tokens of the reference, per layer) or `"zero"`.
        reference: the run that is averaged over; `run` itself if left out.
        engine: `"exact"`, or `"naive"` for one forward pass per ablation.

    Returns:
        A result whose `clean` and `corrupted` are both the untouched metric, direction `ablation`.

    Raises:
        InputError: for arguments that do not fit; a mean attention pattern (rows of different
            lengths have none).
        ModelError: if the architecture lacks the site, is not covered by the engine, or the
            reference has another shape.
    """
    if using not in ("mean", "zero"):
        raise InputError(f"unknown ablation {using!r}; use 'mean' or 'zero'")
    if engine not in ("exact", "naive"):
        raise InputError(f"unknown engine {engine!r}; use 'exact' or 'naive'")
    if using == "zero" and reference is not None:
        raise InputError("a zero ablation needs no reference; leave it out")
    if using == "mean" and site == "pattern":
        raise InputError("attention patterns have no mean over positions; use using='zero'")
    source = None if using == "zero" else (reference or run)
    if source is not None and source.model.cfg.d_model != run.model.cfg.d_model:
        raise ModelError("the reference's model differs in d_model from the one to ablate")
    plan = make_plan(
        run, source, site, by=by, metric=metric, unit=unit, direction="ablation",
        contrast=f"{using} ablation", layers=layers, positions=positions, heads=heads,
        neurons=neurons, metric_positions=metric_positions,
    )  # fmt: skip
    with torch.no_grad():
        taken, _ = plan.taken()
        notes: tuple[str, ...] = ()
        floor = None
        if engine == "naive":
            before = naive.unpatched(plan)
            values = naive.run_plan(plan, taken, progress)
        else:
            values, before, _, notes = in_parts(plan, taken, 0.0, max_memory, progress)
            floor = noise_floor(plan, taken, values, max_memory)
    return assemble(plan, values, before, None, 0.0, engine, notes, floor)
