"""Small random bridges of every family that the engine covers."""

import torch
import transformers
from tiny import tokenizer
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, PreTrainedModel

from interp.models.pair import hook

VOCAB = len(tokenizer())


def _sizes(**changes):
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    }
    return sizes | changes


_ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**_sizes()),
    "llama-mha": lambda: transformers.LlamaConfig(
        **_sizes(num_key_value_heads=4, attention_bias=True, mlp_bias=True)
    ),
    "llama-mqa": lambda: transformers.LlamaConfig(
        **_sizes(num_key_value_heads=1, tie_word_embeddings=True)
    ),
    "mistral": lambda: transformers.MistralConfig(**_sizes(sliding_window=4)),
    "qwen2": lambda: transformers.Qwen2Config(**_sizes()),
    "qwen3": lambda: transformers.Qwen3Config(**_sizes(head_dim=16)),
    "gemma": lambda: transformers.GemmaConfig(**_sizes(head_dim=16)),
    "gemma2": lambda: transformers.Gemma2Config(
        **_sizes(head_dim=16, sliding_window=4, final_logit_softcapping=2.0)
    ),
    "gemma3_text": lambda: transformers.Gemma3TextConfig(
        **_sizes(head_dim=16, sliding_window=4),
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "phi3": lambda: transformers.Phi3Config(**_sizes(), **_ENDS),
    "olmo2": lambda: transformers.Olmo2Config(**_sizes(), **_ENDS),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=64
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    ),
}


def bridge(
    family: str, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: int
) -> TransformerBridge:
    """A random model whose every weight matters: large enough that patches move the logits."""
    return hook(model(family, seed, **changes).to(dtype), tokenizer())


def model(family: str, seed: int = 0, **changes: int) -> PreTrainedModel:
    """The same, not hooked, in single precision."""
    config = FAMILIES[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.3 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
            norm = parameter.ndim == 1 and bool((parameter == 1).all())
            parameter.copy_(noise * scale + (1.0 if norm else 0.0))
    return made


def prompts(lengths, width=None, seed=0, side="left", size=VOCAB):
    """Random token ids with their mask; `lengths` tokens per row."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    tokens = torch.zeros(len(lengths), width, dtype=torch.long)
    mask = torch.zeros(len(lengths), width, dtype=torch.bool)
    for row, length in enumerate(lengths):
        place = slice(width - length, width) if side == "left" else slice(0, length)
        tokens[row, place] = torch.randint(5, size, (length,), generator=generator)
        mask[row, place] = True
    return tokens, mask


def pick(logits):
    """A metric that is no log-odds: a smooth function of all logits."""
    weights = torch.linspace(-1, 1, logits.shape[-1], dtype=logits.dtype)
    return (torch.tanh(logits / 4) * weights).sum(-1)
