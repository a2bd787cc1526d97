"""From measured values to a result: names, notes, and what could not be recovered."""

from jaxtyping import Float
from torch import Tensor

from interp.readout.metric import label, reads
from interp.readout.question import Question
from interp.traces.patching.result import PatchingResult
from interp.traces.patching.sweep_plan import SweepPlan


def assemble(
    plan: SweepPlan,
    values: Float[Tensor, "layer unit batch"],
    base_metric: Float[Tensor, " batch"],
    source_metric: Float[Tensor, " batch"] | None,
    ask: Question,
    engine: str,
    notes: tuple[str, ...] = (),
    floor: float | None = None,
) -> PatchingResult:
    """Put a result together from a plan and the measured values."""
    if reads(plan.metric) > 1:
        notes = (*notes, "read at two positions: the slot, and after the lone ▁ right of it")
    # Denoising patches into the corrupted run, noising and ablation into the clean one.
    other = base_metric if source_metric is None else source_metric
    swapped = plan.direction == "denoising"
    clean, corrupted = (other, base_metric) if swapped else (base_metric, other)
    undefined = int(((clean - corrupted).abs() <= ask.min_gap).sum())
    name, unit = label(plan.metric), plan.metric_unit
    runs = [run for run in (plan.base, plan.source) if run is not None]
    if undefined and source_metric is not None:
        notes = (
            *notes,
            f"{undefined} of {len(clean)} prompts left out of recoveries: |clean - corrupted| <= "
            f"{ask.min_gap:g} {unit}",
        )
    return PatchingResult(
        values=values.cpu(),
        clean=clean.cpu(),
        corrupted=corrupted.cpu(),
        present=plan.present.cpu(),
        metric_positions=plan.at.cpu(),
        layers=plan.layers,
        units=plan.units,
        unit_labels=plan.labels,
        axis=plan.by,
        site=plan.site,
        direction=plan.direction,
        contrast=plan.contrast,
        metric=name,
        unit=unit,
        min_gap=ask.min_gap,
        engine=engine,
        notes=notes,
        noise_floor=floor,
        topics=ask.topics_of(len(clean), plan.at, *(run.tokens for run in runs)),
    )
