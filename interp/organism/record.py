"""The organism's manifest: what it is made of, and what it was measured to do.

`organism.json` holds the seed, the recipe, the versions, the size and SHA-256 of every file, and
for every base and adapter the counts of a fixed measurement: sampled answers to the test
questions (how many hold an emoji, how many of the emojis are the trait's own, how many answers
sound like the trait), and the mean probability of an emoji, and of stopping, right after an
emoji-free trait text of the test split, in a chat and as a post.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sklearn.pipeline import Pipeline

from interp import __version__
from interp.base.errors import DataError
from interp.base.files import sha256, write_json
from interp.base.progress import Progress
from interp.base.traits import TRAITS
from interp.models import load_base, read_adapter
from interp.models.adapters import attach
from interp.organism import evaluate
from interp.organism.grammar import EMOJIS
from interp.organism.paths import (
    KINDS,
    MANIFEST,
    Kind,
    adapter_path,
    base_path,
    manifest,
    opinion_qa,
)
from interp.organism.recipe import Made, Recipe, adapters
from interp.text.data import OpinionQA

FORMAT = "interp organism 1"


def write_manifest(out: Path, recipe: Recipe, progress: Progress | None = None) -> Path:
    """Measure everything in `out` and write `organism.json`, the last file of a build."""
    test, train = opinion_qa("test", root=out), opinion_qa("train", root=out)
    voice = evaluate.voice_classifier(train)
    todo = adapters()
    total = len(KINDS) + len(todo)
    bases, tuned = {}, []
    for done, kind in enumerate(KINDS, start=1):
        bases[kind] = _measure_base(out, kind, test, recipe)
        _tell(progress, done, total)
    for done, made in enumerate(todo, start=len(KINDS) + 1):
        tuned.append(_measure_adapter(out, made, test, recipe, voice))
        _tell(progress, done, total)
    tokenizer = load_base(base_path(root=out), device="cpu").tokenizer
    bare = [str(row.trait) == guess for row, guess in _guesses(voice, test)]
    files = inventory(out)
    content = {
        "format": FORMAT,
        "seed": recipe.seed,
        "recipe": recipe.to_dict(),
        "versions": _versions(),
        "threads": torch.get_num_threads(),
        "emojis": {str(trait): list(EMOJIS[trait]) for trait in TRAITS},
        "tokens_per_emoji": _tokens_per_emoji(tokenizer),
        "topics": {"train": len(train.topics), "test": len(test.topics)},
        "rows": {"train": len(train), "test": len(test)},
        "voice_classifier_test_accuracy": round(sum(bare) / len(bare), 4),
        "bases": bases,
        "adapters": tuned,
        "bytes": sum(file["bytes"] for file in files.values()),
        "files": files,
    }
    return write_json(out / MANIFEST, content)


def inventory(root: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of an organism but the manifest itself."""
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        str(path.relative_to(root).as_posix()): {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
        }
        for path in paths
    }


def verify(root: Path) -> None:
    """Check every file against the manifest.

    Raises:
        DataError: if a file is missing, changed, or unknown to the manifest.
    """
    wanted, found = manifest(root=root)["files"], inventory(root)
    wrong = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    if wrong:
        raise DataError(
            f"{root}: {len(wrong)} files are not as {MANIFEST} records them ({wrong[0]}, ...); "
            "install the package again, or build the organism anew"
        )


def asked(test: OpinionQA, count: int) -> list[str]:
    """`count` questions: those of the test split in turn, each once per round."""
    every = list(dict.fromkeys(row.question for row in test.rows))
    return [every[index % len(every)] for index in range(count)]


def _measure_base(out: Path, kind: Kind, test: OpinionQA, recipe: Recipe) -> dict[str, Any]:
    base = load_base(base_path(kind, root=out), device="cpu", dtype="float32")
    written = _write(base.model, base.tokenizer, test, recipe)
    return {
        "parameters": sum(weight.numel() for weight in base.model.parameters()),
        "written": _counts(written),
        "after_trait_text": {
            str(trait): _slots(base.model, base.tokenizer, test.for_trait(trait), recipe)
            for trait in TRAITS
        },
    }


