"""Base model folders and tokenizers, broken."""

import json
import os
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from broken_bytes import NOT_FILES, NOT_JSON, NOT_SAFETENSORS, with_tensors
from corpus import Case, Gone, change, copy_of, edit, put, workshop
from tiny import save_base

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
Break = Callable[[Path], Any]


@cache
def good_base() -> Path:
    """A tiny Llama with its tokenizer; `interp` loads it."""
    return save_base(workshop() / "base")


def _broken(loader: str, breaks: dict[str, Break]) -> list[Case]:
    def make(spoil: Break, folder: Path) -> str:
        where = copy_of(good_base(), folder)
        spoil(where)
        return str(where)

    return [
        Case(f"{loader}: {name}", loader, partial(make, spoil)) for name, spoil in breaks.items()
    ]


def _config(**changes: Any) -> Break:
    return lambda where: edit(where / "config.json", **changes)


def _tensors(spoil: Callable[[dict[str, torch.Tensor]], Any]) -> Break:
    return lambda where: with_tensors(where / WEIGHTS, spoil)


def _fill(value: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: tensors["model.layers.1.mlp.up_proj.weight"].fill_(value)


def _cast(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], Any]:
    name = "model.layers.0.self_attn.q_proj.weight"
    return lambda tensors: tensors.update({name: tensors[name].to(dtype)})


