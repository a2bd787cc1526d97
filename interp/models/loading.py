"""Base models from a folder or the hub: safetensors only, complete, with a tokenizer that fits.

`from_pretrained` fills weights that a checkpoint lacks with random numbers and only warns; here
that is an error. Pickled weights are refused. A model's own code runs only if its repository is
named (`trust_remote_code="org/name"`), never by a plain yes.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from interp.base.errors import ModelError, OutOfMemoryError, TokenizerError, said
from interp.base.files import kind_of, read_json, sha256
from interp.base.hub import is_hub_id, snapshot, split_id
from interp.base.memory import ran_out
from interp.models.dequantise import dequantise
from interp.models.folders import (
    SMALL,
    Packed,
    allows_code,
    check_folder,
    check_is_folder,
    check_tokenizer_folder,
    stored_as,
)
from interp.models.gguf import check_gguf, gguf_file
from interp.models.spreading import LESS, Device, check_room, numbers, spreading
from interp.models.tokens import bare
from interp.text.emoji.data import rgi

Quantization = Literal["nf4"]  # what adapters can be trained on and merged into
_log = logging.getLogger(__name__)
_PACKED = 16  # weights in one stored number, at most: 32 bits hold 16 of two
_OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedBase:
    """A base model as it was loaded.

    Attributes:
        model: the Hugging Face model in evaluation mode, without gradients.
        tokenizer: its tokenizer.
        source: folder or hub id it came from.
        identity: hashes (local folder) or commit (hub) that say which weights these are.
        quantization: what the weights are, or were before they were dequantised: `nf4`, `fp4`,
            `int8`, or `None`.
    """

    model: Any
    tokenizer: Any
    source: str
    identity: dict[str, Any]
    quantization: Packed | None


def resolve_device(device: torch.device | str | None) -> torch.device:
    """The device named, else CUDA where there is one, else the CPU.

    Raises:
        ModelError: if the device does not exist here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used here ({reason}); try cpu") from None
    if wanted.type == "meta":
        raise ModelError("device 'meta' keeps no numbers, only shapes; try cpu")
    return wanted


def resolve_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """The dtype named, else bfloat16 on CUDA and float32 elsewhere.

    Raises:
        ModelError: if it is none of float32, bfloat16, float16.
    """
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    known = _DTYPES.get(str(dtype).removeprefix("torch."))
    if known is None:
        raise ModelError(f"unknown dtype {dtype!r}; use one of {', '.join(_DTYPES)}")
    return known


def load_base(
    source: str | Path,
    *,
    device: Device = None,
    dtype: torch.dtype | str | None = None,
    quantization: Packed | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    offload_folder: str | Path | None = None,
    trust_remote_code: str | bool | None = None,
) -> LoadedBase:
    """Load a causal language model and its tokenizer.

    Args:
        source: a folder in Hugging Face format, a GGUF file or a folder with one, or a hub id such
            as `org/name` or `org/name@revision`. Weights that are stored quantised (bitsandbytes,
            GGUF) are dequantised, unless `quantization` asks for what they are stored as.
        device: where to put it; CUDA if there is one, else the CPU. `auto`, or a mapping from
            modules to devices, spreads it over several (see `interp.models.spreading`).
        dtype: of weights and arithmetic, of packed weights of arithmetic alone; bfloat16 on CUDA,
            else float32.
        quantization: keep the linear layers packed: bitsandbytes NF4 with double quantisation, or
            8-bit integers (Dettmers et al. 2022).
        max_memory: with `auto`, how much each device may take, say `{0: "20GiB", "cpu": "60GiB"}`.
        offload_folder: where weights go that fit nowhere; needed for `disk`.
        trust_remote_code: `source` again, if the code that its repository brings may run.

    Raises:
        ModelError: no such folder, no model in it, pickled, truncated, incomplete or non-finite
            weights, or code of its own that is not trusted by name; a device that does not exist.
        OutOfMemoryError: weights that do not fit.
        TokenizerError: no tokenizer, or one with more tokens than the model has embeddings.
    """
    spread = spreading(device, max_memory, offload_folder)
    where = resolve_device(None if isinstance(device, Mapping) or device == "auto" else device)
    kind = resolve_dtype(dtype, where)
    if quantization not in (None, "nf4", "int8"):
        raise ModelError(f"unknown quantization {quantization!r}; use nf4, int8 or none")
    path = check_folder(source, trust_remote_code)
    code = allows_code(source, trust_remote_code)
    stored = _stored(path)
    if stored and quantization not in (None, stored):
        raise ModelError(
            f"{source}: its weights are stored as {stored}, and {quantization} is asked for; leave "
            "quantization out"
        )
    if kind_of(path) == "folder" and not code:
        _check_declared(path)
    if not spread:
        count = numbers(path) if kind_of(path) == "folder" else check_gguf(path)
        check_room(path.name, count, kind, quantization, where)
    model = _load_model(path, where, kind, quantization, code, spread, stored)
    tokenizer = load_tokenizer(path, str(path) if code else None)
    check_vocabulary(tokenizer, model, source)
    return LoadedBase(model, tokenizer, str(source), identity(source, path), quantization or stored)


