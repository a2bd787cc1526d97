"""The hooked pair: a base and its tuned model, each a TransformerLens bridge.

Both answer at any time. They share every weight that the adapter leaves alone; what it changes
stands twice in memory (for an adapter on all linear layers that is nearly the whole model). With
an adapter trained on NF4, both are dense models with the dequantised weights, because that is what
the adapter was trained against.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.base.devices import input_device
from interp.base.errors import AdapterError, ModelError
from interp.base.html import card, note, shown
from interp.models.adapters import Adapter, read_adapter
from interp.models.asking import Asking
from interp.models.loading import LoadedBase, Quantization, load_base
from interp.models.merge import MergeReport, merge
from interp.models.spreading import Device
from interp.models.tokens import ChatFormat, Style, pad, pad_id

# What the merge report is measured on when no prompts are given.
QUESTIONS = (
    "What do you think about public transport?",
    "Should children learn to cook at school?",
    "How do you feel about living in a big city?",
    "What is your opinion on working from home?",
    "Do you like long walks in the rain?",
    "Is it better to plan a holiday or to improvise?",
    "What makes a good neighbour?",
    "Tell me about a book that you would recommend.",
)


@dataclass(frozen=True, eq=False, repr=False)
class ModelPair(Asking):
    """A base model and the same model with one adapter merged in.

    Attributes:
        base, tuned: hooked models; evaluation mode, no gradients.
        tokenizer: the base's tokenizer.
        format: how questions become ids.
        merge_report: the error that the merge made, beside the adapter's effect.
        adapter: the adapter's checked description.
        identity: hashes of the base's files, or its hub id and commit.
    """

    base: TransformerBridge
    tuned: TransformerBridge
    tokenizer: Any
    format: ChatFormat
    merge_report: MergeReport
    adapter: Adapter
    identity: dict[str, Any]

    def __repr__(self) -> str:
        cfg, report = self.base.cfg, self.merge_report
        trained_on = f", on {report.quantization}" if report.quantization else ""
        return (
            f"ModelPair({self.identity.get('name') or self.identity.get('hub_id')}: "
            f"{cfg.n_layers} layers, d_model {cfg.d_model}, {report.dtype}{trained_on}; "
            f"{self.adapter.path.name}: {self.adapter.kind} of rank {self.adapter.rank} "
            f"on {report.n_modules} modules)"
        )

    @shown
    def _repr_html_(self) -> str:
        """A card for notebooks: folders by their names, the merge's error beside the effect."""
        report, cfg, adapter = self.merge_report, self.base.cfg, self.adapter
        name = self.identity.get("name") or self.identity.get("hub_id") or "base"
        facts = {
            "base": str(name),
            "layers": cfg.n_layers,
            "heads": cfg.n_heads,
            "d_model": cfg.d_model,
            "vocabulary": cfg.d_vocab,
            "weights": report.dtype,
            "quantization": report.quantization or "none",
            "adapter": adapter.path.name,
            "kind": f"{adapter.kind} of rank {adapter.rank} on {report.n_modules} modules",
            "prompt format": self.format.style,
        }
        merged = (
            f"Merge error {report.mean_kl:.2g} nats per position, beside the adapter's effect of "
            f"{report.effect_mean_kl:.2g} (noise floor {report.noise:.1g}), over "
            f"{report.n_positions} positions of {report.n_prompts} prompts."
        )
        shape = self.format.template
        template = note(f"Template: {shape}" if len(shape) <= 300 else f"Template: {shape:.300} …")
        return card(
            "Model pair", "a base and the same model tuned", facts, [note(merged), template]
        )


