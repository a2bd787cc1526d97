"""Commands that trace and read: demo, trace, report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.base import console, machine
from interp.base.errors import RunError
from interp.base.outcomes import reworded
from interp.base.sizes import show_time
from interp.base.traits import TRAITS, Trait
from interp.cli import check_inputs, runs
from interp.cli.fields import options
from interp.cli.from_file import ConfigFile
from interp.cli.labelled import labelled
from interp.cli.options import Executor, Json, RayAddress, Run, RunOut, StepLimit, Workers
from interp.study import StudyConfig, parse_config

PANEL = "Trace and read"
app = typer.Typer()
app.add_typer(runs.app, name="run", rich_help_panel=PANEL)


_OF_DEMO = (
    "base", "adapters", "data", "columns", "clean", "drop_duplicates", "device", "dtype",
    "quantization", "trust_remote_code", "any_base", "prompt_format", "tuned",
)  # fmt: skip
"""What the shipped organism decides."""


@app.command(
    rich_help_panel=PANEL, epilog="Example: interp demo --traits extraversion --out runs/one"
)
@options(StudyConfig, without=_OF_DEMO, n_switched=32)
def demo(
    out: RunOut = "runs/demo",
    traits: Annotated[str, typer.Option(help="Traits, comma-separated.")] = ",".join(TRAITS),
    *,
    fields: dict[str, Any],
    executor: Executor = "inline",
    workers: Workers = None,
    ray_address: RayAddress = None,
    step_limit: StepLimit = None,
    config: ConfigFile = None,  # noqa: ARG001 (its callback does it)
    json: Json = False,
) -> None:
    """Run the main job on the shipped organism, for all five traits, to a finished report."""
    from interp import organism
    from interp.study.runs import executor_for

    wanted = [Trait.known(name) for name in traits.split(",") if name.strip()]
    adapters = {trait: str(organism.adapter_path(trait)) for trait in wanted}
    ours = {"base": str(organism.base_path()), "adapters": adapters, "data": str(organism.ASSETS)}
    made = executor_for(executor, workers, ray_address, step_limit)
    # The organism's matrices are too small to gain from more threads.
    study(parse_config(fields | ours), out, json, made, threads=1)


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: interp trace --base my-model --adapter extraversion=adapters/e "
    "--adapter humour=org/name@main --data answers.csv --out runs/mine",
)
@options(StudyConfig, without=("adapters", "tuned"))
def trace(
    fields: dict[str, Any],
    out: RunOut,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            help="LABEL=PLACE of an adapter that PEFT saved: folder or hub id. Once per label.",
        ),
    ] = None,
    adapters: Annotated[
        str | None,
        typer.Option("--adapters", help="Instead: a folder of adapters, named by their labels."),
    ] = None,
    tuned: Annotated[
        list[str] | None,
        typer.Option("--tuned", help="Instead: LABEL=PLACE of a full fine-tune. Once per label."),
    ] = None,
    trait: Annotated[
        str | None, typer.Option("--trait", help="Label of a PLACE that is given without one.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost here, and make nothing.")
    ] = False,
    executor: Executor = "inline",
    workers: Workers = None,
    ray_address: RayAddress = None,
    step_limit: StepLimit = None,
    config: ConfigFile = None,  # noqa: ARG001 (its callback does it)
    json: Json = False,
) -> None:
    """Trace adapters: emoji rates, lens, patching and probes of each, to one finished report."""
    from interp.study.runs import executor_for

    asked = parse_config(fields | labelled(adapter, adapters, tuned, trait))
    if dry_run:
        return _price(asked, json)
    study(asked, out, json, executor_for(executor, workers, ray_address, step_limit))


def _price(config: StudyConfig, json: bool) -> None:
    """Print what a study would cost here, and make nothing."""
    check_inputs.check(config)
    with console.loading():
        from interp.study import price as room

        shape = room.Shape.of(config.base, config.trust_remote_code)
        speed = room.speeds(shape, config)
    made = config if room.as_given(config) else room.fitted(config, shape, speed)
    cost = room.price(made, shape, speed)
    if json:
        facts = {"steps": len(cost.seconds), "seconds": round(cost.total, 1), "memory": cost.memory}
        console.emit_json(facts | {"chosen": room.chosen(config, made)})
        return
    rows = [(name, count, show_time(seconds)) for name, count, seconds in cost.lines()]
    console.table("What it would cost here", ["what", "steps", "time"], rows)
    console.say(room.told(made, cost))
    if config.budget != "auto" or made != config:
        console.say(f"budget {config.budget}: {room.chosen(config, made)}")
    if (slow := room.slow_patching(made, shape)) is not None:
        console.say(slow)


@app.command(rich_help_panel=PANEL, epilog="Example: interp report runs/demo --pdf")
def report(
    run: Run,
    other: Annotated[
        str | None, typer.Argument(help="A second run's folder: compare the two instead.")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Each figure as a PDF too.")] = False,
    json: Json = False,
) -> None:
    """Write a run's report, figures and tables again; of two runs, compare what they say."""
    if other is None:
        _report(run, json, pdf=pdf)
    else:
        _compare(run, other, json)


