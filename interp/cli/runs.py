"""Commands on a run: status, resume, push."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.base import console
from interp.base.errors import RunError
from interp.cli.options import Executor, Json, RayAddress, Run, StepLimit, TrustRemoteCode, Workers
from interp.study import catalogue

app = typer.Typer(help="Look at a run, or go on with it.", no_args_is_help=True)


@app.command("status", epilog="Example: interp run status runs/demo")
def run_status(
    run: Run,
    table: Annotated[
        bool, typer.Option("--table", help="Every step, with its time and peak memory.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what a run has done, is doing and has failed in, in a few lines."""
    from interp.study.runs import open_run

    folder = open_run(run)
    manifest = folder.manifest
    alive = folder.is_locked() or folder.runs_elsewhere()
    waiting = {name: {"state": "waiting"} for name in catalogue.step_names(manifest)}
    records = waiting | manifest.get("steps", {})
    steps = {name: _state(record, alive) for name, record in records.items()}
    status = "running" if alive else _rest(manifest.get("status", "unknown"))
    if json:
        console.emit_json(manifest | {"status": status, "steps": steps})
        return
    if table:
        rows = [
            (name, record["state"], record.get("seconds", ""), record.get("peak_mib", ""))
            for name, record in steps.items()
        ]
        console.table(f"{run}: {status}", ["step", "state", "seconds", "peak MiB"], rows)
    else:
        console.lines([f"{run}: {status}", *_in_short(steps)])
    reasons = [(name, record) for name, record in steps.items() if record.get("reason")]
    for name, record in reasons if table else reasons[:1]:
        console.say(f"{record['state']} {name}: {record['reason']}")
    if status not in ("running", "complete"):
        console.say(f"go on with: interp run resume {run}")


def _in_short(steps: dict[str, dict[str, Any]]) -> list[str]:
    """How many steps are in which state, and what they took."""
    states = Counter(str(record["state"]) for record in steps.values())
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    said = [f"{len(steps)} steps: {counts or 'none begun'}; every step: --table"]
    times = {name: record["seconds"] for name, record in steps.items()
             if isinstance(record.get("seconds"), int | float)}  # fmt: skip
    if times:
        longest = max(times, key=lambda name: times[name])
        most = max((record.get("peak_mib") or 0 for record in steps.values()), default=0)
        said.append(
            f"{sum(times.values()):,.0f} s, peak {most:,} MiB; longest: {longest} "
            f"({times[longest]:,.0f} s)"
        )
    return said


@app.command("resume", epilog="Example: interp run resume runs/demo")
def run_resume(
    run: Run,
    executor: Executor = "inline",
    workers: Workers = None,
    ray_address: RayAddress = None,
    step_limit: StepLimit = None,
    trust_remote_code: TrustRemoteCode = None,
    json: Json = False,
) -> None:
    """Go on with a run that was stopped; finished steps are kept."""
    from interp.cli.trace import study
    from interp.study import parse_config
    from interp.study.runs import executor_for, open_run

    manifest = open_run(run).manifest
    config = parse_config(manifest.get("config", {}))
    _check_trust(run, config.trust_remote_code, trust_remote_code)
    made = executor_for(executor, workers, ray_address, step_limit)
    study(config, run, json, made, threads=_threads(manifest))


@app.command("push", epilog="Example: interp run push runs/demo ORG/NAME")
def run_push(
    run: Run,
    repo: Annotated[
        str, typer.Argument(metavar="ORG/NAME", help="Dataset repository; made if not there.")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Everyone may read a repository that is made.")
    ] = False,
    json: Json = False,
) -> None:
    """Put a finished run on the Hugging Face hub, as a dataset repository."""
    from interp.study.runs import open_run
    from interp.study.runs.to_hub import push

    url = push(open_run(run), repo, public=public)
    if json:
        console.emit_json({"repository": url})
    else:
        console.say(f"repository: {url}")


def _check_trust(run: str, asked: str | None, named: str | None) -> None:
    """Whose code may run is said by the user each time: a run folder may come from a stranger.

    Raises:
        RunError: if the manifest and the user do not name the same repository, or both none.
    """
    known = asked and asked.rstrip("/")
    if named is not None and known not in (named.rstrip("/"), str(Path(named).absolute())):
        raise RunError(f"{run}: was not begun with the code of {named}; its manifest names {asked}")
    if asked is not None and named is None:
        raise RunError(
            f"{run}: its manifest asks to run the code that {asked} brings; refused. If you trust "
            f"it, name it: interp run resume {run} --trust-remote-code {asked}"
        )


def _threads(manifest: dict[str, Any]) -> int | None:
    """As many threads as before, where it is known: another number adds in another order."""
    before = (manifest.get("reproducibility") or [{}])[-1].get("threads")
    threads = before.get("torch") if isinstance(before, dict) else None
    return threads if isinstance(threads, int) and threads > 0 else None


def _state(record: dict[str, Any], alive: bool) -> dict[str, Any]:
    """A step noted as running by a process that is no more, was stopped."""
    stopped = record.get("state") == "running" and not alive
    return {**record, "state": "stopped"} if stopped else record


def _rest(status: str) -> str:
    return "stopped" if status == "running" else status
