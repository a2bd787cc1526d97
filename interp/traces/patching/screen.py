"""Screen, then verify: estimate every patch from one backward pass, then do the best exactly.

`screen` ranks all nodes (positions, heads, neurons, as many sites as asked for) by attribution
patching with AtP*'s softmax correction (see `attribution`), or by another backward rule in the
gradient's place (`interp.readout.rules`), patches the top ones exactly, and says for each node
whether its value is exact or an estimate, and how well the two agree in rank where both are known.
That rank correlation speaks about the verified nodes; `n_random` adds nodes drawn at random,
without which it says nothing about the rest.

Sign: effects are patched minus unpatched metric, in the metric's unit. Estimates of the rule
`gradient-drop` are sizes: means of |effect|, without a sign.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.base.results import Result
from interp.readout.capture import run_and_keep
from interp.readout.metric import Readout, label, measure
from interp.readout.question import Question, asked
from interp.readout.rules import GRADIENT, Rule, rule_of
from interp.readout.run import Run
from interp.traces.patching.chunks import budget_of
from interp.traces.patching.engine import BaseRun
from interp.traces.patching.exact import checked_engines, patch_cells, uncovered, unpatched
from interp.traces.patching.first_order import Backward, correction, linear, per_cell
from interp.traces.patching.result import check_gap
from interp.traces.patching.sites import NEEDED
from interp.traces.patching.sweep_plan import HEADS, NEURONS, SweepPlan, make_plan, oriented

DEFAULT_SITES = {"mlp_out": "pos", "z": "head", "q": "head", "k": "head", "v": "head",
                 "mlp_post": "neuron"}  # fmt: skip


@dataclass(frozen=True)
class ScreenResult(Result):
    """Estimated effect of every node, exact where verified.

    Attributes:
        estimate: effect by attribution patching, `[node batch]`; its size where the rule has no
            sign (`signed`).
        exact: effect of the patch itself, NaN where it was not verified, `[node batch]`.
        verified: whether a node's `exact` is known.
        sites: names of the sites; site: index into it; layer, element (head or neuron, -1 where
            there is none), pos (column, -1 for all): `[node]`.
        rank_correlation: Spearman's correlation of mean estimate and mean exact effect (mean
            |effect|, where estimates are sizes) over the verified nodes; None with fewer than
            three.
        rule: what the gradient passed by (`interp.readout.rules`).
        signed: whether estimates are effects, not sizes of them.
        clean, corrupted: the metric of the unpatched runs, `[batch]`.
    """

    kind: ClassVar[str] = "patching screen"

    estimate: Float[Tensor, "node batch"]
    exact: Float[Tensor, "node batch"]
    verified: Bool[Tensor, " node"]
    site: Int[Tensor, " node"]
    layer: Int[Tensor, " node"]
    element: Int[Tensor, " node"]
    pos: Int[Tensor, " node"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    sites: tuple[str, ...]
    rank_correlation: float | None
    direction: str
    contrast: str
    metric: str
    unit: str
    softmax_correction: bool
    rule: str = GRADIENT.name
    signed: bool = True

    @property
    def effect(self) -> Float[Tensor, "node batch"]:
        """The exact effect where it is known, else the estimate."""
        return torch.where(self.verified[:, None], self.exact, self.estimate)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per node, verified ones first, then by size of the mean effect.

        Columns: `site`, `layer`, `element`, `pos`, `effect` (mean over prompts, in `unit`), `kind`
        (`exact`, `estimated`, or `estimated size` where estimates have no sign) and `estimate`
        (mean).
        """
        effect = self.effect.mean(1).numpy()
        guessed = "estimated" if self.signed else "estimated size"
        table = pd.DataFrame(
            {
                "site": np.array(self.sites, dtype=object)[self.site.numpy()],
                "layer": self.layer.numpy(),
                "element": self.element.numpy(),
                "pos": self.pos.numpy(),
                "effect": effect,
                "kind": np.where(self.verified.numpy(), "exact", guessed),
                "estimate": self.estimate.mean(1).numpy(),
            }
        )
        order = np.lexsort((-np.abs(effect), ~self.verified.numpy()))
        return table.iloc[order].reset_index(drop=True)


