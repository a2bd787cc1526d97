"""The run folder: where a study keeps what it was asked and what it found.

    RUN/manifest.json                   what was asked, with what, when, and how far each step came
    RUN/run.log                         steps with their times and peak memory, and every warning
    RUN/base/responses-<kind>.json      the base's answers (kind: dense, or nf4)
    RUN/<trait>/merge.safetensors       and further results, one file each
    RUN/<trait>/responses.json          the tuned model's answers
    RUN/figures, RUN/tables, RUN/report.html

Every file is written whole or not at all. One process at a time works on a folder and is the only
one that writes its manifest; the lock is the system's and goes with the process that held it.
"""

import errno
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from filelock import FileLock, Timeout

from interp.base.errors import InputError, RunError, TraitError
from interp.base.files import guard, remove_temporary, write_json
from interp.base.traits import Trait
from interp.study.runs.input_files import hashed, input_files
from interp.study.runs.manifest import (
    MANIFEST,
    differences,
    environments,
    fresh_manifest,
    merged,
    now,
    read_manifest,
    this_process,
)

if TYPE_CHECKING:  # at run time these bring torch and more: six seconds for `interp run status`
    from interp.base.results import Result
    from interp.behaviour import Response

LOCK = "run.lock"
R = TypeVar("R", bound="Result")
_NO_PLACE = (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_OF_THE_PLACE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOTDIR,
)  # fmt: skip
_GLANCE = 0.5  # seconds: one who only looks whether a run is locked holds the lock for a moment


