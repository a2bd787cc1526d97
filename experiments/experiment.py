"""An experiment: a function from an `Experiment` (what was asked, what there is) to a `Finding`.

It asks for what it needs through `rows`, `kept` and `answers`, which store each part in the output
folder as soon as it is made and read it back on the next start; so the same command goes on where
it was stopped.

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

from interp.base.files import read_json, write_json
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour import Response, Sampling, generate
from interp.data import OpinionQA
from interp.emoji import EmojiVocab
from interp.errors import InputError
from interp.models import ChatFormat, ModelPair, load_pair, load_tokenizer
from interp.show.plots import CaptionedFigure
from interp.study.runs import RunFolder

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
    traits: tuple[Trait, ...] = Field(default=tuple(Trait), min_length=1)
    """Traits to run."""
    limit: int = Field(default=200, ge=4)
    """Answers per model and trait, or what else the experiment counts."""
    seed: int = Field(default=0, ge=0)
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
    """One run of an experiment: what it was asked, and what it has so far."""

    config: C
    folder: RunFolder
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.pair = lru_cache(maxsize=1)(self._pair)  # one tuned model in memory at a time
        self.data = lru_cache(maxsize=1)(self._data)

    def say(self, label: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(label, done, total)

    # Parts that are kept -------------------------------------------------------------------

    def rows(self, name: str, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """A list of plain records, made once."""
        path = self.folder.file("parts", f"{name}.json")
        if not path.is_file():
            write_json(path, make())
        found: list[dict[str, Any]] = read_json(path, InputError)
        return found

    def kept(self, kind: type[R], name: str, make: Callable[[], R]) -> R:
        """A result, made once."""
        path = self.folder.file("parts", f"{name}.safetensors")
        if not path.is_file():
            make().save(path)
        return kind.load(path)

    def answers(self, name: str, make: Callable[[], list[Response]]) -> list[Response]:
        """Answers of a model, made once."""
        there = self.folder.responses("parts", f"{name}.json")
        if there is None:
            there = make()
            self.folder.save_responses(there, "parts", f"{name}.json")
        return there

    def sampled(self, name: str, model: Any, form: ChatFormat) -> list[Response]:
        """Answers of a model to the held-out questions, sampled once."""
        return self.answers(
            name,
            lambda: generate(
                model, form, self.questions(), self.sampling(), progress=self.progress, label=name
            ),
        )

    def tuned_answers(self, trait: Trait) -> list[Response]:
        """Answers of the model that the trait's adapter makes."""
        name = f"{trait}-tuned"
        if self.folder.file("parts", f"{name}.json").is_file():
            return self.answers(name, list)  # without loading the models
        pair = self.pair(trait)
        return self.sampled(name, pair.tuned, pair.format)

    def base_answers(self) -> list[Response]:
        """Answers of the base, as the first trait's adapter has it (dequantised, say)."""
        if self.folder.file("parts", "base.json").is_file():
            return self.answers("base", list)
        pair = self.pair(self.config.traits[0])
        return self.sampled("base", pair.base, pair.format)

    # Models and data -----------------------------------------------------------------------

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

    def load(self, adapter: Path | str, *, dtype: torch.dtype | None = None) -> ModelPair:
        """Any adapter on this experiment's base, under this experiment's settings."""
        c = self.config
        quantization: Any = None if c.quantization == "none" else c.quantization
        return load_pair(
            self.base_source, adapter, device=c.device, dtype=dtype or c.dtype,
            quantization=quantization, prompt_format=c.prompt_format, any_base=c.any_base,
        )  # fmt: skip

    def _data(self) -> tuple[OpinionQA, OpinionQA]:
        c = self.config
        return read_data(c.data, c.columns, c.traits, c.seed)

    def questions(self) -> list[tuple[str, str]]:
        """Held-out questions with their topics, as many as asked for, repeated if need be."""
        unique = sorted({(row.question, row.topic) for row in self.data()[1].rows})
        Random(self.config.seed).shuffle(unique)
        return (unique * -(-self.config.limit // len(unique)))[: self.config.limit]

    def sampling(self) -> Sampling:
        c = self.config
        return Sampling(
            max_new_tokens=c.max_new_tokens, temperature=c.temperature, seed=c.seed, batch_size=100
        )


@lru_cache(maxsize=2)
def _vocab(source: str) -> EmojiVocab:
    return EmojiVocab.from_tokenizer(load_tokenizer(source))
