"""Adapter folders, broken: alone (`read_adapter`), and put on a base (`load_pair`)."""

import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from broken_bytes import NOT_FILES, NOT_JSON, NOT_SAFETENSORS, with_tensors
from broken_models import Break, _in_place, _outside, _spoil_bytes, _spoil_text
from corpus import Case, Gone, change, copy_of, edit, put, workshop
from peft import LoraConfig, get_peft_model
from tiny import llama

CONFIG, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "interp.json"


@cache
def good_adapter() -> Path:
    """LoRA of rank 4 on the tiny base, with a record of its training."""
    where = workshop() / "adapter"
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(llama(), config).save_pretrained(where)
    record = {"format": "interp adapter 1", "base": "base", "config": {"quantization": None}}
    put(where / RECORD, json.dumps(record | {"base_identity": {"sha256": None}}))
    return where


FIELDS: dict[str, tuple[str, Any]] = {
    "kind-unknown": ("peft_type", "PREFIX_TUNING"),
    "kind-lower": ("peft_type", "lora"),
    "kind-number": ("peft_type", 1),
    "kind-list": ("peft_type", ["LORA"]),
    "kind-null": ("peft_type", None),
    "kind-xlora": ("peft_type", "XLORA"),
    "task-other": ("task_type", "SEQ_CLS"),
    "rank-absurd": ("r", 2**31),
    "rank-above-limit": ("r", 4097),
    "rank-negative": ("r", -8),
    "rank-text": ("r", "8"),
    "rank-float": ("r", 8.5),
    "rank-true": ("r", True),
    "rank-null": ("r", None),
    "rank-list": ("r", [4]),
    "rank-endless": ("r", 10**400),
    "alpha-absurd": ("lora_alpha", 1e31),
    "alpha-text": ("lora_alpha", "16"),
    "alpha-null-object": ("lora_alpha", {"a": 1}),
    "dropout-text": ("lora_dropout", "much"),
    "code": ("auto_map", {"AutoModel": "code.Model"}),
    "layers-repeated": ("layer_replication", [[0, 3], [0, 3]]),
    "layers-repeated-forever": ("layer_replication", [[0, 10**9]]),
    "megatron": ("megatron_config", {"hidden_size": 1}),
    "targets-no-pattern": ("target_modules", "(q_proj"),
    "targets-endless": ("target_modules", "q_proj|" * 100_000),
}

RECORDS: dict[str, tuple[tuple[str, ...], Any]] = {
    "quantization-unknown": (("config", "quantization"), "int3"),
    "quantization-number": (("config", "quantization"), 4),
    "config-list": (("config",), [1]),
    "identity-text": (("base_identity",), "sha"),
    "hashes-list": (("base_identity", "sha256"), ["a"]),
    "hashes-numbers": (("base_identity", "sha256"), {"model.safetensors": 5}),
    "base-number": (("base",), 5),
    "template-number": (("chat_template_sha256",), 5),
}


def _field(name: str, value: Any) -> Break:
    return lambda where: edit(where / CONFIG, **{name: value})


def _tensors(spoil: Callable[[dict[str, torch.Tensor]], Any]) -> Break:
    return lambda where: with_tensors(where / WEIGHTS, spoil)


def _each(spoil: Callable[[torch.Tensor], torch.Tensor]) -> Break:
    return _tensors(lambda t: t.update({name: spoil(one) for name, one in t.items()}))


def _pickled(where: Path) -> None:
    (where / WEIGHTS).unlink()
    put(where / "adapter_model.bin", b"\x80\x04K\x01.")


def _to_raw(where: Path, text: str) -> None:
    put(where / CONFIG, (where / CONFIG).read_text().replace("{", "{" + text, 1))


FOLDER: dict[str, Break] = {
    "no-config": lambda where: (where / CONFIG).unlink(),
    "no-kind": lambda where: change(where / CONFIG, ("peft_type",), Gone),
    "alpha-nan": lambda where: _to_raw(where, '"lora_alpha_2": 1, "x": NaN,'),
    "alpha-infinite": lambda where: _alpha(where, "Infinity"),
    "alpha-overflow": lambda where: _alpha(where, "1e400"),
    "pickled": _pickled,
    "config-larger-than-is-read": lambda where: put(where / CONFIG, "{" + " " * (17 * 2**20) + "}"),
    "hundred-megabytes": lambda where: put(where / CONFIG, '{"a": "' + "x" * (100 * 2**20) + '"}'),
    "empty-folder": lambda where: [path.unlink() for path in where.iterdir()],
    "weights-nan": _each(lambda one: one.fill_(torch.nan)),
    "weights-infinite": _each(lambda one: one.fill_(-torch.inf)),
    "weights-integers": _each(lambda one: one.to(torch.int32)),
    "weights-booleans": _each(lambda one: one.bool()),
    "weights-complex": _each(lambda one: one.to(torch.complex64)),
    "weights-none": _tensors(dict.clear),
    "weights-outside": _outside(WEIGHTS),
    "config-outside": _outside(CONFIG),
    "record-outside": _outside(RECORD),
}


