"""The model that a method starts from: a hooked base, its prompt format, its weights' identity."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.base.files import sha256_text
from interp.models import ChatFormat, ModelPair, hook, load_base, pad_id
from interp.models.tokens import Style


@dataclass(frozen=True, eq=False)
class HookedBase:
    """A hooked base model with what asking it needs.

    Attributes:
        model: the base.
        format: how questions become ids.
        base_sha256: of what says which weights these are; what was fitted on one base is refused
            on another.
    """

    model: TransformerBridge
    format: ChatFormat
    base_sha256: str

    @classmethod
    def of(cls, pair: ModelPair) -> "HookedBase":
        """The base of a pair (dequantised, if the adapter was trained on NF4)."""
        return cls(
            pair.base, pair.format, _identity_sha256(pair.identity, pair.merge_report.quantization)
        )

    @classmethod
    def load(
        cls,
        base: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        prompt_format: Style = "chat",
    ) -> "HookedBase":
        """Load a base without an adapter.

        Raises:
            ModelError, TokenizerError: it does not load.
        """
        loaded = load_base(base, device=device, dtype=dtype)
        form = ChatFormat.from_tokenizer(loaded.tokenizer, prompt_format)
        identity = _identity_sha256(loaded.identity, None)
        return cls(hook(loaded.model, loaded.tokenizer), form, identity)

    @property
    def tokenizer(self) -> Any:
        return self.format.tokenizer

    @property
    def pad_id(self) -> int:
        return pad_id(self.tokenizer)

    @property
    def device(self) -> torch.device:
        return self.model.original_model.device

    @property
    def context(self) -> int | None:
        """Largest number of positions, where the model has one."""
        return getattr(self.model.original_model.config, "max_position_embeddings", None)


def _identity_sha256(identity: dict[str, Any], quantization: str | None) -> str:
    """Hash of the weights' hashes (or hub id and commit); a folder's name does not count."""
    named = {key: value for key, value in identity.items() if key != "name"}
    return sha256_text(json.dumps([named, quantization], sort_keys=True))
