"""Packed weights of bitsandbytes (NF4, FP4, 8-bit integers) as the dense ones that they stand for.

The values are those that the packed layers compute with; of a model stored in 8-bit integers the
rounding of activations, which belongs to that arithmetic and not to the weights, is left out.
"""

from typing import Any

import torch
from torch import nn


def is_packed(model: Any) -> bool:
    """Whether any layer is a packed one."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return any(isinstance(module, Linear4bit | Linear8bitLt) for module in model.modules())


@torch.no_grad()
def dequantise(model: Any, dtype: torch.dtype) -> Any:
    """Replace every packed layer of `model` by a dense one, and cast all weights to `dtype`."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for name, module in list(model.named_modules()):
        if isinstance(module, Linear4bit | Linear8bitLt):
            dense = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
            dense.weight = nn.Parameter(_values(module).to(dtype), requires_grad=False)
            dense.bias = module.bias
            model.set_submodule(name, dense)
    for leftover in ("hf_quantizer", "quantization_method"):
        if hasattr(model, leftover):
            delattr(model, leftover)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = model.is_quantized = False
    model.config.dtype = dtype
    return model.to(dtype)


def _values(module: Any) -> torch.Tensor:
    """What a packed layer's weights are, `[d_out d_in]`."""
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    weight = module.weight
    if (state := getattr(weight, "quant_state", None)) is not None:
        return dequantize_4bit(weight.data, state)
    scale = weight.SCB if weight.SCB is not None else module.state.SCB
    return int8_vectorwise_dequant(weight.data, scale)
