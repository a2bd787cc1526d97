"""Steps: named pieces of work whose results are recognised by what they were made from.

A step's key is the SHA-256 of its name, its settings (the part of the configuration that it uses,
hashes of the files that it reads), the code that makes it (see `closure`), the versions of the
packages that compute, and the contents of the results that it needs. A result on disk stands for a
step only if key and content are those that were recorded. So a changed file, setting or definition
redoes just what depends on it; where a redone step comes out the same, nothing after it is redone.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp.base.errors import RunError
from interp.study.runs.closure import closure

PACKAGES = (
    "torch", "transformers", "peft", "bitsandbytes", "transformer-lens", "tokenizers",
    "numpy", "scipy", "scikit-learn", "emoji",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One piece of work and the file that it leaves.

    Attributes:
        name: unique within a run, `extraversion/lens`, say.
        file: its result's place below the run folder.
        write: makes the result and writes it whole to the path given; may return facts for the
            manifest.
        settings: JSON values that the result depends on: configuration, hashes of inputs.
        needs: names of the steps whose results it reads.
        group: steps of one group share what is in memory (a trait's models).
        essential: without this result the others make no sense: bad input here ends the run.
        code: the functions and classes that make the result; all that they reach is in the key.
            What only wires steps together need not be. Left out, it is what `write` reaches.
    """

    name: str
    file: str
    write: Callable[[Path], Mapping[str, Any] | None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    group: str = ""
    essential: bool = False
    code: tuple[Callable[..., Any], ...] = ()

    def key(self, contents: Mapping[str, str]) -> str:
        """What the result is recognised by, given the hashes of the results that it needs."""
        facts = {
            "name": self.name,
            "file": self.file,
            "code": closure(self.code or (self.write,)),
            "versions": versions(),
            "settings": dict(self.settings),
            "needs": {name: contents[name] for name in self.needs},
        }
        return digest(facts)


def ordered(steps: Sequence[Step]) -> list[Step]:
    """Steps so that each comes after what it needs, else in the order given.

    Raises:
        RunError: if a name stands twice, a need is unknown, or needs go in a circle.
    """
    by_name = {step.name: step for step in steps}
    if len(by_name) != len(steps):
        raise RunError("two steps of this run have the same name")
    done: dict[str, Step] = {}

    def visit(step: Step, path: tuple[str, ...]) -> None:
        if step.name in path:
            raise RunError(f"steps need each other in a circle: {' -> '.join((*path, step.name))}")
        for need in step.needs:
            if need not in by_name:
                raise RunError(f"step {step.name} needs {need}, which is no step of this run")
            if need not in done:
                visit(by_name[need], (*path, step.name))
        done[step.name] = step

    for step in steps:
        if step.name not in done:
            visit(step, ())
    return list(done.values())


@cache
def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that a result can depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
