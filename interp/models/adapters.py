"""Adapter folders: what is checked before any of their content is used.

An adapter may come from a stranger. Its config is read by PEFT's own classes, less what would open
or run something (`interp.models.adapter_config`), its weights only from safetensors; a pickled
adapter, an archive, or a link out of the folder is refused. PEFT warns where a checkpoint lacks
tensors of the adapter that it describes; here that is an error.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from peft import PeftConfig, PeftModelForCausalLM, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from interp.base.errors import AdapterError, said
from interp.base.files import kind_of, read_json, sha256, where_else
from interp.base.hub import is_hub_id, snapshot
from interp.base.tensor_files import read_safetensors
from interp.models.adapter_config import misfit, parse_adapter_config
from interp.models.folders import check_inside, check_is_folder
from interp.models.loading import Quantization

_CONFIG, _WEIGHTS, _PROVENANCE = "adapter_config.json", "adapter_model.safetensors", "interp.json"
_COMPANIONS = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
_FILES = (_CONFIG, _WEIGHTS, _PROVENANCE, *sorted(_COMPANIONS), "special_tokens_map.json")
_LARGEST_CONFIG = 16 * 2**20
_IN_BASE = "base_model.model."
# Parameters that PEFT keeps once for all layers, and lists at each: their absence says nothing.
_SHARED = ("vblora_vector_bank", ".tinylora_v.", ".unilora_theta_d.")
_SHOWN = 5
_WHOLE = ("indices", "frod_")  # whole numbers that kinds of adapters keep beside their weights
_log = logging.getLogger(__name__)


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
        kind: `LORA`, `LOHA`, `IA3`, ... in PEFT's words.
        config: the content of `adapter_config.json`.
        provenance: what `interp finetune` recorded in `interp.json`, or `None`.
        sha256: of the weight file.
        peft: the config as PEFT reads it.
        ignored: fields that are on and that PEFT does not know.
        companions: hashes of the tokenizer's files beside it, by name.
        name: of the folder, or the hub id.
    """

    path: Path
    kind: str
    config: dict[str, Any]
    provenance: dict[str, Any] | None
    sha256: str
    peft: PeftConfig = field(repr=False, compare=False)
    ignored: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    name: str = ""

    @property
    def rank(self) -> int | None:
        """Its rank `r`; `None` for a kind that has none."""
        return getattr(self.peft, "r", None) or None

    @property
    def title(self) -> str:
        """Kind and rank in words."""
        return f"{self.kind} of rank {self.rank}" if self.rank else self.kind

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

    @property
    def drawn(self) -> str | None:
        """How PEFT takes a random part out of the base, at each loading another; if it does."""
        how = str(getattr(self.peft, "init_lora_weights", None))
        return how if how.startswith("pissa_niter_") else None

    @property
    def saved(self) -> tuple[str, ...]:
        """Names of the modules that were trained whole; with one of two tied ones, the other."""
        names = tuple(getattr(self.peft, "modules_to_save", None) or ())
        tied = names and getattr(self.peft, "ensure_weight_tying", False)
        return (*names, "embed_tokens", "lm_head") if tied else names


def read_adapter(folder: str | Path) -> Adapter:
    """Check an adapter folder and describe it.

    Raises:
        AdapterError: no folder, no config, a kind that cannot be merged, pickled, truncated or
            non-finite weights.
    """
    return open_adapter(folder)[0]


def open_adapter(folder: str | Path) -> tuple[Adapter, dict[str, Tensor]]:
    """`read_adapter` together with the tensors; each of the folder's files is opened once.

    Raises:
        AdapterError: as `read_adapter` does.
    """
    path, name = Path(folder), Path(folder).name
    if kind_of(path) == "absent" and not path.is_symlink():
        if not is_hub_id(str(folder)):
            raise AdapterError(f"{folder}: no such adapter folder")
        path, name = snapshot(str(folder), _FILES, AdapterError), str(folder)
    check_is_folder(path, AdapterError)
    there = {one.name for one in path.iterdir()}
    if _CONFIG not in there:
        mend = where_else(path, _CONFIG) or "is this the folder that PEFT saved?"
        raise AdapterError(f"{path}: no {_CONFIG}; {mend}")
    raw = read_json(check_inside(path / _CONFIG, AdapterError), AdapterError, limit=_LARGEST_CONFIG)
    config, ignored = parse_adapter_config(raw, path / _CONFIG)
    if _WEIGHTS not in there:
        if pickled := sorted(name for name in there if name.endswith((".bin", ".pt"))):
            raise AdapterError(
                f"{path / pickled[0]}: pickled weights can run code and are refused; where you "
                "trust them, load the adapter with PEFT and save_pretrained(folder) it as "
                "safetensors"
            )
        others = sorted(name for name in there if name.endswith(".safetensors"))[:_SHOWN]
        held = f"; rename {' and '.join(others)}, joined to one file" if others else ""
        raise AdapterError(f"{path}: no {_WEIGHTS}{held or '; copy it here, too'}")
    tensors, digest = read_safetensors(check_inside(path / _WEIGHTS, AdapterError), AdapterError)
    _check_tensors(tensors, path / _WEIGHTS)
    where = path / _PROVENANCE
    recorded = _provenance(check_inside(where, AdapterError)) if _PROVENANCE in there else None
    if ignored:
        _log.warning("%s: PEFT does not know %s, and leaves it out", path, ", ".join(ignored))
    companions = tuple(
        f"{one} {sha256(check_inside(path / one, AdapterError))}"
        for one in sorted(there & _COMPANIONS)
        if kind_of(path / one) == "file"
    )
    kind = raw["peft_type"]
    made = Adapter(path, kind, raw, recorded, digest, config, ignored, companions, name)
    return made, tensors


