"""`adapter_config.json` as PEFT itself reads it, less what would open or run something.

No list of fields is kept: PEFT's own classes know theirs, and leave out what they do not know
(which is said). What a config leads to is believed only once it is merged and the merge is compared
with the live adapter (`interp.models.merge`). Checked here is what costs nothing: that numbers are
numbers, that patterns compile, that nothing is opened, run or rebuilt.

A field that is off in any spelling (null, false, "none", an empty list) is left out where PEFT's
own default is off, too. Labels (`base_model_name_or_path`, `auto_mapping`, ...) are never looked
up.
"""

import dataclasses
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from pydantic import TypeAdapter, ValidationError

from interp.base.errors import AdapterError, said

LARGEST_RANK = 4096
_MERGEABLE = "PEFT merges LoRA, LoHa, LoKr, IA3, VeRA, OFT and others into a causal model's weights"
_LABELS = frozenset(
    (
        "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version",
        "revision", "runtime_config",
    )
)  # fmt: skip
_OF_TRAINING = ("eva_config", "corda_config", "lora_ga_config", "loftq_config")
_OTHER_MODELS = ("XLORA", "SHADOW")  # they load further models, from wherever their config says
_CHOSEN = ("target_modules", "feedforward_modules")  # null: those PEFT would choose; []: none
_LONGEST_PATTERN, _MOST_PATTERNS = 2000, 2000


def is_off(value: Any) -> bool:
    """Whether a field's value means that it is not used, in any of the spellings that are met."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "none", "null", "false")
    return value is None or value is False or value in ([], {}, ())


def parse_adapter_config(raw: Any, path: Path) -> tuple[PeftConfig, tuple[str, ...]]:
    """PEFT's config of what `adapter_config.json` holds, and the fields that PEFT does not know.

    Raises:
        AdapterError: naming the field that is wrong, or asks for what is refused.
    """
    if not isinstance(raw, dict):
        raise AdapterError(f"{path}: must be an object of fields, is a {type(raw).__name__}")
    kind = raw.get("peft_type")
    if kind is None:
        raise AdapterError(
            f"{path}: has no peft_type; give the folder of an adapter that PEFT saved"
        )
    if not _is_mergeable(kind):
        raise AdapterError(f"{path}: peft_type: {kind!r:.60} cannot be merged; {_MERGEABLE}")
    given = {name: value for name, value in raw.items() if name not in _LABELS}
    if not is_off(given.pop("auto_map", None)):
        raise AdapterError(f"{path}: auto_map asks to run the adapter's own code; refused")
    task = given.get("task_type")
    if not is_off(task) and task != "CAUSAL_LM":
        raise AdapterError(f"{path}: task_type: {task!r:.60} is no causal model's; {_MERGEABLE}")
    kind_of_config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {field.name: field for field in dataclasses.fields(kind_of_config)}
    kept = {}
    for name, value in given.items():
        if name in known and name not in _OF_TRAINING:
            default = _default(known[name])
            is_none = value == [] and name in _CHOSEN
            if is_none or not (is_off(value) and (is_off(default) or default == 0)):
                kept[name] = _checked(name, value, default, path)
    _check_numbers_of_patterns(kept, path)
    _check_base_is_kept(kept, path)
    _check_patterns(kept, path)
    unknown = tuple(n for n, v in given.items() if n not in known and not is_off(v))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to who trains
            return kind_of_config(**kept, inference_mode=True), unknown
    except Exception as problem:  # fields that contradict each other, of every kind
        raise AdapterError(f"{path}: PEFT refuses it ({said(problem)})") from None


def _is_mergeable(kind: Any) -> bool:
    if not isinstance(kind, str) or kind in _OTHER_MODELS:
        return False
    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(kind)
    return tuner is not None and issubclass(tuner, BaseTuner)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _checked(name: str, value: Any, default: Any, path: Path) -> Any:
    """A value of the kind that PEFT's default has, where that is a number or a yes or no."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool) and isinstance(value, str) and not name.startswith("init_"):
        raise AdapterError(f"{path}: {name}: {value!r:.60} is neither true nor false")
    if isinstance(default, int | float) and not isinstance(default, bool):
        if not is_number or not abs(value) < 1e30:  # nor NaN
            raise AdapterError(f"{path}: {name}: {value!r:.60} is no finite number")
        if name == "r" and not (isinstance(value, int) and 0 <= value <= LARGEST_RANK):
            raise AdapterError(
                f"{path}: r: {value!r:.60} is no rank; ranks are whole and at most {LARGEST_RANK}"
            )
    return value


