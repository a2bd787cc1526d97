"""Adapters as PEFT saves them, every tensor random, and small bases of several families."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from tiny import tokenizer
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig

SIZES: dict[str, Any] = {
    "initializer_range": 0.15,
    "bos_token_id": tokenizer().bos_token_id,
    "eos_token_id": tokenizer().eos_token_id,
}


def save_family(folder: Path, family: str) -> Path:
    """GPT-2 (fused Conv1D maps with biases) or Mixtral (a mixture of experts), random."""
    size = len(tokenizer())
    config = {
        "gpt2": lambda: GPT2Config(
            vocab_size=size, n_embd=64, n_layer=2, n_head=4, n_positions=256, **SIZES
        ),
        "mixtral": lambda: MixtralConfig(
            vocab_size=size, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
            max_position_embeddings=256, **SIZES,
        ),
    }[family]()  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_trained(base: Path, folder: Path, config: Any, scale: float = 0.05) -> Path:
    """An adapter of `config` for `base`, as training would leave it."""
    torch.manual_seed(1)
    live = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for tensor in live.parameters():
            if tensor.requires_grad:
                tensor.add_(scale * torch.randn_like(tensor))
    live.save_pretrained(folder)
    return folder


@torch.no_grad()
def off(pair: Any, base: Path, folder: Path) -> tuple[float, float]:
    """Largest difference of a logit: merged here against live in PEFT; and the adapter's effect."""
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    ids = torch.tensor([pair.format.prompt_ids("Do you like tea?")])
    before = plain(ids).logits
    live = PeftModel.from_pretrained(plain, folder).eval()
    wanted = live(ids).logits
    assert torch.allclose(pair.base(ids), before, atol=1e-4), "the base is as it was"
    return float((pair.tuned(ids) - wanted).abs().max()), float((before - wanted).abs().max())
