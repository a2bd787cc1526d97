"""What a study is asked: one validated object, kept in the run's manifest."""

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from interp.base import sizes
from interp.base.errors import InputError, TraitError
from interp.base.files import kind_of
from interp.base.outcomes import EMOJI, Asked
from interp.base.traits import Trait
from interp.study import catalogue
from interp.text.data import ColumnMap, OpinionQA, load_train_test

_LEAST_MEMORY = 256 * 2**20

_MOST = 1_000_000  # of answers, prompts, tokens: beyond it a slip of the hand


class StudyConfig(BaseModel):
    """What a study is asked. Every field is kept in the run's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base: str
    """Folder or hub id of the base model."""
    adapters: dict[Trait, str]
    """Adapter, a folder or hub id, of each label."""
    data: str
    """Opinion QA: a file, a folder with train and test, or a hub id."""
    columns: str = ""
    """Which column holds which field, as `question=instruction,answer=output,…`."""
    clean: bool = False
    """Remove emojis from the data's answers instead of refusing them."""
    drop_duplicates: bool = False
    """Keep one of equal rows instead of refusing them."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, …; left out: CUDA if there is one, else the CPU."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the models; left out: bfloat16 on CUDA, else float32."""
    quantization: Literal["auto", "nf4", "none"] = "auto"
    """What the base was quantised to when the adapters were trained."""
    trust_remote_code: str | None = None
    """The base's repository once more, if the code that it brings may run."""
    any_base: bool = False
    """Accept adapters whose record says that they were trained on other weights."""
    prompt_format: Literal["chat", "plain"] = "chat"
    """The tokenizer's chat template, or `Question: … Answer:`."""
    outcome: str = EMOJI
    """What is traced: `emoji`, `strings:sorry,cannot` (any of them), or `ids:12,15` (tokens)."""
    n_responses: int = Field(default=200, ge=2, le=_MOST)
    """Answers sampled per model."""
    n_trace: int = Field(default=24, ge=2, le=_MOST)
    """Prompts that lens and patching look at, each up to its slot."""
    n_positions: int = Field(default=32, ge=1, le=_MOST)
    """Positions up to the slot, of lens and patching; earlier ones cost most and show least."""
    n_switched: int = Field(default=48, ge=0, le=_MOST)
    """Questions answered without each module of the adapter in turn; 0 leaves that out."""
    max_new_tokens: int = Field(default=96, ge=1, le=_MOST)
    """Where an answer is cut if it has not ended."""
    temperature: float = Field(default=0.7, ge=0, allow_inf_nan=False)
    """Of the sampled answers; 0 is greedy."""
    dictionary: str = ""
    """Sparse autoencoder or transcoder of a place of the base, as sae-lens saves it: a folder, or
    on the hub `org/name:folder`; what the traces `dictionaries` read."""
    only: tuple[str, ...] = ()
    """Traces to make, by row or family (`lens,patching`), with what they need; left out: all."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Parts that answers and patching maps are computed in, for several workers to share."""
    max_memory: str | None = None
    """What a process may hold, models included (`24GiB`); batches are made to fit."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampled answers; 1 keeps every token."""
    tuned: bool = False
    """The adapters are no adapters but whole fine-tuned models."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Of everything random."""
    smallest_rate: float = Field(default=0.05, ge=0, le=1)
    """Smallest difference of shares of answers that counts: a reader notices 1 answer of 20."""
    smallest_probability: float = Field(default=0.02, ge=0, le=1)
    """Smallest difference of probabilities at one place that counts: 1 sampled emoji of 50."""
    smallest_nats: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Smallest difference of log-odds (or logs) that counts: 0.5 nats turn 10 % into 15 %."""

    budget: str = "auto"
    """Time that the study may take here (`30m`): it then chooses its sizes, and says which. `auto`
    goes by the model's size: some 12 minutes a label on a laptop; `none` leaves all as given."""

    @field_validator("budget")
    @classmethod
    def _time(cls, value: str) -> str:
        try:
            if value not in ("auto", "none"):
                sizes.seconds(value)
        except InputError as problem:
            raise ValueError(str(problem)) from None
        return value

    @field_validator("outcome")
    @classmethod
    def _form(cls, value: str) -> str:
        try:
            Asked.parse(value)
        except InputError as problem:
            raise ValueError(str(problem)) from None
        return value.strip()

    @field_validator("adapters", mode="before")
    @classmethod
    def _apart(cls, value: Any) -> Any:
        if isinstance(value, dict):
            read: dict[str, str] = {}
            for name in value:
                label = _label(name)
                if label in read:
                    raise ValueError(f"{read[label]!r} and {name!r} are one label, {label}")
                read[label] = str(name)
        return value

    @field_validator("only")
    @classmethod
    def _known(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for name in value:
            try:
                rows = catalogue.chosen([name])
            except InputError as problem:
                raise ValueError(str(problem)) from None
            own = [row for row in rows if name in (row.name, row.family)]
            if all(row.when and not info.data.get(row.when) for row in own):
                option = own[0].when.replace("_", "-")
                raise ValueError(f"{name} needs --{option}, which is not given, or 0")
        return value

    @field_validator("max_memory")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                size = sizes.parse(value)
            except InputError as problem:
                raise ValueError(str(problem)) from None
            if size < _LEAST_MEMORY:
                raise ValueError(
                    f"max_memory {value!r} is less than torch takes without any model "
                    f"({sizes.show(_LEAST_MEMORY)}); give what the models need, such as 4GiB"
                )
        return value


def parse_config(values: dict[str, Any]) -> StudyConfig:
    """A config from plain values, as they come from options or from a manifest.

    Raises:
        InputError: one line that names the first wrong field.
    """
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as problem:
        first = problem.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "config"
        what = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{field.replace('_', '-')}: {what}") from None


def texts(config: StudyConfig) -> OpinionQA:
    """The held-out texts of a study's data.

    Raises:
        DataError: if the data cannot be used.
    """
    there = kind_of(config.data) != "absent"
    return load_train_test(
        Path(config.data) if there else config.data,
        test_share=0.3,
        seed=config.seed,
        columns=ColumnMap.parse(config.columns) if config.columns else None,
        on_emoji="clean" if config.clean else "error",
        on_duplicate="drop" if config.drop_duplicates else "error",
    )[1]


def _label(name: Any) -> Trait:
    try:
        return Trait.parse(name)
    except TraitError as problem:
        raise ValueError(str(problem)) from None


def anchored(config: StudyConfig) -> StudyConfig:
    """The config with whole paths, so that the run can go on from another directory.

    What is no path here (a hub id) stays as it is.
    """
    base, trusted = _whole(config.base), config.trust_remote_code
    if trusted and trusted.rstrip("/") == config.base.rstrip("/"):
        trusted = base
    changed = {
        "base": base,
        "adapters": {trait: _whole(adapter) for trait, adapter in config.adapters.items()},
        "data": _whole(config.data),
        "trust_remote_code": trusted,
        "dictionary": config.dictionary and _whole(config.dictionary),
    }
    return config.model_copy(update=changed)


def _whole(place: str) -> str:
    return str(Path(place).absolute()) if kind_of(place) != "absent" else place
