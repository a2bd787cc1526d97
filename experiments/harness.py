"""What every experiment shares: its config and options, its models, its kept steps, its files.

An experiment is a function from an `Experiment` to a `Finding`. It asks for what it needs through
`kept`, `answers` and `rows`, which store each part in the output folder as soon as it is made and
read it back on the next start; so the same command goes on where it was stopped. It ends in
`results.csv`, `figures/` and `verdict.md` of at most ten lines.
"""

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, Generic, Literal, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve their neighbours
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # advice on an optional kernel package

import pandas as pd
import torch
from config_files import read_config
from pydantic import BaseModel, ConfigDict, Field
from transformer_lens.model_bridge import TransformerBridge

from interp import console, organism
from interp.behaviour import Response, Sampling, generate
from interp.behaviour.shares import share_interval
from interp.data import ColumnMap, OpinionQA, load_train_test
from interp.emoji import EmojiVocab
from interp.errors import AdapterError, DataError, InputError
from interp.files import read_json, write_json, write_text
from interp.models import ChatFormat, ModelPair, load_hooked, load_pair, load_tokenizer
from interp.plots import CaptionedFigure
from interp.plots.style import save as save_figure
from interp.results import Result
from interp.runs import RunFolder, logged
from interp.traits import TRAITS, Trait