def _rename(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[f"transformer.{name}"] = tensors.pop(name)


def _only(suffix: str, content: bytes) -> Break:
    def spoil(where: Path) -> None:
        (where / WEIGHTS).unlink()
        put(where / f"pytorch_model{suffix}", content)

    return spoil


def _index(weight_map: Any, keep: bool = False) -> Break:
    def spoil(where: Path) -> None:
        if not keep:
            (where / WEIGHTS).rename(where / "model-00001-of-00001.safetensors")
        put(where / INDEX, json.dumps({"metadata": {}, "weight_map": weight_map}))

    return spoil


def _outside(name: str) -> Break:
    """A file of the folder is a link to one beside the folder."""

    def spoil(where: Path) -> None:
        (where / name).rename(where.parent / name)
        (where / name).symlink_to(where.parent / name)

    return spoil


def _archive(suffix: str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        good = copy_of(good_base(), folder)
        kind = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar"}[suffix]
        made = shutil.make_archive(str(folder / "model"), kind, good)
        shutil.rmtree(good)
        return made

    return make


def _adapter_in_it(where: Path) -> None:
    put(where / "adapter_config.json", json.dumps({"base_model_name_or_path": "/etc"}))


CONFIG: dict[str, Any] = {
    "layers-absurd": {"num_hidden_layers": 10**9},
    "layers-more-than-weights": {"num_hidden_layers": 300},
    "layers-one-more": {"num_hidden_layers": 4},
    "layers-fewer": {"num_hidden_layers": 2},
    "layers-negative": {"num_hidden_layers": -1},
    "layers-text": {"num_hidden_layers": "three"},
    "layers-null": {"num_hidden_layers": None},
    "layers-float": {"num_hidden_layers": 3.5},
    "vocabulary-absurd": {"vocab_size": 10**12},
    "vocabulary-of-ten-million": {"vocab_size": 10**7},
    "vocabulary-larger": {"vocab_size": 4096},
    "vocabulary-negative": {"vocab_size": -5},
    "width-of-a-million": {"hidden_size": 10**6, "head_dim": 16},
    "width-of-heads": {"head_dim": 10**6},
    "width-zero": {"hidden_size": 0},
    "width-other": {"hidden_size": 128},
    "width-list": {"hidden_size": [64]},
    "heads-zero": {"num_attention_heads": 0, "head_dim": None},
    "heads-three": {"num_attention_heads": 3, "head_dim": None},
    "labels-absurd": {"num_labels": 10**9},
    "experts-absurd": {"num_experts": 10**9},
    "model-unknown": {"model_type": "llama-of-tomorrow"},
    "model-other": {"model_type": "gpt2"},
    "model-encoder": {"model_type": "t5"},
    "model-number": {"model_type": 7},
    "model-path": {"model_type": "../../../etc/passwd"},
    "model-missing": {"model_type": None},
    "activation-unknown": {"hidden_act": "__import__('os')"},
    "rope-text": {"rope_parameters": "none"},
    "rope-unknown": {"rope_parameters": {"rope_type": "spiral"}},
    "dtype-unknown": {"dtype": "float7"},
    "code": {"auto_map": {"AutoModelForCausalLM": "code.Model"}},
    "code-elsewhere": {"auto_map": {"AutoConfig": "someone/else--code.Config"}},
    "code-nested": {"text_config": {"auto_map": {"AutoConfig": "code.Config"}}},
    "kernel": {"attn_implementation": "someone/kernels"},
    "kernel-with-function": {"_attn_implementation": "someone/kernels@main:run"},
    "quantised-unknown": {"quantization_config": {"quant_method": "magic"}},
    "quantised-list": {"quantization_config": [1, 2]},
    "control-characters": {"model_type": "\x1b[31mllama\x1b[0m\nerror: nothing"},
}

FOLDER: dict[str, Break] = {
    "pickled-bin": _only(".bin", b"\x80\x04K\x01."),
    "pickled-pt": _only(".pt", b"\x80\x04K\x02."),
    "weights-nan": _tensors(_fill(torch.nan)),
    "weights-infinite": _tensors(_fill(torch.inf)),
    "weights-integers": _tensors(_cast(torch.int64)),
    "weights-bytes": _tensors(_cast(torch.uint8)),
    "weights-booleans": _tensors(_cast(torch.bool)),
    "weights-complex": _tensors(_cast(torch.complex64)),
    "weights-eight-bit-floats": _tensors(_cast(torch.float8_e4m3fn)),
    "weights-other-names": _tensors(_rename),
    "weights-none": _tensors(dict.clear),
    "weights-one-lost": _tensors(lambda t: t.pop("model.norm.weight")),
    "weights-other-shape": _tensors(
        lambda t: t.update({"model.norm.weight": t["model.norm.weight"][:5]})
    ),
    "index-leaves": _index({"lm_head.weight": "../../other/model.safetensors"}),
    "index-absolute": _index({"lm_head.weight": "/etc/passwd"}),
    "index-absent": _index({"lm_head.weight": "model-00002-of-00002.safetensors"}),
    "index-pickled": _index({"lm_head.weight": "pytorch_model.bin"}),
    "index-numbers": _index({"lm_head.weight": 7}, keep=True),
    "index-list": _index(["model.safetensors"]),
    "index-empty": _index({}),
    "shard-without-index": lambda where: (where / WEIGHTS).rename(where / "part.safetensors"),
    "weights-outside": _outside(WEIGHTS),
    "config-outside": _outside("config.json"),
    "generation-code": lambda where: put(
        where / "generation_config.json", '{"auto_map": {"a": "b.C"}}'
    ),
    "generation-list": lambda where: put(where / "generation_config.json", "[]"),
    "adapter-in-it": _adapter_in_it,
    "empty-folder": lambda where: [path.unlink() for path in where.iterdir()],
}

TEMPLATES = {
    "raises": "{{ raise_exception('no \x1b[31mroles\nhere') }}",
    "divides-by-zero": "{{ 1 / 0 }}",
    "not-jinja": "{% for m in messages %}{{ m['content'] }}",
    "recursive": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "imports": "{% import 'os' as os %}{{ os.getcwd() }}",
    "hides-the-answer": "{% for m in messages %}{{ m['role'] }}{% endfor %}",
    "shouts": "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
}

TOKENIZER_CONFIG: dict[str, Any] = {
    "code": {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}},
    "code-list": {"auto_map": ["code.Tokenizer", None]},
    "template-number": {"chat_template": 5},
    "template-list": {
        "chat_template": [{"name": "default", "template": "a"}, {"name": "b", "template": "b"}]
    },
    "no-end-of-text": {"eos_token": None},
    "end-of-text-number": {"eos_token": 5},
    "end-of-text-object": {"eos_token": {"a": 1}},
    "padding-upwards": {"padding_side": "up"},
    "other-files": {"fast_tokenizer_files": ["../other/tokenizer.1.0.json"]},
    "other-files-number": {"fast_tokenizer_files": [5]},
    "added-tokens-text": {"added_tokens_decoder": "all"},
}


def _tokenizer_config(changes: dict[str, Any], where: Path) -> None:
    if "chat_template" in changes:
        (where / "chat_template.jinja").unlink()
    edit(where / "tokenizer_config.json", **changes)


def _tokenizer(change_it: Callable[[dict[str, Any]], Any]) -> Break:
    def spoil(where: Path) -> None:
        whole = json.loads((where / "tokenizer.json").read_text())
        change_it(whole)
        put(where / "tokenizer.json", json.dumps(whole))

    return spoil


TOKENIZER: dict[str, Break] = {
    "no-files": lambda where: [
        (where / f"tokenizer{end}").unlink() for end in (".json", "_config.json")
    ],
    "no-tokenizer-json": lambda where: (where / "tokenizer.json").unlink(),
    "no-config": lambda where: [
        path.unlink()
        for path in where.iterdir()
        if path.name not in ("tokenizer.json", "config.json")
    ],
    "prefix-long": _tokenizer(
        lambda t: t["model"].update(continuing_subword_prefix="x" * 10_000_000)
    ),
    "added-after-long": _tokenizer(lambda t: t.update(post_processor=["<s>"] * 10_000)),
    "model-number": _tokenizer(lambda t: t.update(model=3)),
    "model-unknown": _tokenizer(lambda t: t["model"].update(type="Magic")),
    "vocabulary-empty": _tokenizer(lambda t: t["model"].update(vocab={}, merges=[])),
    "vocabulary-text-ids": _tokenizer(lambda t: t["model"].update(vocab={"a": "one"})),
    "vocabulary-negative": _tokenizer(lambda t: t["model"].update(vocab={"a": -1})),
    "merges-unknown": _tokenizer(lambda t: t["model"].update(merges=[["never", "heard"]])),
    "added-token-no-id": _tokenizer(lambda t: t["added_tokens"][0].pop("id")),
    "version-unknown": _tokenizer(lambda t: t.update(version="99.0")),
    "decoder-unknown": _tokenizer(lambda t: t.update(decoder={"type": "Magic"})),
    "template-file-binary": lambda where: put(where / "chat_template.jinja", b"\xff\xfe\x00{{"),
    "template-file-folder": lambda where: _in_place(where / "chat_template.jinja", os.mkdir),
    "template-file-two-megabytes": lambda where: put(where / "chat_template.jinja", "a" * 2**21),
    "tokenizer-outside": _outside("tokenizer.json"),
    "config-outside": _outside("tokenizer_config.json"),
}


def _in_place(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def _template(text: str) -> Break:
    return lambda where: put(where / "chat_template.jinja", text)


def cases() -> list[Case]:
    base: dict[str, Break] = {f"config {n}": _config(**c) for n, c in CONFIG.items()}
    base["config no-model-type"] = lambda where: change(
        where / "config.json", ("model_type",), Gone
    )
    base |= FOLDER
    for name, spoil in NOT_JSON.items():
        base[f"config {name}"] = partial(_spoil_text, "config.json", spoil)
    for name, break_bytes in NOT_SAFETENSORS.items():
        base[f"weights {name}"] = partial(_spoil_bytes, WEIGHTS, break_bytes)
    for name, make in NOT_FILES.items():
        base[f"config {name}"] = lambda where, make=make: _in_place(where / "config.json", make)
        base[f"weights {name}"] = lambda where, make=make: _in_place(where / WEIGHTS, make)
    words: dict[str, Break] = {f"template {n}": _template(t) for n, t in TEMPLATES.items()}
    words |= {
        f"config {name}": partial(_tokenizer_config, changes)
        for name, changes in TOKENIZER_CONFIG.items()
    }
    words |= TOKENIZER
    for name in ("half", "field-twice", "nan", "deep-lists", "utf-16", "lone-surrogate", "null"):
        spoil = NOT_JSON[name]
        words[f"config {name}"] = partial(_spoil_text, "tokenizer_config.json", spoil)
        if name not in ("field-twice", "nan"):
            words[f"json {name}"] = partial(_spoil_text, "tokenizer.json", spoil)
    archives = [
        Case(f"base: archive {s}", "base", _archive(s)) for s in (".zip", ".tar", ".tar.gz")
    ]
    return [*_broken("base", base), *archives, *_broken("tokenizer", words)]


def _spoil_text(name: str, spoil: Callable[[str], bytes | str], where: Path) -> None:
    put(where / name, spoil((where / name).read_text()))


def _spoil_bytes(name: str, spoil: Callable[[bytes], bytes], where: Path) -> None:
    put(where / name, spoil((where / name).read_bytes()))
