"""Inside a module: the rank directions of ΔW, what each contributes, and where it points.

ΔW = U S V' by its singular values. For a low-rank ΔW = B A the decomposition is that of the small
matrix between the QR factors of B and A', never of ΔW itself. Each component is then switched by
itself, under the gates of `gates` at rank 1; its contribution is its necessity:

    metric(all on) - metric(all on but this component)

exact, for all components or for the `top_k` largest of a gradient screen (the derivative of the
metric by the component's gate at all on); `exact` says which. U and V are unique up to a common
sign, and components of equal singular values are not unique at all.

Alignment, for modules that write to the residual stream (`o_proj`, `down_proj` and their like): the
cosine of U's column, where a norm follows (Gemma 2 and 3, OLMo 2) times that one's weights, with
the emoji direction, the mean unembedding row of the emoji ids minus that
of all others, through the final norm's scale. Its sign is that of U, hence arbitrary: the table
gives the absolute value. A random direction of the same space has cosine² distributed as
Beta(1/2, (d-1)/2): `z` is the cosine in standard deviations of that (|cos| sqrt(d)), `p_align` its
p-value, adjusted over all aligned components. The residual stream is not isotropic, so a small p
says "not a random direction", not "an emoji direction".

Dense differences are decomposed in full (cubic in their size); the `rank` largest components are
switched and the rest of the module stays on. Embeddings stay on and are not decomposed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from scipy.stats import beta
from torch import Tensor, nn

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import RESAMPLES, fdr_bh, mean_ends, sign_flip_p
from interp.models import ModelPair
from interp.readout.norms import Norm
from interp.readout.question import Metric, Question, asked
from interp.traces.adapters.deltas import Delta, leaf
from interp.traces.adapters.gated_runs import GatedRuns, Prompts
from interp.traces.adapters.gates import path_of
from interp.traces.adapters.space import AdapterSpace, Unit

Svd = tuple[Float[Tensor, "d_out rank"], Float[Tensor, " rank"], Float[Tensor, "rank d_in"]]


def svd(delta: Delta) -> Svd:
    """Singular value decomposition of ΔW, float64: U `[d_out rank]`, S, V' `[rank d_in]`."""
    if delta.a is None or delta.b is None:
        u, s, v = torch.linalg.svd(delta.dense().double(), full_matrices=False)
        return u, s, v
    left, small_left = torch.linalg.qr(delta.b.double())
    right, small_right = torch.linalg.qr(delta.a.double().T)
    u, s, v = torch.linalg.svd(small_left @ small_right.T, full_matrices=False)
    return left @ u, s, v @ right.T