def screen(
    clean: Run,
    corrupted: Run,
    *,
    sites: Mapping[str, str | None] | None = None,
    top_k: int = 20,
    n_random: int = 0,
    rule: str | Rule = GRADIENT.name,
    direction: str = "denoising",
    ask: Question | None = None,
) -> ScreenResult:
    """Rank all nodes of some sites by estimated effect and patch the best exactly.

    Args:
        clean, corrupted, direction, ask: as for `interp.patching.sweep`. The metric must be
            differentiable.
        sites: which sites, and by what (`{"z": "head_pos", "mlp_post": "neuron"}`; None for the
            site's default). Left out: `mlp_out` by position, `z`, `q`, `k`, `v` by head (what the
            engine takes of them), `mlp_post` by neuron.
        top_k: how many nodes to verify, by size of the mean estimated effect.
        n_random: how many of the others to verify beside them, drawn with the question's seed.
        rule: what takes the gradient's place: `gradient` (it does), `gradient-drop`, `relp` or
            `gim`, or one made of these, see `interp.readout.rules`. AtP*'s correction for queries
            and keys stands by each (`Rule.corrected`).

    Raises:
        InputError, ModelError: as `sweep`; `top_k` below 1, an unknown rule, or one that cannot be
            applied to the model.
    """
    if top_k < 1 or n_random < 0:
        raise InputError(f"top_k must be at least 1 and n_random at least 0: {top_k}, {n_random}")
    wanted = dict(DEFAULT_SITES if sites is None else sites)
    if not wanted:
        raise InputError("no site to screen; name at least one")
    refused = {site: why for site in wanted if (why := uncovered(corrupted.model, site))}
    wanted = {site: by for site, by in wanted.items() if sites or site not in refused}
    if named := next((site for site in wanted if site in refused), None):
        raise ModelError(f"site {named!r} cannot be screened: {refused[named]}; name others")
    ask, by_rule = asked(ask), rule_of(rule, int(corrupted.model.cfg.n_layers))
    base_run, source, way, contrast = oriented(clean, corrupted, direction)
    plans = [
        make_plan(base_run, source, site, direction=way, contrast=contrast, ask=ask, by=by)
        for site, by in wanted.items()
    ]
    plans = [replace(plan, metric=plans[0].metric) for plan in plans]
    with torch.no_grad():
        kept = run_and_keep(source, wanted, plans[0].columns)
        source_metric = measure(plans[0].metric, kept.logits)
        needed = {name for site in wanted for name in NEEDED.get(site, ())}
        bases = BaseRun.of(base_run, plans[0].columns, tuple(needed))
        before = unpatched(plans[0], bases)
        check_gap(before, source_metric, ask.min_gap)
        estimates = _estimates(plans, bases[-1], kept.acts, by_rule)
        nodes = [torch.tensor(_nodes(plan, index)) for index, plan in enumerate(plans)]
        table, estimate = torch.cat(nodes), torch.cat(estimates)
        chosen = _choose(estimate, top_k, n_random, ask.seed)
        exact = _verify(plans, bases, kept.acts, table, chosen, before, ask)
    ends = (source_metric, before) if way == "denoising" else (before, source_metric)
    known = exact[chosen] if by_rule.signed else exact[chosen].abs()
    agreement = _agreement(estimate[chosen], known)
    found = _result(plans, table, estimate, exact, chosen, ends, by_rule)
    return replace(found, rank_correlation=agreement)


def _result(
    plans: list[SweepPlan],
    table: Int[Tensor, "node four"],
    estimate: Float[Tensor, "node batch"],
    exact: Float[Tensor, "node batch"],
    chosen: Int[Tensor, " chosen"],
    ends: tuple[Tensor, Tensor],
    rule: Rule,
) -> ScreenResult:
    verified = torch.zeros(len(table), dtype=torch.bool)
    verified[chosen] = True
    has_element = torch.tensor([plan.site in HEADS + NEURONS for plan in plans])[table[:, 0]]
    plan = plans[0]
    return ScreenResult(
        estimate=estimate.cpu(),
        exact=exact.cpu(),
        verified=verified,
        site=table[:, 0].contiguous(),
        layer=table[:, 1].contiguous(),
        element=torch.where(has_element, table[:, 2], -1),
        pos=table[:, 3].contiguous(),
        clean=ends[0].cpu(),
        corrupted=ends[1].cpu(),
        sites=tuple(each.site for each in plans),
        rank_correlation=None,
        direction=plan.direction,
        contrast=plan.contrast,
        metric=label(plan.metric),
        unit=plan.metric_unit,
        softmax_correction=rule.corrected,
        rule=rule.label,
        signed=rule.signed,
    )


def _nodes(plan: SweepPlan, index: int) -> list[tuple[int, int, int, int]]:
    """(site index, layer, element, column) of every cell of a plan, layers outermost."""
    return [(index, layer, *cell) for layer in plan.layers for cell in plan.cells]


