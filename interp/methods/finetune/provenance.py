"""What is stored beside an adapter so that a stranger can tell what it is: `interp.json`.

It holds no time and no machine's paths: the same run writes the same bytes. Hashes are SHA-256.
A local base is known by its folder's name and the hashes of its files, a hub base by id and commit;
`base_model_name_or_path` in `adapter_config.json` is that name or id, so a local base has to be
named again when the adapter is loaded.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp import __version__
from interp.base.files import sha256_text
from interp.methods.finetune.config import FinetuneConfig
from interp.methods.finetune.examples import Counts
from interp.methods.finetune.output import FORMAT
from interp.models import ChatFormat, LoadedBase
from interp.text.data import OpinionQA

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers")
_CURVE = 50


def describe(
    base: LoadedBase, trait: str, data: dict[str, Any], chat: ChatFormat, config: FinetuneConfig
) -> dict[str, Any]:
    """The record of a run before its result is known: everything that decides the result."""
    return {
        "format": FORMAT,
        "trait": trait,
        "supervise_eos": config.supervise_eos,
        "config": config.model_dump(mode="json"),
        "base": base_name(base.source),
        "base_identity": base.identity,
        "tokenizer": tokenizer_identity(base.tokenizer),
        "chat_template": chat.template,
        "chat_template_sha256": chat.template_sha256,
        "data": data,
    }


def of_data(data: OpinionQA, counts: Counts) -> dict[str, Any]:
    """What is recorded of the rows trained on."""
    return {
        "source": without_folders(data.source),
        "sha256": data.sha256,
        "rows_sha256": data.rows_sha256,
        "topics": len(data.topics),
        "cleaning": vars(data.cleaning).copy(),
        "encoding": counts.to_dict(),
    }


def versions() -> dict[str, str]:
    """Versions of this package and of those that decide what a training run gives."""
    return {"interp": __version__} | {name: version(name) for name in _PACKAGES}


def base_name(source: str) -> str:
    """A hub id as it is; of a local folder its name alone, since its place is one machine's."""
    path = Path(source)
    return path.resolve().name if path.exists() else source


def tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    """Hash of the tokenizer as it is in memory, that is of what `tokenizer.json` would hold."""
    special = {key: str(value) for key, value in sorted(tokenizer.special_tokens_map.items())}
    return {
        "sha256": sha256_text(tokenizer.backend_tokenizer.to_str()),
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "special_tokens": special,
    }


def loss_summary(losses: list[float]) -> dict[str, Any]:
    """First, last and least loss per step, and the curve as means over at most 50 stretches."""
    stretch = -(-len(losses) // _CURVE)
    parts = [losses[start : start + stretch] for start in range(0, len(losses), stretch)]
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "steps": len(losses),
        "first": losses[0],
        "last": losses[-1],
        "least": min(losses),
        "mean_of_last_tenth": sum(tail) / len(tail),
        "steps_per_point": stretch,
        "curve": [round(sum(part) / len(part), 6) for part in parts],
    }


def differences(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of the fields in which a stored record differs from that of a new run."""
    names = []
    for key, value in wanted.items():
        name, other = f"{prefix}{key}", found.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            names += differences(other, value, f"{name}.")
        elif other != value:
            names.append(name)
    return names


def without_folders(source: str) -> str:
    """A hub id as it is; of a local file its name alone, where its whole place is given."""
    return Path(source).name if Path(source).is_absolute() else source
