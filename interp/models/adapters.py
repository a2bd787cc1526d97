"""Adapter folders: what is checked before any of their content is used.

An adapter may come from a stranger. Its config is read against a schema, its weights only from
safetensors; a pickled adapter is refused. PEFT warns where a checkpoint lacks tensors of the
adapter it describes; here that is an error.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import PeftModel, get_peft_model_state_dict
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open

from interp.errors import AdapterError
from interp.files import read_json, sha256
from interp.models.loading import Quantization, check_safetensors

_CONFIG, _WEIGHTS, _PROVENANCE = "adapter_config.json", "adapter_model.safetensors", "interp.json"


class _AdapterConfig(BaseModel):
    """The fields of `adapter_config.json` that decide whether an adapter can be merged."""

    model_config = ConfigDict(extra="allow")

    peft_type: Literal["LORA", "LOHA", "LOKR"]
    task_type: Literal["CAUSAL_LM"] | None = None
    r: int = Field(gt=0, le=4096)
    auto_map: None = None
    layer_replication: None = None
    use_dora: bool = False
    use_rslora: bool = False


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
    if not path.is_dir():
        raise AdapterError(f"{folder}: no such adapter folder")
    if not (path / _CONFIG).is_file():
        raise AdapterError(f"{path}: no {_CONFIG}; is this the folder that PEFT saved?")
    raw = read_json(path / _CONFIG, AdapterError)
    try:
        config = _AdapterConfig.model_validate(raw)
    except ValidationError as problem:
        first = problem.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise AdapterError(
            f"{path / _CONFIG}: {field}: {first['msg']}; LoRA (also rsLoRA, DoRA), LoHa and LoKr "
            "adapters of causal models can be merged"
        ) from None
    weights = path / _WEIGHTS
    if not weights.is_file():
        pickled = [*path.glob("*.bin"), *path.glob("*.pt")]
        if pickled:
            raise AdapterError(
                f"{pickled[0]}: pickled weights can run code and are refused; where you trust "
                "them, load the adapter with PEFT and save_pretrained(folder) it as safetensors"
            )
        raise AdapterError(f"{path}: no {_WEIGHTS}")
    _check_weights(weights)
    provenance = path / _PROVENANCE
    recorded = read_json(provenance, AdapterError) if provenance.is_file() else None
    return Adapter(path, config.peft_type, config.r, raw, recorded, sha256(weights))


def attach(model: Any, adapter: Adapter) -> PeftModel:
    """`model` with the adapter's live layers injected (in place; `.unload()` takes them out).

    Raises:
        AdapterError: if the adapter was made for another base, or lacks tensors.
    """
    copies = _check_copies(model, adapter)
    try:
        with _quiet():
            tuned = PeftModel.from_pretrained(model, str(adapter.path), is_trainable=False)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as problem:
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


def _check_weights(path: Path) -> None:
    names = check_safetensors(path, AdapterError)
    if not names:
        raise AdapterError(f"{path}: holds no tensors")
    with safe_open(path, framework="pt") as file:
        for name in names:
            if not torch.isfinite(file.get_tensor(name)).all():
                raise AdapterError(f"{path}: {name} holds NaN or infinity; the training diverged")
