"""Ablation: overwrite activations with zero, or with their mean, instead of another run's.

A zero takes the activation out altogether, a mean takes out what distinguishes these tokens from
the reference (Wang et al. 2023). There is no second run, so there is no recovery: read `effect()`,
the ablated minus the untouched metric.
"""

from dataclasses import replace

import torch

from interp.base.errors import InputError, ModelError
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run
from interp.traces.patching import naive
from interp.traces.patching.assembling import assemble
from interp.traces.patching.exact import in_parts, noise_floor, uncovered
from interp.traces.patching.result import PatchingResult
from interp.traces.patching.sweep_plan import ALL, Cells, make_plan


def ablate(
    run: Run,
    site: str,
    *,
    using: str | Run = "mean",
    engine: str = "exact",
    by: str | None = None,
    cells: Cells = ALL,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> PatchingResult:
    """Ablate one site at every layer and position (head, neuron).

    Args:
        run: the run to ablate in.
        site, by, cells, metric, ask: as for `interp.patching.sweep`; there is no gap.
        using: `"zero"`, `"mean"` (over all attended tokens of `run`, per layer), or another run
            whose mean to take.
        engine: `"exact"` (where it goes), or `"naive"` for one forward pass per ablation.

    Returns:
        A result whose `clean` and `corrupted` are both the untouched metric, direction `ablation`.

    Raises:
        InputError: for arguments that do not fit; a mean attention pattern (rows of different
            lengths have none).
        ModelError: if the architecture lacks the site, or the reference has another shape.
    """
    if isinstance(using, str) and using not in ("mean", "zero"):
        raise InputError(f"unknown ablation {using!r}; use 'mean', 'zero' or a run to average")
    if engine not in ("exact", "naive"):
        raise InputError(f"unknown engine {engine!r}; use 'exact' or 'naive'")
    if using != "zero" and site == "pattern":
        raise InputError("attention patterns have no mean over positions; use using='zero'")
    source = using if isinstance(using, Run) else run if using == "mean" else None
    if source is not None and source.model.cfg.d_model != run.model.cfg.d_model:
        raise ModelError("the reference's model differs in d_model from the one to ablate")
    ask = asked(ask, metric)
    plan = make_plan(
        run, source, site, direction="ablation",
        contrast="zero ablation" if source is None else "mean ablation", ask=ask, by=by,
        cells=cells,
    )  # fmt: skip
    with torch.no_grad():
        taken, _ = plan.taken()
        notes: tuple[str, ...] = ()
        floor = None
        if engine == "naive" or uncovered(run.model, site):
            engine = "naive"
            before = naive.unpatched(plan)
            values = naive.run_plan(plan, taken, ask)
        else:
            values, before, _, notes = in_parts(plan, taken, ask)
            floor = noise_floor(plan, taken, values, ask.chunk)
    return assemble(plan, values, before, None, replace(ask, min_gap=0.0), engine, notes, floor)
