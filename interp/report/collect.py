"""What a run folder holds: each trait's results by their rows, and why others are missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interp.base.errors import InputError
from interp.base.outcomes import Asked
from interp.base.traits import Trait
from interp.study import catalogue
from interp.study.catalogue import R, Row
from interp.study.runs import RunFolder
from interp.study.stored import load


@dataclass(frozen=True)
class TraitResults:
    """One trait's results by the names of their rows, and why others that are asked are not there.

    Attributes:
        missing: by row.
    """

    trait: Trait
    results: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def get(self, row: Row[R]) -> R | None:
        """The result of a row, if it is there."""
        return self.results.get(row.name)

    def those(self, rows: Sequence[Row[R]]) -> list[tuple[Row[R], R]]:
        """The rows, of these, whose results are there, with their results."""
        return [(row, self.results[row.name]) for row in rows if row.name in self.results]


@dataclass(frozen=True)
class Contents:
    """A run: its manifest and the results of its traits, in the order asked."""

    folder: RunFolder
    manifest: dict[str, Any]
    traits: tuple[TraitResults, ...]

    @property
    def labels(self) -> tuple[Trait, ...]:
        """The traits' names."""
        return tuple(one.trait for one in self.traits)

    def having(self, row: Row[R]) -> dict[Trait, R]:
        """The traits that have a row's result, and it."""
        pairs = ((one.trait, one.get(row)) for one in self.traits)
        return {trait: result for trait, result in pairs if result is not None}

    @property
    def asked(self) -> Asked:
        """The outcome that the run traces; emojis where a manifest does not say."""
        said = self.manifest.get("config", {}).get("outcome")
        try:
            return Asked.parse(said) if isinstance(said, str) else Asked()
        except InputError:
            return Asked()

    @property
    def missing(self) -> Iterator[tuple[Trait, Row[Any], str]]:
        """Trait, row and reason of everything that was asked and is not there."""
        rows = {row.name: row for row in catalogue.ROWS}
        for one in self.traits:
            for name, reason in one.missing.items():
                yield one.trait, rows[name], reason


def collect(folder: RunFolder) -> Contents:
    """Read what a run was asked for, finished or not. A damaged file counts as missing.

    Raises:
        RunError: if the manifest cannot be read.
    """
    manifest = folder.manifest
    rows = [row for row in catalogue.asked(manifest.get("config", {})) if row.section]
    found = []
    for trait in folder.traits:
        one = TraitResults(trait)
        base = str(manifest.get("base_kinds", {}).get(str(trait), "dense"))
        for row in rows:
            _read(folder, manifest, row, row.step_name(str(trait), base), one)
        found.append(one)
    return Contents(folder, manifest, tuple(found))


_NOT_SHOWN = {
    "stale": "made with other settings, inputs or code",
    "failed": "failed",
    "stopped": "stopped",
    "running": "not done yet",
}


def _read(
    folder: RunFolder, manifest: Mapping[str, Any], row: Row[Any], step: str, into: TraitResults
) -> None:
    """Take in a row's result, or why it cannot be shown."""
    why = _not_shown(manifest, step)
    path = folder.file(step + row.suffix)
    if not why and path.is_file():
        try:
            into.results[row.name] = load(row, path)
        except InputError as problem:
            why = str(problem)
    elif not why:
        why = manifest.get("skipped", {}).get(step) or "not done yet"
    if why:
        into.missing[row.name] = why


def _not_shown(manifest: Mapping[str, Any], step: str) -> str:
    """Why what lies there is not of the run as it is asked now, or nothing."""
    record = manifest.get("steps", {}).get(step)
    record = record if isinstance(record, dict) else {}  # older versions kept seconds only
    why = _NOT_SHOWN.get(record.get("state", ""), "")
    reason = record.get("reason")
    return f"{why}: {reason}" if why and reason else why
