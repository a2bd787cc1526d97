"""A run at a URL: a copy in a folder of this machine, put there by fsspec as it grows.

The URL is the truth. When the run is taken up, the copy is made equal to it (only what differs is
fetched). Each result is put there as soon as it is made, then the manifest; log, report, figures
and tables follow when the run is let go. So a run that is killed here can go on elsewhere. The lock
keeps processes of one machine apart; that one machine at a time works on a URL is up to the user.
Credentials, endpoints, repetition and drivers are fsspec's business.
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

from interp.base.errors import InputError, RunError, said
from interp.base.files import is_temporary, sha256, temporary_name, write_from
from interp.study.runs.folder import LOCK, RunFolder, unwritable
from interp.study.runs.manifest import MANIFEST

COPIES = "INTERP_COPIES"
"""Environment variable: where copies of runs at URLs are kept; the user's cache if unset."""

# A put is atomic there, and a move would be a copy.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory"}


def joined(root: str, name: str) -> str:
    """The place of `name` below `root`, a URL's path or a folder: the only place that joins them.

    Raises:
        RunError: if it could lead elsewhere.
    """
    parts = name.split("/")
    if re.search(r"[\x00-\x1f\x7f\\]", name) or any(part in ("", ".", "..") for part in parts):
        raise RunError(f"{root}: a file there is named {name!r:.200}; refused, rename it")
    return f"{root}/{name}"


