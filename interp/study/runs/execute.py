"""Running steps to their end: what is there is kept, what is missing is made, all is noted.

The one who calls `execute` holds the folder's lock and is the only one to write its manifest. Who
performs the steps is the executor's business: `Inline` (this process), or workers on a Ray cluster,
which hand their results over. A step whose worker died, or was killed because it took longer than
it may, is given out again, at most `TRIES` times.

A step that the input does not allow (no answer with an emoji, say) is skipped, and what needs it is
skipped with it; an error of ours fails that step and what needs it, and the others go on. Bad input
to an essential step, a full disk or a missing permission end the run at once. In every case the
same command goes on from there.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from interp.base import errors
from interp.base.console import OVERALL
from interp.base.errors import InterpError, RunError
from interp.base.files import check_place, remove_temporary, write_bytes
from interp.base.progress import Progress
from interp.study.runs.folder import RunBusyError, RunFolder, unwritable
from interp.study.runs.log import LOG, logged
from interp.study.runs.manifest import merged, now
from interp.study.runs.perform import (
    DONE,
    FAILED,
    FATAL,
    LOST,
    SKIPPED,
    StepEnd,
    content_of,
    perform,
)
from interp.study.runs.step import Step, ordered

RUNNING, STALE, STOPPED = "running", "stale", "stopped"
TRIES = 3
_log = logging.getLogger("interp.study.runs")


class StepsFailedError(InterpError):
    """Some steps of a run failed by an error of ours; the rest is done."""


@runtime_checkable
class Executor(Protocol):
    """Who performs steps."""

    def choose(self, ready: Sequence[Step]) -> list[Step]:
        """Which of these steps it takes now; some if it holds none."""
        ...

    def submit(self, step: Step, needs: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Take a step that was chosen, with hashes and files of the results that it needs."""
        ...

    def wait(self) -> list[StepEnd]:
        """Block until steps have ended (how they ended) or others can be taken."""
        ...

    def close(self) -> None:
        """Stop at once, whatever is running."""
        ...


@dataclass
class Inline:
    """Steps in this process, one after the other."""

    folder: RunFolder
    taken: list[Step] = field(default_factory=list)

    def choose(self, ready: Sequence[Step]) -> list[Step]:
        return list(ready[: 1 - len(self.taken)])

    def submit(self, step: Step, needs: Mapping[str, str], files: Mapping[str, str]) -> None:  # noqa: ARG002
        self.taken.append(step)

    def wait(self) -> list[StepEnd]:
        return [perform(self.taken.pop(), self.folder)]

    def close(self) -> None:
        self.taken.clear()


