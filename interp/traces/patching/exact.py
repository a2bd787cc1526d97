"""Activation patching over layers and positions, or layers and heads.

Copies an activation of one run (the source) into another (the base) and reads the metric again, for
every layer and position, head or neuron. Denoising copies clean activations into the corrupted run
and asks what suffices; noising copies corrupted ones into the clean run and asks what is needed
(Vig et al. 2020, Meng et al. 2022; Zhang and Nanda 2024 and Heimersheim and Nanda 2024 on reading
the maps). The two runs are one model on two prompts of equal token length, or two models (base and
tuned) on the same tokens.

Sign: recovery is (patched - corrupted) / (clean - corrupted), see `PatchingResult`.

Exact: values are those of one full forward pass per patch (`interp.patching.naive`), computed by
`interp.patching.engine` for a fraction of its cost. Before a sweep the engine recomputes the
unpatched run by itself and refuses to go on if that differs from the model. Where the engine does
not go (see `interp.readout.coverage`) those passes are made: the result's `engine` says `naive`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.base.memory import in_batches, rounding
from interp.readout.decoder import Decoder
from interp.readout.metric import Readout, Several, measure, read_columns, resolve
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run
from interp.traces.patching import naive
from interp.traces.patching.assembling import assemble
from interp.traces.patching.chunks import budget_of, part_of
from interp.traces.patching.engine import BaseRun, Engine
from interp.traces.patching.result import PatchingResult, check_gap
from interp.traces.patching.sites import NEEDED, Jobs, ends_in_its_row, live, patch
from interp.traces.patching.sweep_plan import ALL, Cells, SweepPlan, make_plan, oriented


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
    """Patch one site at every layer and position (or head), exactly.

    Args:
        clean, corrupted: the two runs. Equal token lengths and equal padding.
        site: by position `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out`; by head
            `z`, `q`, `k`, `v` (before norm and rotation, as their hooks), `pattern`; by neuron
            `mlp_post`.
        by: for heads `"head"` (all positions at once) or `"head_pos"` (each; for `pattern` the
            position that attends); for neurons `"neuron"` or `"neuron_pos"`.
        cells: which layers, positions, heads or neurons; everything if left out.
        direction: `"denoising"` (clean into corrupted) or `"noising"` (corrupted into clean).
        metric: short for `ask=Question(metric=...)`.
        ask: metric, metric positions, topics, smallest gap and memory, see `Question`. A chunk is
            one of patches, 128 MiB if left out.

    Returns:
        Values `[layer, pos or head, batch]` with both baselines.

    Raises:
        InputError: for arguments that do not fit (see `Run`, `make_plan`), a metric of the wrong
            shape or not finite, or if clean and corrupted agree within `min_gap` on every prompt.
        ModelError: if the architecture lacks the site, or the engine does not reproduce the model.
    """
    ask = asked(ask, metric)
    base_run, source, way, contrast = oriented(clean, corrupted, direction)
    plan = make_plan(
        base_run, source, site, direction=way, contrast=contrast, ask=ask, by=by, cells=cells
    )
    values, before, source_metric, alone, notes = measured(plan, ask)
    floor = None if alone is None else floor_of(plan, values, alone)
    engine = "naive" if alone is None else "exact"
    return assemble(plan, values, before, source_metric, ask, engine, notes, floor)


def sweep_each(
    clean: Run,
    corrupted: Run,
    site: str,
    metrics: Mapping[str, Metric],
    *,
    by: str | None = None,
    cells: Cells = ALL,
    direction: str = "denoising",
    ask: Question | None = None,
) -> dict[str, PatchingResult]:
    """Patch once and read several metrics: a `sweep` for each, for the price of one.

    Args:
        metrics: by name, as `Outcome.metrics` gives them. The factors of one outcome share three
            logsumexps per patch. The question names none.
        clean, corrupted, site, by, cells, direction, ask: as for `sweep`.

    Raises:
        InputError, ModelError: as `sweep`; that there is nothing to recover, only if that holds
            under every metric.
    """
    if not metrics:
        raise InputError("no metric to read; name at least one")
    ask = asked(ask, next(iter(metrics.values())))
    base_run, source, way, contrast = oriented(clean, corrupted, direction)
    plan = make_plan(
        base_run, source, site, direction=way, contrast=contrast, ask=ask, by=by, cells=cells
    )
    each = [resolve(metric, base_run.model) for metric in metrics.values()]
    several = Several(tuple(each))
    plan = replace(plan, metric=several, columns=read_columns(several, base_run, plan.at))
    values, before, ends, alone, notes = measured(plan, ask)
    assert ends is not None  # there is a source
    return {
        name: assemble(
            replace(plan, metric=metric), values[i], before[i], ends[i], ask,
            "naive" if alone is None else "exact", notes,
            None if alone is None else floor_of(plan, values[i], alone[i]),
        )
        for i, (name, metric) in enumerate(zip(metrics, each, strict=True))
    }  # fmt: skip


def measured(
    plan: SweepPlan, ask: Question
) -> tuple[
    Float[Tensor, "*metric layer unit batch"],
    Float[Tensor, "*metric batch"],
    Float[Tensor, "*metric batch"] | None,
    Float[Tensor, "*metric 1 unit 1"] | None,
    tuple[str, ...],
]:
    """All patches of a plan: by the engine, or where it does not go by one pass each.

    Returns:
        values, the unpatched metric, the source's metric, patches of the longest prompt alone
        (None where the engine did not go), notes for the reader.
    """
    why = uncovered(plan.base.model, plan.site)
    if why is None:
        values, before, ends, notes = in_parts(plan, None, ask)
        return values, before, ends, longest_alone(plan, None, ask.chunk), notes
    values, before, ends = naive.measured(plan, ask)
    return values, before, ends, None, (f"one forward pass per patch: {why}",)


def uncovered(model: Any, site: str) -> str | None:
    """Why the engine does not go where a sweep asks it to; None if it does."""
    try:
        decoder = Decoder.of(model)
    except ModelError as problem:
        return str(problem).partition(";")[0]
    if site in ("q", "k") and decoder.layers[0].joint_norm:
        return f"{decoder.model_type} norms the {site} of all heads together"
    return None


@torch.no_grad()
def in_parts(
    plan: SweepPlan,
    taken: list[Tensor] | None,
    ask: Question,
) -> tuple[
    Float[Tensor, "*metric layer unit batch"],
    Float[Tensor, "*metric batch"],
    Float[Tensor, "*metric batch"] | None,
    tuple[str, ...],
]:
    """All patches of a plan, over as many prompts at once as memory allows.

    Args:
        taken: activations to patch in, by layer, the same for all prompts; left out, the source's.

    Returns:
        values, the unpatched metric, the source's metric, notes for the reader.
    """
    every = len(plan.at)

    def some(rows: list[int]) -> tuple[Tensor, Tensor, Tensor | None, tuple[str, ...]]:
        part = part_of(plan, rows)
        if taken is None:
            acts, end = part.taken()
        else:
            acts, end = [act[: len(rows)] for act in taken], None
        # Of some prompts none may have a gap; of all, `check_gap` below says so.
        whole = len(rows) == every
        values, before, notes = exact_values(part, acts, end if whole else None, ask)
        return values, before, end, notes

    parts = [
        made
        for _, made in in_batches(
            every, every, some, what=f"patching {plan.site}", device=plan.base.tokens.device,
            unit="prompt",
        )
    ]  # fmt: skip
    values = torch.cat([part[0] for part in parts], -1)
    before = torch.cat([part[1] for part in parts], -1)
    ends = [part[2] for part in parts if part[2] is not None]
    source_metric = torch.cat(ends, -1) if ends else None
    check_gap(before, source_metric, ask.min_gap)
    return values, before, source_metric, tuple(dict.fromkeys(n for part in parts for n in part[3]))


def noise_floor(
    plan: SweepPlan, taken: list[Tensor] | None, values: Tensor, chunk: int | None
) -> float:
    """How far the longest prompt's patches of the first layer move when it is swept alone."""
    return floor_of(plan, values, longest_alone(plan, taken, chunk))


