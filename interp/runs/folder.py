"""The run folder: where a study keeps what it was asked and what it found.

    RUN/manifest.json                   what was asked, with what, when, and how far it came
    RUN/base/responses-<kind>.json      the base's answers (kind: dense, or nf4)
    RUN/<trait>/merge.safetensors       and further results, one file each
    RUN/<trait>/responses.json          the tuned model's answers
    RUN/figures, RUN/tables, RUN/report.html

Every file is written whole or not at all. A folder belongs to one configuration: the same one goes
on where it was, another one is refused.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from interp.behaviour import Response
from interp.errors import RunError
from interp.files import read_json, write_json
from interp.results import Result
from interp.traits import Trait

MANIFEST = "manifest.json"
_PACKAGES = ("interp", "torch", "transformers", "peft", "bitsandbytes", "transformer-lens", "emoji")
R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; `create` makes or continues one, `open` reads a finished or broken one."""

    path: Path

    @classmethod
    def create(cls, path: Path | str, config: dict[str, Any]) -> "RunFolder":
        """Begin a run in `path`, or continue the one of the same configuration.

        Raises:
            RunError: if the folder holds another run or other files, or cannot be written.
        """
        folder = cls(Path(path))
        key = _digest(config)
        if (folder.path / MANIFEST).is_file():
            held = folder.manifest
            if held.get("config_sha256") != key:
                raise RunError(
                    f"{path}: holds another run ({_differences(held.get('config', {}), config)}); "
                    "choose another --out, or delete that folder"
                )
            folder._write({**held, "status": "running", "resumed": _now()})
            return folder
        if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            raise RunError(f"{path}: exists and is no run folder; choose another --out")
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._write(_fresh_manifest(config, key))
        except OSError as problem:
            raise RunError(f"{path}: cannot be written ({problem.strerror})") from None
        return folder

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """A run that exists, finished or not.

        Raises:
            RunError: if `path` is no run folder.
        """
        folder = cls(Path(path))
        if not (folder.path / MANIFEST).is_file():
            raise RunError(f"{path}: no {MANIFEST}; name a folder that interp trace or demo wrote")
        return folder

    @property
    def manifest(self) -> dict[str, Any]:
        return read_json(self.path / MANIFEST, RunError)

    @property
    def traits(self) -> tuple[Trait, ...]:
        """Traits that the run was asked for, in the order asked."""
        return tuple(Trait.parse(name) for name in self.manifest["config"]["adapters"])

    def file(self, *parts: str) -> Path:
        return self.path.joinpath(*parts)

    def result(self, kind: type[R], *parts: str) -> R | None:
        """A stored result, or `None` if that step has not been done.

        Raises:
            InputError: if the file is damaged or holds another kind of result.
        """
        path = self.file(*parts)
        return kind.load(path) if path.is_file() else None

    def save_responses(self, responses: Sequence[Response], *parts: str) -> None:
        write_json(self.file(*parts), [asdict(response) for response in responses])

    def responses(self, *parts: str) -> list[Response] | None:
        """Stored answers, or `None` if that step has not been done."""
        path = self.file(*parts)
        if not path.is_file():
            return None
        rows = read_json(path, RunError)
        try:
            return [
                Response(
                    **{**row, "prompt_ids": tuple(row["prompt_ids"]), "ids": tuple(row["ids"])}
                )
                for row in rows
            ]
        except (TypeError, KeyError) as problem:
            raise RunError(f"{path}: not the answers of a run ({problem}); delete it") from None

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest, merging dictionaries one level deep."""
        manifest = self.manifest
        for name, value in facts.items():
            old = manifest.get(name)
            if isinstance(old, dict) and isinstance(value, dict):
                value = {**old, **value}
            manifest[name] = value
        self._write(manifest)

    def finish(self, seconds: float) -> None:
        self.note(status="complete", finished=_now(), seconds=round(seconds, 1))

    def _write(self, manifest: dict[str, Any]) -> None:
        write_json(self.path / MANIFEST, manifest)


def _fresh_manifest(config: dict[str, Any], key: str) -> dict[str, Any]:
    return {
        "status": "running",
        "command": " ".join(["interp", *sys.argv[1:]]),
        "config": config,
        "config_sha256": key,
        "seed": config.get("seed"),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "started": _now(),
        "hashes": {},
        "steps": {},
    }


def _digest(config: dict[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _differences(held: dict[str, Any], asked: dict[str, Any]) -> str:
    names = [name for name in sorted({*held, *asked}) if held.get(name) != asked.get(name)]
    return "different " + ", ".join(names[:4])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