@dataclass(frozen=True)
class Directions(Result):
    """The rank components of all modules.

    Attributes:
        modules: the module of each component; ranks: its place in the module, largest first.
        singular: singular values, `[component]`.
        effects: necessity on each prompt (estimated where not `exact`), `[component batch]`.
        exact: which were measured, `[component]`.
        cosine: |cosine| with the emoji direction; NaN where the module does not write to the
            residual stream, `[component]`.
        d_model: width of the residual stream.
        outputs: unit directions that the components with a cosine write in the residual stream, in
            order, `[writer d_model]`.
        metric, unit, noise_floor, topics, seed, notes: as in `PartEffects`.
    """

    kind: ClassVar[str] = "adapter directions"

    modules: tuple[str, ...]
    ranks: tuple[int, ...]
    singular: Float[Tensor, " component"]
    effects: Float[Tensor, "component batch"]
    exact: Bool[Tensor, " component"]
    cosine: Float[Tensor, " component"]
    d_model: int
    outputs: Float[Tensor, "writer d_model"]
    metric: str
    unit: str
    noise_floor: float
    topics: tuple[str, ...] | None
    seed: int
    notes: tuple[str, ...]

    def to_dataframe(self, *, level: float = 0.95, n_resamples: int = RESAMPLES) -> pd.DataFrame:
        """One row per component, largest absolute mean effect first.

        Returns:
            Columns `module`, `rank`, `singular`, `effect` (mean), `low`, `high` (NaN for fewer than
            two prompts or topics), `p` and `p_adjusted` (sign flips, false discovery rate over all
            components, where those that a screen left out count as p = 1; missing for these),
            `exact`, `above_noise`, `cosine`, `z`, `p_align` (false discovery rate over the aligned
            components).
        """
        lows, highs = mean_ends(
            self.effects, self.topics, level=level, n_resamples=n_resamples, seed=self.seed
        )
        rows = []
        for place in range(len(self.modules)):
            effect, p = self.effects[place].double().numpy(), np.nan
            low, high = lows[place], highs[place]
            if self.exact[place]:
                p = sign_flip_p(effect, self.seed, topics=self.topics)
            name, rank = self.modules[place], self.ranks[place]
            above = bool(abs(effect.mean()) > self.noise_floor)
            first = (name, rank, float(self.singular[place]), effect.mean(), low, high, p)
            rows.append((*first, bool(self.exact[place]), above, float(self.cosine[place])))
        columns = ["module", "rank", "singular", "effect", "low", "high", "p", "exact",
                   "above_noise", "cosine"]  # fmt: skip
        table = pd.DataFrame(rows, columns=columns)
        # What a screen chose on the same prompts is no family of its own.
        family = pd.Series(fdr_bh(table["p"].fillna(1.0).to_numpy()))
        table.insert(7, "p_adjusted", family.where(table["p"].notna()))
        table["z"] = table["cosine"] * self.d_model**0.5
        tail = beta.sf(table["cosine"] ** 2, 0.5, (self.d_model - 1) / 2)
        table["p_align"] = _adjusted(pd.Series(tail))
        order = table["effect"].abs().sort_values(ascending=False, kind="stable").index
        return table.loc[order].reset_index(drop=True)


def _adjusted(p: pd.Series) -> pd.Series:
    """False discovery rate over the values that are there."""
    found = p.copy()
    if p.notna().any():
        found[p.notna()] = fdr_bh(p.dropna().to_numpy())
    return found


