"""What is checked of a model folder before a library opens it.

A folder may come from a stranger. Weights are read from safetensors only; configs are read as
strict JSON; code of the model's own (`auto_map`, kernels from the hub) is refused unless the
repository it comes from is named; no file may be a link that leads out of the folder, but into the
blobs of the same repository in the hub's cache; declared sizes must be borne out by the weights.
A hub id is fetched into that cache, and is then such a folder.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from interp.base.errors import InputError, ModelError, TokenizerError
from interp.base.files import kind_of, read_bytes, read_json
from interp.base.hub import is_hub_id, snapshot, split_id
from interp.base.tensor_files import check_safetensors
from interp.models.gguf import check_gguf, gguf_file

Packed = Literal["nf4", "fp4", "int8"]  # what a base can be stored or loaded as
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_INDEX = "model.safetensors.index.json"
_FLOATS = ("F32", "BF16", "F16", "F64")
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_LARGEST = 2**31
_MOST_LABELS = 100_000
LARGEST_TEMPLATE = 2**20
_MOST_TOKENS, _MOST_ADDED = 600_000, 50_000
_LONGEST_AFTER, _LONGEST_AFFIX = 2**14, 100  # characters
_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_BITS = {"load_in_4bit", "load_in_8bit"}
SMALL = ("*.json", "*.jinja", "*.model", "*.txt")  # of a hub repository
_CODE = ("*.py",)


def allows_code(source: str | Path, trusted: str | bool | None) -> bool:
    """Whether the code of `source` may run: only if `trusted` is its name.

    Raises:
        ModelError: if `trusted` is a plain yes, or names something else.
    """
    if trusted is None or trusted is False:
        return False
    if not isinstance(trusted, str):
        raise ModelError(
            f"trust_remote_code=True would hold for whatever is loaded: name the repository whose "
            f"code may run, trust_remote_code={str(source)!r}"
        )
    if trusted.rstrip("/") not in (str(source).rstrip("/"), split_id(str(source))[0]):
        raise ModelError(
            f"trust_remote_code names {trusted}, but {source} is loaded; code runs only from the "
            "repository that is named"
        )
    return True


def check_folder(source: str | Path, trusted: str | bool | None = None) -> Path:
    """`source` as a checked model folder, or as a checked GGUF file.

    Args:
        source: a folder, a GGUF file, or a hub id (`org/name`, `org/name@revision`), which is
            fetched; the config is checked before the weights are.
        trusted: `source` again, if its own code may run.

    Raises:
        ModelError: if it holds no loadable model.
    """
    code, path = allows_code(source, trusted), Path(source)
    if kind_of(path) == "absent" and not path.is_symlink():
        if not is_hub_id(str(source)):
            raise ModelError(f"{source}: no such folder, and not a hub id of the form org/name")
        path = snapshot(str(source), SMALL, ModelError)
        _check_configs(path, trusted, code)
        wanted = (*SMALL, "*.safetensors", *(_CODE if code else ()))
        path = snapshot(str(source), wanted, ModelError)
    if (packed := gguf_file(path)) is not None:
        check_gguf(check_inside(packed, ModelError))
        return packed
    check_is_folder(path, ModelError)
    if (path / "adapter_config.json").exists():
        raise ModelError(f"{path}: holds an adapter (adapter_config.json); name its base instead")
    config = _check_configs(path, trusted, code)
    where = str(path / "config.json")
    _check_sizes(config, where, _check_weights(path, stored_as(config, where) is not None))
    return path


def _check_configs(path: Path, trusted: str | bool | None, code: bool) -> dict[str, Any]:
    """The model's config; that and the settings of generation are checked."""
    where = check_inside(path / "config.json", ModelError)
    config = read_json(where, ModelError)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{where}: is no model's config (field model_type missing)")
    _check_config(config, str(where), trusted, code)
    generation = check_inside(path / "generation_config.json", ModelError)
    if generation.exists():
        _check_config(_object(generation, ModelError), str(generation), trusted, code)
    stored_as(config, str(where))
    return config