@torch.no_grad()
def longest_alone(
    plan: SweepPlan, taken: list[Tensor] | None, chunk: int | None
) -> Float[Tensor, "*metric 1 unit 1"]:
    """The longest prompt's patches of the first layer, swept without the others."""
    part = replace(part_of(plan, [_longest(plan)]), layers=plan.layers[:1])
    acts = part.taken()[0] if taken is None else [act[:1] for act in taken]
    return exact_values(part, acts, None, Question(chunk=chunk))[0]


def floor_of(
    plan: SweepPlan,
    values: Float[Tensor, "layer unit batch"],
    alone: Float[Tensor, "1 unit 1"],
) -> float:
    """How far `alone` is from the same patches among all prompts."""
    return rounding(values[:1, :, [_longest(plan)]], alone, float(values.abs().max()))


def _longest(plan: SweepPlan) -> int:
    return int((plan.at - plan.base.first).argmax())


def exact_values(
    plan: SweepPlan,
    taken: list[Tensor],
    source_metric: Float[Tensor, "*metric batch"] | None,
    ask: Question,
) -> tuple[
    Float[Tensor, "*metric layer unit batch"], Float[Tensor, "*metric batch"], tuple[str, ...]
]:
    """All patches of a plan by the engine; the unpatched metric; notes for the reader."""
    bases = BaseRun.of(plan.base, plan.columns, NEEDED.get(plan.site, ()))
    base = bases[-1]
    before = unpatched(plan, bases)
    check_gap(before, source_metric, ask.min_gap)
    budget = budget_of(base, ask.chunk)
    engines = checked_engines(bases, budget.size)
    read = Readout(base.decoder, plan.metric, base.kept.logits.shape[1], budget.size // 16)
    smallest = base.job_bytes(0, plan.base.tokens.shape[1])
    cells = torch.tensor(plan.cells, device=plan.at.device)
    parts = []
    for done, layer in enumerate(plan.layers):
        ask.tell(f"patching {plan.site}", done, len(plan.layers))

        def patched(layer: int = layer) -> Tensor:
            for engine in engines:
                engine.size = budget.size
            return patch_cells(plan, engines, read, taken, layer, cells, before)

        parts.append(budget.halving(patched, smallest, smallest * len(cells) * len(plan.at)))
    ask.tell(f"patching {plan.site}", len(plan.layers), len(plan.layers))
    return torch.stack(parts, -3), before, tuple(budget.notes)


def unpatched(plan: SweepPlan, bases: Sequence[BaseRun]) -> Float[Tensor, "*metric batch"]:
    """The metric of the base run."""
    logits = torch.stack([base.kept.logits for base in bases], 1)
    return measure(plan.metric, logits if len(bases) > 1 else logits[:, 0])


def patch_cells(
    plan: SweepPlan,
    engines: Sequence[Engine],
    read: Readout,
    taken: list[Tensor],
    layer: int,
    cells: Int[Tensor, "unit two"],
    unpatched: Float[Tensor, "*metric batch"],
) -> Float[Tensor, "*metric unit batch"]:
    """Patches of one layer: `cells` are (element, column) as in `SweepPlan.cells`.

    Cells that cannot change anything keep the unpatched value. There is an engine for each column
    that the metric reads; a patch between the two leaves the left one as it was.
    """
    values = unpatched.unsqueeze(-2).repeat_interleave(len(cells), -2)
    unit, prompt, rows = _patched_rows(plan, engines, taken, layer, cells)
    if len(unit):
        if read.rowwise:
            values[..., unit, prompt] = read.rows(rows)
        else:
            final = _finals(engines)[None].repeat_interleave(len(cells), 0)
            final[unit, prompt] = rows
            values[..., unit, prompt] = read(final)[..., unit, prompt]
    return values


def _patched_rows(
    plan: SweepPlan,
    engines: Sequence[Engine],
    taken: list[Tensor],
    layer: int,
    cells: Int[Tensor, "unit two"],
) -> tuple[Int[Tensor, " live"], Int[Tensor, " live"], Float[Tensor, "live *reads d_model"]]:
    """Unit, prompt and residual streams at the read columns, of the cells that change any."""
    batch, found = len(plan.at), []
    at_end = layer == len(engines[0].layers) - 1 and ends_in_its_row(plan.site)
    for engine in engines:
        at = engine.base.last
        unit, prompt, start = live(cells[:, 1], plan.first, at, row_at_the_end=at_end)
        jobs = Jobs(prompt, cells[unit, 0], start, everywhere="pos" not in plan.by)
        rows = patch(engine, taken, plan.site, layer, jobs) if len(unit) else engine.base.final[:0]
        found.append((unit, prompt, rows))
    if len(engines) == 1:
        return found[0]
    places = [unit * batch + prompt for unit, prompt, _ in found]
    whole, back = torch.cat(places).unique(return_inverse=True)
    out = _finals(engines)[whole % batch]
    for i, (part, (_, _, rows)) in enumerate(
        zip(back.split([len(place) for place in places]), found, strict=True)
    ):
        out[part, i] = rows
    return whole // batch, whole % batch, out


def _finals(engines: Sequence[Engine]) -> Float[Tensor, "batch *reads d_model"]:
    """The unpatched residual streams at the read columns."""
    finals = torch.stack([engine.base.final for engine in engines], 1)
    return finals if len(engines) > 1 else finals[:, 0]


def checked_engines(bases: Sequence[BaseRun], size: int) -> tuple[Engine, ...]:
    """An engine for each column that is read, each found to reproduce the model's logits there.

    Raises:
        ModelError: as `check_engine`.
    """
    engines = tuple(Engine(base, size) for base in bases)
    for engine in engines:
        check_engine(engine)
    return engines


def check_engine(engine: Engine) -> None:
    """Recompute the unpatched run by the engine's own arithmetic and compare it with the model's.

    Raises:
        ModelError: if the logits at the metric positions differ by more than rounding explains.
    """
    base = engine.base
    lengths = base.last - base.run.first
    # The arithmetic is the same for all prompts; the shortest and the longest try the padding.
    prompt = torch.stack((lengths.argmax(), lengths.argmin())).unique()
    final = base.final[prompt]
    for jobs, segments in engine.chunks(prompt, base.run.first[prompt]):
        x = torch.cat([s.cached(base.kept.acts["resid_pre"][0]).flatten(0, 1) for s in segments])
        final[jobs] = engine.onwards(0, segments, x)
    logits, wanted = base.decoder.logits(final).float(), base.kept.logits[prompt].float()
    error = float((logits - wanted).abs().max())
    bar = {torch.float32: 1e-3, torch.float64: 1e-6}.get(final.dtype, 0.1)
    if not error <= bar * max(1.0, float(wanted.abs().max())):
        raise ModelError(
            f"the exact patching engine does not reproduce this {base.decoder.model_type} model: "
            f"its unpatched logits are off by {error:.3g}; use interp.patching.naive.sweep"
        )
