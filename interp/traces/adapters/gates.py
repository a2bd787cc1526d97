"""The base with an adapter's deltas switched per row of the batch.

`switched` registers one forward hook per module on the Hugging Face linear maps under the base's
bridge; the hook adds `gate * ΔW x` to the module's output. Gates are any floats: 0 is the base, 1
the tuned model, alpha in between or beyond is alpha times ΔW. They work in a forward pass, in
generation with the key/value cache (rows keep their places), and for autograd with respect to
themselves. Weights are never touched; when the context closes the hooks are gone.

Cost: for a rank-r LoRA about r (d_in + d_out) products per token and module beside the module's own
d_in d_out, for dense differences as much as the module again; rows whose gates are all zero at a
module are skipped there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.base.errors import InputError, ModelError
from interp.traces.adapters.deltas import Delta, ports


@contextmanager
def switched(
    network: Any, deltas: Sequence[Delta], gates: Float[Tensor, "rows component"]
) -> Iterator[None]:
    """Add gated deltas to a model while the context is open.

    Args:
        network: the Hugging Face model, bridged or not.
        deltas: what to add; contexts may be nested, their deltas add up.
        gates: one gate per row of the batch (or a single row for all) and rank component, the
            deltas' components in order (see `Delta.rank`).

    Raises:
        InputError: if the gates do not fit the deltas or are not finite.
        ModelError: in the forward pass, if a batch does not have the gates' number of rows.
    """
    count = sum(delta.rank for delta in deltas)
    if gates.ndim != 2 or gates.shape[1] != count:
        raise InputError(
            f"gates must be [rows, {count}], one per rank component, got {list(gates.shape)}"
        )
    if not bool(torch.isfinite(gates.detach()).all()):
        raise InputError("a gate is not finite; use numbers such as 0, 1 or 0.5")
    handles = []
    parts = gates.split([delta.rank for delta in deltas], dim=1)
    try:
        for delta, part in zip(deltas, parts, strict=True):
            if not part.requires_grad and not bool(part.any()):
                continue
            for module, rows in ports(network, path_of(network, delta.name)):
                handles.append(module.register_forward_hook(_adding(delta.rows(rows), part)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def path_of(network: Any, name: str) -> str:
    """The module's path in the whole model: heads stand beside the decoder, all else in it."""
    beside = name.split(".")[0] in network._modules
    return name if beside else f"{network.base_model_prefix}.{name}"


def _adding(delta: Delta, gates: Tensor) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    """A forward hook that adds one delta to a module's output, for the rows where it is on."""
    on = None
    if len(gates) > 1 and not gates.requires_grad:
        on = gates.any(1).nonzero().flatten()
        on = None if len(on) == len(gates) else on

    def hook(module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
        (x,) = inputs
        if len(gates) not in (1, len(x)):
            raise ModelError(
                f"{delta.name} reads {len(x)} rows where {len(gates)} rows of gates are given; "
                "run exactly as many prompts as gates, and no model that mixes rows"
            )
        scale = float(getattr(module, "embed_scale", 1.0))
        if on is None:
            return out + delta(x, gates, scale).to(out.dtype)
        return out.index_add(0, on, delta(x[on], gates[on], scale).to(out.dtype))

    return hook