def check_tokenizer_folder(source: str | Path, trusted: str | bool | None = None) -> None:
    """Check the tokenizer's files in a folder.

    Raises:
        TokenizerError: if one is no JSON object, asks for code or files from elsewhere.
    """
    code, path = allows_code(source, trusted), Path(source)
    if kind_of(path) != "folder":
        return
    for name in _TOKENIZER:
        where = check_inside(path / name, TokenizerError)
        if where.exists():
            config = _object(where, TokenizerError)
            _check_code(config, str(where), trusted, code, TokenizerError)
            for other in config.get("fast_tokenizer_files") or []:
                if not isinstance(other, str) or Path(other).name != other:
                    raise TokenizerError(f"{where}: fast_tokenizer_files names {other!r}, refused")
    for name in ("tokenizer.model", "vocab.json", "merges.txt"):
        check_inside(path / name, TokenizerError)
    where = check_inside(path / "tokenizer.json", TokenizerError)
    if where.exists():
        _check_vocab(_object(where, TokenizerError), where)
    for template in (path / "chat_template.jinja", *path.glob("additional_chat_templates/*.jinja")):
        if check_inside(template, TokenizerError).exists():
            content = read_bytes(template, TokenizerError, limit=LARGEST_TEMPLATE)
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as problem:
                raise TokenizerError(f"{template}: no UTF-8 ({problem}); save it so") from None


def _check_vocab(whole: dict[str, Any], where: Path) -> None:
    """Refuse what no tokenizer needs, and the library would take minutes and gigabytes for."""
    model, after = whole.get("model"), json.dumps(whole.get("post_processor"))
    parts = model if isinstance(model, dict) else {}
    sizes = {
        "model.vocab": _size(parts.get("vocab")),
        "added_tokens": _size(whole.get("added_tokens")),
    }
    for name, count in sizes.items():
        if count > (_MOST_TOKENS if name == "model.vocab" else _MOST_ADDED):
            raise TokenizerError(f"{where}: {name} has {count:,} entries; no tokenizer has as many")
    affixes = (parts.get("continuing_subword_prefix"), parts.get("end_of_word_suffix"))
    if len(after) > _LONGEST_AFTER or any(_size(one) > _LONGEST_AFFIX for one in affixes):
        raise TokenizerError(
            f"{where}: what it puts before, after or between tokens is absurdly long (in "
            "post_processor, or in model's prefix or suffix); download it again"
        )


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list | str) else 0


def check_is_folder(path: Path, error: type[InputError]) -> None:
    """Check that `path` is a folder.

    Raises:
        InputError: (the subclass given as `error`) if it is an archive or another file.
    """
    if kind_of(path) == "folder":
        return
    if path.suffix.lower() in _ARCHIVES:
        raise error(f"{path}: is an archive; archives are not unpacked here: unpack it first")
    what = "is a file" if kind_of(path) == "file" else "is no folder"
    raise error(f"{path}: {what}; name the folder with the config and the weights")


def check_inside(path: Path, error: type[InputError]) -> Path:
    """`path` itself, checked not to lead out of its folder.

    The hub's cache keeps a repository's files in `blobs` beside `snapshots`, and links to them.

    Raises:
        InputError: (the subclass given as `error`) if it is a link to somewhere else.
    """
    if not path.is_symlink():
        return path
    try:
        folder, target = path.parent.resolve(), path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise error(f"{path}: is a link that leads nowhere; copy the file here") from None
    commits = [one for one in (folder, *folder.parents) if one.parent.name == "snapshots"]
    cached = commits[0].parent.parent / "blobs" if commits else folder
    if target.is_relative_to(folder) or target.is_relative_to(cached):
        return path
    raise error(f"{path}: is a link out of its folder (to {target}); copy the file here")


def _object(path: Path, error: type[InputError]) -> dict[str, Any]:
    found = read_json(path, error)
    if not isinstance(found, dict):
        raise error(f"{path}: must be an object of fields, is a {type(found).__name__}")
    return found


def _check_config(
    config: dict[str, Any], where: str, trusted: str | bool | None, code: bool
) -> None:
    """Refuse code of the model's own, and kernels that would be downloaded and run."""
    _check_code(config, where, trusted, code, ModelError)
    for name, value in _fields(config):
        if "implementation" in name and isinstance(value, str) and not value.isidentifier():
            raise ModelError(f"{where}: {name} names code to download ({value}); refused")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ModelError(f"{where}: {name} is {value:.3g}; no model is that large")
        if name == "eos_token_id" and not _are_ids(value):
            raise ModelError(f"{where}: eos_token_id: {value!r:.60} is no token's id, nor a list")
        if name in ("dtype", "torch_dtype") and not _is_dtype(value):
            raise ModelError(f"{where}: {name}: {value!r:.60} is no type of torch's numbers")
    if config.get("is_encoder_decoder"):
        raise ModelError(f"{where}: is_encoder_decoder: only decoder-only models are traced")


def _are_ids(value: Any) -> bool:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    return all(isinstance(one, int) and not isinstance(one, bool) for one in ids)


