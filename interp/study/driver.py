"""Running a study: its steps, in one run folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from interp.base.errors import InputError, ModelError, RunError
from interp.base.files import kind_of
from interp.base.progress import Progress
from interp.base.yaml_files import write_mapping
from interp.study import price
from interp.study.config import StudyConfig, anchored, parse_config
from interp.study.runs import LOG, MANIFEST, MakeExecutor, RunFolder, Step, execute, run_folder
from interp.study.runs.folder import LOCK
from interp.study.runs.perform import DONE
from interp.study.steps import steps

STEPS = "interp.study.steps:steps"
"""What a worker calls for the steps."""
CONFIG = "config.yaml"
"""What a run was asked, as `interp trace --config` takes it."""
_SIZES = ("n_responses", "n_trace", "n_positions", "n_switched", "only")
_DEAR = (*_SIZES, "base", "adapters", "max_new_tokens")
"""What a budget's choice depends on: where it changes, the budget chooses anew."""
_log = logging.getLogger(__name__)


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
    folder = run_folder(out)
    with _none_left(folder), folder.lock(), _forgotten(folder):
        todo = _begun(config, folder, progress)
        made = execute(todo, folder, executor(STEPS, folder) if executor else None, progress)
        if made or "finished" not in folder.manifest:
            folder.finish(sum(record["seconds"] for record in folder.manifest["steps"].values()))
        else:
            folder.note(status="complete")
    return folder


@contextmanager
def _none_left(folder: RunFolder) -> Iterator[None]:
    """No empty folder is left where none was."""
    absent = kind_of(folder.path) == "absent"
    try:
        yield
    except InputError:
        if absent:
            with suppress(OSError):  # there is something in it
                folder.path.rmdir()
        raise


@contextmanager
def _forgotten(folder: RunFolder) -> Iterator[None]:
    """A run that is refused before anything is made leaves nothing."""
    begun = folder.file(MANIFEST).is_file()
    try:
        yield
    except InputError:
        states = {record.get("state") for record in _before(folder, "steps").values()}
        if not begun and DONE not in states:
            for name in (MANIFEST, CONFIG, LOG, LOCK):
                folder.file(name).unlink(missing_ok=True)
        raise


def _begun(config: StudyConfig, folder: RunFolder, progress: Progress | None) -> list[Step]:
    """The steps of a run that is begun, or goes on, with sizes that fit its budget."""

    def begin(config: StudyConfig) -> list[Step]:
        values = config.model_dump(mode="json")
        folder.begin(values, change=True)
        given = {name: value for name, value in values.items() if value is not None}
        write_mapping(folder.path / CONFIG, given, "interp trace --config, with another --out")
        return steps(values, folder, progress)  # looks for adapters, data, base, in this order

    before, config = _before(folder, "config"), anchored(config)
    timed = config.budget not in ("auto", "none")
    dear = {name: config.model_dump(mode="json")[name] for name in _DEAR}
    known = _before(folder, "asked"), {name: before.get(name) for name in _DEAR}
    if timed and before.get("budget") == config.budget and dear in known:  # it has chosen
        sizes = {name: before[name] for name in _SIZES}
        return begin(parse_config(config.model_dump() | sizes))
    # Without its budget until that has chosen: a run that is killed in between chooses anew.
    first = config.model_copy(update={"budget": "none"}) if timed else config
    todo = begin(first)
    if timed:
        folder.note(asked=dear)
    priced = _priced(config)
    return todo if priced == first else begin(priced)


def _before(folder: RunFolder, what: str) -> dict[str, Any]:
    """A part of the manifest of the run that is there, if there is one."""
    try:
        return dict(folder.manifest.get(what) or {})
    except RunError:
        return {}


def _priced(config: StudyConfig) -> StudyConfig:
    """The config with sizes that fit its budget.

    Says (as a warning) what was chosen, and what patching will cost where it is not exact.
    """
    timed = config.budget not in ("auto", "none")
    if price.as_given(config):
        return config
    try:
        shape = price.Shape.of(config.base, config.trust_remote_code)
    except ModelError:
        if not timed:  # loading it says why
            return config
        raise
    speed = price.speeds(shape, config) if timed else (1.0, 1.0)
    made = price.fitted(config, shape, speed)
    if timed:
        cost = price.told(made, price.price(made, shape, speed))
        _log.warning("budget %s: %s; %s", config.budget, price.chosen(config, made), cost)
    elif made != config:
        _log.warning(
            "a model of this size is traced with %s; --budget none makes everything",
            price.chosen(config, made),
        )
    if (slow := price.slow_patching(made, shape)) is not None:
        _log.warning(slow)
    return made