CONFIGS = Path(__file__).with_name("configs")
VERDICT_LINES = 10
ORGANISM = "organism:"
Progress = Callable[[str, int, int], None]
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
    traits: tuple[Trait, ...] = tuple(Trait)
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
        return _base(self.config.base)

    @property
    def on_organism(self) -> bool:
        return self.config.base.startswith(ORGANISM)

    def adapter(self, trait: Trait) -> Path:
        """Folder of a trait's adapter.

        Raises:
            AdapterError: if there is none for this trait.
        """
        return find_adapter(self.config.adapters, trait)

    @property
    def form(self) -> ChatFormat:
        """How questions become ids."""
        return ChatFormat.from_tokenizer(
            load_tokenizer(self.base_source), self.config.prompt_format
        )

    def _pair(self, trait: Trait) -> ModelPair:
        return self.load(self.adapter(trait))

    def load(self, adapter: Path | str, *, dtype: torch.dtype | None = None) -> ModelPair:
        """Any adapter on this experiment's base, under this experiment's settings."""
        c = self.config
        quantization: Any = None if c.quantization == "none" else c.quantization
        return load_pair(
            self.base_source, adapter, device=c.device, dtype=dtype or c.dtype,
            quantization=quantization, prompt_format=c.prompt_format, any_base=c.any_base,
        )  # fmt: skip

    def hooked_base(self) -> TransformerBridge:
        """The base alone."""
        return load_hooked(self.base_source, device=self.config.device, dtype=self.config.dtype)

    def vocab(self) -> EmojiVocab:
        return _vocab(self.base_source)

    def _data(self) -> tuple[OpinionQA, OpinionQA]:
        """Train and test rows of the wanted traits; no topic is in both.

        Raises:
            DataError: if a trait has no rows, or the test rows have a single topic.
        """
        c = self.config
        columns = ColumnMap.parse(c.columns) if c.columns else None
        source = str(organism.ASSETS) if c.data.startswith(ORGANISM) else c.data
        where: Path | str = Path(source) if Path(source).exists() else source
        train, test = load_train_test(where, test_share=0.3, seed=c.seed, columns=columns)
        for name, part in (("train", train), ("test", test)):
            for trait in c.traits:
                if not any(row.trait is trait for row in part.rows):
                    raise DataError(f"{source}: the {name} rows have none of {trait}; see --traits")
        if len(test.topics) < 2:
            raise DataError(
                f"{source}: the test rows have a single topic ({test.topics[0]}); intervals "
                "resample topics and need two or more"
            )
        return train, test

    def questions(self, count: int | None = None) -> list[tuple[str, str]]:
        """Held-out questions with their topics, as many as asked for, repeated if need be."""
        wanted = count or self.config.limit
        unique = sorted({(row.question, row.topic) for row in self.data()[1].rows})
        Random(self.config.seed).shuffle(unique)
        return (unique * -(-wanted // len(unique)))[:wanted]

    def sampling(self) -> Sampling:
        c = self.config
        return Sampling(
            max_new_tokens=c.max_new_tokens, temperature=c.temperature, seed=c.seed, batch_size=100
        )


@lru_cache(maxsize=2)
def _vocab(source: str) -> EmojiVocab:
    return EmojiVocab.from_tokenizer(load_tokenizer(source))


def _base(base: str) -> str:
    return str(organism.base_path(base[len(ORGANISM) :])) if base.startswith(ORGANISM) else base


def find_adapter(
    adapters: str | dict[Trait, str], trait: Trait, *, supervise_eos: bool = False
) -> Path:
    """Folder of one trait's adapter, in a mapping, in a folder of folders, or in the organism.

    Args:
        adapters: as in the config.
        trait: whose adapter.
        supervise_eos: of the organism's two, the one with the end of text in its loss.

    Raises:
        AdapterError: if there is none, or several, for this trait.
    """
    if isinstance(adapters, dict):
        if trait not in adapters:
            there = ", ".join(adapters) or "none"
            raise AdapterError(f"no adapter for {trait} is given (given: {there}); see --adapters")
        return Path(adapters[trait])
    if adapters.startswith(ORGANISM):
        kind = adapters[len(ORGANISM) :]
        return organism.adapter_path(trait, base=kind, supervise_eos=supervise_eos)
    root = Path(adapters)
    folders = sorted(p.parent for p in root.glob("*/adapter_config.json"))
    found = [folder for folder in folders if folder.name.casefold().startswith(trait.value)]
    if len(found) != 1:
        there = ", ".join(folder.name for folder in folders) or "no adapter folders"
        what = "no adapter" if not found else "several adapters"
        raise AdapterError(
            f"{root}: {what} for {trait} (it holds {there}); name the folders "
            f"--adapters {trait}=FOLDER,…"
        )
    return found[0]


def pooled_share(
    holds: Sequence[bool], topics: Sequence[str], seed: int
) -> tuple[float, float, float]:
    """A share and its interval over topics."""
    interval = share_interval(list(holds), list(topics), seed=seed)
    return sum(holds) / len(holds), interval.low, interval.high


# The command -------------------------------------------------------------------------------


def conduct(
    run: Callable[[Experiment[C]], Finding],
    config: C,
    out: Path,
    progress: Progress | None = None,
) -> Finding:
    """Run an experiment, or go on with it, and write its files to `out`.

    Raises:
        InputError: (a subclass says which) if a model, an adapter, the data or `out` is unusable.
    """
    began = time.monotonic()
    asked = {"experiment": Path(run.__code__.co_filename).stem} | config.model_dump(mode="json")
    with RunFolder(out).lock():
        folder = RunFolder.create(out, asked, job="experiment")
        with logged(folder):
            finding = run(Experiment(config, folder, progress))
        _write(finding, out, config.base.startswith(ORGANISM))
        folder.finish(time.monotonic() - began)
    return finding


def _write(finding: Finding, out: Path, on_organism: bool) -> None:
    """The table, the figures with their captions, and the verdict."""
    write_text(out / "results.csv", finding.table.to_csv(index=False))
    for stem, figure in finding.figures.items():
        save_figure(figure, out / "figures" / stem)
    captions = [f"**{stem}.** {figure.caption}\n" for stem, figure in finding.figures.items()]
    write_text(out / "figures" / "captions.md", "\n".join(captions))
    lines = list(finding.verdict)
    if on_organism:
        lines.append(
            "Measured on the shipped organism, which was built to show the effect: the numbers "
            "say that the method works, not how a 7B model behaves."
        )
    if len(lines) > VERDICT_LINES:
        raise AssertionError(f"a verdict has at most {VERDICT_LINES} lines, not {len(lines)}")
    write_text(out / "verdict.md", "\n".join(lines) + "\n")


def main(
    run: Callable[[Experiment[C]], Finding], kind: type[C], argv: Sequence[str] | None = None
) -> int:
    """The command line of one experiment: 0 done, 2 bad input, 1 anything else."""
    return console.guarded(lambda: _command(run, kind, argv))


def _command(
    run: Callable[[Experiment[C]], Finding], kind: type[C], argv: Sequence[str] | None
) -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    name = Path(run.__code__.co_filename).stem
    given = vars(_parser(name, run.__globals__.get("__doc__") or "").parse_args(argv))
    out = Path(given.pop("out") or f"runs/experiments/{name}")
    as_json, path = given.pop("json"), Path(given.pop("config") or CONFIGS / f"{name}.yaml")
    changes = {key: value for key, value in given.items() if value is not None}
    if "traits" in changes:
        changes["traits"] = [Trait.parse(one) for one in changes["traits"].split(",") if one]
    if "=" in changes.get("adapters", ""):
        pairs = [item.partition("=") for item in changes["adapters"].split(",")]
        changes["adapters"] = {Trait.parse(trait): folder for trait, _, folder in pairs}
    config = read_config(kind, path, changes)
    with console.progress(not as_json) as progress:
        finding = conduct(run, config, out, progress)
    if as_json:
        files = sorted(str(path) for path in out.glob("figures/*"))
        console.emit_json(
            {
                "results": finding.table.astype(object).where(finding.table.notna(), None)
                .to_dict(orient="records"),
                "verdict": (out / "verdict.md").read_text().splitlines(),
                "figures": files,
            }
        )  # fmt: skip
        return
    shown = finding.table if finding.shown is None else finding.shown
    console.table(name, list(shown.columns), shown.values.tolist())
    for line in (out / "verdict.md").read_text().splitlines():
        console.say(line)
    console.say(f"files: {out}")


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"experiments/{name}.py",
        description=about.strip().split("\n")[0],
        epilog="Unset options keep the config's values.",
    )
    parser.add_argument("--config", help=f"YAML file; default experiments/configs/{name}.yaml")
    parser.add_argument("--out", help=f"output folder; default runs/experiments/{name}")
    parser.add_argument("--base", help="base model: folder, hub id, or organism:<kind>")
    parser.add_argument("--adapters", help="folder of adapters, trait=FOLDER,…, or organism:<kind>")
    parser.add_argument("--data", help="opinion QA: file, folder, hub id, or organism:")
    parser.add_argument("--traits", help=f"comma-separated, of {', '.join(TRAITS)}")
    parser.add_argument("--seed", type=int, help="of everything random")
    parser.add_argument("--limit", type=int, help="answers per model and trait")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser
