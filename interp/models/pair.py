"""The hooked pair: a base and its tuned model, each a TransformerLens bridge.

Both answer at any time. They share every weight that the adapter leaves alone; what it changes
stands twice in memory (for an adapter on all linear layers that is nearly the whole model). With
an adapter trained on NF4, both are dense models with the dequantised weights, because that is what
the adapter was trained against.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformer_lens.model_bridge import TransformerBridge

from interp.base.devices import input_device
from interp.base.errors import AdapterError, InputError, ModelError
from interp.base.files import kind_of
from interp.base.html import card, note, shown
from interp.models.adapters import Adapter, open_adapter
from interp.models.asking import Asking
from interp.models.companions import adapter_tokenizer, beside, resize
from interp.models.folders import check_folder
from interp.models.given_prompts import check_called
from interp.models.loading import (
    LoadedBase,
    Quantization,
    check_vocabulary,
    fit_tokenizer,
    load_base,
)
from interp.models.merge import MergeReport, check_same_shape, compare, merge, share
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
    """A base model and what was made of it: with one adapter merged in, or fine-tuned as a whole.

    Attributes:
        base, tuned: hooked models; evaluation mode, no gradients.
        tokenizer: the tuned model's tokenizer (the base's, if an adapter brought none).
        format: how questions become ids.
        merge_report: the error that the merge made, beside the adapter's effect; where nothing was
            merged, the error is 0 and the effect is that of the fine-tuning.
        adapter: the adapter's checked description; `None` for a full fine-tune.
        identity: hashes of the base's files, or its hub id and commit.
        tuned_identity: the same of a full fine-tune's.
    """

    base: TransformerBridge
    tuned: TransformerBridge
    tokenizer: Any
    format: ChatFormat
    merge_report: MergeReport
    adapter: Adapter | None
    identity: dict[str, Any]
    tuned_identity: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, base: Any, tuned: Any, tokenizer: Any, *, prompt_format: Style = "chat"
    ) -> "ModelPair":
        """A pair of two Hugging Face causal models in memory; both are hooked in place.

        Args:
            base: the model before fine-tuning.
            tuned: the model after it; of a live adapter the merged copy.
            tokenizer: both models' tokenizer.
            prompt_format: `chat` (the tokenizer's template) or `plain`.

        Raises:
            ModelError: if the two differ in shape, are one, or carry live adapter layers.
            TokenizerError: if the tokenizer does not fit.
        """
        for model in (base, tuned):
            if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
                raise ModelError(
                    "the model carries live adapter layers; merge them (merge_and_unload) into a "
                    "copy, or give the saved adapter to load_pair"
                )
        names = [model.config.name_or_path or type(model).__name__ for model in (base, tuned)]
        fit_tokenizer(tokenizer)
        check_vocabulary(tokenizer, base, names[0])
        form = ChatFormat.from_tokenizer(tokenizer, prompt_format)
        for model in (base, tuned):
            model.eval().requires_grad_(False)
        return _full(base, tuned, form, QUESTIONS, ({"name": names[0]}, {"name": names[1]}))

    @property
    def tuned_name(self) -> str:
        """What the tuned model came from: the adapter's folder, or the fine-tune's name."""
        return self.adapter.name if self.adapter else _name(self.tuned_identity)

    @property
    def tuned_source(self) -> str:
        """The same for an error: with the adapter's whole path."""
        return str(self.adapter.path) if self.adapter else _name(self.tuned_identity)

    def __repr__(self) -> str:
        cfg, report = self.base.cfg, self.merge_report
        trained_on = f", on {report.quantization}" if report.quantization else ""
        kind = self.adapter.title if self.adapter else "a full fine-tune"
        return (
            f"ModelPair({_name(self.identity)}: "
            f"{cfg.n_layers} layers, d_model {cfg.d_model}, {report.dtype}{trained_on}; "
            f"{self.tuned_name}: {kind} on {report.n_modules} modules)"
        )

    @shown
    def _repr_html_(self) -> str:
        """A card for notebooks: folders by their names, the merge's error beside the effect."""
        report, cfg, adapter = self.merge_report, self.base.cfg, self.adapter
        kind = adapter.title if adapter else "a full fine-tune"
        facts = {
            "base": _name(self.identity),
            "layers": cfg.n_layers,
            "heads": cfg.n_heads,
            "d_model": cfg.d_model,
            "vocabulary": cfg.d_vocab,
            "weights": report.dtype,
            "quantization": report.quantization or "none",
            "adapter" if adapter else "tuned": self.tuned_name,
            "kind": f"{kind} on {report.n_modules} modules",
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
    adapter: str | Path | None = None,
    *,
    tuned: str | Path | None = None,
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
    """Load a base and what was fine-tuned from it as two hooked models.

    Args:
        base: folder in Hugging Face format, GGUF file, or hub id (`org/name@revision`).
        adapter: folder that PEFT saved, or its hub id; whatever PEFT can merge.
        tuned: in place of an adapter, the fully fine-tuned model: folder, GGUF file or hub id.
        device: CUDA if there is one, else the CPU; `auto`, or a mapping from modules to devices,
            spreads the pair over several (see `interp.models.spreading`).
        dtype: bfloat16 on CUDA, else float32.
        quantization: what the base was quantised to when the adapter was trained. `auto` takes it
            from what `interp finetune` recorded, else from how the base is stored. Other adapters
            do not record it: say `nf4` for an adapter made by QLoRA on an unquantised base.
        prompt_format: `chat` (the tokenizer's template) or `plain`.
        prompts: questions that the merge report is measured on.
        max_merge_error: largest error of the merge, as a share of the adapter's own effect.
        any_base: accept an adapter whose record says that it was trained on other weights, or with
            another chat template.
        max_memory: with `auto`, how much each device may take for the base; the tuned copy takes
            as much again of what the adapter changes.
        trust_remote_code: `base` again, if the code that its repository brings may run.

    A chat template or a tokenizer with more tokens that lies beside the adapter is what it was
    trained with: it takes the base's place.

    Raises:
        InputError: if both or neither of `adapter` and `tuned` are given, or something that is no
            place.
        ModelError, TokenizerError, AdapterError: something does not load, or does not fit.
        MergeError: the merged model is too far from the unmerged one.
        OutOfMemoryError: the two models do not fit into memory.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    for name, given in {"base": base, "adapter": adapter, "tuned": tuned}.items():
        if not isinstance(given, str | PathLike) and (given is not None or name == "base"):
            raise InputError(
                f"{name} is no folder, file or hub id, but of type {type(given).__name__}; of "
                "models in memory make a pair by interp.ModelPair.of(base, tuned, tokenizer)"
            )
    if (adapter is None) == (tuned is None):
        raise InputError("load_pair takes an adapter, or tuned=…: a full fine-tune; one of them")
    how: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "max_memory": max_memory,
        "trust_remote_code": trust_remote_code,
    }
    if adapter is None:
        assert tuned is not None
        two = [load_base(one, **how) for one in (base, tuned)]
        form = ChatFormat.from_tokenizer(beside(two[0], two[1].tokenizer), prompt_format)
        return _full(two[0].model, two[1].model, form, prompts, (two[0].identity, two[1].identity))
    made = merged(
        base, adapter, quantization, prompt_format, prompts, max_merge_error, any_base, how
    )
    return ModelPair(
        base=hook(made.base, made.form.tokenizer),
        tuned=hook(made.tuned, made.form.tokenizer),
        tokenizer=made.form.tokenizer,
        format=made.form,
        merge_report=made.report,
        adapter=made.adapter,
        identity=made.identity,
    )


@dataclass(frozen=True)
class Merged:
    """A base and a copy with an adapter merged in, before they are hooked; as in `ModelPair`."""

    base: Any
    tuned: Any
    form: ChatFormat
    report: MergeReport
    adapter: Adapter
    identity: dict[str, Any]


def merged(
    base: str | Path,
    adapter: str | Path,
    quantization: Quantization | Literal["auto"] | None,
    prompt_format: Style,
    prompts: Sequence[str],
    max_merge_error: float,
    any_base: bool,
    how: dict[str, Any],
) -> Merged:
    """Load a base and merge an adapter into a copy of it; arguments and errors as of `load_pair`.

    Args:
        how: further arguments of `load_base`.
    """
    if kind_of(base) != "absent":
        check_folder(base, how.get("trust_remote_code"))  # the hub is asked last
    checked, tensors = open_adapter(adapter)
    wanted = checked.trained_on if quantization == "auto" else quantization
    loaded = load_base(base, quantization=wanted, **how)
    resize(loaded.model, checked, tensors)
    loaded = replace(loaded, tokenizer=adapter_tokenizer(loaded, checked))
    form = ChatFormat.from_tokenizer(loaded.tokenizer, prompt_format)
    if not any_base:
        _check_provenance(checked, loaded, form)
    batch = pad([form.prompt_ids(question) for question in prompts], pad_id(loaded.tokenizer))
    dense, tuned, report = merge(
        loaded.model, checked, tensors, batch, loaded.quantization, max_merge_error
    )
    return Merged(dense, tuned, form, report, checked, loaded.identity)


def _full(
    base: Any,
    tuned: Any,
    form: ChatFormat,
    prompts: Sequence[str],
    identities: tuple[dict[str, Any], dict[str, Any]],
) -> ModelPair:
    """The pair of two whole models; equal tensors are held once."""
    check_same_shape(base, tuned, (_name(identities[0]), _name(identities[1])))
    batch = pad([form.prompt_ids(question) for question in prompts], pad_id(form.tokenizer))
    report = compare(base, share(tuned, base), batch)
    return ModelPair(
        base=hook(base, form.tokenizer),
        tuned=hook(tuned, form.tokenizer),
        tokenizer=form.tokenizer,
        format=form,
        merge_report=report,
        adapter=None,
        identity=identities[0],
        tuned_identity=identities[1],
    )


def _name(identity: Mapping[str, Any]) -> str:
    return str(identity.get("name") or identity.get("hub_id") or "base")


def _check_provenance(adapter: Adapter, loaded: LoadedBase, form: ChatFormat) -> None:
    """Compare what an adapter's record says of its training with what it is loaded with."""
    record = adapter.provenance or {}
    trained = (record.get("base_identity") or {}).get("sha256") or {}
    given = loaded.identity.get("sha256") or {}  # a hub id has a commit instead
    for name in given:
        if (
            trained
            and name.endswith((".safetensors", ".gguf"))
            and trained.get(name) != given[name]
        ):
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
        base: folder in Hugging Face format, GGUF file, or hub id.
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
    if not model.config.architectures:  # of a model that was never saved; the bridge goes by it
        model.config.architectures = [type(model).__name__]
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
    bridge.register_forward_pre_hook(check_called)
    return bridge.eval().requires_grad_(False)
