"""Adapter folders: what is checked before any of their content is used.

An adapter may come from a stranger. Its config is read against a schema
(`interp.models.adapter_config`), its weights only from safetensors; a pickled adapter, an archive,
or a link out of the folder is refused. PEFT warns where a checkpoint lacks tensors of the adapter
it describes; here that is an error.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from peft import PeftModel, get_peft_model_state_dict
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open

from interp.base.errors import AdapterError
from interp.base.files import kind_of, read_json, sha256
from interp.base.tensor_files import check_safetensors
from interp.models.adapter_config import AdapterConfig, parse_adapter_config
from interp.models.folders import check_inside, check_is_folder
from interp.models.guard import check_patterns
from interp.models.loading import Quantization

_CONFIG, _WEIGHTS, _PROVENANCE = "adapter_config.json", "adapter_model.safetensors", "interp.json"


_RANKED = (".lora_A.weight", ".lora_embedding_A", ".hada_w1_b", ".hada_w2_b")
_LARGEST_CONFIG = 16 * 2**20
_FLOATS = ("F32", "BF16", "F16", "F64")


class _Identity(BaseModel):
    model_config = ConfigDict(strict=True)

    sha256: dict[str, str] | None = None


class _Trained(BaseModel):
    model_config = ConfigDict(strict=True)

    quantization: str | None = None
    prompt_format: str | None = None


class _Provenance(BaseModel):
    """The fields of `interp.json` that are read back."""

    model_config = ConfigDict(strict=True)

    config: _Trained | None = None
    base: str | None = None
    base_identity: _Identity | None = None
    chat_template_sha256: str | None = None


@dataclass(frozen=True)
class Adapter:
    """A checked adapter folder.

    Attributes:
        path: the folder.
        kind: `LORA`, `LOHA` or `LOKR`.
        rank: its rank `r`.
        config: the content of `adapter_config.json`.
        provenance: what `interp finetune` recorded in `interp.json`, or `None`.
        sha256: of the weight file.
    """

    path: Path
    kind: str
    rank: int
    config: dict[str, Any]
    provenance: dict[str, Any] | None
    sha256: str

    @property
    def trained_on(self) -> Quantization | None:
        """Quantisation of the base during training, where it is known; `None` if unquantised.

        Raises:
            AdapterError: if it is recorded as something that cannot be merged.
        """
        recorded = ((self.provenance or {}).get("config") or {}).get("quantization")
        if recorded not in (None, *get_args(Quantization)):
            raise AdapterError(f"{self.path / _PROVENANCE}: quantization {recorded!r} is unknown")
        return recorded


def read_adapter(folder: str | Path) -> Adapter:
    """Check an adapter folder and describe it.

    Raises:
        AdapterError: no folder, no config, a kind that cannot be merged, pickled, truncated or
            non-finite weights.
    """
    path = Path(folder)
    if kind_of(path) == "absent":
        raise AdapterError(f"{folder}: no such adapter folder")
    check_is_folder(path, AdapterError)
    if not (path / _CONFIG).is_file():
        raise AdapterError(f"{path}: no {_CONFIG}; is this the folder that PEFT saved?")
    raw = read_json(check_inside(path / _CONFIG, AdapterError), AdapterError, limit=_LARGEST_CONFIG)
    config = parse_adapter_config(raw, path / _CONFIG)
    weights = path / _WEIGHTS
    if not weights.is_file():
        pickled = [*path.glob("*.bin"), *path.glob("*.pt")]
        if pickled:
            raise AdapterError(
                f"{pickled[0]}: pickled weights can run code and are refused; where you trust "
                "them, load the adapter with PEFT and save_pretrained(folder) it as safetensors"
            )
        raise AdapterError(f"{path}: no {_WEIGHTS}")
    _check_weights(check_inside(weights, AdapterError), config)
    recorded = _provenance(check_inside(path / _PROVENANCE, AdapterError))
    return Adapter(path, config.peft_type, config.r, raw, recorded, sha256(weights))


def _provenance(path: Path) -> dict[str, Any] | None:
    """What `interp finetune` recorded, if it did."""
    if not path.is_file():
        return None
    recorded = read_json(path, AdapterError, limit=_LARGEST_CONFIG)
    try:
        _Provenance.model_validate(recorded)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise AdapterError(
            f"{path}: {field}: {first['msg']}; delete the file to use the adapter without what "
            "was recorded of its training"
        ) from None
    found: dict[str, Any] = recorded
    return found


def attach(model: Any, adapter: Adapter) -> PeftModel:
    """`model` with the adapter's live layers injected (in place; `.unload()` takes them out).

    Raises:
        AdapterError: if the adapter was made for another base, or lacks tensors.
    """
    copies = _check_copies(model, adapter)
    config = parse_adapter_config(adapter.config, adapter.path / _CONFIG)
    names = [name for name, _ in model.named_modules()]
    check_patterns(config.patterns, names, str(adapter.path / _CONFIG))
    try:
        with _quiet():
            tuned = PeftModel.from_pretrained(
                model, str(adapter.path), is_trainable=False, config=config.for_peft()
            )
    except Exception as problem:  # wrong values raise every kind
        lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
        said = next((line for line in lines if "size mismatch" in line), lines[0] if lines else "")
        trained_on = adapter.config.get("base_model_name_or_path") or "not recorded"
        raise AdapterError(
            f"{adapter.path}: does not fit this base ({said[:300].rstrip('.')}); use the base that "
            f"the adapter was trained on ({trained_on})"
        ) from None
    with _quiet():
        # Asked to decide by itself, PEFT looks for the base's config on the hub.
        wanted = set(get_peft_model_state_dict(tuned, save_embedding_layers=False))
    held = set(check_safetensors(adapter.path / _WEIGHTS, AdapterError)) - copies
    if lost := sorted(wanted - held):
        raise AdapterError(
            f"{adapter.path / _WEIGHTS}: lacks {len(lost)} of the tensors that {_CONFIG} asks for "
            f"({lost[0]}); the adapter is incomplete, or was made for another base"
        )
    if unused := sorted(held - wanted):
        raise AdapterError(
            f"{adapter.path / _WEIGHTS}: {len(unused)} tensors have no place in this base "
            f"({unused[0]}); use the base that the adapter was trained on"
        )
    return tuned.eval().requires_grad_(False)


def _check_copies(model: Any, adapter: Adapter) -> set[str]:
    """Names of tensors in the file that are copies of the base's own weights.

    PEFT saves the embeddings along when they are adapted, and loads them back over the base's.

    Raises:
        AdapterError: if such a copy differs from the base's tensor.
    """
    path, copies = adapter.path / _WEIGHTS, set()
    own = dict(model.named_parameters(remove_duplicate=False))
    trained = tuple(adapter.config.get("modules_to_save") or ())
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            target = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            if target not in own or target.split(".")[-2] in trained:
                continue
            mine, copy = own[target].detach().cpu().float(), file.get_tensor(name).float()
            if mine.shape != copy.shape or not torch.allclose(mine, copy, rtol=1e-2, atol=1e-3):
                raise AdapterError(
                    f"{path}: carries a {target} that is not this base's; use the base that the "
                    "adapter was trained on, with its resized vocabulary if it had one"
                )
            copies.add(name)
    return copies


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence PEFT's warnings whose matter is decided here: missing tensors and tied weights.

    And transformers' that PEFT calls one of its properties by an old name.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found missing adapter keys")
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def _check_weights(path: Path, config: AdapterConfig) -> None:
    types = check_safetensors(path, AdapterError)
    if not types:
        raise AdapterError(f"{path}: holds no tensors")
    modules = [name.rsplit(".", 2)[0].removeprefix("base_model.model.") for name in types]
    check_patterns(config.patterns, modules, str(path.with_name(_CONFIG)))
    ranks = {config.r, *(config.rank_pattern or {}).values()}
    with safe_open(path, framework="pt") as file:
        for name, dtype in types.items():
            if dtype not in _FLOATS:
                raise AdapterError(f"{path}: {name} is {dtype}; weights are {', '.join(_FLOATS)}")
            tensor = file.get_tensor(name)
            if not torch.isfinite(tensor).all():
                raise AdapterError(f"{path}: {name} holds NaN or infinity; the training diverged")
            if name.endswith(_RANKED) and (tensor.ndim < 2 or len(tensor) not in ranks):
                raise AdapterError(
                    f"{path}: {name} has shape {list(tensor.shape)}, but {_CONFIG} says rank "
                    f"{', '.join(map(str, sorted(ranks)))}; the two files do not belong together"
                )
