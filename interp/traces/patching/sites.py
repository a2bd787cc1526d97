"""Where a patch enters the residual stream: one function per kind of site.

Whatever is patched, its effect on the rest of the model passes through the residual stream. A patch
of one position's `attn_out`, `resid_mid`, `mlp_out`, one head's `z`, `q` or pattern row, or one
neuron changes one row of it, so it is a `resid_pre` patch one layer on, with a row that costs at
most one layer's work for one position. A patch of a key or value changes all rows from its column
on, and a patch at all positions changes every row.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from interp.readout.decoder import attend
from interp.traces.patching.engine import Engine, Segment, turned
from interp.traces.patching.sweep_plan import EVERYWHERE, HEADS

# What must be kept of the base run, beside what the engine keeps, for each site.
NEEDED: dict[str, tuple[str, ...]] = {
    "attn_out": ("mlp_out",),
    "mlp_out": ("attn_out",),
    "mlp_post": ("attn_out", "mlp_post"),
    **dict.fromkeys(HEADS, ("z", "attn_out")),
}


@dataclass
class Jobs:
    """Patches of one layer, one prompt each: `[jobs]` tensors.

    Attributes:
        prompt: the row of the batch.
        element: head or neuron (0 where there is none).
        column: the patched column; for a patch at all positions (`everywhere`) the first at which
            the runs differ.
    """

    prompt: Int[Tensor, " jobs"]
    element: Int[Tensor, " jobs"]
    column: Int[Tensor, " jobs"]
    everywhere: bool

    def __getitem__(self, jobs: Int[Tensor, " some"]) -> "Jobs":
        return Jobs(self.prompt[jobs], self.element[jobs], self.column[jobs], self.everywhere)


def patch(engine: Engine, source: list[Tensor], site: str, i: int, jobs: Jobs) -> Tensor:
    """Residual streams at the metric column after the last layer, `[jobs d_model]`.

    Args:
        engine: of the base run.
        source: activations to put in place, per layer as their hook gives them.
        site, i: site and layer.
        jobs: the patches. Columns must lie between the first token and the metric column.
    """
    if site not in HEADS and site != "mlp_post":
        enters, x = _row(engine, source[i], site, i, jobs)
        return engine.from_row(enters, jobs.prompt, jobs.column, x)
    spreads = jobs.everywhere or site in ("k", "v")
    stop = engine.base.last[jobs.prompt] + 1 if spreads else jobs.column + 1
    out = None
    for chosen, segments in engine.chunks(jobs.prompt, jobs.column, stop):
        some = jobs[chosen]
        closed = _neurons if site == "mlp_post" else _heads
        rows = closed(engine, source[i], site, i, some, segments, spreads)
        if spreads:
            rows = engine.onwards(i + 1, segments, rows)
        else:
            rows = engine.from_row(i + 1, some.prompt, some.column, rows)
        out = rows.new_empty(len(jobs.prompt), rows.shape[1]) if out is None else out
        out[chosen] = rows
    assert out is not None  # there is at least one job
    return out


def ends_in_its_row(site: str) -> bool:
    """Whether a patch of one column changes no other row of its layer's output."""
    return site not in ("resid_pre", "k", "v")


def _row(
    engine: Engine, source: Tensor, site: str, i: int, jobs: Jobs
) -> tuple[int, Float[Tensor, "jobs d_model"]]:
    """The layer that a patched row of the residual stream enters, and the row."""
    layer, base = engine.layers[i], engine.base.kept.acts
    here = (jobs.prompt, jobs.column)
    new = source[here]
    if site == "resid_pre":
        return i, new
    if site == "resid_post":
        return i + 1, new
    if site == "resid_mid":
        return i + 1, new + layer.mlp(new)
    before = base["resid_pre"][i][here]
    if site == "attn_out":
        middle = before + new
        mlp = base["mlp_out"][i][here] if layer.parallel else layer.mlp(middle)
        return i + 1, middle + mlp
    return i + 1, before + base["attn_out"][i][here] + new


def _flat(segments: list[Segment], cached: Tensor) -> Tensor:
    """Cached activations of all rows of the segments, `[rows ...]`."""
    return torch.cat([s.cached(cached).flatten(0, 1) for s in segments])


def _heads(
    engine: Engine,
    source: Tensor,
    site: str,
    i: int,
    jobs: Jobs,
    segments: list[Segment],
    spreads: bool,
) -> Float[Tensor, "rows d_model"]:
    """The layer's output with one head patched; in the last layer that of the metric rows only."""
    layer, acts, parts, done = engine.layers[i], engine.base.kept.acts, [], 0
    for s in segments:
        own = slice(done, done + len(s.prompt))
        done = own.stop
        new = _new_z(engine, source, site, i, jobs.element[own], s, jobs.everywhere)
        parts.append(_middle(engine, i, jobs.element[own], s, new).flatten(0, 1))
    middle = torch.cat(parts)
    x = _flat(segments, acts["resid_pre"][i]) if layer.parallel else middle
    if spreads and i == len(engine.layers) - 1:
        middle, x = engine.metric_rows(segments, middle), engine.metric_rows(segments, x)
    return layer.mlp(x).add_(middle)


def _middle(
    engine: Engine,
    i: int,
    which: Int[Tensor, " jobs"],
    s: Segment,
    new: Float[Tensor, "jobs rows group d_head"],
) -> Float[Tensor, "jobs rows d_model"]:
    """The residual stream after attention, with `new` outputs of each job's group of heads."""
    layer, acts, group = engine.layers[i], engine.base.kept.acts, new.shape[2]
    # [jobs group], the patched heads of each job; `[each, :, heads]` takes them out of z
    # [jobs rows head d_head] as [jobs group rows d_head]: indexed axes come first.
    heads = which[:, None] * group + torch.arange(group, device=which.device)
    each = torch.arange(len(which), device=which.device)[:, None]
    before, z = s.cached(acts["resid_pre"][i]), s.cached(acts["z"][i])
    if layer.o_weight is None:
        z = z.clone()
        z[each, :, heads] = rearrange(new, "job row head d_head -> job head row d_head")
        return layer.attn_out(rearrange(z, "job row head d_head -> job row (head d_head)")) + before
    # Only the patched heads' columns of the output projection are needed: the rest is cached.
    old = rearrange(z[each, :, heads], "job head row d_head -> job row head d_head")
    change = rearrange(new - old, "job row head d_head -> job row (head d_head)")
    kinds, counts = which.unique_consecutive(return_counts=True)
    # Jobs of one head (`kind`) lie beside each other: one product for each head that is patched.
    size, moved = change.shape[2], []
    for kind, part in zip(kinds.tolist(), change.split(counts.tolist()), strict=True):
        moved.append(part @ layer.o_weight[:, kind * size : (kind + 1) * size].T)
    return torch.cat(moved).add_(before).add_(s.cached(acts["attn_out"][i]))


def _new_z(
    engine: Engine,
    source: Tensor,
    site: str,
    i: int,
    which: Int[Tensor, " jobs"],
    s: Segment,
    everywhere: bool,
) -> Float[Tensor, "jobs rows group d_head"]:
    """Outputs, on the segment's rows, of the heads that a patch of head `which` changes.

    `group` is 1, or for `k` and `v` the query heads that share the key head.
    """
    layer, base = engine.layers[i], engine.base
    each = torch.arange(len(which), device=which.device)
    if site == "z":
        return source[s.prompt, s.start : s.stop, which].unsqueeze(2)
    group = layer.n_heads // layer.n_kv_heads
    kv = which if site in ("k", "v") else which // group
    # Of each job its key head alone, [jobs 1 keys d_head].
    keys = base.keys[i][s.prompt, : s.stop, kv].unsqueeze(1)
    values = base.kept.acts["v"][i][s.prompt, : s.stop, kv].unsqueeze(1)
    if site == "pattern":
        pattern = source[s.prompt, which, s.start : s.stop, : s.stop]
        return (pattern.to(values.dtype) @ values[:, 0]).unsqueeze(2)
    if site == "q":
        turn = base.rotary(i, s)
        new = turned(layer.q_norm, s.cached(source), turn)
        queries = new[each, :, which].unsqueeze(2)
    else:
        heads = which[:, None] * group + torch.arange(group, device=which.device)
        queries = s.cached(base.queries[i])[each[:, None], :, heads].transpose(1, 2)
        _put(engine, source, site, i, kv, s, everywhere, keys if site == "k" else values)
    mask = base.kept.masks[i][s.prompt, s.start : s.stop, : s.stop]
    return attend(layer, queries, keys, values, mask)[0]


def _put(
    engine: Engine,
    source: Tensor,
    site: str,
    i: int,
    kv: Int[Tensor, " jobs"],
    s: Segment,
    everywhere: bool,
    into: Float[Tensor, "jobs one keys d_head"],
) -> None:
    """Put the source's keys (or values) in place, in one column or from there on."""
    layer, base = engine.layers[i], engine.base
    rows = Segment(s.prompt, s.start, s.stop if everywhere else s.start + 1, 0)
    new = rows.cached(source)
    if site == "k":
        new = turned(layer.k_norm, new, base.rotary(i, rows))
    each = torch.arange(len(kv), device=kv.device)
    into[:, 0, rows.start : rows.stop] = new[each, :, kv]


def _neurons(
    engine: Engine,
    source: Tensor,
    site: str,
    i: int,
    jobs: Jobs,
    segments: list[Segment],
    spreads: bool,
) -> Float[Tensor, "rows d_model"]:
    """The layer's output with one neuron patched; in the last layer of the metric rows only."""
    layer, base, last = engine.layers[i], engine.base.kept.acts, i == len(engine.layers) - 1
    middle = _flat(segments, base["resid_pre"][i]) + _flat(segments, base["attn_out"][i])
    hidden = _flat(segments, base[site][i])
    done = 0
    for s in segments:
        which = jobs.element[done : done + len(s.prompt)]
        done += len(s.prompt)
        each = torch.arange(len(which), device=which.device)
        s.of(hidden)[each, :, which] = source[s.prompt, s.start : s.stop, which]
    if spreads and last:
        middle, hidden = engine.metric_rows(segments, middle), engine.metric_rows(segments, hidden)
    return layer.mlp_out(hidden) + middle


def live(
    columns: Int[Tensor, " unit"],
    first: Int[Tensor, " batch"],
    at: Int[Tensor, " batch"],
    *,
    row_at_the_end: bool,
) -> tuple[Int[Tensor, " jobs"], Int[Tensor, " jobs"], Int[Tensor, " jobs"]]:
    """The cells that can change anything: unit, prompt and first changed column of each.

    With `row_at_the_end` a patch of one column changes that row of the last layer's output only, so
    none but the metric column's counts.
    """
    shape = (len(columns), len(first))
    column = columns[:, None].expand(shape)
    start = torch.where(column == EVERYWHERE, first.expand(shape), column)
    alive = (start >= first) & (start <= at)
    if row_at_the_end:
        alive &= (column == EVERYWHERE) | (column == at)
    unit, prompt = alive.nonzero(as_tuple=True)
    return unit, prompt, start[unit, prompt]
