"""How much memory a sweep's chunks of patches may take, and how many prompts it takes at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from interp.base.memory import Budget
from interp.readout.metric import Metric, Several
from interp.readout.run import Run
from interp.traces.patching.engine import BaseRun
from interp.traces.patching.sweep_plan import SweepPlan

# Larger chunks are slower on a CPU: 512 MiB takes 5 % longer, because less stays in its caches.
DEFAULT_BYTES = 128 * 2**20


def budget_of(base: BaseRun, chunk: int | None) -> Budget:
    """Working memory for chunks of patches, beside models and cached activations.

    The size of a chunk is computed from shapes before it is run (the largest set of tensors that
    live at once in a layer), so the budget is a bound and not a hope; the tests measure it.

    Raises:
        InputError: if not even one patch fits into what was asked for.
    """
    needed = base.job_bytes(0, base.run.tokens.shape[1])
    item = "patch of these prompts"
    return Budget.of(needed, chunk, DEFAULT_BYTES, "patching", item)


def part_of(plan: SweepPlan, rows: list[int]) -> SweepPlan:
    """The same sweep over some of its prompts."""
    if rows == list(range(len(plan.at))):
        return plan
    source = plan.source
    if source is not None and source.tokens.shape[0] == len(plan.at):
        source = Run(source.model, source.tokens[rows], source.mask[rows])
    base = Run(plan.base.model, plan.base.tokens[rows], plan.base.mask[rows])
    metric = metric_of_rows(plan.metric, rows, len(plan.at))
    return replace(
        plan, base=base, source=source, at=plan.at[rows], columns=plan.columns[rows],
        first=plan.first[rows], metric=metric,
    )  # fmt: skip


def metric_of_rows(metric: Metric, rows: list[int], count: int) -> Metric:
    """A metric of all prompts, for some of them; the others' rows do not matter."""
    if rows == list(range(count)):
        return metric
    if isinstance(metric, Several):
        return Several(tuple(metric_of_rows(one, rows, count) for one in metric.metrics))
    if hasattr(metric, "ids"):  # of an outcome, which looks at each row by itself
        return metric

    def some(logits: Tensor) -> Tensor:
        # [rows vocab] put where they stand among all prompts, `[count vocab]`: a metric may want
        # another token of each. The first row fills the other places, for finite numbers there.
        whole = logits[:1].detach().expand(count, -1).clone()
        whole[rows] = logits
        found: Any = metric(whole)
        return found[rows] if isinstance(found, Tensor) and found.shape == (count,) else found

    named: Callable[[Tensor], Tensor] = some
    named.__name__ = str(getattr(metric, "name", None) or getattr(metric, "__name__", "metric"))
    return named
