"""The arithmetic of a bridged decoder, taken apart so that it can start at any layer and position.

`Decoder.of(bridge)` reads from a `TransformerBridge` the modules of every layer (they are called,
never copied, so quantised and adapter layers work) and the few numbers that its attention needs.
Covered are decoders with norms before, after or on both sides of their parts, rotary or learned
positions, grouped-query attention, query/key norms (of a head, or of all together), fused maps,
soft-capping, biases and parallel blocks. Model types that were not compared with their bridge are
refused by name (`interp.readout.coverage`); sliding windows and padding come in as the mask that
the bridge itself used (see `capture`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from interp.base.devices import check_one_device
from interp.base.errors import ModelError
from interp.readout.coverage import EXACT

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """One block. Every field that is a function maps `[... in] -> [... out]`.

    Attributes:
        o_weight: the output projection `[d_model, head * d_head]`, where what one head adds can be
            had from its columns alone: a dense matrix and no norm after it. Else None.
        joint_norm: whether queries (and keys) are normed over all heads together, so that one
            head's moves the others'.
    """

    norm1: Map
    norm2: Map
    q: Map
    k: Map
    v: Map
    o: Map
    o_weight: Tensor | None
    q_norm: Map | None
    k_norm: Map | None
    attn_post: Map | None
    mlp_post: Map | None
    gate: Map | None
    up: Map
    down: Map
    act: Map
    n_heads: int
    n_kv_heads: int
    d_head: int
    scale: float
    softcap: float | None
    parallel: bool
    joint_norm: bool = False

    def hidden(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_mlp"]:
        """The MLP's neurons (`mlp_post`) from the residual stream that the MLP reads."""
        h = self.norm2(x)
        if self.gate is None:
            return self.act(self.up(h))
        # `act` returns a fresh tensor, so it may be overwritten.
        return self.act(self.gate(h)).mul_(self.up(h))

    def mlp_out(self, hidden: Float[Tensor, "*rows d_mlp"]) -> Float[Tensor, "*rows d_model"]:
        """What the neurons add to the residual stream."""
        out = self.down(hidden)
        return out if self.mlp_post is None else self.mlp_post(out)

    def mlp(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What the MLP adds to the residual stream that it reads."""
        return self.mlp_out(self.hidden(x))

    def softmax(self, scores: Float[Tensor, "*rows keys"]) -> Float[Tensor, "*rows keys"]:
        """What each query gives to its keys."""
        return torch.softmax(scores, -1, dtype=torch.float32)

    def attn_out(self, z: Float[Tensor, "*rows z"]) -> Float[Tensor, "*rows d_model"]:
        """What the heads' outputs, concatenated, add to the residual stream."""
        out = self.o(z)
        return out if self.attn_post is None else self.attn_post(out)


@dataclass(frozen=True)
class Decoder:
    """The layers, the final norm, the unembedding and the final logit soft-cap of a bridge."""

    layers: tuple[Layer, ...]
    final_norm: Map
    unembed: Map
    logit_softcap: float | None
    model_type: str

    @classmethod
    def of(cls, bridge: Any) -> "Decoder":
        """Take a bridge apart.

        Raises:
            ModelError: for a model type whose arithmetic was not compared with its bridge, or a
                model that is spread over devices.
        """
        check_one_device(
            bridge, "the exact patching engine",
            "Load it on one device (in bfloat16, or as nf4), or use interp.patching.naive.sweep",
        )  # fmt: skip
        config = bridge.original_model.config
        kind = str(getattr(config, "model_type", type(config).__name__))
        if kind not in EXACT:
            raise ModelError(
                f"the exact patching engine does not cover model type {kind!r} (it covers "
                f"{', '.join(EXACT)}); use interp.patching.naive.sweep"
            )
        return cls(
            layers=tuple(_layer(block, bridge.cfg, i) for i, block in enumerate(bridge.blocks)),
            final_norm=_norm(bridge.ln_final.original_component),
            unembed=bridge.unembed.original_component,
            logit_softcap=getattr(config, "final_logit_softcapping", None),
            model_type=kind,
        )

    def logits(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows vocab"]:
        """Logits from the residual stream after the last layer."""
        return self.cap(self.unembed(self.final_norm(x)))

    def cap(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
        """The final soft-cap (Gemma 2), or the logits as they are."""
        if self.logit_softcap is None:
            return logits
        return torch.tanh(logits / self.logit_softcap) * self.logit_softcap


def _layer(block: Any, cfg: Any, index: int) -> Layer:
    attn, mlp = block.attn, block.mlp
    hf = attn.original_component
    names = ("ln1", "ln2", "ln1_post", "ln2_post")
    part = {name: _module(getattr(block, name, None)) for name in names}
    d_head = int(cfg.d_head)
    q_norm, k_norm = (_module(getattr(attn, name, None)) for name in ("q_norm", "k_norm"))
    joint = q_norm is not None and q_norm.weight.shape[-1] != d_head
    scale = getattr(hf, "scaling", None) or d_head**-0.5
    if getattr(cfg, "scale_attn_by_inverse_layer_idx", False):
        scale /= index + 1
    return Layer(
        norm1=_norm(part["ln1"]) or _same,
        norm2=_norm(part["ln2"]) or _same,
        q=attn.q.original_component,
        k=attn.k.original_component,
        v=attn.v.original_component,
        o=attn.o.original_component,
        o_weight=None if part["ln1_post"] else _dense(attn.o.original_component),
        q_norm=_over_all(_norm(q_norm)) if joint else _norm(q_norm),
        k_norm=_over_all(_norm(k_norm)) if joint else _norm(k_norm),
        attn_post=_norm(part["ln1_post"]),
        mlp_post=_norm(part["ln2_post"]),
        gate=_module(getattr(mlp, "gate", None)),
        up=getattr(mlp, "in").original_component,
        down=mlp.out.original_component,
        act=_activation(mlp.original_component),
        n_heads=int(cfg.n_heads),
        n_kv_heads=int(getattr(cfg, "n_key_value_heads", None) or cfg.n_heads),
        d_head=d_head,
        scale=float(scale),
        softcap=getattr(hf, "attn_logit_softcapping", None),
        parallel=bool(getattr(cfg, "parallel_attn_mlp", False)),
        joint_norm=joint,
    )


def _dense(linear: Any) -> Tensor | None:
    """The matrix `[out, in]` of a plain linear map; None where it is packed or has adapters."""
    if type(linear) not in (nn.Linear, Conv1D):
        return None
    weight: Tensor = linear.weight.detach()
    return weight if type(linear) is nn.Linear else weight.T


def _same(x: Tensor) -> Tensor:
    """What stands where a layer has no norm before its part."""
    return x


def _over_all(norm: Map) -> Map:
    """A norm of all heads together, `[... head d_head]`."""
    return lambda x: norm(x.flatten(-2)).view(x.shape)


def _module(bridge: Any) -> Any:
    return None if bridge is None else bridge.original_component


def _norm(module: Any) -> Any:
    """A norm as a function; in single precision the fused kernel, else the module as it is."""
    if module is None or isinstance(module, nn.LayerNorm):
        return module
    name, weight = type(module).__name__, module.weight
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if weight.dtype != torch.float32 or eps is None or not name.endswith("RMSNorm"):
        return module
    scale = (1.0 + weight) if name.startswith("Gemma") else weight
    scale = scale.detach()

    def norm(x: Tensor) -> Tensor:
        # One pass less over memory than F.rms_norm, which has no kernel of its own on the CPU.
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x * (size.square() / x.shape[-1] + eps).rsqrt()).mul_(scale)

    return norm


def _activation(mlp: Any) -> Any:
    found = (getattr(mlp, name, None) for name in ("act_fn", "activation_fn", "act"))
    act = next((one for one in found if one is not None), None)
    if act is None:
        raise ModelError(f"{type(mlp).__name__} has no activation that the engine knows")
    return act


def rotate(
    x: Float[Tensor, "*rows head d_head"],
    cos: Float[Tensor, "*rows rotary"],
    sin: Float[Tensor, "*rows rotary"],
) -> Float[Tensor, "*rows head d_head"]:
    """Rotary position embedding (Su et al. 2021), halves convention, on the first `rotary` dims."""
    size = cos.shape[-1]
    half = size // 2
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    first, second = x[..., :half], x[..., half:size]
    out = x[..., :size] * cos
    out[..., :half].addcmul_(second, sin[..., :half], value=-1)
    out[..., half:].addcmul_(first, sin[..., half:])
    out = out.to(x.dtype)  # OLMo 2 turns in single precision
    return torch.cat((out, x[..., size:]), -1) if size < x.shape[-1] else out


def attend(
    layer: Layer,
    q: Float[Tensor, "jobs rows head d_head"],
    k: Float[Tensor, "jobs kv_head keys d_head"],
    v: Float[Tensor, "jobs kv_head keys d_head"],
    allowed: Shaped[Tensor, "jobs rows keys"],
) -> tuple[Float[Tensor, "jobs rows head d_head"], Float[Tensor, "jobs head rows keys"]]:
    """Attention of a few query rows over all keys: head outputs and pattern.

    `head` may be any multiple of `kv_head`: consecutive query heads share a key head.
    """
    jobs, rows, heads, d_head = q.shape
    groups = heads // k.shape[1]
    # Query heads that share a key head lie beside each other, so that their rows can be put below
    # one another, [jobs kv_head (group rows) d_head]: one product with the keys for all of them.
    q = q.transpose(1, 2).reshape(jobs, k.shape[1], groups * rows, d_head)
    scores = torch.matmul(q, k.transpose(-1, -2)).mul_(layer.scale)
    if layer.softcap is not None:
        scores = torch.tanh(scores / layer.softcap) * layer.softcap
    # [jobs kv_head group rows keys], as the mask [jobs 1 1 rows keys] wants them.
    scores = scores.view(jobs, k.shape[1], groups, rows, -1)
    scores = scores.masked_fill_(~allowed[:, None, None], torch.finfo(q.dtype).min)
    pattern = layer.softmax(scores).to(q.dtype)
    z = torch.matmul(pattern.view(jobs, k.shape[1], groups * rows, -1), v)
    # Heads again, kv_head times group in their old order, behind the rows.
    z = z.view(jobs, heads, rows, d_head).transpose(1, 2)
    return z, pattern.view(jobs, heads, rows, -1)
