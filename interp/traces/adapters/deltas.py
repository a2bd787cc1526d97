"""What an adapter adds to each weight matrix, kept apart from the base.

A LoRA module is kept as its two factors in float32, `ΔW = B A` with the scale (alpha over rank or,
for rsLoRA, over its square root; `alpha_pattern` included) inside `B`. They are read from the
adapter file itself. Everything else that a pair can hold (DoRA, LoHa, LoKr, saved or adapted
embeddings, biases) is kept as the dense difference between the tuned and the base weight, which is
exact and costs as much memory as the matrix, in float32.

Modules are named by their Hugging Face path below the decoder: `layers.2.self_attn.q_proj`. Only
linear maps and embeddings can be switched; a tuned norm or an expert's stacked weights are refused
by name.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from interp.base.errors import AdapterError
from interp.models import Adapter, ModelPair
from interp.models.adapters import open_adapter

_WRAPPER = "_original_component"
_TUNERS = ("lora_", "hada_", "lokr_")
_OWN = ("weight", "bias", "modules_to_save", "base_layer", "token_adapter")
_PLAIN = {"lora_A.weight", "lora_B.weight"}


@dataclass(frozen=True, eq=False)
class Delta:
    """What the adapter adds to one module.

    Either factors `a`, `b` or a dense `weight`; a `bias` comes with dense weights only.

    Attributes:
        name: Hugging Face path below the decoder.
        a: reads the module's input, `[rank d_in]`.
        b: writes the module's output, scale included, `[d_out rank]`.
        weight: dense difference, `[d_out d_in]`, for an embedding `[vocab d_model]`.
        bias: difference of the bias, `[d_out]`.
        embedding: whether the module is a table of embeddings.
    """

    name: str
    a: Float[Tensor, "rank d_in"] | None = None
    b: Float[Tensor, "d_out rank"] | None = None
    weight: Float[Tensor, "rows columns"] | None = None
    bias: Float[Tensor, " d_out"] | None = None
    embedding: bool = False

    @property
    def layer(self) -> int | None:
        """The block that the module belongs to; None for embeddings and unembedding."""
        found = re.search(r"(?:^|\.)(\d+)\.", self.name)
        return int(found.group(1)) if found else None

    @property
    def projection(self) -> str:
        """The kind of matrix: `q_proj`, `down_proj`, `c_attn`, `lm_head`, ..."""
        return self.name.rpartition(".")[2]

    @property
    def rank(self) -> int:
        """How many gates it takes: one per rank component, one for a dense difference."""
        return 1 if self.a is None else len(self.a)

    def dense(self) -> Float[Tensor, "rows columns"]:
        """ΔW as one matrix, `[d_out d_in]` (`[vocab d_model]` for an embedding)."""
        if self.weight is not None:
            return self.weight
        assert self.a is not None
        assert self.b is not None
        return self.b @ self.a

    def to(self, device: torch.device) -> "Delta":
        """The same delta on another device."""
        held = (self.a, self.b, self.weight, self.bias)
        a, b, weight, bias = (None if one is None else one.to(device) for one in held)
        return Delta(self.name, a, b, weight, bias, self.embedding)

    def rows(self, chosen: Tensor | None) -> "Delta":
        """The same delta for some of its outputs only."""
        if chosen is None:
            return self
        weight, bias, b = (
            None if held is None else held[chosen] for held in (self.weight, self.bias, self.b)
        )
        return Delta(self.name, self.a, b, weight, bias, self.embedding)

    def __call__(
        self, x: Tensor, gates: Float[Tensor, "gate_rows rank"], scale: float = 1.0
    ) -> Float[Tensor, "rows ..."]:
        """What the gated delta adds to the module's output, in float32.

        Args:
            x: the module's input, `[rows ... d_in]` (ids for an embedding).
            gates: one gate per row (or one row for all) and rank component.
            scale: of the output (some embeddings have one).
        """
        gates = gates.view(len(gates), *[1] * (x.ndim - 1 - (not self.embedding)), -1)
        if self.a is not None:
            assert self.b is not None
            return F.linear(F.linear(x.float(), self.a) * gates, self.b)
        assert self.weight is not None
        if self.embedding:
            return F.embedding(x, self.weight) * scale * gates
        return F.linear(x.float(), self.weight, self.bias) * gates


def read_deltas(pair: ModelPair) -> tuple[Delta, ...]:
    """The deltas of a pair's adapter, in the order of the model's modules.

    Raises:
        AdapterError: if the adapter changes something that cannot be switched.
    """
    base, tuned = pair.base.original_model, pair.tuned.original_model
    prefix, adapter = f"{base.base_model_prefix}.", pair.adapter
    found = {}
    changed = _changed(adapter) if adapter else _differing(base, tuned)
    for path, held in changed.items():
        one, other = leaf(base, path), leaf(tuned, path)
        name, embedding = path.removeprefix(prefix), isinstance(one, nn.Embedding)
        if not isinstance(one, nn.Linear | Conv1D | nn.Embedding):
            raise AdapterError(
                f"{pair.tuned_source}: changes {name}, a {type(one).__name__}; only linear maps "
                "and embeddings can be switched on and off"
            )
        if adapter and set(held) == _PLAIN and not embedding and adapter.kind == "LORA":
            a, b = _factors(adapter, path, held)
            found[path] = Delta(name, a=a.to(one.weight.device), b=b.to(one.weight.device))
        else:
            weight, bias = _difference(one, other)
            found[path] = Delta(name, weight=weight, bias=bias, embedding=embedding)
    order = [path for path in _names(base) if path in found]
    return tuple(found[path] for path in order)


def leaf(network: Any, path: str) -> Any:
    """The Hugging Face module at `path`, below whatever the bridge has wrapped around it.

    Raises:
        AdapterError: if there is none.
    """
    module = network
    for part in path.split("."):
        while not hasattr(module, part) or part not in module._modules:
            inner = module._modules.get("_original_component")
            if inner is None:
                raise AdapterError(f"the adapter changes {path}, which the base does not have")
            module = inner
        module = module._modules[part]
    while "_original_component" in module._modules:
        module = module._modules["_original_component"]
    return module


def ports(network: Any, path: str) -> list[tuple[Any, Tensor | None]]:
    """The modules that compute the linear map at `path`, with the outputs that each computes.

    Usually the module itself with all (None). The bridge splits fused query/key/value maps
    (GPT-2, GPT-NeoX, Phi-3) into three linear maps, and fused gate/up maps (Phi-3, GLM) into two;
    the fused one is then never called.

    Raises:
        AdapterError: if a fused map is split in a way that is not known here.
    """
    module, holder = leaf(network, path), network
    for part in path.split(".")[:-1]:
        while part not in holder._modules:
            holder = holder._modules["_original_component"]
        holder = holder._modules[part]
    names = _split_into(holder, module)
    if not names:
        return [(module, None)]
    parts = [leaf(holder, name) for name in names]
    weight = module.weight.T if isinstance(module, Conv1D) else module.weight
    sizes = [len(part.weight) for part in parts]
    index = torch.arange(len(weight), device=weight.device)
    splits = [list(index.split(sizes))] if sum(sizes) == len(weight) else []  # one after the other
    if len(set(sizes)) == 1 and splits:  # head by head
        heads, count = int(holder.config.n_heads), len(parts)
        splits.append(
            list(rearrange(index, "(head part row) -> part (head row)", head=heads, part=count))
        )
    for rows in splits:
        if all(torch.equal(weight[r], p.weight) for r, p in zip(rows, parts, strict=True)):
            return list(zip(parts, rows, strict=True))
    raise AdapterError(
        f"{path}: how this fused map is split into {', '.join(names)} is not known here"
    )


def _split_into(holder: Any, module: Any) -> tuple[str, ...]:
    """The bridge's linear maps in place of a fused one of a layer; none of a map that is called."""
    known = ("qkv", "q", "k", "v", "gate", "in", "out")
    own = {name: leaf(holder, name) for name in known if name in holder._modules}
    if own.get("qkv") is module and own.keys() >= {"q", "k", "v"}:
        return ("q", "k", "v")
    if own.keys() >= {"gate", "in"} and all(module is not one for one in own.values()):
        return ("gate", "in")
    return ()


