"""Running a study: its steps, in one run folder."""

from pathlib import Path

from interp.base.console import OVERALL
from interp.base.progress import Progress
from interp.study.config import StudyConfig, anchored
from interp.study.runs import MakeExecutor, RunFolder, execute, run_folder
from interp.study.steps import steps

STEPS = "interp.study.steps:steps"
"""What a worker calls for the steps."""


def run(
    config: StudyConfig,
    out: Path | str,
    progress: Progress | None = None,
    executor: MakeExecutor | None = None,
) -> RunFolder:
    """Run a study, or go on with it, and leave its results in `out`.

    Args:
        config: what is asked. A changed one redoes in `out` just what depends on the change.
        out: the run folder, or its URL (anything that fsspec reaches).
        progress: called with (label, done, total).
        executor: who performs the steps, see `executor_for`; this process if left out.

    Raises:
        InputError: (a subclass says which) if a model, an adapter, the data or `out` is unusable.
        StepsFailedError: if steps failed by an error of ours; the others are done.
    """
    values = anchored(config).model_dump(mode="json")
    folder = run_folder(out)
    with folder.lock():
        folder.begin(values, change=True)
        todo = steps(values, folder, progress)

        def overall(done: int, total: int) -> None:
            if progress:
                progress(OVERALL, done, total)

        made = execute(todo, folder, executor(STEPS, folder) if executor else None, overall)
        if made or "finished" not in folder.manifest:
            folder.finish(sum(record["seconds"] for record in folder.manifest["steps"].values()))
        else:
            folder.note(status="complete")
    return folder