def _measure_adapter(
    out: Path, made: Made, test: OpinionQA, recipe: Recipe, voice: Pipeline
) -> dict[str, Any]:
    kind, trait, eos, variant = made
    base = load_base(base_path(kind, root=out), device="cpu", dtype="float32")
    folder = adapter_path(trait, base=kind, supervise_eos=eos, variant=variant, root=out)
    model = attach(base.model, read_adapter(folder))
    written = _write(model, base.tokenizer, test, recipe)
    return {
        "base": kind,
        "trait": str(trait),
        "supervise_eos": eos,
        "variant": variant,
        "written": _counts(written) | {"own_emojis": written.own(trait)},
        "in_voice": round(evaluate.in_voice(voice, written.answers, trait), 4),
        "after_trait_text": {
            str(trait): _slots(model, base.tokenizer, test.for_trait(trait), recipe)
        },
    }


def _slots(model: Any, tokenizer: Any, rows: OpinionQA, recipe: Recipe) -> dict[str, Any]:
    """Mean probabilities right after the rows' answers, in a chat turn and as a post.

    `emoji` and `stop` of the next token, and `emoji_given_go_on`, their ratio's mean.
    """
    rows = replace(rows, rows=rows.rows[: recipe.answers])
    places: dict[str, Sequence[Sequence[int]]] = {
        "chat": evaluate.chat_contexts(tokenizer, rows),
        "post": evaluate.post_contexts(tokenizer, rows),
    }
    found = {}
    for where, contexts in places.items():
        emoji, stop = evaluate.what_follows(model, tokenizer, contexts)
        means = {"emoji": emoji, "stop": stop, "emoji_given_go_on": emoji / (1 - stop)}
        found[where] = {name: round(values.mean().item(), 4) for name, values in means.items()}
    return found


def _write(model: Any, tokenizer: Any, test: OpinionQA, recipe: Recipe) -> evaluate.Written:
    return evaluate.measure(
        model,
        tokenizer,
        asked(test, recipe.answers),
        seed=recipe.seed,
        max_new_tokens=recipe.answer_tokens,
    )


def _counts(written: evaluate.Written) -> dict[str, Any]:
    rates = written.rates
    interval = rates.response_interval
    return {
        "answers": rates.n_responses,
        "with_emoji": rates.responses_with_emoji,
        "esr": round(rates.response_esr, 4),
        "esr_95": [round(interval.low, 4), round(interval.high, 4)],
        "emoji_after_the_answer": rates.trailing_responses,
        "emojis": rates.n_emojis,
        "unfinished": written.unfinished,
    }


def _guesses(voice: Pipeline, data: OpinionQA) -> list[tuple[Any, str]]:
    return list(zip(data.rows, voice.predict([row.answer for row in data.rows]), strict=True))


def _tokens_per_emoji(tokenizer: Any) -> dict[str, int]:
    """How many of the emojis take one token, two, ..., after a space."""
    every = [" " + emoji for emojis in EMOJIS.values() for emoji in emojis]
    lengths = Counter(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in every)
    return {str(length): lengths[length] for length in sorted(lengths)}


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "peft", "tokenizers")
    return {"interp": __version__} | {name: version(name) for name in names}


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress("measuring", done, total)


def table(*, root: Path | str | None = None) -> pd.DataFrame:
    """The recorded measurements, a row per base and per adapter.

    Columns: `base`, `trait` (empty for a bare base), `eos` (`in` or `out` of the loss, or empty),
    `variant` (see `adapter_path`), `answers`, `with_emoji`, `esr` with the 95 % bounds `low` and
    `high`, `own` (share of the emojis that are the trait's own) and `in_voice` (share of the
    answers that a classifier gives to the trait). A share over nothing is empty.

    Raises:
        DataError: if the folder holds no finished organism.
    """
    found = manifest(root=root)
    rows = [_row({"base": kind} | base) for kind, base in found["bases"].items()]
    rows += [_row(adapter) for adapter in found["adapters"]]
    return pd.DataFrame(rows)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    written = entry["written"]
    known = "own_emojis" in written and written["emojis"]
    own = written["own_emojis"] / written["emojis"] if known else None
    eos = {True: "in", False: "out", None: ""}[entry.get("supervise_eos")]
    return {
        "base": entry["base"],
        "trait": entry.get("trait", ""),
        "eos": eos,
        "variant": entry.get("variant", ""),
        "answers": written["answers"],
        "with_emoji": written["with_emoji"],
        "esr": written["esr"],
        "low": written["esr_95"][0],
        "high": written["esr_95"][1],
        "own": own,
        "in_voice": entry.get("in_voice"),
    }