def execute(
    steps: Sequence[Step],
    folder: RunFolder,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> int:
    """Bring every step of a run to its end; how many had to be made.

    Args:
        steps: the run's steps; each is done after what it needs.
        folder: the run's folder, locked by the caller.
        executor: who performs; this process if left out.
        progress: called with (label, steps that have ended, steps in all).

    Raises:
        InputError: bad input to an essential step (a subclass says which).
        RunError: a folder that cannot be written.
        StepsFailedError: some steps failed by an error of ours; the others are done.
    """
    with logged(folder):
        work = _Work(ordered(steps), folder, executor or Inline(folder), progress)
        try:
            return work.run()
        except BaseException as problem:
            _log.info("stopped: %s", " ".join(f"{type(problem).__name__} {problem}".split()))
            work.stop()
            raise
        finally:
            work.executor.close()
            remove_temporary(folder.path)


def produce(step: Step, folder: RunFolder) -> Path:
    """Make one step's result unless it is there; where. For work that is found out as it goes.

    What the step needs has been made before; whatever its making raises, passes through. A folder
    that was being made of the same things is gone on with; one made of others is made anew.

    Args:
        step: the step.
        folder: the run's folder, locked by the caller.
    """
    work = _Work([step], folder, Inline(folder), None)
    records = folder.manifest.get("steps", {})
    work.contents = {need: records[need]["content"] for need in step.needs}
    record = records.get(step.name, {})
    if record.get("state") != DONE or not work.is_current(step, record, work.contents):
        key, path = step.key(work.contents), folder.file(*step.file.split("/"))
        other = record.get("state") == DONE or record.get("key", key) != key
        if other and path.is_dir() and not path.is_symlink():
            check_place(path)  # nothing beyond the run's folder is removed
            shutil.rmtree(path)
        folder.note(steps={step.name: {"state": RUNNING, "started": now(), "key": key}})
        end = perform(step, folder)
        if end.state == DONE:
            folder.receive(step.file)
        work.note(end, key=key)
        if end.problem is not None:
            raise end.problem
    return folder.file(*step.file.split("/"))


@dataclass
class _Work:
    """What is known of a run's steps while they are being brought to their end."""

    steps: list[Step]
    folder: RunFolder
    executor: Executor
    progress: Progress | None
    contents: dict[str, str] = field(default_factory=dict)  # of what is done: name to SHA-256
    ended: dict[str, str] = field(default_factory=dict)  # name to state
    running: dict[str, Step] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    def run(self) -> int:
        self._mark_stale()
        waiting, made = list(self.steps), 0
        self._say()
        while waiting or self.running:
            waiting = self._settle(waiting)
            self._hand_out(waiting)
            if self.running:
                for end in self.executor.wait():
                    self._end(end, waiting)
                    made += 1
        failed = [name for name, state in self.ended.items() if state == FAILED]
        if failed:
            raise StepsFailedError(
                f"{len(failed)} of {len(self.steps)} steps failed ({', '.join(failed[:3])}); the "
                f"rest is done. {self.folder.path / LOG} says more"
            )
        return made

    def stop(self) -> None:
        """Note that what was running has been stopped."""
        records = self._records()
        for name in self.running:
            records[name] = {**records.get(name, {}), "state": STOPPED}
        try:
            self.folder.note(status="stopped", steps=records)
        except RunError as problem:  # a full disk: what is there says enough
            _log.info("the manifest could not be updated: %s", problem)

    def _records(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.folder.manifest.get("steps", {})
        return found

    def _mark_stale(self) -> None:
        """Results whose step, or any step before it, is not what it was: not to be shown."""
        records = self._records()
        fresh: dict[str, str] = {}
        stale: dict[str, dict[str, Any]] = {}
        for step in self.steps:
            record = records.get(step.name, {})
            if record.get("state") not in (DONE, SKIPPED, STALE):
                continue
            known = all(need in fresh for need in step.needs)
            if known and self.is_current(step, record, fresh):
                if record["state"] != SKIPPED:
                    fresh[step.name] = record["content"]
            elif record["state"] == DONE:
                stale[step.name] = {**record, "state": STALE}
        if stale:
            _log.info("%d finished steps are to be made again", len(stale))
            self.folder.note(steps=stale)

    def is_current(self, step: Step, record: dict[str, Any], contents: dict[str, str]) -> bool:
        if record.get("key") != step.key(contents):
            return False
        if record["state"] == SKIPPED:
            return True
        path = self.folder.file(*step.file.split("/"))
        return path.exists() and content_of(path) == record.get("content")

    def _settle(self, waiting: list[Step]) -> list[Step]:
        """Take out what is there already, and what cannot be done for lack of what it needs."""
        left = []
        for step in waiting:
            lacking = [n for n in step.needs if self.ended.get(n) in (SKIPPED, FAILED)]
            if lacking:
                self._pass_on(step, lacking[0])
            elif all(need in self.ended for need in step.needs) and self._kept(step):
                self._say()
            else:
                left.append(step)
        return left

    def _pass_on(self, step: Step, lacking: str) -> None:
        """Note a step that cannot be done for lack of another, unless that is known."""
        why = self.folder.manifest.get("skipped", {}).get(lacking)
        why = why or f"it needs {lacking}, which failed"
        state, record = self.ended[lacking], self._records().get(step.name, {})
        self.ended[step.name] = state
        if (record.get("state"), record.get("reason")) != (state, why):
            self.note(StepEnd(step.name, state, reason=why), key="")

    def _kept(self, step: Step) -> bool:
        record = self._records().get(step.name, {})
        if record.get("state") not in (DONE, SKIPPED, STALE):
            return False
        if not self.is_current(step, record, self.contents):
            return False
        state = SKIPPED if record["state"] == SKIPPED else DONE
        self.ended[step.name] = state
        if state == DONE:
            self.contents[step.name] = record["content"]
        if record["state"] == STALE:
            self.folder.note(steps={step.name: {**record, "state": DONE}})
        return True

    def _hand_out(self, waiting: list[Step]) -> None:
        ready = [step for step in waiting if all(need in self.contents for need in step.needs)]
        for step in self.executor.choose(ready):
            waiting.remove(step)
            self.running[step.name] = step
            with _naming(step.name):
                self.folder.note(steps={step.name: {"state": RUNNING, "started": now()}})
            files = {one.name: one.file for one in self.steps if one.name in step.needs}
            self.executor.submit(step, {need: self.contents[need] for need in step.needs}, files)

    def _end(self, end: StepEnd, waiting: list[Step]) -> None:
        step = self.running.pop(end.name)
        if end.state == LOST:
            self.tries[step.name] = self.tries.get(step.name, 1) + 1
            _log.warning("%s: %s; it is given out again", step.name, end.reason)
            if self.tries[step.name] <= TRIES:
                waiting.insert(0, step)
                return
            reason = f"{end.reason}, {TRIES} times"
            end = StepEnd(step.name, FAILED, reason=reason, by=end.by)
        if end.state == DONE:
            with _naming(step.name):
                self._keep(step, end)
        self.note(end, key=step.key(self.contents))
        if end.state == FATAL:
            raise getattr(errors, end.error, RunError)(end.reason)

    def _keep(self, step: Step, end: StepEnd) -> None:
        """Write what another process has made, and pass on whatever is new."""
        path = self.folder.file(*step.file.split("/"))
        try:
            for name, content in end.files.items():
                write_bytes(path / name if name else path, content)
        except OSError as problem:
            raise unwritable(path, problem) from None
        self.folder.receive(step.file)

    def note(self, end: StepEnd, key: str) -> None:
        record = {
            "state": FAILED if end.state == FATAL else end.state,
            "key": key,
            "content": end.content,
            "seconds": end.seconds,
            "peak_mib": end.peak_mib,
            "by": end.by,
            "ended": now(),
        }
        reason = {"reason": end.reason} if end.reason else {}
        manifest = merged(self.folder.manifest, end.facts)
        manifest = merged(manifest, {"steps": {end.name: record | reason}})
        skipped = {n: why for n, why in manifest.get("skipped", {}).items() if n != end.name}
        if end.state == SKIPPED:
            skipped[end.name] = end.reason
        self.ended[end.name] = end.state
        if end.state == DONE:
            self.contents[end.name] = end.content
        with _naming(end.name):
            self.folder.write_manifest({**manifest, "skipped": skipped})
        _log.log(  # what the log says is done, is recorded as done
            logging.ERROR if end.state == FAILED else logging.INFO,
            "%s: %s in %.2f s, peak %.0f MiB%s%s", end.name, end.state, end.seconds,
            end.peak_mib, f", {end.reason}" if end.reason else "",
            f"\n{end.details}" if end.details else "",
        )  # fmt: skip
        self._say()

    def _say(self) -> None:
        if self.progress:
            self.progress(OVERALL, len(self.ended), len(self.steps))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say which step it was that could not be noted."""
    try:
        yield
    except RunBusyError:
        raise
    except RunError as problem:
        raise RunError(f"step {name}: {problem}") from None
