"""Direct logit attribution of the emoji direction, base against tuned, or prompt against prompt.

Measures how much each component writes along the direction that the emoji decision is read from
(see `direction` for what that is), at the metric column, with the final norm's scale frozen per
prompt (nostalgebraist 2020; Elhage et al. 2021; Wang et al. 2023). Direct effects only: what a
component does by way of later ones is not in it. For that, patch.

Sign: positive pushes towards emojis. Differences are tuned minus base, clean minus corrupted.

Default direction: `path` for two runs, because its differences are in nats and sum to the measured
change of the log-odds; `gradient` for one run.

Cost: one forward pass per run, memory one vector per prompt, component and site. By neuron, all
neurons of the chosen layers per prompt.

TransformerLens 4.3 has `direct_logit_attribution`. Where it answers, this agrees with it (see the
tests); it is not called, because it wants weights folded in place (base and tuned share theirs),
knows token directions only, counts biases with their component, has no neurons, and gives heads
before Gemma 2's post-norm. Its hooks and its per-head `W_O` and `W_out` are what this reads.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.base.memory import rounding
from interp.readout.metric import label, measure, resolve, unit_of
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run, check_pair, metric_columns
from interp.traces.attribution import direction as directions
from interp.traces.attribution.projection import Read
from interp.traces.attribution.result import Attribution
from interp.traces.patching.chunks import metric_of_rows

WAYS = ("component", "head", "neuron")
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}


def attribute(
    run: Run,
    *,
    by: str = "component",
    layers: Sequence[int] | None = None,
    direction: str = "gradient",
    metric: Metric | None = None,
    ask: Question | None = None,
) -> Attribution:
    """Attribute one run's emoji direction; arguments as for `compare`.

    Args:
        run: model and tokens.
        direction: `gradient` or `fixed`.

    Raises:
        InputError, ModelError: as `compare`.
    """
    return _attributed([run], ("run",), "one run", by, layers, direction, asked(ask, metric))


def compare(
    clean: Run,
    corrupted: Run,
    *,
    by: str = "component",
    layers: Sequence[int] | None = None,
    direction: str = "path",
    metric: Metric | None = None,
    ask: Question | None = None,
) -> Attribution:
    """Attribute two runs and keep both, for their difference.

    Args:
        clean, corrupted: tuned and base on the same tokens, or one model on two prompts of equal
            token length.
        by: `component` (input, every attention and MLP output, bias), `head` (attention outputs
            split into heads) or `neuron` (MLP outputs split into neurons).
        layers: which layers are split; all for heads, the last for neurons if left out. Negative
            ones count from the end.
        direction: `path`, `gradient` or `fixed`, see `interp.attribution.direction`.
        metric: short for `ask=Question(metric=...)`.
        ask: metric, the column that is read, topics, and prompts per forward pass (32 if left out),
            see `Question`; there is no gap.

    Returns:
        Both runs' contributions, corrupted (base) first.

    Raises:
        InputError: for an unknown split or direction, a layer that does not exist, runs that do not
            fit, a metric without gradient (or without ids, for `fixed`).
        ModelError: if the two models unembed differently and the direction is `path`; if a norm is
            of a kind that cannot be frozen, or the components do not sum to the total.
    """
    contrast = check_pair(clean, corrupted)
    names = ("base", "tuned") if contrast == "model" else ("corrupted", "clean")
    return _attributed(
        [corrupted, clean], names, contrast, by, layers, direction, asked(ask, metric)
    )


def _attributed(
    runs: list[Run],
    sides: tuple[str, ...],
    contrast: str,
    by: str,
    layers: Sequence[int] | None,
    direction: str,
    ask: Question,
) -> Attribution:
    ask.topics_of(len(runs[0].tokens))  # one each, or an error before the work
    if by not in WAYS:
        raise InputError(f"cannot attribute by {by!r}; use one of {', '.join(WAYS)}")
    metric = resolve(ask.metric, runs[0].model)
    split = chosen_layers(runs[0].model, by, layers)
    options: dict[str, Any] = {"batch_size": ask.batch_size or 32, "progress": ask.progress}
    if by != "component":
        options["heads" if by == "head" else "neurons"] = split
    ats = [metric_columns(run, ask.places) for run in runs]
    with torch.no_grad():
        names, values, total, measured, unexplained = _measured(
            runs, ats, by, split, direction, metric, options
        )
        row = [int((ats[0] - runs[0].first).argmax())]
        _, again, _, _, _ = _measured(
            [Run(run.model, run.tokens[row], run.mask[row]) for run in runs],
            [at[row] for at in ats], by, split, direction,
            metric_of_rows(metric, row, len(ats[0])), options | {"progress": None},
        )  # fmt: skip
    return Attribution(
        values=values,
        total=total,
        metric_values=measured,
        names=names,
        runs=sides,
        by=by,
        direction=direction,
        unexplained=unexplained,
        contrast=contrast,
        metric=label(metric),
        unit=unit_of(metric, ask.unit),
        topics=ask.topics_of(len(ats[0]), *ats, *(run.tokens for run in runs)),
        noise_floor=rounding(values[..., row], again, float(values.abs().max())),
    )


def _measured(
    runs: Sequence[Run],
    ats: Sequence[Tensor],
    by: str,
    split: tuple[int, ...],
    direction: str,
    metric: Metric,
    options: dict[str, Any],
) -> tuple[tuple[str, ...], Tensor, Tensor, Tensor, float | None]:
    """Names, contributions `[run component batch]`, totals and metrics, and what is unexplained."""
    sides = [Read(run, at, metric, **options) for run, at in zip(runs, ats, strict=True)]
    ways, unexplained = directions_of(sides, direction, metric)
    parts = [_split(side, way, by, split) for side, way in zip(sides, ways, strict=True)]
    totals = [(side.output * way).flatten(1).sum(1) for side, way in zip(sides, ways, strict=True)]
    for run, part, total in zip(runs, parts, totals, strict=True):
        check_sum(run.model, part.values(), total)
    values = torch.stack([torch.stack(list(part.values())) for part in parts]).cpu()
    measured = torch.stack([measure(metric, side.logits) for side in sides]).cpu()
    return tuple(parts[0]), values, torch.stack(totals).cpu(), measured, unexplained


def directions_of(
    sides: Sequence[Read], kind: str, metric: Metric
) -> tuple[list[Float[Tensor, "batch *reads d_model"]], float | None]:
    """The direction of each run (corrupted first), and for `path` what it leaves unexplained.

    Raises:
        InputError, ModelError: as `compare`.
    """
    if kind not in directions.KINDS:
        raise InputError(f"unknown direction {kind!r}; use one of {', '.join(directions.KINDS)}")
    if kind == "gradient":
        return [directions.gradient(side.unembed, metric, side.output) for side in sides], None
    if kind == "fixed":
        return [directions.fixed(s.unembed, metric, s.output) for s in sides], None
    if len(sides) != 2:
        raise InputError("a path runs between two runs; use direction='gradient' for one")
    first, second = sides
    if not second.unembed.same(first.unembed):
        raise ModelError(
            "the two models unembed differently (does the adapter change lm_head?), so no one "
            "direction serves both; use direction='gradient'"
        )
    way, unexplained = directions.path(second.unembed, metric, first.output, second.output)
    return [way, way], unexplained


def chosen_layers(model: Any, by: str, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Layers to split, counted from the front.

    Raises:
        InputError: if one does not exist, or `layers` is given where nothing is split.
    """
    depth = int(model.cfg.n_layers)
    if by == "component":
        if layers is not None:
            raise InputError("an attribution by component has all layers; leave layers out")
        return ()
    if layers is None:
        return tuple(range(depth)) if by == "head" else (depth - 1,)
    if not len(layers):
        raise InputError("no layer to split; name at least one or leave the choice out")
    for layer in layers:
        if not -depth <= layer < depth:
            raise InputError(f"layer {layer} does not exist; this model has {depth}")
    return tuple(sorted({int(layer) % depth for layer in layers}))