def load_tokenizer(source: str | Path, trust_remote_code: str | bool | None = None) -> Any:
    """The tokenizer of a model folder or hub id.

    Args:
        source: the folder, GGUF file or hub id.
        trust_remote_code: `source` again, if the code that its repository brings may run.

    Raises:
        TokenizerError: if there is none, or it cannot be read.
    """
    path, code = Path(source), allows_code(source, trust_remote_code)
    if kind_of(path) == "absent":
        if not is_hub_id(str(source)):
            raise TokenizerError(f"{source}: no such folder, and not a hub id of the form org/name")
        path = snapshot(str(source), SMALL, TokenizerError)
    elif (packed := gguf_file(path)) is not None:
        check_gguf(packed)
        path = packed
    else:
        check_is_folder(path, TokenizerError)
    check_tokenizer_folder(path, str(path) if code else None)
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(**_place(path), trust_remote_code=code)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:  # every backend raises its own kind, Rust's panics among them
        raise TokenizerError(
            f"{source}: no usable tokenizer ({said(problem)}); "
            "put tokenizer.json and tokenizer_config.json beside the weights"
        ) from None
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest > 0:
        raise TokenizerError(
            f"{source}: tokenizer_config.json: model_max_length: {longest!r:.60} is no number of "
            "tokens; write one, or leave it out"
        )
    if not tokenizer.is_fast:
        raise TokenizerError(f"{source}: needs a fast tokenizer (tokenizer.json)")
    if len(tokenizer.get_vocab()) <= len(tokenizer.get_added_vocab()):
        raise TokenizerError(f"{source}: the tokenizer has no tokens; copy tokenizer.json again")
    fit_tokenizer(tokenizer)
    return tokenizer


def fit_tokenizer(tokenizer: Any) -> None:
    """Take out of a tokenizer, in place, what makes ids depend on chance or on earlier calls.

    Raises:
        TokenizerError: if it takes emojis away.
    """
    inner = tokenizer.backend_tokenizer
    inner.no_padding()
    inner.no_truncation()
    if getattr(inner.model, "dropout", None):
        _log.warning("%s: its BPE dropout is off here", tokenizer.name_or_path)
        inner.model.dropout = None
    if lost := _lost_emojis(tokenizer):
        raise TokenizerError(
            f"{tokenizer.name_or_path}: loses emojis ({' '.join(lost[:5])}): its normalizer or its "
            "decoder takes them away; take that out of tokenizer.json"
        )


_JOINER = "\u200d"


def _lost_emojis(tokenizer: Any) -> list[str]:
    """Emojis that are not in what a tokenizer makes of them, other than for want of a token."""
    rewrite = tokenizer.backend_tokenizer.normalizer
    inner, unknown = tokenizer.backend_tokenizer, tokenizer.unk_token_id
    every = [one for one in rgi() if len(one) < 3 or one[1] == _JOINER]
    made = [one.ids for one in inner.encode_batch(every, add_special_tokens=False)]
    texts = inner.decode_batch(made, skip_special_tokens=False)
    return [
        one
        for one, ids, text in zip(every, made, texts, strict=True)
        if (rewrite and bare(one) not in bare(rewrite.normalize_str(one)))
        or (ids and unknown not in ids and bare(one) not in bare(text))
    ]


def identity(source: str | Path, path: Path) -> dict[str, Any]:
    """Hashes of a folder's or a GGUF file's content; of a hub id the commit that `path` holds."""
    if kind_of(source) == "absent":
        return {"hub_id": split_id(str(source))[0], "commit": path.name}
    return folder_identity(path)


def folder_identity(folder: Path) -> dict[str, Any]:
    """SHA-256 of the config, the tokenizer and every weight file of a model folder."""
    if kind_of(folder) == "file":
        return {"name": folder.name, "sha256": {folder.name: sha256(folder)}}
    names = ["config.json", "tokenizer.json", *sorted(p.name for p in folder.glob("*.safetensors"))]
    return {
        "name": folder.name,
        "sha256": {name: sha256(folder / name) for name in names if (folder / name).is_file()},
    }


def _place(path: Path) -> dict[str, Any]:
    """What `from_pretrained` is told of a folder or a GGUF file."""
    if kind_of(path) == "file":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(path)}


def _stored(path: Path) -> Packed | None:
    """What a checked folder's weights are stored as."""
    where = path / "config.json"
    return stored_as(read_json(where, ModelError), str(where)) if kind_of(path) != "file" else None