def _alpha(where: Path, number: str) -> None:
    text = (where / CONFIG).read_text().replace('"lora_alpha": 8', f'"lora_alpha": {number}')
    put(where / CONFIG, text)


def _drop(word: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda t: [t.pop(name) for name in list(t) if word in name]


def _extra(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name.replace("q_proj", "k_proj").replace("layers.0", "layers.9")] = tensors[name] + 1


def _prefix(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace("base_model.model.", "")] = tensors.pop(name)


PAIR: dict[str, Break] = {
    "no-rank": lambda where: change(where / CONFIG, ("r",), Gone),
    "rank-of-other-weights": _field("r", 8),
    "rank-zero": _field("r", 0),
    "weights-flat": _each(lambda one: one.flatten()),
    "weights-turned": _each(lambda one: one.T),
    "dropout-two": _field("lora_dropout", 2.0),
    "init-path": _field("init_lora_weights", "../../other"),
    "bias-unknown": _field("bias", "some"),
    "targets-number": _field("target_modules", 5),
    "invocation": _field("alora_invocation_tokens", [1, 2, 3]),
    "tokens-trained": _field("trainable_token_indices", [1, 2]),
    "dora-without-its-tensors": _field("use_dora", True),
    "half-the-layers": _tensors(_drop("layers.1")),
    "no-b": _tensors(_drop("lora_B")),
    "tensor-too-many": _tensors(_extra),
    "without-prefix": _tensors(_prefix),
    "other-width": _tensors(
        lambda t: t.update({n: o[:, :-1] for n, o in t.items() if n.endswith("lora_A.weight")})
    ),
    "overflows": _each(lambda one: one.fill_(3e38)),
    "targets-nothing": _field("target_modules", ["nothing_proj"]),
    "targets-other": _field("target_modules", ["k_proj"]),
    "targets-embedding": _field("target_modules", ["embed_tokens"]),
    "targets-everything": _field("target_modules", "all-linear"),
    "saves-head": _field("modules_to_save", ["lm_head"]),
    "layer-that-is-not-there": _field("layers_to_transform", [99]),
    "as-loha": lambda where: put(
        where / CONFIG, json.dumps({"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"]})
    ),
    "as-lokr": lambda where: put(
        where / CONFIG, json.dumps({"peft_type": "LOKR", "r": 4, "target_modules": ["q_proj"]})
    ),
    "of-other-weights": lambda where: change(
        where / RECORD, ("base_identity", "sha256"), {"model.safetensors": "0" * 64}
    ),
    "of-other-template": lambda where: edit(where / RECORD, chat_template_sha256="0" * 64),
}


def _broken(loader: str, breaks: dict[str, Break]) -> list[Case]:
    def make(spoil: Break, folder: Path) -> str:
        where = copy_of(good_adapter(), folder)
        spoil(where)
        return str(where)

    return [
        Case(f"{loader}: {name}", loader, partial(make, spoil)) for name, spoil in breaks.items()
    ]


def _archive(folder: Path) -> str:
    return shutil.make_archive(str(folder / "adapter"), "zip", good_adapter())


def cases() -> list[Case]:
    alone = {f"config {name}": _field(*change) for name, change in FIELDS.items()} | FOLDER
    for name, spoil in NOT_JSON.items():
        alone[f"config {name}"] = partial(_spoil_text, CONFIG, spoil)
    for name in ("half", "field-twice", "deep-objects", "string", "nan"):
        alone[f"record {name}"] = partial(_spoil_text, RECORD, NOT_JSON[name])
    for name, (keys, value) in RECORDS.items():
        alone[f"record {name}"] = lambda where, k=keys, v=value: change(where / RECORD, k, v)
    for name, break_bytes in NOT_SAFETENSORS.items():
        alone[f"weights {name}"] = partial(_spoil_bytes, WEIGHTS, break_bytes)
    for name, make in NOT_FILES.items():
        alone[f"weights {name}"] = lambda where, make=make: _in_place(where / WEIGHTS, make)
    # What is wrong with the record's quantization is said when it is asked for.
    late = {name: alone.pop(name) for name in list(alone) if "record quantization-unknown" in name}
    zipped = Case("adapter: archive", "adapter", _archive)
    return [*_broken("adapter", alone), zipped, *_broken("pair", PAIR | late)]
