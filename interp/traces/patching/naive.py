"""The slow twin of the exact engine: one whole forward pass per patch, by TransformerLens hooks.

Same arguments, same result, for any architecture that TransformerLens bridges. It is the oracle of
the tests, and what `interp.patching.sweep` does where the engine does not go. Cost: layers times
positions (or heads) forward passes over the batch.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.readout.capture import at_columns, hook_name, run_and_keep
from interp.readout.metric import measure
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run
from interp.traces.patching.assembling import assemble
from interp.traces.patching.result import PatchingResult, check_gap
from interp.traces.patching.sweep_plan import (
    ALL,
    EVERYWHERE,
    HEADS,
    NEURONS,
    Cells,
    SweepPlan,
    make_plan,
    oriented,
)


def sweep(
    clean: Run,
    corrupted: Run,
    site: str,
    *,
    by: str | None = None,
    cells: Cells = ALL,
    direction: str = "denoising",
    metric: Metric | None = None,
    ask: Question | None = None,
) -> PatchingResult:
    """As `interp.patching.sweep`, by one forward pass per patch; see there for the arguments.

    Raises:
        InputError, ModelError: as `interp.patching.sweep`, but no model type is refused.
    """
    ask = asked(ask, metric)
    base, source, way, contrast = oriented(clean, corrupted, direction)
    plan = make_plan(
        base, source, site, direction=way, contrast=contrast, ask=ask, by=by, cells=cells
    )
    return assemble(plan, *measured(plan, ask), ask, "naive")


def measured(
    plan: SweepPlan, ask: Question
) -> tuple[
    Float[Tensor, "*metric layer unit batch"],
    Float[Tensor, "*metric batch"],
    Float[Tensor, "*metric batch"] | None,
]:
    """All patches of a plan, the unpatched metric and the source's (an ablation has none)."""
    taken, source_metric = plan.taken()
    before = unpatched(plan)
    check_gap(before, source_metric, ask.min_gap)
    return run_plan(plan, taken, ask), before, source_metric


def unpatched(plan: SweepPlan) -> Float[Tensor, "*metric batch"]:
    """The metric of the base run."""
    return measure(plan.metric, run_and_keep(plan.base, (), plan.columns).logits)


def run_plan(
    plan: SweepPlan, taken: list[Tensor], ask: Question
) -> Float[Tensor, "*metric layer unit batch"]:
    """All patches of a plan, by one forward pass each."""
    total = len(plan.layers) * len(plan.cells)
    parts: list[Tensor] = []
    for layer in plan.layers:
        for cell in plan.cells:
            ask.tell(f"patching {plan.site}", len(parts), total)
            hooks = site_hooks(plan.base.model, plan.site, layer, taken[layer], *cell)
            parts.append(with_hooks(plan, hooks))
    ask.tell(f"patching {plan.site}", total, total)
    return rearrange(
        torch.stack(parts), "(layer cell) ... batch -> ... layer cell batch", layer=len(plan.layers)
    )


def site_hooks(
    model: Any, site: str, layer: int, source: Tensor, element: int, column: int
) -> list[tuple[str, Any]]:
    """Hooks that put the source's activation in place at one column (-1: all) and element."""
    at = slice(None) if column == EVERYWHERE else column
    where: tuple[Any, ...] = (slice(None), at)
    if site in HEADS or site in NEURONS:
        where = (slice(None), at, element)
    if site == "pattern":  # [batch head query key]
        where = (slice(None), element, at)

    def swap(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        # The bridge's hook_resid_mid is the input of the second norm. Only a change in place also
        # reaches the residual stream that goes around the MLP, as in TransformerLens' own sweeps.
        value = value if site == "resid_mid" else value.clone()
        value[where] = source[where].to(value)
        return value

    return [(hook_name(model, site, layer), swap)]


def with_hooks(plan: SweepPlan, hooks: list[tuple[str, Any]]) -> Float[Tensor, "*metric batch"]:
    """The metric of the base run under hooks."""
    with torch.no_grad():
        logits = plan.base.model.run_with_hooks(
            plan.base.tokens, attention_mask=plan.base.mask.long(), fwd_hooks=hooks
        )
    return measure(plan.metric, at_columns(logits, plan.columns))
