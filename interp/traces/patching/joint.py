"""Joint patches: any list of nodes at once.

A `Node` is an activation at one site and layer, whole or at one position, head or neuron. All nodes
of a group take the source run's value in the same forward pass. The engine starts at the group's
first layer and column and applies every edit where its hook would; unlike single patches, a group's
last layer is computed in full.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.memory import Budget
from interp.base.results import Result
from interp.readout.capture import hook_name, run_and_keep
from interp.readout.decoder import attend
from interp.readout.metric import Readout, label, measure
from interp.readout.question import Metric, Question, asked
from interp.readout.run import Run
from interp.traces.patching import naive
from interp.traces.patching.chunks import budget_of
from interp.traces.patching.engine import BaseRun, Engine, Segment, turned
from interp.traces.patching.exact import checked_engines, unpatched
from interp.traces.patching.result import check_gap
from interp.traces.patching.sweep_plan import (
    EVERYWHERE,
    HEADS,
    NEURONS,
    SITES,
    SweepPlan,
    make_plan,
    oriented,
)

_FLOW = ("resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "resid_mid", "mlp_post",
         "mlp_out", "resid_post")  # fmt: skip


@dataclass(frozen=True, order=True)
class Node:
    """An activation: a site in a layer, whole or at one position, head or neuron.

    Attributes:
        site, layer: as for `sweep`.
        pos: column of the token batch, or None for all; for `pattern` the position that attends.
        head: head (key/value head for `k` and `v`); needed for head sites.
        neuron: needed for `mlp_post`.
    """

    site: str
    layer: int
    pos: int | None = None
    head: int | None = None
    neuron: int | None = None

    @property
    def element(self) -> int:
        """Head or neuron, 0 where there is none."""
        return self.head or self.neuron or 0

    @property
    def column(self) -> int:
        """Position, -1 for all."""
        return EVERYWHERE if self.pos is None else self.pos

    def __str__(self) -> str:
        element = "" if self.site not in HEADS + NEURONS else f".{self.element}"
        return f"{self.layer}.{self.site}{element}" + ("" if self.pos is None else f"@{self.pos}")


@dataclass(frozen=True)
class NodesResult(Result):
    """Metric of every prompt under every joint patch; recovery as in `PatchingResult`.

    Attributes:
        values: `[group, batch]`; clean, corrupted: `[batch]`, in `unit`.
        groups: the nodes of each group, as text.
    """

    kind: ClassVar[str] = "joint patching"

    values: Float[Tensor, "group batch"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    groups: tuple[str, ...]
    direction: str
    contrast: str
    metric: str
    unit: str
    min_gap: float

    def recovery(self) -> Float[Tensor, "group batch"]:
        """Recovery per prompt; NaN where |clean - corrupted| <= `min_gap`."""
        return (self.values - self.corrupted) / self._gap

    def mean_recovery(self) -> Float[Tensor, " group"]:
        """Ratio of mean effect and mean gap over the prompts in which recovery is defined."""
        use = ~self._gap.isnan()
        return (self.values - self.corrupted)[:, use].mean(1) / self._gap[use].mean()

    @property
    def _gap(self) -> Float[Tensor, " batch"]:
        gap = self.clean - self.corrupted
        return torch.where(gap.abs() > self.min_gap, gap, torch.nan)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per group and prompt."""
        recovery = self.recovery()
        return pd.DataFrame(
            [
                (group, prompt, float(self.values[i, prompt]), float(recovery[i, prompt]))
                for i, group in enumerate(self.groups)
                for prompt in range(self.values.shape[1])
            ],
            columns=["group", "prompt", "value", "recovery"],
        )


