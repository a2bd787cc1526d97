"""Estimates of every patch's effect from one backward pass: attribution patching.

To first order, patching an activation changes the metric by its gradient times the change (Nanda
2023). Where a query or a key is patched, the softmax in between makes that a poor guess; AtP*
(Kramár et al. 2024) recomputes the attention pattern under the patch and takes the gradient there.
For a key at one position the new pattern follows in closed form, so that all of them cost no more
than one attention layer.

Another rule may take the gradient's place (`interp.readout.rules`): AtP*'s gradient drop, its
second correction, for effects that cancel; RelP; GIM.

Cost: two forward passes and one backward (for the gradient drop one per layer), with every layer's
activations and attention patterns in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from interp.readout.capture import at_columns, hook_name
from interp.readout.decoder import Decoder, Layer, attend
from interp.readout.rules import GRADIENT, Rule, applied
from interp.traces.patching.engine import turned
from interp.traces.patching.sweep_plan import EVERYWHERE, SweepPlan


@contextmanager
def gradients(bridge: Any) -> Iterator[None]:
    """Let gradients flow while the context is open.

    A merged model has no trainable tensor, so autograd would record nothing: the input embeddings
    ask for gradients meanwhile. None is stored on them.
    """
    weight = bridge.embed.original_component.weight
    before = weight.requires_grad
    weight.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        weight.requires_grad_(before)


class Backward:
    """One forward and backward pass of the base run.

    Attributes:
        acts: `acts[site][layer]`, as the hooks give them.
        grads: the gradient of each prompt's metric there (a prompt depends on its row alone), as
            the rule lets it pass; where the rule drops layers, after `drop` only.
    """

    def __init__(self, plan: SweepPlan, sites: set[str], rule: Rule = GRADIENT) -> None:
        model, layers = plan.base.model, range(int(plan.base.model.cfg.n_layers))
        # The bridge's hook_resid_mid is the input of the second norm, whose gradient lacks the way
        # around the MLP; attn_out has the gradient of the stream that it is added to.
        read = {"attn_out" if site == "resid_mid" else site for site in sites}
        taken: dict[str, list[Tensor]] = {site: [] for site in read}

        def keep(site: str) -> Any:
            def hook(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
                taken[site].append(value)
                return value

            return hook

        hooks = [(hook_name(model, site, i), keep(site)) for site in read for i in layers]
        self._dropped: set[int] = set()
        with gradients(model):
            with applied(model, rule, self._dropped):
                logits = model.run_with_hooks(
                    plan.base.tokens, attention_mask=plan.base.mask.long(), fwd_hooks=hooks
                )
            self._total = plan.metric(at_columns(logits, plan.columns)).sum()
        self._taken, self._middle = taken, "resid_mid" in sites
        self.acts = {site: [value.detach() for value in taken[site]] for site in read}
        self.grads: dict[str, list[Tensor]] = {}
        if not rule.drops:
            self._back(keep_graph=False)

    def drop(self, layer: int, *, last: bool) -> None:
        """Gradients with one layer's contribution to the residual stream held fixed.

        Args:
            last: whether no other layer comes after it, so that the graph can go.
        """
        self._dropped.clear()
        self._dropped.add(layer)
        self._back(keep_graph=not last)

    def _back(self, *, keep_graph: bool) -> None:
        flat = [value for values in self._taken.values() for value in values]
        found = iter(
            torch.autograd.grad(self._total, flat, allow_unused=True, retain_graph=keep_graph)
        )
        self.grads = {
            site: [torch.zeros_like(v) if (g := next(found)) is None else g for v in values]
            for site, values in self._taken.items()
        }
        if self._middle:
            self.grads["resid_mid"] = self.grads["attn_out"]
        if not keep_graph:
            del self._taken, self._total


def linear(
    site: str,
    grad: Float[Tensor, "batch ..."],
    change: Float[Tensor, "batch ..."],
) -> Float[Tensor, "batch pos element"]:
    """Gradient times change, summed over what belongs to one head, neuron or position."""
    product = (grad * change).float()
    if site == "pattern":  # [batch head query key]
        return rearrange(product.sum(-1), "batch head pos -> batch pos head")
    if site == "mlp_post":
        return product
    summed = product.sum(-1)
    return summed if summed.ndim == 3 else summed.unsqueeze(-1)


def per_cell(
    estimate: Float[Tensor, "batch pos element"], cells: list[tuple[int, int]]
) -> Float[Tensor, "unit batch"]:
    """An estimate by position and element as one row per cell of a plan."""
    whole = estimate.sum(1)
    element = torch.tensor([e for e, _ in cells], device=estimate.device)
    column = torch.tensor([c for _, c in cells], device=estimate.device)
    at = estimate[:, column.clamp(min=0), element]
    return torch.where(column == EVERYWHERE, whole[:, element], at).T.contiguous()


class SoftmaxCorrection:
    """Estimates for queries and keys through the attention pattern, one layer at a time."""

    def __init__(
        self,
        layer: Layer,
        q: Float[Tensor, "batch pos head d_head"],
        k: Float[Tensor, "batch pos kv_head d_head"],
        rotary: tuple[Tensor, Tensor] | None,
        mask: Bool[Tensor, "batch pos pos"],
        pattern: Float[Tensor, "batch head pos pos"],
        grad: Float[Tensor, "batch head pos pos"],
    ) -> None:
        self.layer, self.rotary, self.mask = layer, rotary, mask
        self.q, self.k = turned(layer.q_norm, q, rotary), turned(layer.k_norm, k, rotary)
        self.pattern, self.grad = pattern, grad

    def _pattern(self, q: Tensor, k: Tensor) -> Float[Tensor, "batch head pos pos"]:
        keys = rearrange(k, "batch pos head d_head -> batch head pos d_head")
        return attend(self.layer, q, keys, keys, self.mask)[1]

    def queries(
        self, new: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos element"]:
        """Effect of each query, by its position and head (positions do not interact)."""
        changed = self._pattern(turned(self.layer.q_norm, new, self.rotary), self.k)
        effect = ((changed - self.pattern) * self.grad).float().sum(-1)
        return rearrange(effect, "batch head pos -> batch pos head")

    def all_keys(
        self, new: Float[Tensor, "batch pos kv_head d_head"]
    ) -> Float[Tensor, "batch kv_head"]:
        """Effect of all keys of a head at once."""
        changed = self._pattern(self.q, turned(self.layer.k_norm, new, self.rotary))
        effect = ((changed - self.pattern) * self.grad).float().sum((-1, -2))
        return self._by_kv(effect)

    def keys(
        self, new: Float[Tensor, "batch pos kv_head d_head"]
    ) -> Float[Tensor, "batch pos element"]:
        """Effect of each key by itself, by its position and head.

        With weights p and new score s' at one key, the softmax becomes r p elsewhere and r e there,
        e = exp(s' - logsumexp of the old scores), r = 1 / (1 - p + e).
        """
        old, fresh = self._scores(self.k), self._scores(turned(self.layer.k_norm, new, self.rotary))
        allowed = self.mask[:, None]
        normal = old.masked_fill(~allowed, torch.finfo(old.dtype).min).logsumexp(-1, keepdim=True)
        p = torch.where(allowed, (old - normal).exp(), 0.0)
        e = torch.where(allowed, (fresh - normal).exp(), 0.0)
        r = 1 / (1 - p + e).clamp(min=1e-12)
        grad = self.grad.float()
        rest = (grad * p).sum(-1, keepdim=True) - grad * p
        effect = (r - 1) * rest + grad * (r * e - p)
        return rearrange(self._by_kv(effect.sum(-2)), "batch head pos -> batch pos head")

    def _scores(self, k: Tensor) -> Float[Tensor, "batch head pos pos"]:
        group = self.layer.n_heads // self.layer.n_kv_heads
        keys = k.repeat_interleave(group, 2)
        scores = einsum(self.q, keys, "batch i head d, batch j head d -> batch head i j")
        scores = scores.float() * self.layer.scale
        cap = self.layer.softcap
        return scores if cap is None else torch.tanh(scores / cap) * cap

    def _by_kv(self, effect: Float[Tensor, "batch head ..."]) -> Float[Tensor, "batch kv_head ..."]:
        n = self.layer.n_kv_heads
        return reduce(effect, "batch (head group) ... -> batch head ...", "sum", head=n)


def correction(
    decoder: Decoder, found: Backward, masks: list[Tensor], rotary: list[Any], i: int
) -> SoftmaxCorrection:
    """The softmax correction of layer `i`."""
    return SoftmaxCorrection(
        decoder.layers[i],
        found.acts["q"][i],
        found.acts["k"][i],
        rotary[i],
        masks[i],
        found.acts["pattern"][i],
        found.grads["pattern"][i],
    )
