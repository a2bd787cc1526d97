"""Commands that prepare: finetune, data, organism, doctor."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from interp import __version__
from interp.base import console
from interp.base.files import read_json
from interp.base.traits import TRAITS, Trait
from interp.cli import check_inputs
from interp.cli.fields import options
from interp.cli.from_file import ConfigFile
from interp.cli.options import Base, Clean, Columns, Data, Drop, Json, Out, Seed, TestShare
from interp.methods.finetune.config import FinetuneConfig

PANEL = "Prepare"
app = typer.Typer()
data_app = typer.Typer(help="Check, clean and split opinion QA data.", no_args_is_help=True)
organism_app = typer.Typer(
    help="The small model that ships with the package.", no_args_is_help=True
)
app.add_typer(data_app, name="data", rich_help_panel=PANEL)
app.add_typer(organism_app, name="organism", rich_help_panel=PANEL)


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: interp finetune --base my-model --data answers.csv --trait extraversion "
    "--no-supervise-eos --out adapters/extraversion",
)
@options(FinetuneConfig, without=("supervise_eos", "seed"), only_given=True)
def finetune(
    fields: dict[str, Any],
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
    preset: Annotated[
        Literal["7b", "small"],
        typer.Option(help="What settings are that are left out: QLoRA as published, or small."),
    ] = "7b",
    report_to: Annotated[
        Literal["none", "wandb", "tensorboard"],
        typer.Option(help="Where each step's loss goes (tensorboard: to OUT-log)."),
    ] = "none",
    columns: Columns = "",
    clean: Clean = False,
    drop_duplicates: Drop = False,
    test_share: TestShare = 0.3,
    seed: Seed = 0,
    config: ConfigFile = None,  # noqa: ARG001 (its callback does it)
    json: Json = False,
) -> None:
    """Train one trait's adapter, by QLoRA or plain LoRA, on emoji-free answers."""
    from interp.methods import finetune as room
    from interp.text.data import ColumnMap, load_train_test

    how: dict[str, Any] = {"supervise_eos": supervise_eos, "seed": seed}
    begun = FinetuneConfig.small(**how) if preset == "small" else FinetuneConfig(**how)
    chosen = begun.changed(fields)
    check_inputs.check_places(base, (), data)
    rows, held_out = load_train_test(
        data,
        test_share=test_share,
        seed=seed,
        columns=ColumnMap.parse(columns) if columns else None,
        on_emoji="clean" if clean else "error",
        on_duplicate="drop" if drop_duplicates else "error",
        trait=Trait.parse(trait),
    )
    with console.loading():
        train = room.train
    with console.progress(not json) as progress:
        made = train(base, rows, chosen, out, report_to=report_to, progress=progress)
    kept = read_json(made / "interp.json")["data"]
    counts = kept["encoding"] | {
        n: c for n, c in kept["cleaning"].items() if c and n != "rows_read"
    }
    _done(json, adapter=str(made), held_out=len(held_out), **counts)


@data_app.command("check", epilog="Example: interp data check answers.csv --clean --out clean.csv")
def data_check(
    source: Annotated[str, typer.Argument(help="File, folder or hub id.")],
    split: Annotated[
        Literal["train", "test"] | None, typer.Option(help="Of a folder or hub id.")
    ] = None,
    columns: Columns = "",
    trait: Annotated[str | None, typer.Option(help="Only this trait's rows.")] = None,
    clean: Clean = False,
    drop_duplicates: Drop = False,
    out: Annotated[Path | None, typer.Option(help="Write the checked rows here (CSV).")] = None,
    json: Json = False,
) -> None:
    """Check opinion QA data: traits, blanks, duplicates, and emojis in answers."""
    from interp.text import data as room

    loaded = room.load(
        source,
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


@data_app.command(
    "split", epilog="Example: interp data split answers.csv --test-share 0.3 --out split"
)
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
    from interp.text import data as room

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


@organism_app.command("build", epilog="Example: interp organism build --out organism --seed 1")
def organism_build(
    out: Out,
    seed: Seed = 0,
    scale: Annotated[float, typer.Option(help="Below 1: fewer steps, for a try.")] = 1.0,
    json: Json = False,
) -> None:
    """Remake the organism from its seed: corpus, tokenizer, bases, data and adapters."""
    from interp import organism

    with console.loading():
        build = organism.build
    with console.progress(not json) as progress:
        made = build(out, seed=seed, scale=scale, progress=progress)
    _done(json, organism=str(made))


@organism_app.command("path", epilog="Example: interp organism path --json")
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


@app.command(rich_help_panel=PANEL, epilog="Example: interp doctor --json")
def doctor(json: Json = False) -> None:
    """Say what this machine has, what will not work on it, and how to mend it."""
    with console.loading():
        from interp.cli.doctor import examine, rows

    found = examine()
    if json:
        console.emit_json(found)
        return
    console.table(f"interp {__version__}", ["what", "found"], rows(found))
    for problem in found["problems"]:
        console.say(f"note: {problem}")


def _done(json: bool, **facts: Any) -> None:
    if json:
        console.emit_json(facts)
    else:
        for name, value in facts.items():
            console.say(f"{name.replace('_', ' ')}: {value}")
