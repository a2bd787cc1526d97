"""Merging an adapter into a copy of its base, and the error that the merge made.

An adapter trained on NF4 weights has learnt to correct *those* weights. It is therefore merged into
the dequantised NF4 weights, never into packed 4-bit ones and never into the weights before
quantisation. The copy shares every tensor with the base but the ones that the adapter changes, and
those are cloned first: merging into a tied or shared tensor would change the base, or change an
embedding along with the unembedding.

The report compares the merged model with the unmerged one (live adapter layers on the base as it
was trained on) over all positions of a set of prompts, and gives the adapter's own effect as the
scale to read the error by, and the noise floor. Cost: four forward passes over the prompts.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from interp.base.devices import input_device, places
from interp.base.errors import AdapterError, MergeError
from interp.base.memory import check, in_batches
from interp.base.results import Result
from interp.models.adapters import Adapter, attach
from interp.models.spreading import LESS
from interp.models.tokens import TokenBatch


@dataclass(frozen=True)
class MergeReport(Result):
    """How far a merged model is from the adapter it was made of.

    All divergences are KL(unmerged ‖ other) in nats per position.

    Attributes:
        mean_kl, max_kl: unmerged adapter against merged model.
        max_logit_difference: the same, largest absolute difference of a logit.
        effect_mean_kl, effect_max_kl: unmerged adapter against the base without it.
        noise: mean KL of the unmerged model against itself, prompts alone against prompts in a
            padded batch: what rounding alone makes of the same weights.
        n_prompts, n_positions: what the means are over.
        n_modules: matrices that the adapter changes.
        quantization: of the base that the adapter was trained on and merged into.
        dtype: of the merged weights.
    """

    kind: ClassVar[str] = "merge report"

    mean_kl: float
    max_kl: float
    max_logit_difference: float
    effect_mean_kl: float
    effect_max_kl: float
    noise: float
    n_prompts: int
    n_positions: int
    n_modules: int
    quantization: str | None
    dtype: str

    @property
    def share(self) -> float:
        """Mean error as a share of the adapter's mean effect; 0 where the error is rounding."""
        if self.mean_kl <= self.noise:
            return 0.0
        return self.mean_kl / max(self.effect_mean_kl, self.noise)

    def to_dataframe(self) -> pd.DataFrame:
        names = [name for name in self.__dataclass_fields__ if name != "kind"]
        return pd.DataFrame([{name: getattr(self, name) for name in names} | {"share": self.share}])


@torch.no_grad()
def merge(
    model: Any, adapter: Adapter, prompts: TokenBatch, quantization: str | None, max_share: float
) -> tuple[Any, Any, MergeReport]:
    """Merge `adapter` into a copy of `model`.

    Args:
        model: the base in evaluation mode; when quantised, it is dequantised by this call.
        adapter: a checked adapter folder.
        prompts: what the report is measured on.
        quantization: how `model` is quantised (`nf4` or `None`).
        max_share: largest tolerated error as a share of the adapter's effect.

    Returns:
        the base (dense, otherwise as it was), the tuned copy, and the report.

    Raises:
        AdapterError: if the adapter does not fit, or the base is offloaded.
        OutOfMemoryError: if there is no room for the copy.
        MergeError: if the error is above `max_share` of the effect and above rounding.
    """
    if "offloaded" in places(model):
        raise AdapterError(
            f"{adapter.path}: cannot be merged into a base whose weights are offloaded; give it "
            "room for all of them (max_memory, bfloat16, nf4 or more devices), or trace the base "
            "alone with load_hooked"
        )
    if len(places(model)) == 1:
        taken = sum(p.numel() * p.element_size() for p in model.parameters())
        check(taken, f"{adapter.path.name}: the tuned copy of the base", model.device, mend=LESS)
    prompts = prompts.to(input_device(model))
    before = dict(model.named_modules())
    live = attach(model, adapter)
    adapted = _adapted_modules(live)
    unmerged = _logits(live, prompts)
    with live.disable_adapter():
        without = _logits(live, prompts)
    again = _batched_logits(live, prompts)
    base = live.unload()
    for name in adapted:  # PEFT's unload leaves the adapter's copy of a module to save in place
        base.set_submodule(name, before[name])
    if quantization is not None:
        base = _dequantise(base)
    tuned = _shared_copy(base, adapted)
    try:
        tuned = attach(tuned, adapter).merge_and_unload(safe_merge=True)
    except ValueError as problem:
        raise MergeError(f"{adapter.path}: cannot be merged in {base.dtype} ({problem})") from None
    tuned = tuned.eval().requires_grad_(False)
    report = MergeReport(
        **_divergences(unmerged, _logits(tuned, prompts), without, again),
        n_prompts=len(prompts),
        n_positions=len(unmerged),
        n_modules=len(adapted),
        quantization=quantization,
        dtype=str(tuned.dtype).removeprefix("torch."),
    )
    if not report.share <= max_share:  # so that NaN is refused, too
        raise MergeError(
            f"{adapter.path}: the merged model is off by {report.mean_kl:.2e} nats per position, "
            f"{report.share:.1%} of the adapter's effect ({report.effect_mean_kl:.2e}); at most "
            f"{max_share:.0%} is accepted. Try dtype float32, or raise max_merge_error"
        )
    return base, tuned, report


