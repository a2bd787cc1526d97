"""Dictionaries as sae-lens stores them: a folder of `cfg.json` and `sae_weights.safetensors`.

Both forms of the config are read, that of sae-lens 6 (`metadata.hook_name`) and the one before
(`hook_name`, `hook_point`). What sae-lens would guess or leave out is refused here: an architecture
or activation function that is not computed, a normalisation whose constant lies in the training
data (`expected_average_only_in`, `covariance_whitening`: fold it with sae-lens, and save again),
one head of several, a scaling factor for fine-tuning. Shapes are compared with the config before
any weight is read. Memory: the file, and the weights as float32: 16,384 latents of a stream 2,304
wide are 300 MB.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open
from safetensors.torch import save

from interp.base.errors import DictionaryError
from interp.base.files import kind_of, read_json, write_bytes, write_text
from interp.base.hub import is_hub_id, snapshot
from interp.base.tensor_files import check_safetensors, read_safetensors
from interp.models.folders import check_inside, check_is_folder
from interp.traces.dictionaries.dictionary import ARCHITECTURES, Dictionary, DictionaryConfig

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_FORMAT = "6.54.0"
_LARGEST_CONFIG = 16 * 2**20
_NAME = r"^[\w.]{1,200}$"
_FLOATS = ("F64", "F32", "BF16", "F16")
_DTYPES = ("float64", "float32", "bfloat16", "float16")
_AT_RUN_TIME = ("none", "constant_norm_rescale", "layer_norm")
_RENAMED = {
    "hook_point": "hook_name", "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}  # fmt: skip


class _Place(BaseModel):
    """What is read of `metadata`."""

    model_config = ConfigDict(strict=True)

    hook_name: str | None = Field(default=None, pattern=_NAME)
    hook_name_out: str | None = Field(default=None, pattern=_NAME)
    hook_head_index: int | None = None
    hook_head_index_out: int | None = None
    model_name: str | None = None


class _Config(BaseModel):
    """What is read of `cfg.json`, in the form of sae-lens 6."""

    model_config = ConfigDict(strict=True)

    architecture: str
    d_in: int = Field(ge=1)
    d_sae: int = Field(ge=1)
    d_out: int | None = Field(default=None, ge=1)
    dtype: str = "float32"
    k: int = Field(default=100, ge=1)
    rescale_acts_by_decoder_norm: bool = False
    apply_b_dec_to_input: bool = True
    normalize_activations: str = "none"
    reshape_activations: str = "none"
    metadata: _Place = _Place()


def read_dictionary(source: str | Path, *, hook: str = "", hook_out: str = "") -> Dictionary:
    """Read a dictionary.

    Args:
        source: a folder, or on the hub `owner/name:folder` (`owner/name@revision:folder`), where
            the repository holds several; fetched into the hub's cache.
        hook: where it reads, by TransformerLens' name, in place of what the folder says.
        hook_out: the same of where a transcoder's output stands.

    Raises:
        DictionaryError: if there is no such folder, it holds no dictionary, or one of a kind that
            is not computed; if weights are missing, of other shapes than the config says, no
            floating-point numbers, or not finite; if nobody says where it reads.
    """
    path, name = _place(source)
    where = check_inside(path / CONFIG, DictionaryError)
    raw = read_json(where, DictionaryError, limit=_LARGEST_CONFIG)
    config = parse_config(raw, str(where), hook, hook_out)
    file = check_inside(path / WEIGHTS, DictionaryError)
    _check_shapes(file, config)
    tensors, digest = read_safetensors(file, DictionaryError)
    weights = {key: tensors[key].float() for key in config.shapes}
    for key, one in weights.items():
        if not bool(torch.isfinite(one).all()):
            raise DictionaryError(f"{file}: {key} holds NaN or infinity; the training diverged")
    factor = tensors.get("scaling_factor")
    if factor is not None and not torch.allclose(factor.float(), torch.ones(())):
        raise DictionaryError(
            f"{file}: scaling_factor, of fine-tuning, is not 1, and is not read; fold it into W_dec"
        )
    return Dictionary(config, weights, name, digest)


def save_dictionary(dictionary: Dictionary, folder: str | Path) -> Path:
    """Write a dictionary as sae-lens 6 does; the folder.

    Raises:
        OSError: naming the file that cannot be written.
    """
    folder, c = Path(folder), dictionary.config
    place = {"hook_name": c.hook, "model_name": c.model, "sae_lens_version": _FORMAT}
    facts: dict[str, Any] = {
        "architecture": c.architecture, "d_in": c.d_in, "d_sae": c.d_sae, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": c.centred, "normalize_activations": c.normalize,
        "reshape_activations": "hook_z" if c.hook.endswith("hook_z") else "none",
    }  # fmt: skip
    if c.architecture == "topk":
        facts |= {"k": c.k, "rescale_acts_by_decoder_norm": c.rescale}
    if dictionary.is_transcoder:
        facts |= {"d_out": c.d_out}
        place |= {"hook_name_out": c.hook_out}
    weights = {name: one.contiguous() for name, one in dictionary.weights.items()}
    write_bytes(folder / WEIGHTS, save(weights))
    write_text(folder / CONFIG, json.dumps(facts | {"metadata": place}, indent=2) + "\n")
    return folder


def _place(source: str | Path) -> tuple[Path, str]:
    """The checked folder, fetched where it is on the hub, and its name."""
    path, asked = Path(source), str(source)
    if kind_of(path) == "absent" and not path.is_symlink():
        repository, _, inside = asked.partition(":")
        inside = inside.strip("/")
        if not is_hub_id(repository) or ".." in Path(inside).parts:
            raise DictionaryError(
                f"{source}: no such folder, and not on the hub as owner/name:folder"
            )
        prefix = f"{inside}/" if inside else ""
        for files in ([CONFIG], [CONFIG, WEIGHTS]):  # a large file only for a config that is read
            root = snapshot(repository, [prefix + file for file in files], DictionaryError)
            path = root / inside
            check_is_there(path, asked)
            parse_config(read_json(path / CONFIG, DictionaryError, limit=_LARGEST_CONFIG), asked)
        return path, asked
    check_is_folder(path, DictionaryError)
    check_is_there(path, asked)
    return path, path.name


def check_is_there(path: Path, source: str) -> None:
    """Check that a folder has the config of a dictionary.

    Raises:
        DictionaryError: if it has not.
    """
    if kind_of(path / CONFIG) != "absent":
        return
    there = sorted(one.name for one in path.iterdir()) if kind_of(path) == "folder" else []
    stored = [name for name in there if name.endswith((".pt", ".bin", ".npz", ".pkl"))]
    if stored:
        raise DictionaryError(
            f"{source}: {stored[0]} is not read (it may run code, or needs a loader of its own); "
            "load it with sae-lens where you trust it, and save_model(folder)"
        )
    inner = [name for name in there if kind_of(path / name / CONFIG) == "file"]
    which = f"; its folders {', '.join(inner[:4])} have one: name one of them" if inner else ""
    raise DictionaryError(f"{source}: no {CONFIG}{which}")


def parse_config(raw: Any, where: str, hook: str = "", hook_out: str = "") -> DictionaryConfig:
    """The config of a dictionary, from the JSON of either form.

    Raises:
        DictionaryError: naming the field.
    """
    if not isinstance(raw, dict):
        raise DictionaryError(f"{where}: must be an object of fields, is a {type(raw).__name__}")
    try:
        c = _Config.model_validate(raw if _is_new(raw) else _renewed(raw, where))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        named = ".".join(map(str, first["loc"]))
        raise DictionaryError(f"{where}: {named}: {first['msg']}") from None

    def refuse(field: str, found: object, known: object) -> None:
        raise DictionaryError(f"{where}: {field}: {found!r:.60} is not read; {known}")

    if c.architecture not in ARCHITECTURES:
        refuse("architecture", c.architecture, f"{', '.join(ARCHITECTURES)} are")
    if c.dtype.removeprefix("torch.") not in _DTYPES:
        refuse("dtype", c.dtype, f"{', '.join(_DTYPES)} are")
    if c.normalize_activations not in _AT_RUN_TIME:
        refuse("normalize_activations", c.normalize_activations,
               "its constants come from training data: fold them into the weights with sae-lens "
               f"and save_model; {', '.join(_AT_RUN_TIME)} need none")  # fmt: skip
    if c.reshape_activations not in ("none", "hook_z"):
        refuse("reshape_activations", c.reshape_activations, "none and hook_z are")
    for field in ("hook_head_index", "hook_head_index_out"):
        if getattr(c.metadata, field) is not None:
            refuse(f"metadata.{field}", getattr(c.metadata, field), "one head of several is not")
    across = "transcoder" in c.architecture
    if across and c.apply_b_dec_to_input:
        refuse("apply_b_dec_to_input", True, "b_dec of a transcoder is of another place")
    if not across and c.d_out not in (None, c.d_in):
        refuse("d_out", c.d_out, f"an autoencoder writes what it reads, {c.d_in} wide")
    if across and c.d_out is None:
        raise DictionaryError(f"{where}: d_out: missing; a transcoder says how wide its output is")
    if c.architecture == "topk" and c.k > c.d_sae:
        refuse("k", c.k, f"there are {c.d_sae} latents")
    one = hook or c.metadata.hook_name or ""
    other = (hook_out or c.metadata.hook_name_out or "") if across else one
    if not one or not other:
        lacks = "hook_name" if not one else "hook_name_out"
        raise DictionaryError(
            f"{where}: metadata.{lacks}: missing; say where the dictionary belongs "
            "(hook=, hook_out=), such as blocks.6.hook_resid_post"
        )
    return DictionaryConfig(
        c.architecture, c.d_in, c.d_sae, c.d_out or c.d_in, one, other,
        c.k if c.architecture == "topk" else 0, c.rescale_acts_by_decoder_norm,
        c.apply_b_dec_to_input, c.normalize_activations, c.metadata.model_name or "",
    )  # fmt: skip


def _is_new(raw: Mapping[str, Any]) -> bool:
    """Whether a config is of sae-lens 6 or later."""
    inside = raw.get("metadata")
    said = raw.get("sae_lens_version")
    if not said and isinstance(inside, dict):
        said = inside.get("sae_lens_version")
    major = re.match(r"\d{1,9}", str(said))
    return major is not None and int(major[0]) >= 6


def _renewed(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A config from before sae-lens 6 in the new form."""
    old = {_RENAMED.get(name, name): value for name, value in raw.items()}
    known = {name: value for name, value in old.items() if name in _Config.model_fields}
    known["metadata"] = {n: old[n] for n in _Place.model_fields if n in old}
    known.setdefault("architecture", "standard")
    function = old.get("activation_fn") or "relu"
    if function not in ("relu", "topk"):
        raise DictionaryError(f"{where}: activation_fn: {function!r:.60} is not read; relu, topk")
    if function == "topk":
        given = old.get("activation_fn_kwargs")
        known |= {"architecture": "topk", "k": given.get("k") if isinstance(given, dict) else None}
    stated = known.get("normalize_activations")
    if stated is None or isinstance(stated, bool):
        known["normalize_activations"] = "expected_average_only_in" if stated else "none"
    return known


def _check_shapes(file: Path, config: DictionaryConfig) -> None:
    """Check names, types and shapes of the weights, of the file's header alone."""
    types = check_safetensors(file, DictionaryError)
    with safe_open(file, framework="pt") as opened:
        found = {name: tuple(opened.get_slice(name).get_shape()) for name in types}
    wanted = config.shapes
    for name in wanted:
        if name not in found:
            raise DictionaryError(
                f"{file}: lacks {name}, which a {config.architecture} dictionary has"
            )
        if found[name] != wanted[name]:
            raise DictionaryError(
                f"{file}: {name} has shape {list(found[name])}, and {CONFIG} says "
                f"{list(wanted[name])}; they do not belong together"
            )
        if types[name] not in _FLOATS:
            raise DictionaryError(f"{file}: {name} is {types[name]}; weights are floating point")
    if extra := sorted(set(found) - set(wanted) - {"scaling_factor"}):
        raise DictionaryError(
            f"{file}: {extra[0]} is no tensor of a {config.architecture} dictionary"
        )
