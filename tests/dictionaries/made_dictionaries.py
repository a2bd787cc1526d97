"""Dictionaries with random weights, in memory and as folders."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from interp.dictionaries import Dictionary, DictionaryConfig
from interp.traces.dictionaries.dictionary import ARCHITECTURES

HOOK, HOOK_OUT = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"
HOOK_IN = "blocks.1.ln2.hook_normalized"


def made(
    architecture: str, d_in: int = 6, d_sae: int = 9, d_out: int = 0, seed: int = 0, **changes: Any
) -> Dictionary:
    """A dictionary whose every tensor matters."""
    across = "transcoder" in architecture
    config = DictionaryConfig(
        architecture, d_in, d_sae, (d_out or d_in) if across else d_in,
        HOOK_IN if across else HOOK, HOOK_OUT if across else HOOK,
        k=3 if architecture == "topk" else 0, rescale=architecture == "topk",
        centred=not across, normalize="none", model="a model",
    )  # fmt: skip
    config = DictionaryConfig(**(vars(config) | changes))
    draw = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(shape, generator=draw) / shape[0] ** 0.5
        for name, shape in config.shapes.items()
    }
    if "threshold" in weights:
        weights["threshold"] = 0.2 + weights["threshold"].abs()
    return Dictionary(config, weights, "made")


def in_old_form(folder: Path, dictionary: Dictionary, **changes: Any) -> Path:
    """A folder as sae-lens 3 wrote it."""
    c = dictionary.config
    kwargs = {"k": c.k} if c.architecture == "topk" else {}
    config = {
        "architecture": "standard" if c.architecture == "topk" else c.architecture,
        "d_in": c.d_in, "d_sae": c.d_sae, "dtype": "torch.float32", "device": "cuda",
        "model_name": c.model, "hook_name": c.hook, "hook_layer": 1, "hook_head_index": None,
        "activation_fn_str": "topk" if kwargs else "relu", "activation_fn_kwargs": kwargs,
        "apply_b_dec_to_input": c.centred, "normalize_activations": c.normalize,
        "finetuning_scaling_factor": False, "context_size": 128, "prepend_bos": True,
        "sae_lens_training_version": "3.5.0",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(config | changes))
    save_file(dict(dictionary.weights), folder / "sae_weights.safetensors")
    return folder


KINDS = tuple(ARCHITECTURES)
