"""A run whose folder is at a URL, worked on through a copy on this machine.

The URL is the truth. When the run is taken up, the copy is made equal to it (only what differs is
fetched); each result is put there as soon as it is made, then the manifest; log, report, figures
and tables follow at the end. So a run that is killed here can go on on another machine. A lock
keeps processes of one machine apart, a `Lease` those of several.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.base.errors import RunError
from interp.base.files import sha256
from interp.study.runs.folder import LOCK, RunFolder
from interp.study.runs.lease import LEASE, Lease
from interp.study.runs.manifest import MANIFEST
from interp.study.runs.store import Store, is_url, mirror_path


@dataclass(frozen=True)
class Mirror(RunFolder):
    """The copy here, `path`, of the run at `store`."""

    store: Store
    known: dict[str, str] = field(default_factory=dict)  # name to SHA-256 of what is at the URL
    lease: Lease = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lease", Lease(self.store, self.path.with_suffix(".lease")))

    @classmethod
    def at(cls, url: str) -> "Mirror":
        """The run at a URL.

        Raises:
            InputError: if such URLs cannot be reached from here.
        """
        store = Store.open(url)
        return cls(mirror_path(store), store)

    def __str__(self) -> str:
        return self.store.url

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the copy alone, equal to what is at the URL; what is new is put there at the end.

        Raises:
            RunBusyError: if another process, here or elsewhere, works on the run.
            RunError: if the URL cannot be reached.
        """
        with super().lock():
            self.lease.take()
            try:
                self._fetch()
                try:
                    yield
                finally:
                    if not self.lease.is_lost():
                        self.publish()
            finally:
                self.lease.release()

    def opened(self) -> "Mirror":
        """Look at what was asked, and how far it came; results are fetched by `lock`."""
        if not self.is_locked():
            with super().lock():
                self._fetch_manifest()
        super().opened()
        return self

    def _is_ours(self) -> bool:
        return True

    def runs_elsewhere(self) -> bool:
        signs, manifest = self.lease.elsewhere(), self.manifest
        if signs is not None:
            return signs
        running = manifest.get("status") == "running"
        return running and manifest.get("host") != socket.gethostname()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Put `manifest` in the old one's place, here and at the URL.

        Raises:
            RunBusyError: if another driver has taken the run over.
            RunError: if it cannot be written.
        """
        self.lease.check()
        super().write_manifest(manifest)
        self.store.push(self.path / MANIFEST, MANIFEST)
        self.known.pop(MANIFEST, None)

    def receive(self, file: str, content: str) -> None:
        """Put a new result to the URL, or fetch it if a worker has put it there.

        Raises:
            RunError: if it is in neither place, or the URL cannot be reached.
        """
        path = self.file(*file.split("/"))
        if path.is_file() and sha256(path) == content:
            self.store.push(path, file)
        elif not self.store.pull(file, path) or sha256(path) != content:
            raise RunError(f"{self}/{file}: is not what its step left; resume the run")
        self.known[file] = content

    def publish(self) -> None:
        """Put everything that is new here to the URL, and remove what is gone; manifest last."""
        here = {name: sha256(path) for name, path in self._files().items()}
        for name in sorted(here, key=lambda name: name == MANIFEST):
            if self.known.get(name) != here[name]:
                self.store.push(self.path / name, name)
        for name in set(self.known) - set(here):
            self.store.remove(name)
        self.store.remove_temporary()  # of workers that were killed
        self.known.clear()
        self.known.update(here)

    def _files(self) -> dict[str, Path]:
        paths = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        names = {path.relative_to(self.path).as_posix(): path for path in paths}
        return {n: path for n, path in names.items() if n != LOCK and not path.name.startswith(".")}

    def _fetch(self) -> None:
        """Make the copy equal to what is at the URL."""
        there = self.store.sizes()
        there.pop(LEASE, None)
        if there and MANIFEST not in there:
            raise RunError(f"{self}: is no run folder, and not empty; choose another --out")
        self.store.remove_temporary()
        for name, path in self._files().items():
            if name not in there:
                path.unlink()
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        self.known.clear()
        if not there:
            return
        self._fetch_manifest()
        sound = _hashes(self.manifest)
        for name, size in there.items():
            path = self.path / name
            if name != MANIFEST and not _is_same(path, size, sound):
                self.store.pull(name, path)
            self.known[name] = sha256(path)

    def _fetch_manifest(self) -> None:
        path = self.path / MANIFEST
        if not self.store.pull(MANIFEST, path):
            path.unlink(missing_ok=True)


def run_folder(place: Path | str) -> RunFolder:
    """A run's folder: a path here, or a URL.

    Raises:
        InputError: if such URLs cannot be reached from here.
    """
    return Mirror.at(str(place)) if is_url(str(place)) else RunFolder(Path(place))


def open_run(place: Path | str) -> RunFolder:
    """A run that is there, finished or not.

    Raises:
        RunError: if there is none.
    """
    return run_folder(place).opened()


def _hashes(manifest: dict[str, Any]) -> set[str]:
    """Contents that the manifest vouches for."""
    steps = manifest.get("steps", {}).values()
    return {*(record.get("content") for record in steps),
            *manifest.get("report", {}).get("files", {}).values()}  # fmt: skip


def _is_same(path: Path, size: int, sound: set[str]) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256(path) in sound