def _split(
    side: Read, way: Float[Tensor, "batch *reads d_model"], by: str, layers: tuple[int, ...]
) -> dict[str, Tensor]:
    """The run's components with those of the chosen layers taken apart."""
    parts: dict[str, Tensor] = {}
    for name, whole in side.components(way).items():
        layer = int(name[1:]) if name[0] in "am" else -1
        if by == "head" and name[0] == "a" and layer in layers:
            rows, letter = side.heads(layer, way), "h"
        elif by == "neuron" and name[0] == "m" and layer in layers:
            activation, alignment = side.neurons(layer, way)
            rows, letter = (activation * alignment).sum(0), "n"
        else:
            parts[name] = whole
            continue
        parts |= {f"{name}.{letter}{i}": row for i, row in enumerate(rows)}
    return parts


def check_sum(model: Any, parts: Any, total: Float[Tensor, " batch"]) -> None:
    """Refuse a split whose parts are not the whole.

    Raises:
        ModelError: if the components do not sum to the total within rounding.
    """
    stack = torch.stack(list(parts)).double()
    error = float((stack.sum(0) - total).abs().max())
    size = float(stack.abs().sum(0).max())
    dtype = next(model.original_model.parameters()).dtype
    if not error <= _TOLERANCE.get(dtype, 0.05) * max(1.0, size):
        raise ModelError(
            f"{type(model.original_model).__name__}: its components sum to {error:.3g} off the "
            "projected total; this architecture adds to the residual stream in a way that direct "
            "attribution does not know"
        )