def patch_nodes(
    clean: Run,
    corrupted: Run,
    groups: Sequence[Sequence[Node]],
    *,
    engine: str = "exact",
    direction: str = "denoising",
    metric: Metric | None = None,
    ask: Question | None = None,
) -> NodesResult:
    """Patch each group of nodes jointly.

    Args:
        clean, corrupted, direction, metric, ask: as for `interp.patching.sweep`.
        groups: lists of nodes; all nodes of a list are patched at once.
        engine: `"exact"`, or `"naive"` for one forward pass per group.

    Raises:
        InputError, ModelError: as `sweep`; or a node that names no activation of this model.
    """
    if engine not in ("exact", "naive"):
        raise InputError(f"unknown engine {engine!r}; use 'exact' or 'naive'")
    ask = asked(ask, metric)
    base_run, source, way, contrast = oriented(clean, corrupted, direction)
    plan = make_plan(base_run, source, "resid_pre", direction=way, contrast=contrast, ask=ask)
    lists = [sorted(_checked(plan, group), key=lambda n: _FLOW.index(n.site)) for group in groups]
    sites = {node.site for group in lists for node in group}
    with torch.no_grad():
        kept = run_and_keep(source, sites, plan.columns)
        source_metric = measure(plan.metric, kept.logits)
        bases = BaseRun.of(base_run, plan.columns) if engine == "exact" else ()
        before = unpatched(plan, bases) if bases else naive.unpatched(plan)
        check_gap(before, source_metric, ask.min_gap)
        budget = budget_of(bases[-1], ask.chunk) if bases else None
        machines = checked_engines(bases, budget.size) if budget is not None else ()
        rows = []
        for done, group in enumerate(lists):
            ask.tell("joint patching", done, len(lists))
            if budget is None:
                rows.append(_by_hooks(plan, kept.acts, group))
            else:
                rows.append(_within(budget, plan, machines, kept.acts, group))
        ask.tell("joint patching", len(lists), len(lists))
    ends = (source_metric, before) if way == "denoising" else (before, source_metric)
    return NodesResult(
        values=torch.stack(rows).cpu(), clean=ends[0].cpu(), corrupted=ends[1].cpu(),
        groups=tuple(" + ".join(map(str, group)) for group in groups), direction=way,
        contrast=contrast, metric=label(plan.metric), unit=plan.metric_unit, min_gap=ask.min_gap,
    )  # fmt: skip


def _checked(plan: SweepPlan, group: Sequence[Node]) -> Sequence[Node]:
    """Refuse nodes that name no activation of the model."""
    cfg = plan.base.model.cfg
    if not group:
        raise InputError("a group of no nodes patches nothing; name at least one node")
    kv = int(getattr(cfg, "n_key_value_heads", None) or cfg.n_heads)
    for node in group:
        if node.site not in SITES:
            raise InputError(f"unknown site {node.site!r}; use one of {', '.join(SITES)}")
        heads = kv if node.site in ("k", "v") else int(cfg.n_heads)
        for name, value, size, wanted in (
            ("layer", node.layer, int(cfg.n_layers), True),
            ("pos", node.pos, plan.base.tokens.shape[1], node.pos is not None),
            ("head", node.head, heads, node.site in HEADS),
            ("neuron", node.neuron, int(cfg.d_mlp), node.site in NEURONS),
        ):
            if wanted != (value is not None) or (value is not None and not 0 <= value < size):
                raise InputError(
                    f"node {node!r}: {name} must {f'lie in 0..{size - 1}' if wanted else 'be None'}"
                )
        hook_name(plan.base.model, node.site, node.layer)
    return group


def _by_hooks(plan: SweepPlan, acts: dict[str, list[Tensor]], group: list[Node]) -> Tensor:
    hooks = []
    for n in group:
        source = acts[n.site][n.layer]
        hooks += naive.site_hooks(plan.base.model, n.site, n.layer, source, n.element, n.column)
    return naive.with_hooks(plan, hooks)


def _within(
    budget: Budget,
    plan: SweepPlan,
    engines: tuple[Engine, ...],
    acts: dict[str, list[Tensor]],
    group: list[Node],
) -> Float[Tensor, " batch"]:
    """`_by_engine` in smaller chunks where memory runs out, read at every column."""
    base = engines[-1].base

    def patched() -> Tensor:
        for engine in engines:
            engine.size = budget.size
        finals = [_by_engine(plan, engine, acts, group) for engine in engines]
        read = Readout(base.decoder, plan.metric, base.kept.logits.shape[1])
        # [1 batch *reads d_model]: one group, with an axis of columns where the metric reads two.
        return read((torch.stack(finals, 1) if len(finals) > 1 else finals[0])[None])[0]

    return budget.halving(patched, base.job_bytes(0, plan.base.tokens.shape[1]))