def _is_dtype(value: Any) -> bool:
    """Whether a text names a type of numbers; other values name none."""
    if not isinstance(value, str) or value == "auto":
        return True
    return isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype)


def _check_code(
    config: dict[str, Any],
    where: str,
    trusted: str | bool | None,
    code: bool,
    error: type[InputError],
) -> None:
    """Refuse code of the repository's own, unless it is trusted, and other repositories' code."""
    for name, asked in _fields(config):
        if name != "auto_map" or not asked:
            continue
        if not code:
            raise error(
                f"{where}: auto_map asks to run the model's own code; refused. If you trust it, "
                "name the repository: trust_remote_code=ORG/NAME (--trust-remote-code)"
            )
        others = [text for text in _texts(asked) if "--" in text]
        if strange := [text for text in others if text.partition("--")[0] != trusted]:
            raise error(f"{where}: auto_map asks to run {strange[0]}, but {trusted} was named")


def stored_as(config: Mapping[str, Any], where: str) -> Packed | None:
    """What the weights are stored quantised as, by bitsandbytes; `None` if they are not.

    Raises:
        ModelError: if they are, by any other method.
    """
    settings = config.get("quantization_config")
    if not settings:
        return None
    asked = settings if isinstance(settings, dict) else {}
    method = asked.get("quant_method", "bitsandbytes" if _BITS & set(asked) else settings)
    if method == "gguf":  # transformers unpacked it: what a folder holds is dense
        return None
    if method == "bitsandbytes" and asked.get("load_in_8bit"):
        return "int8"
    kind = asked.get("bnb_4bit_quant_type", "fp4")
    if method == "bitsandbytes" and asked.get("load_in_4bit") and kind in ("nf4", "fp4"):
        return kind
    raise ModelError(
        f"{where}: quantization_config: weights stored by {method!r:.60} are not read here; give "
        "the unquantised model, or one stored by bitsandbytes (nf4, fp4, int8) or as GGUF"
    )


def _check_sizes(config: dict[str, Any], where: str, n_tensors: int) -> None:
    """Refuse layers and experts that the weights cannot hold: they would be built one by one."""
    for name, value in _fields(config):
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if ("layer" in name or "expert" in name) and value > max(n_tensors, 256):
            raise ModelError(
                f"{where}: {name} is {value}, but the weights hold {n_tensors} tensors in all; is "
                "it the config of this model?"
            )
        if name in _DEPTHS and value < 1:
            raise ModelError(f"{where}: {name} is {value}; a model has at least one layer")
        if name == "num_labels" and value > _MOST_LABELS:
            raise ModelError(f"{where}: num_labels is {value}, above {_MOST_LABELS}")


def _check_weights(path: Path, quantised: bool) -> int:
    """Check the weight files; how many tensors they hold."""
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        pickled = sorted(path.glob("*.bin")) + sorted(path.glob("*.pt"))
        if pickled:
            raise ModelError(
                f"{pickled[0]}: pickled weights can run code and are refused; convert them with "
                "model.save_pretrained(folder, safe_serialization=True) where you trust them"
            )
        raise ModelError(f"{path}: no weights (model.safetensors) in this folder")
    count, packed = 0, False
    for file in weights:
        types = check_safetensors(check_inside(file, ModelError), ModelError)
        count += len(types)
        packed |= bool({"U8", "I8"} & set(types.values()))
        for name, dtype in types.items():
            if name.endswith(".weight") and dtype not in _FLOATS and not quantised:
                raise ModelError(f"{file}: {name} is {dtype}; weights are {', '.join(_FLOATS)}")
    if quantised and not packed:
        raise ModelError(
            f"{path / 'config.json'}: quantization_config: the weights are not stored quantised; "
            "take the field out"
        )
    _check_index(check_inside(path / _INDEX, ModelError))
    return count


def _check_index(path: Path) -> None:
    """Check that the index of sharded weights names files of its own folder."""
    if not path.exists():
        return
    shards = _object(path, ModelError).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{path}: weight_map must say which file holds each tensor")
    for name in dict.fromkeys(map(str, shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{path}: weight_map names {name!r}, no safetensors file beside it")
        if not (path.parent / name).is_file():
            raise ModelError(f"{path}: weight_map names {name}, which is not there; download it")


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every field of an object and of those inside it."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
        if isinstance(one, dict | list):
            waiting.extend(one.values() if isinstance(one, dict) else one)


def _texts(value: Any) -> Iterator[str]:
    """Every text inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
