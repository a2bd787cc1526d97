"""One forward pass of a bridge, keeping what patching needs.

Activations are read through TransformerLens' own hooks, so a site means here exactly what it means
there. Masks are read off the attention scores that the bridge computed, so padding, sliding windows
and whatever else a layer masks are right by construction.

Memory: one tensor `[batch pos ...]` per layer and kept name; attention scores are reduced to one
boolean `[batch pos pos]` per distinct mask as they pass by.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.readout.run import Run


@dataclass
class Kept:
    """What one forward pass left behind.

    Attributes:
        logits: at each row's metric column, `[batch vocab]`, or columns, `[batch reads vocab]`.
        acts: `acts[name][layer]`, each as its hook gave it (`[batch pos ...]`).
        masks: per layer, which key each query may see, `[batch pos pos]`.
    """

    logits: Float[Tensor, "batch *reads vocab"]
    acts: dict[str, list[Tensor]] = field(default_factory=dict)
    masks: list[Bool[Tensor, "batch pos pos"]] = field(default_factory=list)


def hook_name(bridge: Any, site: str, layer: int) -> str:
    """The bridge's full name of a site's hook in one layer.

    Raises:
        ModelError: if the architecture has no such hook.
    """
    inside = {
        "z": "attn.hook_z",
        "q": "attn.hook_q",
        "k": "attn.hook_k",
        "v": "attn.hook_v",
        "cos": "attn.hook_cos",
        "sin": "attn.hook_sin",
        "scores": "attn.hook_attn_scores",
        "pattern": "attn.hook_pattern",
        "mlp_post": "mlp.hook_post",
    }
    name = f"blocks.{layer}.{inside.get(site, 'hook_' + site)}"
    if bridge.get_hook_point(name) is None:
        kind = getattr(bridge.original_model.config, "model_type", "this model")
        raise ModelError(
            f"site {site!r}: {kind} has no such activation (no hook {name}); choose another site"
        )
    return name


def run_and_keep(
    run: Run, names: Iterable[str], at: Int[Tensor, "batch *reads"], *, masks: bool = False
) -> Kept:
    """Run a bridge once without gradients and keep the named activations of every layer.

    Args:
        run: model, tokens and mask.
        names: sites (`resid_pre`, `q`, `z`, ...), or `cos` and `sin` of the rotary embedding.
        at: the metric column of each row, or its columns (see `read_columns`).
        masks: whether to keep which key each query may see.

    Raises:
        ModelError: if the architecture lacks a site.
        InputError: if the logits at the metric columns are not finite.
    """
    layers, kept = range(int(run.model.cfg.n_layers)), Kept(torch.empty(0, 0))
    hooks: list[tuple[str, Callable[..., None]]] = []
    for name in names:
        store: list[Tensor] = []
        kept.acts[name] = store
        hooks += [(hook_name(run.model, name, i), _keep_in(store)) for i in layers]
    if masks:
        hooks += [(hook_name(run.model, "scores", i), _keep_mask_in(kept.masks)) for i in layers]
    with torch.no_grad():
        logits = logits_at(run, at, hooks)
    for name, store in kept.acts.items():
        if len(store) != len(layers):
            raise ModelError(
                f"site {name!r}: its hook fired in {len(store)} of {len(layers)} layers"
            )
    kept.logits = logits
    finite = torch.isfinite(kept.logits).flatten(1).all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise InputError(
            f"the logits of prompt {row} at its metric position are not finite: the model's "
            "weights hold NaN or infinity (or its precision overflows); reload or upcast the model"
        )
    return kept


def logits_at(
    run: Run, at: Int[Tensor, "batch *reads"], hooks: list[tuple[str, Any]]
) -> Float[Tensor, "batch *reads vocab"]:
    """Logits at the metric columns under hooks; no others are computed where the model allows."""
    columns, place = at.unique(return_inverse=True)
    inside = inspect.signature(run.model.original_model.forward).parameters
    options = {"attention_mask": run.mask.long(), "fwd_hooks": hooks}
    if "logits_to_keep" in inside:
        logits = run.model.run_with_hooks(run.tokens, logits_to_keep=columns, **options)
    else:
        logits, place = run.model.run_with_hooks(run.tokens, **options), at
    return at_columns(logits, place)


def at_columns(
    logits: Float[Tensor, "batch pos vocab"], at: Int[Tensor, "batch *reads"]
) -> Float[Tensor, "batch *reads vocab"]:
    """The logits at each row's column, or columns."""
    each = torch.arange(len(at), device=logits.device).view(-1, *[1] * (at.ndim - 1))
    return logits[each, at.to(logits.device)]


def _keep_in(store: list[Tensor]) -> Callable[..., None]:
    def keep(value: Tensor, hook: Any) -> None:  # noqa: ARG001
        store.append(value.detach())

    return keep


def _keep_mask_in(store: list[Tensor]) -> Callable[..., None]:
    def keep(scores: Tensor, hook: Any) -> None:  # noqa: ARG001
        allowed = scores[:, 0] > torch.finfo(scores.dtype).min / 2
        # Most layers share a mask: keep each distinct one once.
        for old in store[-1:] + store[:1]:
            if torch.equal(old, allowed):
                allowed = old
                break
        store.append(allowed)

    return keep
