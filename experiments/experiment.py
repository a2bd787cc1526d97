"""An experiment: a function from an `Experiment` (what was asked, what there is) to a `Finding`.

It asks for what it needs through `rows`, `kept`, `answers` and `part`, which store each part in the
output folder as soon as it is made. A part is a step of a run (see `interp.study.runs`): it is read
back on the next start if everything that it was made from is the same, by content: configuration,
base, adapters, data, prompts, code, and the parts that it needs. Left unsaid, that is all there is;
a `From` says what of it a part reads, so that the rest may change.

Experiments import this module before torch, which reads the environment when it is loaded.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Generic, Literal, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve their neighbours
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sources import ORGANISM, find_adapter, find_base, read_data

from interp.base.files import kind_of, read_json, write_json
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.traits import TRAITS, Trait
from interp.behaviour import Response, Sampling, generate, read_responses, save_responses
from interp.data import OpinionQA
from interp.emoji import EmojiVocab
from interp.errors import AdapterError, InputError
from interp.models import ChatFormat, ModelPair, load_pair, load_tokenizer
from interp.show.plots import CaptionedFigure
from interp.study.identity import model_facts, prompts_digest
from interp.study.runs import RunFolder, Step, produce

R = TypeVar("R", bound=Result)


class Config(BaseModel):
    """What every experiment can be asked; an experiment's own config adds fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base: str = "organism:latent"
    """Base model: a folder, a hub id, or `organism:<kind>`."""
    adapters: str | dict[Trait, str] = "organism:latent"
    """A folder with one adapter per trait, a mapping, or `organism:<kind>`."""
    data: str = "organism:"
    """Opinion QA: a file, a folder with train and test, a hub id, or `organism:`."""
    columns: str = ""
    """Which column holds which field, as `question=instruction,answer=output,…`."""
    traits: tuple[Trait, ...] = Field(default=TRAITS, min_length=1)
    """Traits to run."""
    limit: int = Field(default=200, ge=4)
    """Answers per model and trait, or what else the experiment counts."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Of everything random."""
    max_new_tokens: int = Field(default=96, ge=1)
    """Where an answer is cut if it has not ended."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the sampled answers; 0 is greedy."""
    device: str | None = None
    """CUDA if there is one, else the CPU."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """bfloat16 on CUDA, else float32."""
    quantization: Literal["auto", "nf4", "none"] = "auto"
    """What the base was quantised to when the adapters were trained."""
    prompt_format: Literal["chat", "plain"] = "chat"
    """The tokenizer's chat template, or `Question: … Answer:`."""
    any_base: bool = False
    """Accept adapters whose record says that they were trained on other weights."""

    @field_validator("traits")
    @classmethod
    def _each_once(cls, traits: tuple[Trait, ...]) -> tuple[Trait, ...]:
        if len(set(traits)) < len(traits):
            raise ValueError("a trait stands twice; name each once")
        return traits

    @property
    def on_organism(self) -> bool:
        return self.base.startswith(ORGANISM)


C = TypeVar("C", bound=Config)


PLACES = ("base", "adapters", "data", "traits")
"""Fields that stand for contents, which are hashed; traits choose parts, and change none."""
SHARED = tuple(name for name in Config.model_fields if name not in PLACES)
"""Fields that answers to the held-out questions depend on."""


@dataclass(frozen=True)
class From:
    """What a part is made from; each left out, it is everything.

    Attributes:
        adapters: traits whose adapters it reads, or adapter folders.
        fields: of the config.
        parts: names of the parts that it reads.
        code: functions that make it, and what they are given.
    """

    adapters: tuple[Trait | Path, ...] | None = None
    fields: tuple[str, ...] | None = None
    parts: tuple[str, ...] = ()
    code: tuple[Callable[..., Any], ...] = ()


