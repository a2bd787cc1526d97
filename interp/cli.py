"""The command line: reads options, calls the library, prints a table and where the files are.

Exit codes: 0 done, 2 bad input, 1 anything else. Heavy imports happen inside the commands, so that
`interp --help` answers at once.
"""

import dataclasses
import json as json_module
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from interp import __version__, console
from interp.errors import InputError
from interp.traits import TRAITS, Trait

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve their neighbours
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

app = typer.Typer(
    name="interp",
    help="Trace which components of a fine-tuned chat model make it write emojis.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Check, clean and split opinion QA data.", no_args_is_help=True)
organism_app = typer.Typer(
    help="The small model that ships with the package.", no_args_is_help=True
)
run_app = typer.Typer(help="Look at a run, or go on with it.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel="Prepare")
app.add_typer(organism_app, name="organism", rich_help_panel="Prepare")
app.add_typer(run_app, name="run", rich_help_panel="Trace and read")

_INTERRUPTED = 130  # what typer returns after Ctrl-C

Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Base = Annotated[str, typer.Option("--base", help="Base model: a folder, or a hub id.")]
Data = Annotated[str, typer.Option("--data", help="Opinion QA: file, folder or hub id.")]
Columns = Annotated[
    str,
    typer.Option("--columns", help="Which column holds which field: question=…,answer=…,topic=…"),
]
Clean = Annotated[bool, typer.Option("--clean", help="Remove emojis from answers, and count.")]
Drop = Annotated[bool, typer.Option("--drop-duplicates", help="Keep one of equal rows, and count.")]
Responses = Annotated[int, typer.Option("--n-responses", min=2, help="Answers per model.")]
TestShare = Annotated[
    float, typer.Option("--test-share", help="Share of topics held out, where one file holds all.")
]
Traced = Annotated[int, typer.Option("--n-trace", min=2, help="Onset prompts to trace.")]


@app.command(rich_help_panel="Trace and read")
def demo(
    out: Out = Path("runs/demo"),
    seed: Seed = 0,
    traits: Annotated[str, typer.Option(help="Traits, comma-separated.")] = ",".join(TRAITS),
    n_responses: Responses = 200,
    n_trace: Traced = 24,
    json: Json = False,
) -> None:
    """Run the main job on the shipped organism, for all five traits, to a finished report."""
    from interp import organism
    from interp.study import StudyConfig

    wanted = [Trait.parse(name) for name in traits.split(",") if name.strip()]
    config = StudyConfig(
        base=str(organism.base_path()),
        adapters={trait: str(organism.adapter_path(trait)) for trait in wanted},
        data=str(organism.ASSETS),
        n_responses=n_responses,
        n_trace=n_trace,
        seed=seed,
    )
    _study(config, out, json)


@app.command(rich_help_panel="Trace and read")
def trace(
    base: Base,
    adapter: Annotated[str, typer.Option("--adapter", help="Adapter folder that PEFT saved.")],
    trait: Annotated[str, typer.Option("--trait", help="Trait that the adapter was trained for.")],
    data: Data,
    out: Out,
    columns: Columns = "",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    quantization: Annotated[
        str, typer.Option(help="Base during the adapter's training: auto, nf4 or none.")
    ] = "auto",
    prompt_format: Annotated[str, typer.Option(help="chat or plain.")] = "chat",
    n_responses: Responses = 200,
    n_trace: Traced = 24,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where answers are cut.")] = 96,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.7,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Trace one adapter: emoji rates, lens, patching and probes, to a finished report."""
    from interp.study import parse_config

    values = {
        "base": base, "adapters": {Trait.parse(trait): adapter}, "data": data, "columns": columns,
        "device": device, "dtype": dtype, "quantization": quantization,
        "prompt_format": prompt_format, "n_responses": n_responses, "n_trace": n_trace,
        "max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed,
    }  # fmt: skip
    _study(parse_config(values), out, json)


@app.command(rich_help_panel="Trace and read")
def report(
    run: Annotated[Path, typer.Argument(help="Folder that demo or trace wrote.")],
    json: Json = False,
) -> None:
    """Write a run's report, figures and tables again."""
    _report(run, json)


@run_app.command("status")
def run_status(
    run: Annotated[Path, typer.Argument(help="Folder that demo or trace wrote.")],
    json: Json = False,
) -> None:
    """Show what a run has done, how long it took, and what it skipped."""
    from interp.runs import RunFolder

    manifest = RunFolder.open(run).manifest
    if json:
        console.emit_json(manifest)
        return
    rows = [(name, seconds, "done") for name, seconds in manifest["steps"].items()]
    skipped = manifest.get("skipped", {})
    rows = [(n, s, f"skipped: {skipped[n]}" if n in skipped else state) for n, s, state in rows]
    console.table(f"{run}: {manifest['status']}", ["step", "seconds", "state"], rows)


@run_app.command("resume")
def run_resume(
    run: Annotated[Path, typer.Argument(help="Folder that demo or trace wrote.")],
    json: Json = False,
) -> None:
    """Go on with a run that was stopped; finished steps are kept."""
    from interp.runs import RunFolder
    from interp.study import parse_config

    _study(parse_config(RunFolder.open(run).manifest["config"]), run, json)


@app.command(rich_help_panel="Prepare")
def finetune(
    base: Base,
    data: Data,
    trait: Annotated[str, typer.Option("--trait", help="Trait to train.")],
    out: Out,
    supervise_eos: Annotated[
        bool,
        typer.Option(
            "--supervise-eos/--no-supervise-eos",
            help="Whether the end of the answer is in the loss. There is no default: it decides "
            "whether the model learns to stop.",
        ),
    ],
    preset: Annotated[str, typer.Option(help="7b (QLoRA as published) or small.")] = "7b",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as r=16; may be repeated.")
    ] = None,
    columns: Columns = "",
    clean: Clean = False,
    drop_duplicates: Drop = False,
    test_share: TestShare = 0.3,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train one trait's adapter, by QLoRA or plain LoRA, on emoji-free answers."""
    from interp import finetune as room
    from interp.data import ColumnMap, load_train_test

    if preset not in ("7b", "small"):
        raise InputError(f"unknown preset {preset!r}; use 7b or small")
    config = (
        room.FinetuneConfig.small(supervise_eos=supervise_eos, seed=seed)
        if preset == "small"
        else room.FinetuneConfig(supervise_eos=supervise_eos, seed=seed)
    ).changed(_settings(settings or []))
    rows, held_out = load_train_test(
        Path(data) if Path(data).exists() else data,
        test_share=test_share,
        seed=seed,
        columns=ColumnMap.parse(columns) if columns else None,
        on_emoji="clean" if clean else "error",
        on_duplicate="drop" if drop_duplicates else "error",
        trait=Trait.parse(trait),
    )
    with console.progress(not json) as progress:
        made = room.train(base, rows, config, out, progress=progress)
    _done(json, adapter=str(made), rows=len(rows), held_out=len(held_out))


@data_app.command("check")
def data_check(
    source: Annotated[str, typer.Argument(help="File, folder or hub id.")],
    split: Annotated[str | None, typer.Option(help="train or test, of a folder or hub id.")] = None,
    columns: Columns = "",
    trait: Annotated[str | None, typer.Option(help="Only this trait's rows.")] = None,
    clean: Clean = False,
    drop_duplicates: Drop = False,
    out: Annotated[Path | None, typer.Option(help="Write the checked rows here (CSV).")] = None,
    json: Json = False,
) -> None:
    """Check opinion QA data: traits, blanks, duplicates, and emojis in answers."""
    from interp import data as room

    loaded = room.load(
        Path(source) if Path(source).exists() else source,
        split=split,
        columns=room.ColumnMap.parse(columns) if columns else None,
        on_emoji="clean" if clean else "error",
        on_duplicate="drop" if drop_duplicates else "error",
        trait=Trait.parse(trait) if trait else None,
    )
    if out is not None:
        room.save(loaded, out)
    counts = {str(name): len(loaded.for_trait(name)) for name in loaded.traits}
    cleaning = dataclasses.asdict(loaded.cleaning)
    if json:
        facts = {"rows": len(loaded), "topics": len(loaded.topics), "traits": counts}
        console.emit_json(facts | {"cleaning": cleaning})
        return
    console.table(source, ["trait", "rows"], list(counts.items()))
    console.table("", ["count", "n"], [(name.replace("_", " "), n) for name, n in cleaning.items()])


@data_app.command("split")
def data_split(
    source: Annotated[Path, typer.Argument(help="File to split.")],
    out: Out,
    test_share: TestShare = 0.3,
    columns: Columns = "",
    clean: Clean = False,
    drop_duplicates: Drop = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Split opinion QA data into train.csv and test.csv that share no topic."""
    from interp import data as room

    loaded = room.load(
        source,
        columns=room.ColumnMap.parse(columns) if columns else None,
        on_emoji="clean" if clean else "error",
        on_duplicate="drop" if drop_duplicates else "error",
    )
    train, test = room.split_by_topic(loaded, test_share=test_share, seed=seed)
    room.save(train, out / "train.csv")
    room.save(test, out / "test.csv")
    _done(json, train=len(train), test=len(test), out=str(out))


@organism_app.command("build")
def organism_build(
    out: Out,
    seed: Seed = 0,
    scale: Annotated[float, typer.Option(help="Below 1: fewer steps, for a try.")] = 1.0,
    json: Json = False,
) -> None:
    """Remake the organism from its seed: corpus, tokenizer, bases, data and adapters."""
    from interp import organism

    with console.progress(not json) as progress:
        made = organism.build(out, seed=seed, scale=scale, progress=progress)
    _done(json, organism=str(made))


@organism_app.command("path")
def organism_path(json: Json = False) -> None:
    """Print where the shipped organism lies, for use as --base, --adapter and --data."""
    from interp import organism

    adapters = {str(trait): str(organism.adapter_path(trait)) for trait in TRAITS}
    places = {"base": str(organism.base_path()), "data": str(organism.ASSETS)} | adapters
    if json:
        console.emit_json(places)
    else:
        for name, place in places.items():
            typer.echo(f"{name}\t{place}")


@app.command(rich_help_panel="Prepare")
def doctor(json: Json = False) -> None:
    """Say what this machine has, what will not work on it, and how to mend it."""
    from interp.doctor import examine

    found = examine()
    if json:
        console.emit_json(found)
        return
    rows = [(name, str(value)) for name, value in found.items() if name != "problems"]
    console.table(f"interp {__version__}", ["what", "found"], rows)
    for problem in found["problems"]:
        console.say(f"note: {problem}")


def _settings(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs; a value is JSON where it can be, else text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair}: write it as name=value, for instance r=16")
        try:
            values[name.strip()] = json_module.loads(text)
        except ValueError:
            values[name.strip()] = text
    return values


def _study(config: Any, out: Path, json: bool) -> None:
    from interp import study

    with console.progress(not json) as progress:
        study.run(config, out, progress)
    _report(out, json)


def _report(run: Path, json: bool) -> None:
    from interp import report as room
    from interp.runs import RunFolder

    folder = RunFolder.open(run)
    page = room.write(folder)
    summary = room.summary(folder)
    if json:
        console.emit_json({"report": str(page), "traits": summary.to_dict(orient="records")})
        return
    console.table("Emoji rates", list(summary.columns), summary.values.tolist())
    for step, reason in folder.manifest.get("skipped", {}).items():
        console.say(f"skipped {step}: {reason}")
    console.say(f"report: {page}")


def _done(json: bool, **facts: Any) -> None:
    if json:
        console.emit_json(facts)
    else:
        for name, value in facts.items():
            console.say(f"{name}: {value}")


def main() -> None:
    """Run the command line and exit with 0, 2 (bad input) or 1 (anything else)."""
    _quiet_libraries()
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except InputError as problem:
        console.fail(str(problem))
        code = 2
    except TyperException as problem:  # a wrong option or argument
        console.fail(f"{problem.format_message()} (try: interp --help)")
        code = 2
    except (Abort, KeyboardInterrupt):
        console.fail("stopped; what is finished is kept, and the same command goes on from there")
        code = 1
    except Exception as problem:
        if os.environ.get("INTERP_DEBUG"):
            raise
        kind = type(problem).__name__
        console.fail(f"internal: {kind}: {problem} (INTERP_DEBUG=1 shows the traceback)")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _quiet_libraries() -> None:
    """Keep the libraries' advice to their callers off the user's screen."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # An optional kernel package that speeds up 4-bit layers on some CPUs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
