"""Pairs with random adapters, prompts, and the slow twin: subsets merged by hand into a copy."""

from copy import deepcopy
from pathlib import Path

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from tiny import tokenizer
from transformers import AutoModelForCausalLM

from interp import load_pair
from interp.models import ModelPair, TokenBatch, pad

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "lora": LoraConfig(r=3, lora_alpha=5, target_modules=ALL),
    "small": LoraConfig(r=3, target_modules=["v_proj", "down_proj"]),
    "rslora": LoraConfig(r=4, use_rslora=True, target_modules=["q_proj", "down_proj"]),
    "patterns": LoraConfig(
        r=4,
        rank_pattern={"q_proj": 2},
        alpha_pattern={"layers.1.self_attn.v_proj": 32, "down_proj": 3},
        target_modules=["q_proj", "v_proj", "down_proj"],
    ),
    "dora": LoraConfig(r=4, use_dora=True, target_modules=["v_proj", "down_proj"]),
    "loha": LoHaConfig(r=4, target_modules=["v_proj", "down_proj"]),
    "lokr": LoKrConfig(r=4, target_modules=["v_proj", "down_proj"]),
    "saved": LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    "norm": LoraConfig(
        r=2, target_modules=["q_proj"], modules_to_save=["post_attention_layernorm"]
    ),
    "head": LoraConfig(r=4, target_modules=["lm_head", "k_proj"]),
    "embedding": LoraConfig(r=4, target_modules=["embed_tokens", "k_proj"]),
    "c_attn": LoraConfig(r=3, fan_in_fan_out=True, target_modules=["c_attn", "mlp.c_proj"]),
    "fused": LoraConfig(r=3, target_modules=["query_key_value", "dense"]),
    "phi3": LoraConfig(r=3, target_modules=["qkv_proj", "gate_up_proj", "down_proj"]),
}


def save_adapter(base: Path, folder: Path, kind: str, *, scale=0.3, seed=1) -> Path:
    """An adapter whose every tensor is random, so that it changes what the model says."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), deepcopy(KINDS[kind]))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.requires_grad and "magnitude" not in name:
                tensor.add_(scale * torch.randn_like(tensor) * tensor.std().clamp_min(0.2))
    torch.set_rng_state(state)
    model.save_pretrained(folder)
    return folder


def make_pair(base: Path, folder: Path, kind: str, **how) -> ModelPair:
    return load_pair(base, save_adapter(base, folder, kind, **how), device="cpu")


def merged(pair: ModelPair, gates: dict[str, float]):
    """The base from disk with W + gate (W' - W) in the named modules, W' as PEFT merges it."""
    base = pair.base.original_model.config.name_or_path
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    full = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    full = PeftModel.from_pretrained(full, pair.adapter.path).merge_and_unload().eval()
    if any(name in ("lm_head", "embed_tokens") for name in gates):  # tied: give each its own
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        for name, gate in gates.items():
            path = name if name == "lm_head" else f"{model.base_model_prefix}.{name}"
            mine, theirs = model.get_submodule(path), full.get_submodule(path)
            mine.weight += gate * (theirs.weight - mine.weight)
    return model


def logits_of(model, batch: TokenBatch) -> torch.Tensor:
    """Last-token logits of each prompt by itself, by plain Hugging Face."""
    rows = []
    with torch.no_grad():
        for tokens, mask in zip(batch.tokens, batch.attention_mask, strict=True):
            rows.append(model(input_ids=tokens[mask][None]).logits[0, -1])
    return torch.stack(rows)


def prompts(lengths=(9, 6, 12, 4), seed=0) -> TokenBatch:
    """Random left-padded prompts."""
    random = torch.Generator().manual_seed(seed)
    size = len(tokenizer())
    rows = [torch.randint(5, size, (n,), generator=random).tolist() for n in lengths]
    return pad(rows, tokenizer().pad_token_id)


def pick(logits):
    """A metric that is no log-odds: a smooth function of all logits."""
    weights = torch.linspace(-1, 1, logits.shape[-1], dtype=logits.dtype)
    return (torch.tanh(logits / 4) * weights).sum(-1)


def by_hand(pair: ModelPair, gates: dict[str, float], batch: TokenBatch) -> torch.Tensor:
    """`pick` of the base with these modules merged by hand."""
    return pick(logits_of(merged(pair, gates), batch)).double()