def _by_engine(
    plan: SweepPlan, engine: Engine, acts: dict[str, list[Tensor]], group: list[Node]
) -> Float[Tensor, "batch d_model"]:
    base = engine.base
    # Nothing changes left of the first patched column of each prompt, `[batch]`; prompts whose
    # metric column lies left of it stay as they are.
    wholes = any(node.pos is None for node in group)
    left = plan.first if wholes else plan.first.clamp(min=min(node.column for node in group))
    prompt = (left <= base.last).nonzero().flatten()
    final = base.final.clone()
    for jobs, segments in engine.chunks(prompt, left[prompt]):
        # All rows of the chunk's segments, laid end to end: [rows d_model].
        first = min(node.layer for node in group)
        x = torch.cat(
            [
                rearrange(s.cached(base.kept.acts["resid_pre"][first]), "job row d -> (job row) d")
                for s in segments
            ]
        )
        for i in range(first, len(engine.layers)):
            edits = Edits([node for node in group if node.layer == i], acts, segments)
            x = _edited_layer(engine, i, segments, x, edits)
        final[prompt[jobs]] = engine.metric_rows(segments, x)
    return final


@dataclass
class Edits:
    """The edits of one layer, applied to flat activations `[rows ...]` in place."""

    nodes: list[Node]
    source: dict[str, list[Tensor]]
    segments: list[Segment]
    sites: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.sites = {node.site for node in self.nodes}

    def __call__(self, site: str, flat: Tensor) -> Tensor:
        for node in self.nodes:
            if node.site != site:
                continue
            for s in self.segments:
                rows = self.rows(node, s)
                where: tuple[int | slice, ...] = (slice(None), rows)
                if site in HEADS + NEURONS:
                    where = (*where, node.element)
                s.of(flat)[where] = s.cached(self.source[site][node.layer])[where].to(flat)
        return flat

    @staticmethod
    def rows(node: Node, s: Segment) -> slice:
        """The segment's rows that a node covers; none if its column lies outside."""
        if node.pos is None:
            return slice(None)
        inside = s.start <= node.pos < s.stop
        return slice(node.pos - s.start, node.pos - s.start + 1) if inside else slice(0, 0)


def _edited_layer(
    engine: Engine, i: int, segments: list[Segment], x: Tensor, edits: Edits
) -> Float[Tensor, "rows d_model"]:
    """One layer over all rows with every edit where its hook would be."""
    layer, base = engine.layers[i], engine.base
    x = edits("resid_pre", x.clone())
    h = layer.norm1(x)

    def heads(name: str, of: Callable[[Tensor], Tensor]) -> Tensor:
        made = rearrange(of(h), "row (head d_head) -> row head d_head", d_head=layer.d_head)
        return edits(name, made)

    q, k, v = heads("q", layer.q), heads("k", layer.k), heads("v", layer.v)
    z = torch.empty_like(q)
    for s in segments:
        turn = base.rotary(i, s)
        keys = engine.joined(base.keys[i], turned(layer.k_norm, s.of(k), turn), s)
        values = engine.joined(base.kept.acts["v"][i], s.of(v), s)
        mask = base.kept.masks[i][s.prompt, s.start : s.stop, : s.stop]
        new, pattern = attend(layer, turned(layer.q_norm, s.of(q), turn), keys, values, mask)
        s.of(z).copy_(new)
        for node in edits.nodes:
            if node.site == "pattern":
                # pattern [jobs rows keys] times values [jobs keys d_head] of the key head that
                # the query head shares: its output, put in place of the head's own.
                rows, kv = edits.rows(node, s), node.element * layer.n_kv_heads // layer.n_heads
                wanted = edits.source["pattern"][i][s.prompt, node.element]
                pattern = wanted[:, s.start : s.stop, : s.stop][:, rows].to(values.dtype)
                s.of(z)[:, rows, node.element] = pattern @ values[:, kv]
    flat = rearrange(edits("z", z), "row head d_head -> row (head d_head)")
    attn = edits("attn_out", layer.attn_out(flat))
    middle = edits("resid_mid", attn + x)
    hidden = edits("mlp_post", layer.hidden(x if layer.parallel else middle))
    return edits("resid_post", edits("mlp_out", layer.mlp_out(hidden)) + middle)
