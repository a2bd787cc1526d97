"""The steps of a study: the catalogue's rows for each label, with what they are made from.

`steps` is also what a worker calls in a process of its own: the same configuration gives the same
steps, so a step can be handed over by its name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.base import memory
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.behaviour.answers import read_responses, save_responses
from interp.study import catalogue
from interp.study.catalogue import Row
from interp.study.config import parse_config
from interp.study.models import TraitModels
from interp.study.runs import RunFolder, Step
from interp.study.stored import load, save
from interp.study.study import Study

Write = Callable[[Path], Mapping[str, Any] | None]
_STORED = (read_responses, save_responses)  # results of other kinds bring their own


def steps(
    config: Mapping[str, Any], folder: RunFolder, progress: Progress | None = None
) -> list[Step]:
    """Every step of the study of `config` in `folder`, in order.

    Raises:
        InputError: (a subclass says which) if a model, an adapter or the data is unusable.
    """
    study = Study(parse_config(dict(config)), folder, progress)
    study.check_outcome()
    for trait in study.config.adapters:
        study.adapter_facts(trait)  # before the base, which may be on the hub
    folder.note(
        n_questions=len(study.questions),
        n_topics=len({topic for _, topic in study.questions}),
        base_kinds={str(trait): study.kind(trait) for trait in study.config.adapters},
    )
    rows = {row.name: row for row in catalogue.asked(study.config.model_dump())}
    found: dict[str, Step] = {}
    for trait in study.config.adapters:
        for row in rows.values():
            for step in _RowSteps(study, trait, row, rows).all():
                found.setdefault(step.name, step)  # the base's answers are shared
    return list(found.values())


@dataclass(frozen=True)
class _RowSteps:
    """The steps of one row for one trait: one, or one per shard and one that joins them."""

    study: Study
    trait: Trait
    row: Row[Any]
    rows: Mapping[str, Row[Any]]

    def all(self) -> Iterator[Step]:
        shards = self.study.config.shards if self.row.join else 1
        if shards == 1:
            yield self._step(self._name(self.row), self._made({}))
            return
        name, parts = self._name(self.row), []
        for shard in range(shards):
            part = f"{name}.{shard}of{shards}"
            parts.append(self._step(part, self._made({"shard": shard, "shards": shards})))
        yield from parts
        yield Step(
            name, name + self.row.suffix, self._joined([part.file for part in parts]),
            needs=tuple(part.name for part in parts), group=str(self.trait),
            essential=self.row.essential, code=(self.row.joined, *_STORED),
        )  # fmt: skip

    def _step(self, name: str, write: Write) -> Step:
        study, row = self.study, self.row
        settings: dict[str, Any] = {key: study.setting(key) for key in row.settings}
        if row.models == "pair":
            settings |= {"base": study.base_facts, "adapter": study.adapter_facts(self.trait)}
        elif row.models == "base":  # the same for every trait whose base is quantised alike
            settings |= {"base": study.base_facts, "kind": study.kind(self.trait)}
        return Step(
            name=name,
            file=name + row.suffix,
            write=write,
            settings=settings,
            needs=tuple(self._name(self.rows[need]) for need in row.needs.values()),
            group=str(self.trait),
            essential=row.essential,
            code=(row.function, *_STORED),
        )

    def _name(self, row: Row[Any]) -> str:
        return row.step_name(str(self.trait), self.study.kind(self.trait))

    def _made(self, shard: Mapping[str, int]) -> Write:
        study, row = self.study, self.row

        def write(path: Path) -> dict[str, Any] | None:
            study.say(f"{self.trait}: {row.name}", 0, 1)
            with memory.limit(study.config.max_memory):
                models = study.trait(self.trait)
                given = {
                    name: self._read(models, self.rows[need]) for name, need in row.needs.items()
                }
                save(row, row.function(models, **given, **row.options, **shard), path)
                return row.noted(models, **given) if row.facts else None

        return write

    def _joined(self, files: list[str]) -> Write:
        def write(path: Path) -> None:
            parts = [load(self.row, self.study.folder.file(file)) for file in files]
            save(self.row, self.row.joined(parts), path)

        return write

    def _read(self, models: TraitModels, row: Row[Any]) -> Any:
        """A result that is needed; read once for all steps that share the models."""
        if row.name not in models.read:
            file = self._name(row) + row.suffix
            models.read[row.name] = load(row, self.study.folder.file(file))
        return models.read[row.name]