def _adapted_modules(live: Any) -> list[str]:
    """Names, in the base, of the modules that the adapter changes or replaces."""
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    core = live.base_model.model
    return [name for name, module in core.named_modules() if isinstance(module, kinds)]


def _shared_copy(model: Any, own: list[str]) -> Any:
    """A copy of `model` that shares all tensors but those of the modules named in `own`."""
    tensors = [*model.parameters(), *model.buffers()]
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for name in own:
        module = twin.get_submodule(name)
        for key, tensor in list(module.named_parameters(recurse=False)):
            fresh = nn.Parameter(tensor.detach().clone(), requires_grad=False)
            module.register_parameter(key, fresh)
    head, embedding = twin.get_output_embeddings(), twin.get_input_embeddings()
    if head is not None and head.weight is not embedding.weight:
        twin.config.tie_word_embeddings = False
    return twin


def _dequantise(model: Any) -> Any:
    """Replace every 4-bit layer by a dense one with the values that it computed with."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    for name, module in list(model.named_modules()):
        if isinstance(module, Linear4bit):
            values = dequantize_4bit(module.weight.data, module.weight.quant_state)
            dense = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
            dense.weight = nn.Parameter(values.to(module.compute_dtype), requires_grad=False)
            dense.bias = module.bias
            model.set_submodule(name, dense)
    for leftover in ("hf_quantizer", "quantization_method"):
        if hasattr(model, leftover):
            delattr(model, leftover)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_loaded_in_4bit = model.is_quantized = False
    return model


def _logits(model: Any, prompts: TokenBatch) -> Float[Tensor, "pos vocab"]:
    """Logits at every real position of all prompts, float32, on the CPU."""

    def one(rows: list[int]) -> Tensor:
        part = prompts[rows]
        ids = part.tokens[part.attention_mask][None]  # unpadded: no mask can be wrong
        return model(input_ids=ids, use_cache=False).logits[0].float().cpu()

    return _at_once(1, one, prompts)


def _batched_logits(model: Any, prompts: TokenBatch) -> Float[Tensor, "pos vocab"]:
    """The same as `_logits`, computed in one padded batch (or as few as fit)."""

    def some(rows: list[int]) -> Tensor:
        part = prompts[rows]
        mask = part.attention_mask
        positions = (mask.long().cumsum(-1) - 1).clamp_min(0)
        logits = model(
            input_ids=part.tokens,
            attention_mask=mask.long(),
            position_ids=positions,
            use_cache=False,
        ).logits
        return logits[mask].float().cpu()

    return _at_once(len(prompts), some, prompts)


def _at_once(
    size: int, work: Callable[[list[int]], Tensor], prompts: TokenBatch
) -> Float[Tensor, "pos vocab"]:
    device = prompts.tokens.device
    batches = in_batches(
        len(prompts), size, work, what="merge report", device=device, unit="prompt"
    )
    return torch.cat([made for _, made in batches])


def _divergences(
    unmerged: Tensor, merged: Tensor, without: Tensor, again: Tensor
) -> dict[str, float]:
    error, effect = _kl(unmerged, merged), _kl(unmerged, without)
    return {
        "mean_kl": error.mean().item(),
        "max_kl": error.max().item(),
        "max_logit_difference": (unmerged - merged).abs().max().item(),
        "effect_mean_kl": effect.mean().item(),
        "effect_max_kl": effect.max().item(),
        "noise": _kl(unmerged, again).mean().item(),
    }


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL between the softmaxes of two sets of logits, per row (float64: rounding stays below)."""
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).clamp_min(0)