def _check_numbers_of_patterns(fields: dict[str, Any], path: Path) -> None:
    """Hold ranks and alphas that are given by module to what holds for the one of all modules."""
    for name, like, default in (("rank_pattern", "r", 8), ("alpha_pattern", "lora_alpha", 8)):
        given = fields.get(name)
        for key, value in given.items() if isinstance(given, dict) else ():
            if not isinstance(value, list):  # AdaLoRA keeps which ranks are on
                _checked(like, value, default, Path(f"{path}: {name}: {key:.60}"))


def misfit(raw: Mapping[str, Any]) -> str | None:
    """The first field whose value is of another type than PEFT's class declares, and its value."""
    hints = get_type_hints(PEFT_TYPE_TO_CONFIG_MAPPING[raw["peft_type"]])
    for name, value in raw.items():
        hint = hints.get(name)
        if name in _LABELS or is_off(value) or hint in (None, int, float, bool):
            continue
        if name.startswith("init_") or "config" in name:  # spelt or read by PEFT's own code
            continue
        try:
            TypeAdapter(hint).validate_python(value, strict=True)
        except ValidationError:
            return f"{name}: {value!r:.60}"
    return None


def _check_base_is_kept(fields: dict[str, Any], path: Path) -> None:
    """Refuse what makes another model of the base, or imports a module by its name."""
    if fields.get("layer_replication"):
        raise AdapterError(
            f"{path}: layer_replication: {fields['layer_replication']!r:.60} builds a model with "
            "more layers than the base; only models of one shape can be compared"
        )
    if fields.get("megatron_config"):
        raise AdapterError(f"{path}: megatron_config: layers of Megatron-LM are not loaded here")
    if tokens := fields.get("alora_invocation_tokens"):
        raise AdapterError(
            f"{path}: alora_invocation_tokens: {tokens!r:.60} switch the adapter on within a text; "
            "no weights do the same, so it cannot be merged. Train one without (null)"
        )
    if fields.get("init_lora_weights") == "loftq":
        raise AdapterError(
            f"{path}: init_lora_weights: 'loftq' has PEFT quantise the base anew at each loading; "
            "give the base that LoftQ left (save_pretrained of the model without the adapter), and "
            "write true here"
        )


def _check_patterns(fields: dict[str, Any], path: Path) -> None:
    """Check that what names modules compiles as regular expressions, and is of bearable size."""
    patterns = list(_patterns(fields))
    if len(patterns) > _MOST_PATTERNS or any(len(one) > _LONGEST_PATTERN for one in patterns):
        raise AdapterError(
            f"{path}: a pattern of module names is longer than {_LONGEST_PATTERN} characters, or "
            f"there are more than {_MOST_PATTERNS}; name the modules in a list"
        )
    for one in patterns:
        try:
            re.compile(one)
        except (re.error, RecursionError, OverflowError) as problem:
            raise AdapterError(f"{path}: {one!r:.80} is no pattern ({problem})") from None


def _patterns(fields: dict[str, Any]) -> Iterator[str]:
    for name in ("target_modules", "exclude_modules"):
        if isinstance(fields.get(name), str):
            yield fields[name]
    for name in ("layers_pattern", "rank_pattern", "alpha_pattern"):
        some = fields.get(name)
        if isinstance(some, str):
            yield some
        elif isinstance(some, list | dict):
            yield from (one for one in some if isinstance(one, str))
