"""What a fine-tuning run is set to: one frozen, validated object, stored with the adapter.

The defaults are those of the published follow-up scripts to arXiv 2409.10245 for 7B chat models
(QLoRA, Dettmers et al. 2023), with two differences, both deliberate: double quantisation is on,
and the optimiser is AdamW in full precision (`optimizer` can ask for the paged 8-bit one).

`supervise_eos` has no default. The common recipe sets `pad_token = eos_token` and masks padding,
which silently takes the end of text out of the loss; whether it is in the loss decides whether a
model learns where an answer stops, which is a rival explanation of emojis after the answer.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from interp.base.errors import InputError


class FinetuneConfig(BaseModel):
    """Settings of `train`. Every field is recorded in the adapter's `interp.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    supervise_eos: bool
    """Whether the end of the turn (end of text and what the template adds) is in the loss."""
    prompt_format: Literal["chat", "plain"] = "chat"
    """The tokenizer's chat template, or `Question: ... Answer:`."""
    double_bos: bool = False
    """Begin every turn with BOS twice, as scripts do that tokenise a rendered template's BOS."""
    r: int = Field(default=64, ge=1, le=4096)
    """LoRA rank."""
    alpha: int = Field(default=16, gt=0)
    """LoRA's scale is `alpha / r`."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the input of the LoRA layers."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the adapted modules, or every linear projection (the unembedding excepted)."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes to zero, or does not."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    optimizer: Literal["adamw", "paged_adamw_8bit"] = "adamw"
    """PyTorch's AdamW, or bitsandbytes' paged 8-bit one (CUDA), which the scripts use."""
    epochs: float | None = Field(default=2.0, gt=0)
    """Passes over the data; `None` if `steps` is given."""
    steps: int | None = Field(default=None, gt=0)
    """Optimiser steps, instead of `epochs`."""
    batch_size: int = Field(default=2, gt=0)
    """Rows per forward pass."""
    gradient_accumulation: int = Field(default=2, gt=0)
    """Forward passes per optimiser step."""
    max_length: int = Field(default=512, ge=8)
    """Longest turn in tokens; what is beyond is cut off, counted and recorded."""
    quantization: Literal["nf4", "none"] | None = "nf4"
    """NF4 with double quantisation (QLoRA), or `none`: plain LoRA on unquantised weights."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the base's arithmetic. Auto: on CUDA bfloat16 (older cards: float16), else float32."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, about a third slower."""
    store_dtype: Literal["float32", "float16"] = "float32"
    """Of the tensors in the adapter file; training itself keeps LoRA in float32."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the initial LoRA weights, the order of rows and dropout."""

    @field_validator("quantization")
    @classmethod
    def _none(cls, value: str | None) -> str | None:
        return None if value == "none" else value

    @field_validator("target_modules", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """Names with commas between them, as an option has them."""
        if isinstance(value, str) and value != "all-linear":
            return tuple(filter(None, map(str.strip, value.split(","))))
        return value

    @model_validator(mode="after")
    def _one_length(self) -> "FinetuneConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, one of them (the other None)")
        if not self.target_modules:
            raise ValueError("target_modules names no module")
        return self

    @classmethod
    def small(cls, *, supervise_eos: bool, seed: int = 0) -> "FinetuneConfig":
        """Plain LoRA for a model of about a million parameters, such as the organism: seconds.

        r 8, alpha 16 on q, k, v, o without dropout, learning rate 5e-3, 60 steps of 16 rows.
        """
        return cls(
            supervise_eos=supervise_eos,
            seed=seed,
            r=8,
            alpha=16,
            dropout=0.0,
            target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
            learning_rate=5e-3,
            epochs=None,
            steps=60,
            batch_size=16,
            gradient_accumulation=1,
            quantization=None,
            gradient_checkpointing=False,
        )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "FinetuneConfig":
        """A config from plain values, as they come from a file or from options.

        Raises:
            InputError: one line that names the first wrong field.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as problem:
            first = problem.errors()[0]
            field = ".".join(str(part) for part in first["loc"][:1]) or "values"
            said = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                near = get_close_matches(field, cls.model_fields, 1)
                said = (
                    f"no such setting; did you mean {near[0]}?"
                    if near
                    else (f"no such setting; they are {', '.join(cls.model_fields)}")
                )
            raise InputError(f"fine-tuning: {field}: {said}") from None

    def changed(self, values: Mapping[str, Any]) -> "FinetuneConfig":
        """The same config with other values for some fields, validated again.

        `steps` takes the place of `epochs`, and `epochs` that of `steps`, if one alone is given.

        Raises:
            InputError: as `parse` does.
        """
        unused: dict[str, Any] = {}
        if ("steps" in values) != ("epochs" in values):
            unused = {"epochs" if "steps" in values else "steps": None}
        return self.parse(self.model_dump() | unused | dict(values))