def directions(
    pair: ModelPair | AdapterSpace,
    prompts: Prompts,
    *,
    top_k: int | None = None,
    modules: Sequence[str] | None = None,
    rank: int = 16,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> Directions:
    """Decompose ΔW of every module, measure each component and its alignment.

    Args:
        top_k: measure only the components with the largest gradient estimates exactly; all if left
            out.
        modules: decompose these only.
        rank: how many components of a dense difference (DoRA, LoHa, LoKr) are switched.
        pair, prompts, metric, ask: as for
            `interp.adapters.necessity`.

    Raises:
        AdapterError: if the adapter cannot be switched.
        InputError: if an argument does not fit.
    """
    if rank < 1 or (top_k is not None and top_k < 1):
        raise InputError("rank and top_k must be at least 1")
    space = AdapterSpace.of(pair)
    chosen = space.modules if modules is None else modules
    wanted = {space.index(name) for name in chosen}
    split, units, parts = _split(space, wanted, rank)
    if not units:
        raise InputError("the adapter changes embeddings only; there are no directions to switch")
    ask = asked(ask, metric)
    runs = GatedRuns(split, prompts, ask)
    _, on, noise = runs.ends()
    effects, exact = _effects(runs, units, on, top_k)
    written = [into_stream(space, part.module, part.output) for part in parts]
    writes = torch.tensor([one is not None for one in written])
    emoji = emoji_direction(space, runs.metric)
    outputs = [one for one in written if one is not None]
    stacked = torch.stack(outputs) if outputs else torch.empty(0, len(emoji))
    cosine = torch.full((len(parts),), torch.nan)
    cosine[writes] = (stacked.double() @ emoji.double().cpu()).abs().float()
    return Directions(
        modules=tuple(part.module.name for part in parts), ranks=tuple(p.rank for p in parts),
        singular=torch.tensor([part.singular for part in parts]), effects=effects.float(),
        exact=exact, cosine=cosine, d_model=len(emoji), outputs=stacked.float(),
        metric=runs.metric_label, unit=runs.unit, noise_floor=noise, topics=runs.topics,
        seed=ask.seed, notes=runs.notes,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Part:
    module: Delta
    rank: int
    singular: float
    output: Float[Tensor, " d_out"]


def _split(
    space: AdapterSpace, wanted: set[int], rank: int
) -> tuple[AdapterSpace, list[Unit], list[_Part]]:
    """The same adapter with the wanted modules in their singular bases."""
    deltas: list[Delta] = []
    units, parts, column = [], [], 0
    for place, delta in enumerate(space.deltas):
        if place not in wanted or delta.embedding:
            deltas.append(delta)
            column += delta.rank
            continue
        u, s, v = svd(delta)
        keep = rank if delta.weight is not None else len(s)
        u, s, v = u[:, :keep], s[:keep], v[:keep]
        low = Delta(delta.name, a=v.float(), b=(u * s).float())
        deltas.append(low)
        for k in range(len(s)):
            label = f"{delta.name}[{k}]"
            units.append(Unit(label, delta.layer, delta.projection, (column + k,)))
            parts.append(_Part(delta, k, float(s[k]), u[:, k].float().cpu()))
        column += len(s)
        if delta.weight is not None:
            rest = (delta.weight.double() - (u * s) @ v).float()
            deltas.append(replace(delta, weight=rest))
            column += 1
    return replace(space, deltas=tuple(deltas)), units, parts


def _effects(
    runs: GatedRuns, units: list[Unit], on: Tensor, top_k: int | None
) -> tuple[Float[Tensor, "component batch"], Bool[Tensor, " component"]]:
    """Necessity of each component: exact, or a gradient estimate for what fell to the screen."""
    exact = torch.ones(len(units), dtype=torch.bool)
    effects = torch.empty(len(units), len(runs), dtype=torch.float64)
    if top_k is not None and top_k < len(units):
        effects = runs.gradient(units, torch.ones(runs.space.n_components))
        exact[:] = False
        exact[effects.mean(1).abs().topk(top_k).indices] = True
    measured = [unit for unit, one in zip(units, exact.tolist(), strict=True) if one]
    gates = 1 - runs.space.membership(measured)
    effects[exact] = on - runs.values(gates, "rank components")
    return effects, exact


def into_stream(
    space: AdapterSpace, delta: Delta, output: Float[Tensor, " d_out"]
) -> Float[Tensor, " d_model"] | None:
    """Unit direction of the residual stream that a module's output goes along; None of any other.

    A norm in between counts by its weights, its scale held still.
    """
    if delta.layer is None:
        return None
    network, block = space.pair.base.original_model, space.pair.base.blocks[delta.layer]
    module = leaf(network, path_of(network, delta.name))
    for part, writer, after in (("attn", "o", "ln1_post"), ("mlp", "out", "ln2_post")):
        found = getattr(getattr(block, part, None), writer, None)
        if getattr(found, "original_component", None) is module:
            post = getattr(block, after, None)
            if post is not None:
                norm = Norm.of(post.original_component)
                output = norm.centre(output * norm.weight.to(output))
            return output / output.norm()
    return None


def emoji_direction(space: AdapterSpace, metric: Metric | None = None) -> Float[Tensor, " d_model"]:
    """Unit vector of the residual stream that raises emoji logits against all others.

    Mean unembedding row of the emoji ids minus mean of the others, through the scale of the final
    norm (and, for a LayerNorm, its centring).

    Args:
        space: the adapter's space; the base's unembedding and norm are read.
        metric: gives the emoji ids if it has any (`ids`); else those of the tokenizer.
    """
    if getattr(metric, "ids", None) is None:
        metric = space.metric
    base: Any = space.pair.base
    weight = base.unembed.original_component.weight.detach().float()
    emoji = torch.zeros(len(weight), dtype=torch.bool, device=weight.device)
    emoji[torch.as_tensor(metric.ids, device=weight.device)] = True  # type: ignore[union-attr]
    direction = weight[emoji].mean(0) - weight[~emoji].mean(0)
    norm = base.ln_final.original_component
    scale = norm.weight.detach().float()
    if type(norm).__name__.startswith("Gemma"):
        scale = 1 + scale
    direction = direction * scale
    if isinstance(norm, nn.LayerNorm):
        direction = direction - direction.mean()
    return direction / direction.norm()