def _provenance(path: Path) -> dict[str, Any]:
    """What `interp finetune` recorded."""
    recorded = read_json(path, AdapterError, limit=_LARGEST_CONFIG)
    try:
        _Provenance.model_validate(recorded)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        named = ".".join(map(str, first["loc"])) or "the file"
        raise AdapterError(
            f"{path}: {named}: {first['msg']}; delete the file to use the adapter without what "
            "was recorded of its training"
        ) from None
    found: dict[str, Any] = recorded
    return found


def attach(
    model: Any, adapter: Adapter, tensors: Mapping[str, Tensor] | None = None, draw: int = 0
) -> PeftModelForCausalLM:
    """`model` with the adapter's live layers injected, in place.

    Some kinds change the model's own weights, too (trained biases, PiSSA): hand in a copy where the
    base is needed afterwards. `.unload()` takes out the layers, not such changes.

    Args:
        model: a Hugging Face causal model.
        adapter: a checked adapter folder.
        tensors: its tensors, if they are at hand; else they are read again.
        draw: seed of what is drawn where an adapter does not hold it (`Adapter.drawn`).

    Raises:
        AdapterError: if the adapter was made for another base, or lacks tensors.
    """
    tensors = dict(open_adapter(adapter.path)[1] if tensors is None else tensors)
    for key in [key for key in tensors if ".modules_to_save." in key]:
        if key.replace(".modules_to_save", "") in tensors:  # saved twice, with the embeddings
            del tensors[key]
    _check_copies(model, adapter, tensors)
    try:
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(draw)
            live = PeftModelForCausalLM(model, copy.deepcopy(adapter.peft))
            done = set_peft_model_state_dict(live, tensors)
    except Exception as problem:  # wrong values raise every kind
        if wrong := misfit(adapter.config):
            raise AdapterError(
                f"{adapter.path / _CONFIG}: {wrong} is not of the type that PEFT reads there "
                f"({_reason(problem)}); write it as PEFT saves it"
            ) from None
        raise AdapterError(
            f"{adapter.path}: does not fit this base ({_reason(problem)}); use the base that the "
            f"adapter was trained on ({adapter.config.get('base_model_name_or_path')!r:.200}), and "
            "config and weights that belong together"
        ) from None
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING.get(adapter.peft.peft_type, "")
    lost = sorted(
        key
        for key in done.missing_keys
        if prefix in key and ".default" in key and not any(part in key for part in _SHARED)
    )
    unused = sorted(key.replace(".default", "") for key in done.unexpected_keys)
    if lost and unused:
        raise AdapterError(
            f"{adapter.path / _WEIGHTS}: {len(lost)} of the tensors that {_CONFIG} asks for are "
            f"not there by that name ({lost[0].replace('.default', '')}), and {len(unused)} have "
            f"names that fit nothing in this base ({unused[0]}); rename them as PEFT saves them, "
            "or use the base that the adapter was trained on"
        )
    if lost:
        raise AdapterError(
            f"{adapter.path / _WEIGHTS}: lacks {len(lost)} of the tensors that {_CONFIG} asks for "
            f"({lost[0].replace('.default', '')}); the adapter is incomplete, or was made for "
            "another base"
        )
    if unused:
        raise AdapterError(
            f"{adapter.path / _WEIGHTS}: {len(unused)} tensors have no place in this base "
            f"({unused[0]}); use the base that the adapter was trained on, or the {_CONFIG} that "
            "was saved with them"
        )
    return live.eval().requires_grad_(False)


def _reason(problem: Exception) -> str:
    """The line of an exception that says what is wrong; torch says which tensor below its first."""
    mismatch = next((x for x in str(problem).splitlines() if "size mismatch" in x), None)
    if mismatch:
        return mismatch.strip()[:300].rstrip(".")
    return f"no tensor {problem!s:.300}" if isinstance(problem, KeyError) else said(problem)


def embedding_copies(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Tensors in the file that are whole (un)embedding matrices, by the names they have in `model`.

    PEFT saves the embeddings along when they are adapted, or when the trainer resized them.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    found = {}
    for key in tensors:
        target = key.removeprefix(_IN_BASE).replace(".base_layer.", ".")
        if target.removesuffix(".weight") in names:
            found[target] = key
    return found


def _check_copies(model: Any, adapter: Adapter, tensors: Mapping[str, Tensor]) -> None:
    """Check that embeddings which come along without having been trained are the base's own.

    Raises:
        AdapterError: if such a copy differs from the base's tensor.
    """
    for target, key in embedding_copies(model, tensors).items():
        if target.removesuffix(".weight").endswith(adapter.saved):
            continue
        mine = model.get_parameter(target).detach().cpu().float()
        same = mine.shape == tensors[key].shape
        if not same or not torch.allclose(mine, tensors[key].float(), rtol=1e-2, atol=1e-3):
            raise AdapterError(
                f"{adapter.path / _WEIGHTS}: carries a {target} that is not this base's; use the "
                "base that the adapter was trained on"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence PEFT's warnings: their matter (lost tensors, tied weights) is decided here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    if not tensors:
        raise AdapterError(f"{path}: holds no tensors")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            if any(part in name for part in _WHOLE):
                continue
            kind = str(tensor.dtype).removeprefix("torch.")
            raise AdapterError(f"{path}: {name} is {kind}; weights are floating-point numbers")
        wide = tensor if tensor.element_size() > 1 else tensor.float()
        if not torch.isfinite(wide).all():
            raise AdapterError(f"{path}: {name} holds NaN or infinity; the training diverged")