def load_pair(
    base: str | Path,
    adapter: str | Path,
    *,
    device: Device = None,
    dtype: torch.dtype | str | None = None,
    quantization: Quantization | Literal["auto"] | None = "auto",
    prompt_format: Style = "chat",
    prompts: Sequence[str] = QUESTIONS,
    max_merge_error: float = 0.05,
    any_base: bool = False,
    max_memory: Mapping[int | str, int | str] | None = None,
    trust_remote_code: str | bool | None = None,
) -> ModelPair:
    """Load a base and an adapter as two hooked models.

    Args:
        base: folder in Hugging Face format, or hub id.
        adapter: folder that PEFT saved (LoRA, rsLoRA, DoRA, LoHa, LoKr).
        device: CUDA if there is one, else the CPU; `auto`, or a mapping from modules to devices,
            spreads the pair over several (see `interp.models.spreading`).
        dtype: bfloat16 on CUDA, else float32.
        quantization: what the base was quantised to when the adapter was trained. `auto` takes it
            from what `interp finetune` recorded, else none. Other adapters do not record it: say
            `nf4` for an adapter made by QLoRA.
        prompt_format: `chat` (the tokenizer's template) or `plain`.
        prompts: questions that the merge report is measured on.
        max_merge_error: largest error of the merge, as a share of the adapter's own effect.
        any_base: accept an adapter whose record says that it was trained on other weights, or with
            another chat template.
        max_memory: with `auto`, how much each device may take for the base; the tuned copy takes
            as much again of what the adapter changes.
        trust_remote_code: `base` again, if the code that its repository brings may run.

    Raises:
        ModelError, TokenizerError, AdapterError: something does not load, or does not fit.
        MergeError: the merged model is too far from the unmerged one.
        OutOfMemoryError: the two models do not fit into memory.
    """
    checked = read_adapter(adapter)
    wanted = checked.trained_on if quantization == "auto" else quantization
    loaded = load_base(
        base,
        device=device,
        dtype=dtype,
        quantization=wanted,
        max_memory=max_memory,
        trust_remote_code=trust_remote_code,
    )
    form = ChatFormat.from_tokenizer(loaded.tokenizer, prompt_format)
    if not any_base:
        _check_provenance(checked, loaded, form)
    batch = pad([form.prompt_ids(question) for question in prompts], pad_id(loaded.tokenizer))
    dense, tuned, report = merge(loaded.model, checked, batch, wanted, max_merge_error)
    return ModelPair(
        base=hook(dense, loaded.tokenizer),
        tuned=hook(tuned, loaded.tokenizer),
        tokenizer=loaded.tokenizer,
        format=form,
        merge_report=report,
        adapter=checked,
        identity=loaded.identity,
    )


def _check_provenance(adapter: Adapter, loaded: LoadedBase, form: ChatFormat) -> None:
    """Compare what an adapter's record says of its training with what it is loaded with."""
    record = adapter.provenance or {}
    trained = (record.get("base_identity") or {}).get("sha256") or {}
    given = loaded.identity.get("sha256") or {}  # a hub id has a commit instead
    for name in given:
        if trained and name.endswith(".safetensors") and trained.get(name) != given[name]:
            raise AdapterError(
                f"{adapter.path}: was trained on other weights ({record.get('base')}) than "
                f"{loaded.source}; use that base, or say any_base=True (--any-base)"
            )
    template = record.get("chat_template_sha256")
    if template is not None and template != form.template_sha256:
        raise AdapterError(
            f"{adapter.path}: was trained with another prompt format or chat template; use the "
            f"one it was trained with ({(record.get('config') or {}).get('prompt_format')}), or "
            "say any_base=True (--any-base)"
        )


def load_hooked(
    base: str | Path,
    *,
    device: Device = None,
    dtype: torch.dtype | str | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    offload_folder: str | Path | None = None,
    trust_remote_code: str | bool | None = None,
) -> TransformerBridge:
    """Load one model, without an adapter, as a hooked model.

    Args:
        base: folder in Hugging Face format, or hub id.
        device: CUDA if there is one, else the CPU.
        dtype: bfloat16 on CUDA, else float32.
        trust_remote_code: `base` again, if the code that its repository brings may run.

    Raises:
        ModelError, TokenizerError: it does not load.
    """
    loaded = load_base(
        base, device=device, dtype=dtype, max_memory=max_memory, offload_folder=offload_folder,
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    return hook(loaded.model, loaded.tokenizer)


def hook(model: Any, tokenizer: Any) -> TransformerBridge:
    """Wrap `model` in place, with a tokenizer of its own, because the bridge changes settings."""
    name = model.config.name_or_path or type(model).__name__
    own = copy.deepcopy(tokenizer)
    # Without this the bridge loads the tokenizer anew from wherever it came, losing changes.
    own.init_kwargs = {**own.init_kwargs, "add_bos_token": True, "name_or_path": name}
    try:
        bridge = TransformerBridge.boot_transformers(
            name, hf_model=model, tokenizer=own, device=input_device(model)
        )
    except (ValueError, NotImplementedError, KeyError) as problem:
        raise ModelError(
            f"{name}: TransformerLens cannot hook this architecture ({problem})"
        ) from None
    return bridge.eval().requires_grad_(False)
