"""Who does the steps of a run: this process, local worker processes, or a Ray cluster."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

from interp.base.errors import InputError
from interp.study.runs.cluster import Actors, check_ray
from interp.study.runs.crew import Crew
from interp.study.runs.execute import Executor, Inline
from interp.study.runs.folder import RunFolder
from interp.study.runs.job import Job
from interp.study.runs.processes import WITHOUT_GPU, Processes, count_gpus

Kind = Literal["inline", "processes", "ray"]
MakeExecutor = Callable[[str, RunFolder], Executor]
"""Makes the executor of a run: called with the steps' `module:function` and the run's folder."""


def executor_for(
    kind: str = "inline", workers: int | None = None, address: str | None = None
) -> MakeExecutor:
    """What `--executor`, `--workers` and `--ray-address` ask for.

    Args:
        kind: `inline` (this process), `processes` (of this machine) or `ray`.
        workers: how many; the GPUs that there are if left out, two without any.
        address: of a running Ray cluster; if left out, one is started on this machine.

    Raises:
        InputError: if these do not go together, or Ray is not installed.
    """
    if kind not in get_args(Kind):
        raise InputError(f"unknown executor {kind!r}; use {', '.join(get_args(Kind))}")
    if kind == "inline" and workers not in (None, 1):
        raise InputError(f"--workers {workers} needs --executor processes or ray")
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: at least one is needed")
    if kind != "ray" and address:
        raise InputError("--ray-address needs --executor ray")
    if kind == "ray":
        check_ray()

    def make(target: str, folder: RunFolder) -> Executor:
        if kind == "inline":
            return Inline(folder)
        job = Job.of(target, folder)
        if kind == "processes":
            return Crew(Processes(job, workers or count_gpus() or WITHOUT_GPU))
        return Crew(Actors(replace(job, place=place(folder)), workers, address))

    return make


def place(folder: RunFolder) -> str:
    """Where other machines find a run."""
    named = str(folder)
    return named if named != str(folder.path) else str(folder.path.absolute())
