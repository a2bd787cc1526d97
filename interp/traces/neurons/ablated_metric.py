"""The metric of a run under many ablations, several to a batch."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base import memory
from interp.base.progress import Progress
from interp.readout.capture import logits_at
from interp.readout.metric import Metric, measure, read_columns
from interp.readout.run import Run, metric_columns
from interp.traces.neurons.ablation import Ablation, ablated


def metric_under(
    run: Run,
    ablations: Sequence[Ablation],
    metric: Metric,
    *,
    means: Mapping[int, Float[Tensor, " neuron"]] | None = None,
    metric_positions: int | Tensor | None = None,
    rows: int = 256,
    progress: Progress | None = None,
) -> Float[Tensor, "ablation batch"]:
    """The metric of every prompt under every ablation, by whole forward passes.

    Args:
        run: model and prompts.
        ablations: the sets; one with no neurons gives the untouched metric.
        metric: maps logits `[batch vocab]` of all prompts to `[batch]`.
        means: as for `ablated`.
        metric_positions: as for `interp.patching.sweep`.
        rows: about how many rows (ablations times prompts) per pass; a pass holds whole batches.
        progress: called with (label, rows done, rows in all).

    Raises:
        InputError: for neurons that do not exist, or a metric that is not finite.
    """
    at = read_columns(metric, run, metric_columns(run, metric_positions))
    batch = len(run.tokens)

    def under(some: list[int]) -> Float[Tensor, "some *reads vocab"]:
        place = torch.tensor([row % batch for row in some], device=run.tokens.device)
        part = Run(run.model, run.tokens[place], run.mask[place])
        here = [ablations[row // batch] for row in some]
        with torch.no_grad(), ablated(run.model, here, means):
            return logits_at(part, at[place], [])

    found: list[Tensor] = []
    waiting: list[Tensor] = []
    batches = memory.in_batches(
        len(ablations) * batch, max(1, rows // batch) * batch, under, what="ablating neurons",
        device=run.tokens.device, progress=progress, unit="prompt",
    )  # fmt: skip
    for _, logits in batches:
        waiting = [torch.cat([*waiting, logits])]
        while len(waiting[0]) >= batch:  # a metric sees all prompts of an ablation at once
            found.append(measure(metric, waiting[0][:batch]))
            waiting = [waiting[0][batch:]]
    return torch.stack(found).cpu()