class RunBusyError(RunError):
    """Another process is working on the run."""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; `create` makes or continues one, `open` reads a finished or broken one."""

    path: Path

    def __post_init__(self) -> None:
        guard(self.path)

    @classmethod
    def create(
        cls, path: Path | str, config: dict[str, Any], *, job: str = "study", change: bool = False
    ) -> "RunFolder":
        """Begin a run in `path`, or continue the one that is there.

        Args:
            path: the folder.
            config: what is asked, as JSON values.
            job: what kind of run it is; a folder holds one kind.
            change: whether another configuration may take over; else it is refused.

        Raises:
            RunError: if the folder holds another run or other files, or cannot be written.
        """
        return cls(Path(path)).begin(config, job=job, change=change)

    def begin(
        self, config: dict[str, Any], *, job: str = "study", change: bool = False
    ) -> "RunFolder":
        """Begin a run here, or continue the one that is there; see `create`."""
        if self._is_begun():
            held = self.manifest
            if held.get("job") != job or not isinstance(held.get("config"), dict):
                raise RunError(
                    f"{self}: holds another run ({held.get('job', 'of another version')}, not "
                    f"{job}); choose another --out, or delete that folder"
                )
            if held["config"] != config and not change:
                raise RunError(
                    f"{self}: holds another run ({differences(held['config'], config)}); "
                    "choose another --out, or delete that folder"
                )
            fresh = {"config": config, "seed": config.get("seed"), "resumed": now()}
            fresh["reproducibility"] = environments(held.get("reproducibility", []))
            self.write_manifest({**held, **fresh, **this_process(), "status": "running"})
            return self
        if self.path.exists() and not _is_free(self.path):
            raise RunError(f"{self}: exists and is no run folder; choose another --out")
        self.write_manifest(fresh_manifest(config, job))
        return self

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """A run that exists, finished or not.

        Raises:
            RunError: if `path` is no run folder.
        """
        return cls(Path(path)).opened()

    def opened(self) -> "RunFolder":
        """This folder, which must hold a run; see `open`."""
        if not self._is_begun():
            raise RunError(f"{self}: no {MANIFEST}; name a folder that interp trace or demo wrote")
        return self

    def _is_begun(self) -> bool:
        try:
            return (self.path / MANIFEST).is_file()
        except OSError as problem:
            raise RunError(f"{self}: cannot be read ({problem.strerror})") from None

    def _is_ours(self) -> bool:
        """Whether a run was begun here, and if only by a process killed in its first moment."""
        left = f".{MANIFEST}."
        return self._is_begun() or all(
            item.name == LOCK or item.name.startswith(left) for item in self.path.iterdir()
        )

    def __str__(self) -> str:
        """Where the run is, as the user named it."""
        return str(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder alone; what a killed process left half-written is removed.

        Raises:
            RunBusyError: if another process holds it.
            RunError: if the folder cannot be written, or holds other files than a run's.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._is_ours():  # not even a lock is left in somebody else's folder
                raise RunError(f"{self}: exists and is no run folder; choose another --out")
            if (self.path / LOCK).is_symlink():
                raise RunError(f"{self.path / LOCK}: is a link; remove it")
            lock = FileLock(self.path / LOCK)
            lock.acquire(timeout=_GLANCE)
        except Timeout:
            raise RunBusyError(
                f"{self.path}: {self._holder()} is working on this run; wait for it, or stop it"
            ) from None
        except OSError as problem:
            raise unwritable(self.path, problem) from None
        except NotImplementedError:
            raise RunError(
                f"{self.path}: this file system has no locks; choose --out on another one"
            ) from None
        try:
            remove_temporary(self.path)
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a living process is working on this run."""
        if not (self.path / LOCK).is_file():
            return False
        try:
            with (self.path / LOCK).open("rb") as file:  # reading will do: it may be another user's
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as problem:
            return problem.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
        return False

    def runs_elsewhere(self) -> bool:
        """Whether the manifest says that another machine, which no lock can ask, is at work."""
        return False

    def receive(self, file: str) -> None:
        """A result is here; a folder at a URL passes it on."""

    def _holder(self) -> str:
        try:
            manifest = self.manifest
        except RunError:
            return "another process"
        return f"process {manifest.get('pid')} on {manifest.get('host')}"

    @property
    def manifest(self) -> dict[str, Any]:
        """What was asked and how far it came.

        Raises:
            RunError: if it is damaged.
        """
        return read_manifest(self.path / MANIFEST)

    @property
    def traits(self) -> tuple[Trait, ...]:
        """Traits that the run was asked for, in the order asked.

        Raises:
            RunError: if the manifest does not say.
        """
        asked = self.manifest.get("config")
        names = asked.get("adapters") if isinstance(asked, dict) else None
        if not isinstance(names, dict):
            raise RunError(
                f"{self.path / MANIFEST}: config.adapters is missing; is this the folder of an "
                "interp trace or demo?"
            )
        try:
            return tuple(Trait.parse(name) for name in names)
        except TraitError as problem:
            raise RunError(f"{self.path / MANIFEST}: config.adapters: {problem}") from None

    def file(self, *parts: str) -> Path:
        return self.path.joinpath(*parts)

    def result(self, kind: type[R], *parts: str) -> R | None:
        """A stored result, or `None` if that step has not been done.

        Raises:
            InputError: if the file is damaged or holds another kind of result.
        """
        path = self.file(*parts)
        return kind.load(path) if path.is_file() else None

    def save_responses(self, responses: "Sequence[Response]", *parts: str) -> None:
        from interp.behaviour import save_responses

        save_responses(responses, self.file(*parts))

    def responses(self, *parts: str) -> "list[Response] | None":
        """Stored answers, or `None` if that step has not been done.

        Raises:
            RunError: if the file is damaged.
        """
        from interp.behaviour import read_responses

        path = self.file(*parts)
        return read_responses(path) if path.is_file() else None

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest, merging dictionaries one level deep."""
        self.write_manifest(merged(self.manifest, facts))

    def input_hashes(self, place: Path, error: type[InputError] = InputError) -> dict[str, str]:
        """SHA-256 of an input file, or of every file of an input folder that may be read.

        Hashes are remembered for as long as a file's size, place and times are the same. The time
        of the last change of the file's entry is among them: tools that copy a file with its old
        time of writing cannot set that one.

        Raises:
            InputError: (or the subclass given as `error`) if one is a pipe or a device.
        """
        known = self.manifest.get("inputs", {})
        found = {path: hashed(path, known, error) for path in input_files(place)}
        fresh = {
            str(path.resolve()): facts
            for path, facts in found.items()
            if known.get(str(path.resolve())) != facts
        }
        if fresh:
            self.note(inputs=fresh)
        root = place if place.is_dir() else place.parent
        return {path.relative_to(root).as_posix(): facts["sha256"] for path, facts in found.items()}

    def finish(self, seconds: float) -> None:
        """Note that everything is done, and what it took in all."""
        self.note(status="complete", finished=now(), seconds=round(seconds, 1))

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Put `manifest` in the old one's place.

        Raises:
            RunError: if the folder cannot be written.
        """
        try:
            write_json(self.path / MANIFEST, manifest)
        except OSError as problem:
            raise unwritable(self.path, problem) from None
        except UnicodeEncodeError as problem:  # in a path: values from files are checked
            odd = problem.object[max(0, problem.start - 40) : problem.end + 20]
            raise RunError(
                f"{self.path}: a name that is asked for is not UTF-8 ({odd!r}); rename it"
            ) from None


def of_the_place(problem: BaseException) -> TypeGuard[OSError]:
    """Whether a disk is full or broken, or may not be written: no fault of the code."""
    return isinstance(problem, OSError) and problem.errno in _OF_THE_PLACE


def unwritable(path: Path, problem: OSError) -> RunError:
    """The error for a place that cannot be written."""
    what = problem.strerror or type(problem).__name__
    mend = (
        "free the disk or mend the permissions, then the same command goes on; what is finished is "
        "kept"
    )
    if problem.errno in _NO_PLACE:
        mend = "no folder can be there; choose another --out"
    return RunError(f"{problem.filename or path}: cannot be written ({what}); {mend}")


def _is_free(path: Path) -> bool:
    return path.is_dir() and all(item.name == LOCK for item in path.iterdir())