def _compare(run: str, other: str, json: bool) -> None:
    """Write the page of a comparison, and say the rates."""
    with console.loading():
        from interp.report import compare as room

    made = room.compare(run, other)
    page = str(room.write(made, Path(run)))
    rates = [(line.what, line.first, line.second, line.apart) for line in made.rates]
    columns = ["label", "first", "second", "second minus first"]
    if json:
        console.emit_json({"report": page, "traits": made.numbers})
        return
    console.table(reworded("Answers with an emoji", made.outcome.name), columns, rates)
    console.say(f"report: {page}")


def study(config: Any, out: str, json: bool, executor: Any, *, threads: int | None = None) -> None:
    """Run a study, or go on with it, to its report; with so many threads, where cores are."""
    check_inputs.check(config)
    with console.loading():
        import torch

        from interp import study as room

        run = room.run

    if threads is not None:
        torch.set_num_threads(min(threads, machine.cores()))
    with console.progress(not json) as progress:
        run(config, out, progress, executor)
    _report(out, json, keep=True)


def _report(run: str, json: bool, *, keep: bool = False, pdf: bool = False) -> None:
    """Write the report, unless it may be kept and is there; then say what is in it."""
    from interp.study.runs import RunBusyError, open_run

    folder = open_run(run)
    with console.loading():
        from interp import report as room
        from interp.report import current

    try:
        with folder.lock():  # what a killed report left half-written is removed
            if not (keep and current.is_current(folder)):
                _draw(folder, json, pdf)
                current.note(folder)
    except RunBusyError as problem:
        if keep:
            raise
        console.say(f"{problem}; this is the report of what is done so far")
        _draw(folder, json, pdf)
    page = f"{folder}/{room.PAGE}"
    if folder.manifest.get("status") != "complete":
        console.say(room.notice(folder))
    skipped = folder.manifest.get("skipped", {})
    if json:
        console.emit_json({"report": page, "traits": room.numbers(folder), "skipped": skipped})
        return
    summary = room.summary(folder)
    if len(summary):
        said = reworded("Answers with an emoji", room.outcome(folder))
        console.table(said, list(summary.columns), summary.values.tolist())
    _merges(folder)
    for reason in dict.fromkeys(skipped.values()):
        steps = [step for step, why in skipped.items() if why == reason]
        more = f" and {len(steps) - 2} more" if len(steps) > 3 else ""
        console.say(f"skipped {', '.join(steps[: 2 if more else 3])}{more}: {reason}")
    console.say(f"report: {page}")


def _draw(folder: Any, json: bool, pdf: bool) -> None:
    from interp import report as room
    from interp.study.runs import of_the_place, unwritable

    try:
        with console.progress(not json) as progress:
            room.write(folder, progress, pdf=pdf)
    except OSError as problem:
        if not of_the_place(problem):
            raise
        raise RunError(f"the report: {unwritable(folder.path, problem)}") from None


def _merges(folder: Any) -> None:
    """Print the merge reports: the error beside the adapter's own effect."""
    from interp.study.catalogue import MERGE
    from interp.study.stored import load

    rows = []
    for trait in folder.traits:
        path = folder.file(MERGE.step_name(str(trait), "") + MERGE.suffix)
        if path.is_file():
            merge = load(MERGE, path)
            rows.append((str(trait), merge.mean_kl, merge.max_kl, merge.effect_mean_kl))
    columns = ["trait", "merge error (mean KL)", "max KL", "adapter's effect (mean KL)"]
    if rows:
        console.table("Merged against unmerged, nats per position", columns, rows)
