"""`adapter_config.json`, field by field: the schema that an adapter's config is read against.

PEFT 0.21 is handed the fields that are checked here and never opens the file itself. Known are all
fields that it writes for LoRA, LoHa and LoKr (a test compares the list with PEFT's own). Refused
are those that would change the base (PiSSA, OLoRA, LoftQ and others begin by rewriting its
weights, layer replication rebuilds it), run or open something (`auto_map`, Megatron, CorDA's
caches), or cannot be merged into it (aLoRA, trained biases, trained token rows). A field of
another PEFT version is let through while it is off (null, false, empty), else refused by name.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from interp.base.errors import AdapterError

LARGEST_RANK = 4096
_MERGEABLE = "LoRA (also rsLoRA, DoRA), LoHa and LoKr adapters of causal models can be merged"
_OFF: tuple[Any, ...] = (None, False, "", [], {})

_Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK)]
_Alpha = Annotated[float, Field(ge=0, le=16 * LARGEST_RANK, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Name = Annotated[str, Field(max_length=2000)]
_Names = Annotated[list[_Name], Field(max_length=100_000)]
_Layers = list[Annotated[int, Field(ge=0, le=100_000)]] | Annotated[int, Field(ge=0, le=100_000)]


class _AutoMapping(BaseModel):
    """What PEFT notes of a model without a task; a label, never looked up here."""

    model_config = ConfigDict(extra="forbid", strict=True)

    base_model_class: _Name | None = None
    parent_library: _Name | None = None


class AdapterConfig(BaseModel):
    """The fields that all three kinds share."""

    model_config = ConfigDict(extra="forbid", strict=True)

    peft_type: Literal["LORA", "LOHA", "LOKR"]
    task_type: Literal["CAUSAL_LM"] | None = None
    auto_mapping: _AutoMapping | None = None
    peft_version: _Name | None = None
    base_model_name_or_path: _Name | None = None  # a label: nothing is opened there
    revision: _Name | None = None
    inference_mode: bool = False
    r: _Rank
    target_modules: _Name | _Names | None = None
    exclude_modules: _Name | _Names | None = None
    layers_to_transform: _Layers | None = None
    layers_pattern: _Name | _Names | None = None
    modules_to_save: _Names | None = None
    rank_pattern: dict[_Name, _Rank] | None = None
    alpha_pattern: dict[_Name, _Alpha] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_unknown(cls, given: Any) -> Any:
        """Fields of other PEFT versions, left out where they are off."""
        if not isinstance(given, dict):
            return given
        known = cls.model_fields
        return {name: value for name, value in given.items() if name in known or value not in _OFF}

    @property
    def patterns(self) -> Iterator[str]:
        """What PEFT compiles as regular expressions."""
        for one in (self.target_modules, self.exclude_modules):
            if isinstance(one, str):
                yield one
        several = (self.layers_pattern, self.modules_to_save, self.rank_pattern, self.alpha_pattern)
        for some in several:
            yield from [some] if isinstance(some, str) else some or ()

    def for_peft(self) -> Any:
        """The same as one of PEFT's own configs, with labels and settings of training left out."""
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        given = self.model_dump(exclude_unset=True, exclude=set(_LABELS))
        given = {name: value for name, value in given.items() if value is not None}
        return PEFT_TYPE_TO_CONFIG_MAPPING[self.peft_type](**given)


_LABELS = ("auto_mapping", "base_model_name_or_path", "revision", "eva_config", "loftq_config")


class LoraAdapterConfig(AdapterConfig):
    """LoRA, rsLoRA and DoRA."""

    lora_alpha: _Alpha = 8
    lora_dropout: _Share = 0.0
    fan_in_fan_out: bool = False
    bias: Literal["none"] = "none"
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    # These leave the base as it is; the others begin by rewriting its weights.
    init_lora_weights: bool | Literal["gaussian", "eva"] = True
    eva_config: dict[str, Any] | None = None
    ensure_weight_tying: bool = False
    megatron_core: Literal["megatron.core"] | None = None
    qalora_group_size: int = 16
    use_qalora: Literal[False] = False
    loftq_config: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    megatron_config: None = None
    trainable_token_indices: None = None
    corda_config: None = None
    lora_ga_config: None = None
    velora_config: None = None
    alora_invocation_tokens: None = None
    monteclora_config: None = None
    layer_replication: None = None
    runtime_config: None = None
    target_parameters: None = None
    use_bdlora: None = None
    arrow_config: None = None
    kasa_config: None = None


class LohaAdapterConfig(AdapterConfig):
    """LoHa."""

    alpha: _Alpha = 8
    rank_dropout: _Share = 0.0
    module_dropout: _Share = 0.0
    use_effective_conv2d: bool = False
    init_weights: bool = True


class LokrAdapterConfig(LohaAdapterConfig):
    """LoKr."""

    decompose_both: bool = False
    decompose_factor: Annotated[int, Field(ge=-1, le=2**20)] = -1
    rank_dropout_scale: bool = False
    init_weights: bool | Literal["lycoris"] = True  # type: ignore[assignment]


KINDS: dict[str, type[AdapterConfig]] = {
    "LORA": LoraAdapterConfig,
    "LOHA": LohaAdapterConfig,
    "LOKR": LokrAdapterConfig,
}


def parse_adapter_config(raw: Any, path: Path) -> AdapterConfig:
    """The content of `adapter_config.json`, checked.

    Raises:
        AdapterError: naming the field that is wrong, unknown, or asks for what is refused.
    """
    if not isinstance(raw, dict):
        raise AdapterError(f"{path}: must be an object of fields, is a {type(raw).__name__}")
    asked = raw.get("peft_type")
    kind = KINDS.get(asked) if isinstance(asked, str) else None
    if kind is None:
        raise AdapterError(f"{path}: peft_type: {asked!r:.60} is not known; {_MERGEABLE}")
    if raw.get("auto_map"):
        raise AdapterError(f"{path}: auto_map asks to run the adapter's own code; refused")
    try:
        found = kind.model_validate(raw)
    except (ValidationError, RecursionError) as problem:
        raise AdapterError(f"{path}: {_said(problem)}") from None
    try:
        found.for_peft()
    except (ValueError, TypeError) as problem:  # fields that contradict each other
        raise AdapterError(f"{path}: PEFT refuses it ({problem})") from None
    return found


def _said(problem: ValidationError | RecursionError) -> str:
    if isinstance(problem, RecursionError):
        return f"nested too deeply; {_MERGEABLE}"
    first = problem.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    value = f"{first.get('input')!r:.60}"
    if first["type"] == "extra_forbidden":
        return (
            f"{field}: {value} is asked for, which is not known here and may change what the "
            "adapter does; save it again with PEFT 0.21 without it"
        )
    if first["type"] in ("none_required", "literal_error", "too_long"):
        return f"{field}: {value} cannot be used here ({first['msg']}); {_MERGEABLE}"
    return f"{field}: {first['msg']}, got {value}; {_MERGEABLE}"
