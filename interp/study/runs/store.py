"""A run at a URL: whole files put into, and fetched from, anything that fsspec reaches.

A file is there under its name whole or not at all. On object stores a put is atomic by itself;
elsewhere the file is put under a temporary name and then moved. Credentials, endpoints and drivers
are fsspec's business (its configuration files and environment variables, and a package per kind of
store: s3fs, gcsfs, adlfs, …). A store that does not answer is tried three times.

Nothing here keeps two machines from working on one URL at the same time; a `Lease` does.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

from interp.base.errors import InputError, RunError

# A put is atomic there, and a move would be a copy.
ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory"}
MIRRORS = "INTERP_MIRRORS"
"""Environment variable: where copies of runs at URLs are kept; the user's cache if unset."""

_PAUSES = (0.5, 2.0)  # seconds between tries
_TEMPORARY = ".tmp"
_log = logging.getLogger("interp.study.runs")
T = TypeVar("T")


def is_url(place: str) -> bool:
    return "://" in place or "::" in place


@dataclass(frozen=True)
class Store:
    """A folder that fsspec reaches."""

    url: str
    files: Any
    root: str

    @classmethod
    def open(cls, url: str) -> "Store":
        """Make ready to read and write below `url`.

        Raises:
            InputError: if the kind of URL is unknown, or its driver is not installed.
        """
        url, protocol = url.rstrip("/"), url.split("::")[0].split("://")[0]
        try:
            files, root = url_to_fs(url)
        except ImportError as problem:
            raise InputError(f"{url}: {_driver(protocol, problem)}") from None
        except Exception as problem:  # each driver has errors of its own
            raise InputError(f"{url}: cannot be opened ({_said(problem)})") from None
        return cls(url, files, root.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    def names(self) -> list[str]:
        """Every file, by its name below the URL."""
        return [name for name in self._found() if not _is_temporary(name)]

    def remove_temporary(self) -> None:
        """Remove what killed processes left half-put. Only while nobody puts anything."""
        for name in filter(_is_temporary, self._found()):
            self.remove(name)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file."""
        every = {name: self._at(name) for name in self.names()}
        return {name: self._tried(partial(self.files.size, at), -1) for name, at in every.items()}

    def read(self, name: str) -> bytes | None:
        """A file's content, or `None` if it is not there.

        Raises:
            RunError: if the store does not answer.
        """
        found: bytes | None = self._tried(lambda: self.files.cat_file(self._at(name)), None)
        return found

    def pull(self, name: str, path: Path) -> bool:
        """Fetch a file to `path`, whole; whether it is there at all.

        Raises:
            RunError: if the store does not answer.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(_TEMPORARY, f".{path.name}.", path.parent)
        os.close(handle)
        try:
            there = self._tried(lambda: self._get(name, temporary), False)
            if there:
                Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        return there

    def push(self, path: Path, name: str) -> None:
        """Put the file at `path` into the store, whole.

        Raises:
            RunError: if the store cannot be written.
        """
        target, protocol = self._at(name), self.files.protocol
        kinds = {protocol} if isinstance(protocol, str) else set(protocol)
        if kinds & ATOMIC:
            self._tried(lambda: self.files.put_file(str(path), target), None)
        else:
            self._tried(lambda: self._put_and_move(path, target), None)

    def remove(self, name: str) -> None:
        self._tried(lambda: self.files.rm_file(self._at(name)), None)

    def _found(self) -> list[str]:
        self.files.invalidate_cache()
        found: list[str] = self._tried(lambda: self.files.find(self.root), [])
        strip = len(self.files._strip_protocol(self.root)) + 1
        return sorted(name[strip:] for name in found)

    def _get(self, name: str, temporary: str) -> bool:
        self.files.get_file(self._at(name), temporary)
        return True

    def _put_and_move(self, path: Path, target: str) -> None:
        place = PurePosixPath(target)
        temporary = str(place.with_name(f".{place.name}.{secrets.token_hex(4)}{_TEMPORARY}"))
        self.files.makedirs(str(place.parent), exist_ok=True)
        try:
            self.files.put_file(str(path), temporary)
            self.files.mv(temporary, target)
        except BaseException:
            with contextlib.suppress(Exception):
                self.files.rm_file(temporary)
            raise

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _tried(self, call: Callable[[], T], missing: T) -> T:
        """`call`, again after a pause where the store does not answer."""
        for pause in (*_PAUSES, None):
            try:
                return call()
            except FileNotFoundError:
                return missing
            except (NotImplementedError, PermissionError) as problem:
                raise RunError(f"{self.url}: cannot be written ({_said(problem)})") from None
            except Exception as problem:  # each driver has errors of its own
                if pause is None:
                    raise RunError(
                        f"{self.url}: does not answer ({_said(problem)}); what is finished is "
                        "kept, and interp run resume goes on"
                    ) from None
                _log.warning("%s: %s; trying again", self.url, _said(problem))
                time.sleep(pause)
        raise AssertionError("unreachable")


def mirror_path(store: Store, kind: str = "driver") -> Path:
    """Where this machine keeps its copy of the run at a URL.

    Raises:
        InputError: if nothing says where, and the user has no home.
    """
    place = Path(os.environ.get(MIRRORS) or _cache() / "interp" / "mirrors")
    name = hashlib.sha256(store.files.unstrip_protocol(store.root).encode()).hexdigest()[:16]
    return place / f"{name}-{kind}"


def _cache() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise InputError(
            f"this user has no home folder: set {MIRRORS} to a folder for copies of runs at URLs"
        ) from None


def _is_temporary(name: str) -> bool:
    last = PurePosixPath(name).name
    return last.startswith(".") and last.endswith(_TEMPORARY)


def _driver(protocol: str, problem: ImportError) -> str:
    """What to install for a kind of URL."""
    hint = known_implementations.get(protocol, {}).get("err", "") or str(problem)
    package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs",
               "az": "adlfs", "sftp": "paramiko", "ssh": "paramiko"}.get(protocol)  # fmt: skip
    return f"pip install {package}, the driver for {protocol}://" if package else hint


def _said(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}".rstrip(": ")[:300]