def _estimates(
    plans: list[SweepPlan], base: BaseRun, source: dict[str, list[Tensor]], rule: Rule
) -> list[Float[Tensor, "node batch"]]:
    """Estimated effects of every cell of every plan, or the sizes that a rule averages."""
    sites = {plan.site for plan in plans}
    through = rule.corrected and bool(sites & {"q", "k"})
    found = Backward(plans[0], sites | ({"q", "k", "pattern"} if through else set()), rule)
    if not rule.drops:
        return [_estimate(plan, base, source[plan.site], found, rule) for plan in plans]
    n_layers = len(base.decoder.layers)
    # A stream that nothing was dropped from has every layer to lose; a part of a layer not its own.
    own = [None if plan.site.startswith("resid") else _layers(plan) for plan in plans]
    total = [torch.zeros(()) for _ in plans]
    for layer in range(n_layers):
        found.drop(layer, last=layer == n_layers - 1)
        for index, plan in enumerate(plans):
            size = _estimate(plan, base, source[plan.site], found, rule).abs()
            mine = own[index]
            if mine is not None:
                size[mine == layer] = 0.0
            total[index] = total[index].to(size.device) + size
    return [
        size / (n_layers if mine is None else n_layers - 1)
        for size, mine in zip(total, own, strict=True)
    ]


def _layers(plan: SweepPlan) -> Int[Tensor, " node"]:
    """The layer of every cell of a plan."""
    return torch.tensor(plan.layers).repeat_interleave(len(plan.cells))


def _estimate(
    plan: SweepPlan, base: BaseRun, source: list[Tensor], found: Backward, rule: Rule
) -> Float[Tensor, "node batch"]:
    """Estimated effects of every cell of a plan, from the gradients that there are."""
    rotary: list[tuple[Tensor, Tensor] | None] = [None] * len(base.decoder.layers)
    if base.cos is not None and base.sin is not None:
        rotary = list(zip(base.cos, base.sin, strict=True))
    rows = []
    for i in plan.layers:
        new = source[i]
        if rule.corrected and plan.site in ("q", "k"):
            fix = correction(base.decoder, found, base.kept.masks, rotary, i)
            if plan.site == "k" and plan.by == "head":
                rows.append(fix.all_keys(new).T)
                continue
            by_pos = fix.queries(new) if plan.site == "q" else fix.keys(new)
        else:
            old = base.kept.acts["resid_pre"][i] + found.acts["attn_out"][i] if (
                plan.site == "resid_mid") else found.acts[plan.site][i]  # fmt: skip
            by_pos = linear(plan.site, found.grads[plan.site][i], new - old)
        rows.append(per_cell(by_pos, plan.cells))
    return torch.cat(rows)


def _choose(estimate: Tensor, top_k: int, n_random: int, seed: int) -> Int[Tensor, " chosen"]:
    """The nodes to verify: the largest mean estimates, then some of the others at random."""
    order = estimate.mean(1).abs().argsort(descending=True, stable=True).cpu()
    rest = order[top_k:]
    drawn = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:n_random]
    return torch.cat((order[:top_k], rest[drawn]))


def _verify(
    plans: list[SweepPlan],
    bases: tuple[BaseRun, ...],
    source: dict[str, list[Tensor]],
    table: Int[Tensor, "node four"],
    chosen: Int[Tensor, " chosen"],
    before: Float[Tensor, " batch"],
    ask: Question,
) -> Float[Tensor, "node batch"]:
    """Exact effects of the chosen nodes, NaN elsewhere."""
    base = bases[-1]
    budget = budget_of(base, ask.chunk)
    engines = checked_engines(bases, budget.size)
    read = Readout(base.decoder, plans[0].metric, base.kept.logits.shape[1], budget.size // 16)
    smallest = base.job_bytes(0, base.run.tokens.shape[1])
    exact = torch.full((len(table), len(before)), torch.nan, device=before.device)
    places = table[chosen, :2].unique(dim=0).tolist()
    for done, (index, layer) in enumerate(places):
        ask.tell("verifying patches", done, len(places))
        nodes = chosen[(table[chosen, 0] == index) & (table[chosen, 1] == layer)]
        plan, cells = plans[index], table[nodes, 2:].to(before.device)

        def patched(plan: SweepPlan = plan, layer: int = layer, cells: Tensor = cells) -> Tensor:
            for engine in engines:
                engine.size = budget.size
            return patch_cells(plan, engines, read, source[plan.site], layer, cells, before)

        exact[nodes] = budget.halving(patched, smallest) - before
    ask.tell("verifying patches", len(places), len(places))
    return exact


def _agreement(estimate: Tensor, exact: Tensor) -> float | None:
    one, other = estimate.mean(1).cpu().numpy(), exact.mean(1).cpu().numpy()
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one, other).statistic)
