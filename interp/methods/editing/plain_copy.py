"""An ordinary Hugging Face model made of a hooked one, over the same tensors.

Bridges wrap in place and cannot be unwrapped. A copy costs no memory but for the modules that get
weights of their own.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge

from interp.base.errors import ModelError

_WRAPPED = "._original_component"


def plain_modules(network: nn.Module) -> dict[str, nn.Module]:
    """A network's own modules by their names below the decoder, whether it is hooked or not.

    `layers.2.mlp.down_proj` (`h.2.mlp.c_proj` in GPT-2): what the bridge put around it is not in
    the name, and the module is the innermost one.
    """
    prefix = f"{getattr(network, 'base_model_prefix', '')}."
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():  # outer before inner: the innermost one stays
        found[_plain(name).removeprefix(prefix)] = module
    return found


def _plain(name: str) -> str:
    return name.replace(_WRAPPED, "")


def plain_copy(model: TransformerBridge, own: Iterable[str] = ()) -> Any:
    """An ordinary Hugging Face model with the tensors of a hooked one.

    Args:
        model: a hooked model; it is not changed.
        own: modules (names as in `plain_modules`) that get tensors of their own.

    Raises:
        ModelError: if the model cannot be laid out anew over its tensors.
    """
    network = model.original_model
    config = copy.deepcopy(network.config)
    with torch.device("meta"):
        twin = type(network)(config)
    tensors = dict(network.named_parameters(remove_duplicate=False))
    tensors |= dict(network.named_buffers(remove_duplicate=False))
    held = {_plain(name): tensor for name, tensor in tensors.items()}
    for name, module in twin.named_modules():
        for slots in (module._parameters, module._buffers):
            for key in [key for key, slot in slots.items() if slot is not None]:
                slots[key] = held.get(f"{name}.{key}" if name else key, slots[key])
    _check_copy(network, twin.eval())
    by_name = plain_modules(twin)
    for name in own:
        for key, tensor in list(by_name[name].named_parameters(recurse=False)):
            fresh = nn.Parameter(tensor.detach().clone(), requires_grad=False)
            by_name[name].register_parameter(key, fresh)
    twin.generation_config = network.generation_config
    return twin.requires_grad_(False)


@torch.no_grad()
def _check_copy(network: Any, twin: Any) -> None:
    """Check that a copy is whole and computes what the hooked model computes."""
    whole = not any(tensor.is_meta for tensor in (*twin.parameters(), *twin.buffers()))
    if whole:
        ids = torch.arange(4, device=network.device)[None]
        wanted, found = network(ids).logits.float(), twin(ids).logits.float()
        if torch.allclose(found, wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max())):
            return
    raise ModelError(
        f"{type(network).__name__}: cannot be copied tensor by tensor; edits need a dense Hugging "
        "Face model whose weights TransformerLens has not processed"
    )
