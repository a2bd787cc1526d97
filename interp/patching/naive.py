"""The slow twin of the exact engine: one whole forward pass per patch, by TransformerLens hooks.

Same arguments, same result, for any architecture that TransformerLens bridges. It is the oracle of
the tests and the fallback for models that the engine refuses. Cost: layers times positions (or
heads) forward passes over the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.patching.capture import hook_name
from interp.patching.exact import assemble, check_gap
from interp.patching.metric import Metric, measure
from interp.patching.plan import Plan, Progress, make_plan
from interp.patching.result import PatchingResult
from interp.patching.run import Run


def sweep(
    clean: Run,
    corrupted: Run,
    site: str,
    *,
    metric: Metric | None = None,
    unit: str | None = None,
    direction: str = "denoising",
    layers: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    metric_positions: int | Tensor | None = None,
    min_gap: float = 1e-3,
    progress: Progress | None = None,
) -> PatchingResult:
    """As `interp.patching.sweep`, by one forward pass per patch; see there for the arguments.

    Raises:
        InputError, ModelError: as `interp.patching.sweep`, but no model type is refused.
    """
    plan = make_plan(
        clean, corrupted, site, metric=metric, unit=unit, direction=direction, layers=layers,
        positions=positions, heads=heads, metric_positions=metric_positions,
    )  # fmt: skip
    kept, source_metric = plan.keep(plan.source, (site,))
    _, base_metric = plan.keep(plan.base, ())
    check_gap(base_metric, source_metric, min_gap)
    total = len(plan.layers) * len(plan.units)
    parts: list[Tensor] = []
    for layer in plan.layers:
        for place in plan.units:
            if progress is not None:
                progress(f"patching {site}", len(parts), total)
            parts.append(_patched(plan, _hooks(plan, layer, kept.acts[site][layer], place)))
    if progress is not None:
        progress(f"patching {site}", total, total)
    values = torch.stack(parts).view(len(plan.layers), len(plan.units), -1)
    return assemble(plan, values, base_metric, source_metric, min_gap, "naive")


def _hooks(plan: Plan, layer: int, source: Tensor, place: int) -> list[tuple[str, Any]]:
    """Hooks that put the source's activation in place at one position, or one head."""
    model = plan.base.model

    def swap(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        value = value.clone()
        where = (slice(None), slice(None), place) if plan.heads else (slice(None), place)
        value[where] = source[where].to(value)
        return value

    if plan.site != "resid_mid":
        return [(hook_name(model, plan.site, layer), swap)]
    # The bridge's hook_resid_mid is the input of the second norm: a change there reaches the MLP
    # but not the residual stream that goes around it. So the wanted stream is made by attn_out.
    entering: list[Tensor] = []

    def note(value: Tensor, hook: Any) -> None:  # noqa: ARG001
        entering.append(value)

    def set_middle(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        value = value.clone()
        value[:, place] = source[:, place].to(value) - entering.pop()[:, place]
        return value

    return [
        (hook_name(model, "resid_pre", layer), note),
        (hook_name(model, "attn_out", layer), set_middle),
    ]


def _patched(plan: Plan, hooks: list[tuple[str, Any]]) -> Float[Tensor, " batch"]:
    with torch.no_grad():
        logits = plan.base.model.run_with_hooks(
            plan.base.tokens, attention_mask=plan.base.mask.long(), fwd_hooks=hooks
        )
    each = torch.arange(len(plan.at), device=logits.device)
    return measure(plan.metric, logits[each, plan.at.to(logits.device)])