def _changed(adapter: Adapter) -> dict[str, dict[str, Tensor]]:
    """What the file holds of each module that the adapter changes, by path and tensor."""
    held: dict[str, dict[str, Tensor]] = {}
    for key, tensor in open_adapter(adapter.path)[1].items():
        path, what = _split(key.removeprefix("base_model.model."))
        held.setdefault(path, {})[what] = tensor
    return {
        path: tensors
        for path, tensors in held.items()
        # Whole weights that were not trained are copies of the base's own.
        if set(tensors) - {"weight", "base_layer.weight"} or path.endswith(adapter.saved)
    }


def _differing(base: Any, tuned: Any) -> dict[str, dict[str, Tensor]]:
    """The modules in which two whole models differ, by path."""
    found: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    for path in filter(None, _names(base)):
        one, other = leaf(base, path), leaf(tuned, path)
        if id(one) in seen:  # it has a second name
            continue
        seen.add(id(one))
        mine = dict(other.named_parameters(recurse=False))
        own = one.named_parameters(recurse=False)
        if any(not torch.equal(tensor, mine[key]) for key, tensor in own):
            found[path] = {}
    return found


def _split(key: str) -> tuple[str, str]:
    """A tensor's key as its module's path, and what of the module it is."""
    parts = key.split(".")
    for place, part in enumerate(parts):
        if part.startswith(_TUNERS) or part in _OWN:
            return ".".join(parts[:place]), ".".join(parts[place:])
    return key, "parameter"


def _factors(adapter: Adapter, path: str, held: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`A` and `B` of plain LoRA with the scale inside `B`, float32."""
    a, b = held["lora_A.weight"].float(), held["lora_B.weight"].float()
    pattern = adapter.peft.alpha_pattern or {}
    alpha = float(pattern.get(get_pattern_key(pattern.keys(), path), adapter.peft.lora_alpha))
    return a, b * (alpha / (len(a) ** 0.5 if adapter.peft.use_rslora else len(a)))


def _difference(one: Any, other: Any) -> tuple[Tensor, Tensor | None]:
    """Tuned minus base: weight `[d_out d_in]` and bias, float32."""
    weight = other.weight.detach().float() - one.weight.detach().float()
    if isinstance(one, Conv1D):
        weight = weight.T.contiguous()
    mine, theirs = getattr(one, "bias", None), getattr(other, "bias", None)
    if theirs is None or (mine is not None and torch.equal(mine, theirs)):
        return weight, None
    return weight, theirs.detach().float() - (0 if mine is None else mine.detach().float())


def _names(network: Any) -> list[str]:
    """Paths of all modules in the model's order, as Hugging Face names them.

    The bridge's own names are left out: of a fused map it holds the parts beside the whole.
    """
    found: list[str] = []

    def walk(module: Any, path: str) -> None:
        while _WRAPPER in module._modules:
            module = module._modules[_WRAPPER]
        found.append(path)
        for name, part in module._modules.items():
            if part is not None:
                walk(part, f"{path}.{name}".removeprefix("."))

    walk(network, "")
    return list(dict.fromkeys(found))
