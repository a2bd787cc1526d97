"""Merging an adapter into a copy of its base, and the error that the merge made.

PEFT merges; what it made is compared with the live adapter by logits, whatever kind the adapter is
of. An adapter trained on NF4 weights has learnt to correct *those* weights: it is merged into the
dequantised NF4 weights, never into packed 4-bit ones and never into the weights before
quantisation. The base is never touched: the adapter goes into a copy in which no two modules share
a matrix (merging into a tied one would change an embedding along with the unembedding), and
afterwards the copy takes back the base's own tensor wherever the adapter left it equal.

The report compares the merged model with the unmerged one (live adapter layers on the base as it
was trained on) over all positions of a set of prompts, and gives the adapter's own effect as the
scale to read the error by, and the noise floor. Cost: four forward passes over the prompts; memory
for a second copy of the base while it lasts.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from interp.base.devices import input_device, places
from interp.base.errors import (
    AdapterError,
    InterpError,
    MergeError,
    ModelError,
    OutOfMemoryError,
    said,
)
from interp.base.memory import check, in_batches, ran_out
from interp.base.results import Result
from interp.models.adapters import Adapter, attach, quiet
from interp.models.dequantise import dequantise, is_packed
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
    model: Any,
    adapter: Adapter,
    tensors: Mapping[str, Tensor],
    prompts: TokenBatch,
    quantization: str | None,
    max_share: float,
) -> tuple[Any, Any, MergeReport]:
    """Merge `adapter` into a copy of `model`.

    Args:
        model: the base in evaluation mode; when packed, it is dequantised by this call.
        adapter: a checked adapter folder.
        tensors: the adapter's tensors.
        prompts: what the report is measured on.
        quantization: what `model` is or was quantised to, for the report.
        max_share: largest tolerated error as a share of the adapter's effect.

    Returns:
        the base (dense, otherwise as it was), the tuned copy, and the report.

    Raises:
        AdapterError: if the adapter does not fit, or the base is offloaded.
        OutOfMemoryError: if there is no room for the copy.
        MergeError: if PEFT cannot merge it, or the error is above `max_share` of the effect and
            above rounding.
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
    live = attach(copy.deepcopy(model), adapter, tensors)
    unmerged, again = _unmerged(live, adapter, prompts)
    packed = is_packed(model)
    if packed:
        dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        model = dequantise(model, dtype)
    if packed or adapter.drawn:
        live = attach(copy.deepcopy(model), adapter, tensors, draw=1)
    without = _logits(model, prompts)
    adapted = _adapted_modules(live)
    tuned = _merged(live, adapter)
    report = MergeReport(
        **_divergences(unmerged, _logits(tuned, prompts), without, again),
        n_prompts=len(prompts),
        n_positions=len(unmerged),
        n_modules=len(adapted),
        quantization=quantization,
        dtype=str(tuned.dtype).removeprefix("torch."),
    )
    if not report.share <= max_share:  # so that NaN is refused, too
        mend = "Try dtype float32, or raise max_merge_error"
        if adapter.drawn:
            mend = (
                f"init_lora_weights {adapter.drawn!r} takes another random part out of the base at "
                "each loading: save it as plain LoRA (path_initial_model_for_weight_conversion)"
            )
        raise MergeError(
            f"{adapter.path}: the merged model is off by {report.mean_kl:.2e} nats per position, "
            f"{report.share:.1%} of the adapter's effect ({report.effect_mean_kl:.2e}); at most "
            f"{max_share:.0%} is accepted. {mend}"
        )
    return model, share(tuned, model), report


def _unmerged(live: Any, adapter: Adapter, prompts: TokenBatch) -> tuple[Tensor, Tensor]:
    """Logits of the live adapter, prompts alone and in a padded batch."""
    try:
        return _logits(live, prompts), _batched_logits(live, prompts)
    except Exception as problem:  # each kind of layer raises its own
        if isinstance(problem, InterpError) or ran_out(problem):
            raise
        why = said(problem)
        raise AdapterError(f"{adapter.path}: PEFT cannot run it on plain text ({why})") from None


def _merged(live: Any, adapter: Adapter) -> Any:
    """The model that PEFT makes of a live one when it merges."""
    _untie(live)
    _make_biases(live)
    try:
        with quiet():
            tuned = live.merge_and_unload(safe_merge=True)
    except Exception as problem:  # each kind of layer raises its own
        if ran_out(problem):
            raise OutOfMemoryError(f"{adapter.path}: no memory to merge it; {LESS}") from None
        why = said(problem)
        raise MergeError(f"{adapter.path}: PEFT cannot merge it in {live.dtype} ({why})") from None
    return tuned.eval().requires_grad_(False)


def _untie(model: Any) -> None:
    """Give every module a matrix of its own where two share one."""
    seen: set[int] = set()
    for module in model.modules():
        for key, tensor in list(module.named_parameters(recurse=False)):
            if id(tensor) in seen:
                tensor = nn.Parameter(tensor.detach().clone(), requires_grad=False)
                module.register_parameter(key, tensor)
            seen.add(id(tensor))


def _make_biases(live: Any) -> None:
    """Give linear maps a bias of zeros where the adapter has one to add (`lora_bias`)."""
    for module in live.modules():
        biases = getattr(module, "lora_bias", None)
        if not (isinstance(module, BaseTunerLayer) and biases and any(biases.values())):
            continue
        inner = module.get_base_layer()
        if isinstance(inner, nn.Linear) and inner.bias is None:
            zeros = inner.weight.new_zeros(inner.out_features)
            inner.bias = nn.Parameter(zeros, requires_grad=False)


def share(tuned: Any, base: Any) -> Any:
    """`tuned` with the base's own tensor wherever its values are equal."""
    own = dict(base.named_parameters(remove_duplicate=False))
    for path, module in tuned.named_modules():
        for key, tensor in list(module.named_parameters(recurse=False)):
            other = own.get(f"{path}.{key}" if path else key)
            if other is not None and other.dtype == tensor.dtype and torch.equal(other, tensor):
                module.register_parameter(key, other)
    head, embedding = tuned.get_output_embeddings(), tuned.get_input_embeddings()
    if head is not None and head.weight is not embedding.weight:
        tuned.config.tie_word_embeddings = False
    return tuned


def check_same_shape(base: Any, tuned: Any, names: tuple[str, str]) -> None:
    """Check that two models differ in the values of their weights only.

    Raises:
        ModelError: naming the first tensor that differs in shape, or is in one of them only.
    """
    if base is tuned:
        raise ModelError(f"{names[0]}: base and tuned are one model; give a copy as the base")
    one, other = ({n: tuple(t.shape) for n, t in m.state_dict().items()} for m in (base, tuned))
    if different := sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n)):
        at = different[0]
        raise ModelError(
            f"{names[1]}: is no fine-tune of {names[0]}: {len(different)} tensors differ in shape "
            f"({at}: {one.get(at, 'absent')} there, {other.get(at, 'absent')} here)"
        )


@torch.no_grad()
def compare(base: Any, tuned: Any, prompts: TokenBatch) -> MergeReport:
    """The report of a full fine-tune: nothing was merged, so its error is 0."""
    prompts = prompts.to(input_device(base))
    whole = _logits(tuned, prompts)
    own = dict(base.named_parameters())
    changed = {
        name.rpartition(".")[0] for name, one in tuned.named_parameters() if one is not own[name]
    }
    return MergeReport(
        **_divergences(whole, whole, _logits(base, prompts), _batched_logits(tuned, prompts)),
        n_prompts=len(prompts),
        n_positions=len(whole),
        n_modules=len(changed),
        quantization=None,
        dtype=str(tuned.dtype).removeprefix("torch."),
    )


def _adapted_modules(live: Any) -> list[str]:
    """Names, in the base, of the modules that the adapter changes or replaces."""
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    core = live.base_model.model
    return [name for name, module in core.named_modules() if isinstance(module, kinds)]


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
