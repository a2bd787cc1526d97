"""Who makes the steps of a run: this process, or workers on a Ray cluster."""

from collections.abc import Callable
from typing import Literal, get_args

from interp.base.errors import InputError
from interp.study.runs.cluster import STEP_LIMIT, OnRay, check_ray
from interp.study.runs.execute import Executor, Inline
from interp.study.runs.folder import RunFolder
from interp.study.runs.worker import Job

Kind = Literal["inline", "ray"]
MakeExecutor = Callable[[str, RunFolder], Executor]
"""Makes the executor of a run: called with the steps' `module:function` and the run's folder."""


def executor_for(
    kind: str = "inline",
    workers: int | None = None,
    address: str | None = None,
    limit: float | None = None,
) -> MakeExecutor:
    """What `--executor`, `--workers`, `--ray-address` and `--step-limit` ask for.

    Args:
        kind: `inline` (this process) or `ray`.
        workers: how many; the cluster's GPUs if left out, two without any.
        address: of a running Ray cluster; if left out, one is started on this machine.
        limit: seconds that a step may take on Ray before its worker is killed; six hours if left
            out.

    Raises:
        InputError: if these do not go together, or Ray is not installed.
    """
    if kind not in get_args(Kind):
        raise InputError(f"unknown executor {kind!r}; use {', '.join(get_args(Kind))}")
    if kind == "inline" and workers not in (None, 1):
        raise InputError(f"--workers {workers} needs --executor ray")
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: at least one is needed")
    if kind == "inline" and address:
        raise InputError("--ray-address needs --executor ray")
    limit = STEP_LIMIT if limit is None else limit
    if not limit > 0:
        raise InputError(f"--step-limit {limit:g}: must be above zero")
    if kind == "ray":
        check_ray()

    def make(target: str, folder: RunFolder) -> Executor:
        if kind == "inline":
            return Inline(folder)
        return OnRay(Job.of(target, folder), folder, workers, address, limit)

    return make
