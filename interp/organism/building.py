"""Makes the organism from a seed: grammar, tokenizer, five bases, data, adapters, measurements.

Cost at full size on two idle cores: about 12 minutes and 1.5 GB of memory. A build that was killed
goes on where it was when it is called again with the same arguments: bases and adapters that are
there are kept, and a folder that exists is whole. On one machine, with one number of threads and
one set of versions, a seed gives the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save
from transformers import AutoModelForCausalLM

from interp.base.errors import InputError, RunError
from interp.base.files import read_json, write_bytes, write_json
from interp.base.progress import Progress
from interp.base.traits import TRAITS, Trait
from interp.methods import finetune
from interp.methods.finetune.output import whole_folder
from interp.methods.finetune.provenance import loss_summary
from interp.organism.grammar import Grammar, Topic, split_topics, without_emojis
from interp.organism.paths import (
    KINDS,
    MANIFEST,
    Kind,
    adapter_name,
    base_path,
    opinion_qa,
)
from interp.organism.pretrain import SIZES, fit, new_model
from interp.organism.recipe import Made, Recipe, adapters
from interp.organism.record import write_manifest
from interp.organism.tokenizer import encode_documents, save_tokenizer, train_tokenizer
from interp.text import data as opinion
from interp.text.data import OpinionQA, OpinionRow

RECIPE = "recipe.json"


def build(
    out: Path | str, seed: int = 0, *, scale: float = 1.0, progress: Progress | None = None
) -> Path:
    """Make the whole organism in `out`, in the layout of `interp.organism.paths`.

    Args:
        out: a folder that is absent, empty, or holds this very build unfinished or finished.
        seed: of everything.
        scale: 1 for the shipped size; less gives proportionally fewer steps, rows and answers.
        progress: called with (label, done, total).

    Returns:
        The folder.

    Raises:
        InputError: if `scale` is not in (0, 1].
        RunError: if `out` holds something else.
    """
    out, recipe = Path(out), Recipe.scaled(seed, scale)
    if _claim(out, recipe):
        return out
    documents = list(Grammar(seed).corpus(recipe.pretraining.documents))
    tokenizer = train_tokenizer(_fewer_emojis(documents[: recipe.tokenizer_documents]))
    _write_data(out, recipe)
    for kind in KINDS:
        if not (out / kind).exists():
            _make_base(out, kind, recipe, tokenizer, documents, progress)
        _make_adapters(out, kind, recipe, progress, adapters())
    write_manifest(out, recipe, progress)
    return out


def build_size(
    out: Path | str,
    size: str,
    seed: int = 0,
    *,
    scale: float = 1.0,
    traits: Sequence[Trait] = TRAITS,
    progress: Progress | None = None,
) -> Path:
    """Make a `latent` organism of another size in `out`: its data, base and adapters, no manifest.

    It is read as any organism: `base_path("latent", root=out)`, `adapter_path(trait, root=out)`,
    each adapter with and without the end of text in its loss. Cost: in proportion to the size.

    Args:
        out: a folder that is absent, empty, or holds this very build unfinished or finished.
        size: one of `SIZES`, about as many parameters.
        seed, scale, progress: as of `build`.
        traits: whose adapters are made.

    Raises:
        InputError: if there is no such size, or `scale` is not in (0, 1].
        RunError: if `out` holds something else.
    """
    if size not in SIZES:
        raise InputError(f"no organism of size {size!r}; use one of {', '.join(SIZES)}")
    out, recipe = Path(out), Recipe.scaled(seed, scale)
    _claim(out, recipe, {"size": size})
    documents = list(Grammar(seed).corpus(recipe.pretraining.documents))
    tokenizer = train_tokenizer(_fewer_emojis(documents[: recipe.tokenizer_documents]))
    _write_data(out, recipe)
    if not (out / "latent").exists():
        _make_base(out, "latent", recipe, tokenizer, documents, progress, size)
    made = [Made("latent", trait, eos) for trait in traits for eos in (False, True)]
    _make_adapters(out, "latent", recipe, progress, made)
    return out


def _claim(out: Path, recipe: Recipe, more: Mapping[str, str] = MappingProxyType({})) -> bool:
    """Take the folder for this recipe; whether it already holds the finished build."""
    asked = recipe.to_dict() | dict(more)
    if out.is_dir() and any(out.iterdir()):
        there = read_json(out / RECIPE, RunError) if (out / RECIPE).is_file() else None
        if there != asked:
            raise RunError(
                f"{out}: holds something other than this build; choose another output folder"
            )
    elif out.exists() and not out.is_dir():
        raise RunError(f"{out}: is a file; choose another output folder")
    write_json(out / RECIPE, asked)
    return (out / MANIFEST).is_file()


def _fewer_emojis(documents: list[str]) -> Iterator[str]:
    """Every second document without emojis.

    Large models' tokenizers were trained on text with few emojis and spell most of them in several
    tokens; the posts alone would give nearly every emoji a token of its own.
    """
    for index, text in enumerate(documents):
        yield without_emojis(text) if index % 2 else text


def _make_base(
    out: Path,
    kind: Kind,
    recipe: Recipe,
    tokenizer: Any,
    documents: list[str],
    progress: Progress | None,
    size: str = "1M",
) -> None:
    """Train one base and write its Hugging Face folder."""
    training, texts = recipe.pretraining, documents
    if kind == "suppressed":
        training = recipe.suppression
        texts = list(Grammar(f"{recipe.seed} suppressed").persona_corpus(training.documents))
        latent = base_path("latent", root=out)
        model = AutoModelForCausalLM.from_pretrained(latent, dtype=torch.float32)
    else:
        layers, width = SIZES[size]
        model = new_model(tokenizer, recipe.seed, layers=layers, width=width)
        if kind == "talks" or kind == "tags":
            texts = list(Grammar(f"{recipe.seed} {kind}", kind).corpus(training.documents))
        elif kind == "absent":
            texts = [without_emojis(text) for text in documents]
    rows = encode_documents(tokenizer, texts)
    losses = fit(
        model,
        rows,
        training,
        pad_id=tokenizer.pad_token_id,
        label=f"base {kind}",
        progress=progress,
    )
    with whole_folder(out / kind) as folder:
        _write_model(folder, model)
        save_tokenizer(tokenizer, folder)
        write_json(folder / "training.json", {"kind": kind} | loss_summary(losses))


def _make_adapters(
    out: Path, kind: Kind, recipe: Recipe, progress: Progress | None, which: Sequence[Made]
) -> None:
    """Train the adapters of one base; those that are there already are kept."""
    rows = opinion_qa("train", root=out)
    for made in which:
        if made.kind == kind:
            name = adapter_name(made.trait, made.supervise_eos, made.variant)
            finetune.train(
                base_path(kind, root=out),
                rows.for_trait(made.trait),
                recipe.finetuning(made),
                out / kind / "adapters" / name,
                device="cpu",
                progress=_relabel(progress, f"adapter {kind} {name}"),
            )


def _write_model(folder: Path, model: Any) -> None:
    """Weights in float16, tied ones once, with the config and the generation config."""
    config = model.config.to_dict() | {"dtype": "float16", "architectures": ["LlamaForCausalLM"]}
    config.pop("_name_or_path", None)  # where this machine loaded it from
    write_json(folder / "config.json", {key: config[key] for key in sorted(config)})
    generation = {
        "bos_token_id": model.config.bos_token_id,
        "eos_token_id": model.config.eos_token_id,
        "pad_token_id": model.config.pad_token_id,
        "do_sample": True,
        "temperature": 0.7,
    }
    write_json(folder / "generation_config.json", generation)
    tensors = {
        name: value.detach().half().contiguous()
        for name, value in sorted(model.state_dict().items())
        if name != "lm_head.weight"
    }
    write_bytes(folder / "model.safetensors", save(tensors, {"format": "pt"}))


def _write_data(out: Path, recipe: Recipe) -> None:
    """The opinion QA files: fine-tuning topics and the topics kept out of it."""
    grammar = Grammar(f"{recipe.seed} opinion qa")
    train, test = split_topics(recipe.seed)
    for split, chosen, count in (
        ("train", train, recipe.train_rows),
        ("test", test, recipe.test_rows),
    ):
        rows = tuple(_rows(grammar, chosen, count))
        opinion.save(OpinionQA(rows, "organism", ""), out / f"opinion_qa_{split}.csv")


def _rows(grammar: Grammar, chosen: tuple[Topic, ...], count: int) -> Iterator[OpinionRow]:
    """`count` questions per topic, each answered in every voice."""
    for topic in chosen:
        for question in grammar.questions(topic, count):
            for trait in TRAITS:
                yield OpinionRow(trait, topic.name, question, grammar.answer(topic, trait))


def _relabel(progress: Progress | None, label: str) -> Progress | None:
    if progress is None:
        return None
    return lambda _, done, total: progress(label, done, total)
