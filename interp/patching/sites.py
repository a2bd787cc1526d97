"""Where a patch enters the residual stream: one function per kind of site.

Whatever is patched, its effect on the rest of the model passes through the residual stream. A patch
of one position's `attn_out`, `resid_mid` or `mlp_out` changes one row of it, so it is a `resid_pre`
patch one layer on, with a row that costs at most one MLP to find. A head patched at all positions
changes every row of its layer.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.patching.capture import Kept
from interp.patching.engine import Engine

# What must be kept of the base run, beside what the engine keeps, for each site.
NEEDED: dict[str, tuple[str, ...]] = {
    "resid_pre": (),
    "resid_mid": (),
    "resid_post": (),
    "attn_out": ("mlp_out",),
    "mlp_out": ("attn_out",),
    "z": ("z",),
}


def patched_row(
    engine: Engine,
    source: Kept,
    site: str,
    i: int,
    prompt: Int[Tensor, " jobs"],
    pos: Int[Tensor, " jobs"],
) -> tuple[int, Float[Tensor, "jobs d_model"]]:
    """The row that one patched position sends on.

    Returns:
        The layer that the row enters, and the row.
    """
    layer, base = engine.layers[i], engine.base.kept.acts
    new = source.acts[site][i][prompt, pos]
    if site == "resid_pre":
        return i, new
    if site == "resid_post":
        return i + 1, new
    if site == "resid_mid":
        return i + 1, new + layer.mlp(new)
    before = base["resid_pre"][i][prompt, pos]
    if site == "attn_out":
        middle = before + new
        if layer.parallel:
            return i + 1, middle + base["mlp_out"][i][prompt, pos]
        return i + 1, middle + layer.mlp(middle)
    return i + 1, before + base["attn_out"][i][prompt, pos] + new


def patched_heads(
    engine: Engine,
    source: Kept,
    i: int,
    prompt: Int[Tensor, " jobs"],
    head: Int[Tensor, " jobs"],
    start: Int[Tensor, " jobs"],
) -> Float[Tensor, "jobs d_model"]:
    """Metric rows when one head's output `z` is patched from column `start` on."""
    layer, base = engine.layers[i], engine.base.kept.acts
    last = i == len(engine.layers) - 1
    out = base["resid_pre"][i].new_empty(len(prompt), base["resid_pre"][i].shape[-1])
    for jobs, segments in engine.chunks(prompt, start):
        z = torch.cat([s.cached(base["z"][i]).flatten(0, 1) for s in segments])
        x = torch.cat([s.cached(base["resid_pre"][i]).flatten(0, 1) for s in segments])
        done = 0
        for s in segments:
            which = head[jobs[done : done + len(s.prompt)]]
            done += len(s.prompt)
            each = torch.arange(len(which), device=which.device)
            s.of(z)[each, :, which] = s.cached(source.acts["z"][i])[each, :, which]
        if last:
            z, x = engine.metric_rows(segments, z), engine.metric_rows(segments, x)
        out[jobs] = engine.onwards(i + 1, segments, engine.close(layer, x, z))
    return out