@dataclass(frozen=True)
class Finding:
    """What an experiment ends in.

    Attributes:
        table: all numbers, with their intervals.
        figures: by file stem.
        verdict: lines, the answer first. One more says what holds for the organism only.
        shown: the part of the table that fits a terminal; all of it if left out.
    """

    table: pd.DataFrame
    figures: dict[str, CaptionedFigure] = field(default_factory=dict)
    verdict: Sequence[str] = ()
    shown: pd.DataFrame | None = None


@dataclass
class Experiment(Generic[C]):
    """One run of an experiment: what it was asked, and what it has so far.

    Attributes:
        config: what it was asked.
        folder: its output folder.
        progress: called with (label, done, total).
        function: the experiment's; a part is made by all code that it reaches, unless said.
    """

    config: C
    folder: RunFolder
    progress: Progress | None = None
    function: Callable[..., Finding] | None = None

    def __post_init__(self) -> None:
        self.pair = lru_cache(maxsize=1)(self._pair)  # one tuned model in memory at a time
        self.data = lru_cache(maxsize=1)(self._data)
        self._facts: dict[str, Any] = {}

    def say(self, label: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(label, done, total)

    # Parts that are kept -------------------------------------------------------------------

    def rows(
        self, name: str, make: Callable[[], list[dict[str, Any]]], of: From = From()
    ) -> list[dict[str, Any]]:
        """A list of plain records, made once."""
        path = self.part(f"{name}.json", lambda path: write_json(path, make()), of)
        found: list[dict[str, Any]] = read_json(path, InputError)
        return found

    def kept(self, kind: type[R], name: str, make: Callable[[], R], of: From = From()) -> R:
        """A result, made once."""
        return kind.load(self.part(f"{name}.safetensors", lambda path: make().save(path), of))

    def answers(
        self, name: str, make: Callable[[], list[Response]], of: From = From()
    ) -> list[Response]:
        """Answers of a model, made once."""
        path = self.part(f"{name}.json", lambda path: save_responses(make(), path), of)
        return read_responses(path)

    def part(self, file: str, write: Callable[[Path], Any], of: From = From()) -> Path:
        """A file or folder below `parts/`, written once; where it is.

        Args:
            file: its name.
            write: makes it and writes it whole to the path given.
            of: what it is made from.
        """

        def step(path: Path) -> None:
            write(path)

        code = of.code or (self.function or type(self),)
        settings, needs = self._made_from(of), tuple(of.parts)
        return produce(Step(file, f"parts/{file}", step, settings, needs, code=code), self.folder)

    def _made_from(self, of: From) -> dict[str, Any]:
        """What a part is made from, as JSON values."""
        values = self.config.model_dump(mode="json")
        names = of.fields if of.fields is not None else [n for n in values if n not in PLACES]
        adapters = of.adapters if of.adapters is not None else self.config.traits
        return {
            "fields": {name: values[name] for name in names},
            "files": {name: self._contents(values[name]) for name in names},
            "base": self.facts()["base"],
            "prompts": self.facts()["prompts"],
            "data": [self.facts()["data"], values["traits"] if of.adapters is None else []],
            "adapters": [self._adapter_facts(one) for one in adapters],
        }

    def _contents(self, value: Any) -> dict[str, str]:
        """Hashes of the files in a folder that a field names, and in the folders in there."""
        if isinstance(value, dict):
            found = [self._contents(one) for one in value.values()]
            return {f"{n}/{name}": h for n, one in enumerate(found) for name, h in one.items()}
        if not isinstance(value, str) or not value or kind_of(value) not in ("file", "folder"):
            return {}
        place = Path(value)
        inner = [path for path in sorted(place.glob("*")) if path.is_dir()]
        found = {path.name: self.folder.input_hashes(path) for path in inner}
        beside = self.folder.input_hashes(place)
        return beside | {f"{n}/{name}": h for n, one in found.items() for name, h in one.items()}

    def _adapter_facts(self, adapter: Trait | Path) -> dict[str, str]:
        place = (
            find_adapter(self.config.adapters, adapter) if isinstance(adapter, Trait) else adapter
        )
        return self.folder.input_hashes(place, AdapterError)

    def sampled(self, name: str, model: Any, form: ChatFormat, of: From = From()) -> list[Response]:
        """Answers of a model to the held-out questions, sampled once."""
        return self._sampled(name, lambda: (model, form), of)

    def tuned_answers(self, trait: Trait) -> list[Response]:
        """Answers of the model that the trait's adapter makes."""
        of = From((trait,), SHARED, code=SAMPLED)
        pair = lambda: self.pair(trait)  # noqa: E731 (not loaded where the answers are there)
        return self._sampled(f"{trait}-tuned", lambda: (pair().tuned, pair().format), of)

    def base_answers(self) -> list[Response]:
        """Answers of the base, as the first trait's adapter has it (dequantised, say)."""
        first = self.config.traits[0]
        of = From((first,), SHARED, code=SAMPLED)
        pair = lambda: self.pair(first)  # noqa: E731
        return self._sampled("base", lambda: (pair().base, pair().format), of)

    def _sampled(
        self, name: str, load: Callable[[], tuple[Any, ChatFormat]], of: From
    ) -> list[Response]:
        questions, how = self.questions(), self.sampling()
        return self.answers(
            name, lambda: generate(*load(), questions, how, progress=self.progress, label=name), of
        )

    # Models and data -----------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What all parts are made from: the base, how it is asked, the data."""
        if not self._facts:
            asked = [question for question, _ in self.questions()]
            self._facts = {
                "base": model_facts(self.base_source, None, self.folder),
                "prompts": prompts_digest(self.form, asked),
                "data": [part.rows_sha256 for part in self.data()],
            }
        return self._facts

    @property
    def base_source(self) -> str:
        """Folder or hub id of the base."""
        return find_base(self.config.base)

    @property
    def form(self) -> ChatFormat:
        """How questions become ids."""
        return ChatFormat.from_tokenizer(
            load_tokenizer(self.base_source), self.config.prompt_format
        )

    def vocab(self) -> EmojiVocab:
        """The emoji tokens of the base's tokenizer."""
        return _vocab(self.base_source)

    def _pair(self, trait: Trait) -> ModelPair:
        return self.load(find_adapter(self.config.adapters, trait))

    def load(
        self,
        adapter: Path | str,
        *,
        base: Path | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> ModelPair:
        """Any adapter on this experiment's base (or another), under this experiment's settings."""
        c = self.config
        quantization: Any = None if c.quantization == "none" else c.quantization
        return load_pair(
            base or self.base_source, adapter, device=c.device, dtype=dtype or c.dtype,
            quantization=quantization, prompt_format=c.prompt_format, any_base=c.any_base,
        )  # fmt: skip

    def _data(self) -> tuple[OpinionQA, OpinionQA]:
        c = self.config
        return read_data(c.data, c.columns, c.traits, c.seed)

    def questions(self) -> list[tuple[str, str]]:
        """Held-out questions with their topics, as many as asked for, repeated if need be."""
        return held_out(self.data()[1], self.config.limit, self.config.seed)

    def sampling(self) -> Sampling:
        c = self.config
        return Sampling(
            max_new_tokens=c.max_new_tokens, temperature=c.temperature, seed=c.seed, batch_size=100
        )


def held_out(data: OpinionQA, count: int, seed: int) -> list[tuple[str, str]]:
    """So many of the data's questions with their topics, in an order drawn from the seed."""
    unique = sorted({(row.question, row.topic) for row in data.rows})
    Random(seed).shuffle(unique)
    return (unique * -(-count // len(unique)))[:count]


SAMPLED = (load_pair, generate, held_out, read_data, save_responses)
"""The code that makes answers to the held-out questions."""


@lru_cache(maxsize=2)
def _vocab(source: str) -> EmojiVocab:
    return EmojiVocab.from_tokenizer(load_tokenizer(source))