@dataclass(frozen=True)
class RemoteFolder(RunFolder):
    """The copy here, `path`, of the run at `url`.

    Attributes:
        url: where the run is.
        files: fsspec's file system.
        root: the run's place in there.
        known: SHA-256 of what is at the URL, by name.
    """

    url: str
    files: Any
    root: str
    known: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, url: str) -> "RemoteFolder":
        """The run at a URL.

        Raises:
            InputError: if such URLs cannot be reached from here.
        """
        url, protocol = url.rstrip("/"), url.split("::")[0].split("://")[0]
        try:
            files, root = url_to_fs(url)
        except ImportError as problem:
            raise InputError(f"{url}: {_driver(protocol, problem)}") from None
        except Exception as problem:  # each driver has errors of its own
            raise InputError(f"{url}: cannot be opened ({said(problem)})") from None
        name = hashlib.sha256(files.unstrip_protocol(root).encode()).hexdigest()[:16]
        return cls(_copies() / name, url, files, root.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the copy alone, equal to what is at the URL; what is new is put there at the end.

        Raises:
            RunBusyError: if another process of this machine works on the run.
            RunError: if the URL cannot be reached.
        """
        with super().lock():
            self._fetch()
            try:
                yield
            finally:
                self.publish()

    def opened(self) -> "RemoteFolder":
        """Look at what was asked, and how far it came; results are fetched by `lock`."""
        if not self.is_locked():
            with super().lock():
                self._fetch_manifest()
        super().opened()
        return self

    def _is_ours(self) -> bool:
        return True

    def runs_elsewhere(self) -> bool:
        manifest = self.manifest
        return manifest.get("status") == "running" and manifest.get("host") != socket.gethostname()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Put `manifest` in the old one's place, here and at the URL.

        Raises:
            RunError: if it cannot be written.
        """
        super().write_manifest(manifest)
        self._put(MANIFEST)

    def receive(self, file: str) -> None:
        """Put a new result to the URL."""
        path = self.file(*file.split("/"))
        inner = [one for one in sorted(path.rglob("*")) if one.is_file()] if path.is_dir() else []
        for one in inner or [path]:
            self._put(one.relative_to(self.path).as_posix())

    def publish(self) -> None:
        """Put everything that is new here to the URL, and remove what is gone; manifest last."""
        here = {name: sha256(path) for name, path in self._here().items()}
        for name in sorted(here, key=lambda name: name == MANIFEST):
            if self.known.get(name) != here[name]:
                self._put(name)
        for name in set(self.known) - set(here):
            self._remove(name)
        self.known.clear()
        self.known.update(here)

    def _here(self) -> dict[str, Path]:
        paths = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        names = {path.relative_to(self.path).as_posix(): path for path in paths}
        return {n: path for n, path in names.items() if n != LOCK and not path.name.startswith(".")}

    def _fetch(self) -> None:
        """Make the copy equal to what is at the URL; what killed processes left there, goes."""
        with self._asking():
            self.files.invalidate_cache()
            found: dict[str, Any] = {}
            with contextlib.suppress(FileNotFoundError):
                found = self.files.find(self.root, detail=True)
        strip = len(self.files._strip_protocol(self.root)) + 1
        there = {name[strip:]: facts["size"] for name, facts in found.items()}
        for name in there:
            joined(self.root, name)
        if there and MANIFEST not in there and not all(map(is_temporary, there)):
            raise RunError(f"{self}: is no run folder, and not empty; choose another --out")
        for name in filter(is_temporary, there):
            self._remove(name)
        there = {name: size for name, size in there.items() if not is_temporary(name)}
        for name, path in self._here().items():
            if name not in there:
                path.unlink()
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
        self.known.clear()
        if not there:
            return
        self._fetch_manifest()
        sound = _vouched(self.manifest)
        for name, size in there.items():
            path = Path(joined(str(self.path), name))
            if name != MANIFEST and not _is_same(path, size, sound):
                self._get(name)
            self.known[name] = sha256(path)

    def _fetch_manifest(self) -> None:
        if not self._get(MANIFEST):
            (self.path / MANIFEST).unlink(missing_ok=True)

    def _get(self, name: str) -> bool:
        """Fetch a file, whole; whether it is there."""

        def fill(file: BinaryIO) -> None:
            with self.files.open(joined(self.root, name), "rb") as source:
                shutil.copyfileobj(source, file)

        with self._asking(), contextlib.suppress(FileNotFoundError):
            write_from(joined(str(self.path), name), fill)
            return True
        return False

    def _put(self, name: str) -> None:
        """Put a file, so that it is there whole or not at all."""
        source, target = joined(str(self.path), name), joined(self.root, name)
        protocol = self.files.protocol
        kinds = {protocol} if isinstance(protocol, str) else set(protocol)
        with self._asking():
            if kinds & _ATOMIC:
                self.files.put_file(source, target)
            else:
                beside = PurePosixPath(target)
                temporary = str(beside.with_name(temporary_name(beside.name)))
                self.files.makedirs(str(beside.parent), exist_ok=True)
                self.files.put_file(source, temporary)
                self.files.mv(temporary, target)
        self.known[name] = sha256(source)

    def _remove(self, name: str) -> None:
        with self._asking(), contextlib.suppress(FileNotFoundError):
            self.files.rm_file(joined(self.root, name))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Put errors of the URL's driver into words."""
        try:
            yield
        except (FileNotFoundError, InputError):
            raise
        except Exception as problem:  # each driver has errors of its own
            named = str(getattr(problem, "filename", None) or "")
            if isinstance(problem, OSError) and named.startswith(str(self.path)):
                raise unwritable(self.path, problem) from None
            raise RunError(
                f"{self.url}: does not answer, or may not be written ({said(problem)}); what is "
                "finished is kept, and interp run resume goes on"
            ) from None


def run_folder(place: Path | str) -> RunFolder:
    """A run's folder: a path here, or a URL.

    Raises:
        InputError: if such URLs cannot be reached from here.
    """
    is_url = "://" in str(place) or "::" in str(place)
    return RemoteFolder.at(str(place)) if is_url else RunFolder(Path(place))


def open_run(place: Path | str) -> RunFolder:
    """A run that is there, finished or not.

    Raises:
        RunError: if there is none.
    """
    return run_folder(place).opened()


def _vouched(manifest: dict[str, Any]) -> set[str]:
    """Contents that the manifest vouches for."""
    steps = manifest.get("steps", {}).values()
    return {*(record.get("content") for record in steps),
            *manifest.get("report", {}).get("files", {}).values()}  # fmt: skip


def _is_same(path: Path, size: int, sound: set[str]) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256(path) in sound


def _copies() -> Path:
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return Path(os.environ.get(COPIES) or cache / "interp" / "copies")
    except RuntimeError:
        raise InputError(
            f"this user has no home folder: set {COPIES} to a folder for copies of runs at URLs"
        ) from None


def _driver(protocol: str, problem: ImportError) -> str:
    """What to install for a kind of URL."""
    hint = known_implementations.get(protocol, {}).get("err", "") or str(problem)
    package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs",
               "az": "adlfs", "sftp": "paramiko", "ssh": "paramiko"}.get(protocol)  # fmt: skip
    return f"pip install {package}, the driver for {protocol}://" if package else hint