def _load_model(
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Packed | None,
    code: bool,
    spread: dict[str, Any],
    stored: Packed | None,
) -> Any:
    source = str(path)
    extra: dict[str, Any] = {}
    if quantization is not None and stored is None:
        eight = BitsAndBytesConfig(load_in_8bit=True)
        extra["quantization_config"] = nf4_config(dtype) if quantization == "nf4" else eight
    if quantization or stored:
        extra["device_map"] = {"": device}
    extra |= spread
    try:
        with _quiet():
            model, report = AutoModelForCausalLM.from_pretrained(
                **_place(path),
                dtype=dtype,
                use_safetensors=kind_of(path) == "folder" or None,
                trust_remote_code=code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
                **extra,
            )
    except Exception as problem:  # a config's wrong values raise every kind
        if ran_out(problem):
            raise OutOfMemoryError(
                f"{source}: loading its weights ran out of memory on {device}; {LESS}"
            ) from None
        raise ModelError(
            f"{source}: cannot be loaded as a causal language model ({said(problem)})"
        ) from None
    lost = sorted(report["missing_keys"]) + [str(key[0]) for key in report["mismatched_keys"]]
    if lost:
        raise ModelError(
            f"{source}: the weights lack or misshape {len(lost)} tensors ({', '.join(lost[:3])}); "
            "they would be random numbers. Is config.json of this model?"
        )
    _check_left_over(report["unexpected_keys"], model, source)
    for name, usual in _OUTPUTS.items():
        setattr(model.config, name, usual)
    if stored and quantization is None:
        model = dequantise(model, dtype)
    _check_finite(model, source)
    if quantization is not None:
        _keep_quantised_layout(model, dtype)
    elif not spread:
        model = model.to(device)
    return model.eval().requires_grad_(False)


def _check_declared(folder: Path) -> None:
    """Refuse a config of a far larger model than the weights: the rest would be made up in memory.

    The model is built without memory first; a smaller difference is named when it is loaded.
    """
    try:
        with _quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # whatever it is, loading says it
        return
    stored = numbers(folder)
    held = stored * _PACKED if getattr(config, "quantization_config", None) else stored
    declared = sum(parameter.numel() for parameter in model.parameters())
    if declared > 2 * held:
        raise ModelError(
            f"{folder}: config.json describes a model of {declared:.3g} numbers, the weights hold "
            f"{held:.3g}. Is config.json of this model?"
        )


def _check_left_over(unused: Iterable[str], model: Any, source: str) -> None:
    """Refuse a config with fewer layers than the weights have; other tensors may be left over."""
    digits = re.compile(r"\d+")
    kinds = {digits.sub("#", name) for name in model.state_dict()}
    if extra := sorted(name for name in unused if digits.sub("#", name) in kinds):
        raise ModelError(
            f"{source}: {len(extra)} tensors have no place in the model that config.json describes "
            f"({extra[0]}). Is config.json of this model?"
        )


def _check_finite(model: Any, source: str) -> None:
    for name, tensor in model.named_parameters():
        if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.is_meta:
            continue
        low, high = torch.aminmax(tensor.detach())  # NaN where any value is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise ModelError(f"{source}: {name} holds NaN or infinity; copy the weights again")


def _keep_quantised_layout(model: Any, dtype: torch.dtype) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in place, and let all compute in `dtype`.

    On CPUs with AVX512-BF16 the first inference changes the layout of the packed weights and
    computes in bfloat16; dequantising them afterwards reads noise, without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype, module.compute_type_is_set = dtype, True
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's quantisation (Dettmers et al. 2023): NF4 with double quantisation."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def check_vocabulary(tokenizer: Any, model: Any, source: str | Path) -> None:
    """Check that a model has an embedding for each of a tokenizer's ids.

    Raises:
        TokenizerError: if it has not.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = {id: token for token, id in tokenizer.get_vocab().items() if id >= rows}
    if beyond:
        first, largest = min(beyond), max(beyond)
        raise TokenizerError(
            f"{source}: the tokenizer's largest id is {largest}, the model has {rows} embeddings: "
            f"{len(beyond)} tokens from {beyond[first]!r:.40} on have none. Either they were added "
            "without resizing the embeddings: take them out; or this tokenizer belongs to another "
            "model: give that one's"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the libraries say while a model loads.

    transformers reports missing weights as a warning (here an error), draws a progress bar per
    file, and advises on sharding.
    """
    names = ("transformers.modeling_utils", "transformers.integrations")
    before = {name: logging.getLogger(name).level for name in names}
    bar = transformers_logging.is_progress_bar_enabled()
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        if bar:
            transformers_logging.enable_progress_bar()
