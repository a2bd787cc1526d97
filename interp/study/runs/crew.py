"""Several workers on one run: who gets which step, and what happens when one dies.

A worker keeps the models of its last step's group (a trait) in memory, so it is given steps of that
group for as long as there are any; then a group that no other worker has; and only then steps of a
group that another one works on. A worker holds one step at a time: if it dies, that step is lost,
is given out again, and another worker is started in its place.

How workers are started and spoken to is the transport's business: local processes (`Processes`), or
the actors of a Ray cluster (`Actors`). Messages are JSON values.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from interp.base import errors
from interp.base.errors import RunError
from interp.study.runs.job import different
from interp.study.runs.perform import LOST, Outcome
from interp.study.runs.steps import Step, versions

STILLBORN = 3
"""Workers that may die in a row before they are ready."""

_WAITING = 60.0  # seconds after which the log says that no worker has got ready
_log = logging.getLogger("interp.study.runs")


@runtime_checkable
class Transport(Protocol):
    """Starts workers and carries messages."""

    def count(self) -> int:
        """How many workers there are to be."""
        ...

    def start(self, name: str, slot: int) -> None:
        """Start a worker; its first message is `hello` or `broken`."""
        ...

    def send(self, name: str, message: Mapping[str, Any]) -> None:
        """Ask a worker for a step."""
        ...

    def receive(self, timeout: float) -> list[tuple[str, dict[str, Any]]]:
        """Messages with the workers' names, `gone` for one that is no more."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


@dataclass
class _Member:
    """One worker: its slot (which GPU), what it has in memory, what it holds."""

    name: str
    slot: int
    by: str = ""  # process and machine, once it has said hello
    group: str | None = None
    step: Step | None = None

    @property
    def idle(self) -> bool:
        return bool(self.by) and self.step is None

    def __str__(self) -> str:
        return f"{self.name} ({self.by or 'starting'})"


@dataclass
class Crew:
    """An executor of several workers."""

    transport: Transport
    members: dict[str, _Member] = field(default_factory=dict)
    plan: dict[str, _Member] = field(default_factory=dict)  # step to worker, until it is submitted
    started: int = 0
    stillborn: int = 0

    def choose(self, ready: Sequence[Step]) -> list[Step]:
        """Which of the ready steps the idle workers take; waits if no worker is ready at all."""
        self._start(len(ready))
        since = time.monotonic()
        while ready and not any(member.by for member in self.members.values()):
            self._receive()
            self._start(len(ready))
            if time.monotonic() - since > _WAITING:
                _log.warning("no worker has got ready for %.0f s", _WAITING)
                since = time.monotonic()
        idle = [member for member in self.members.values() if member.idle]
        others = {m.group for m in self.members.values() if m.step}
        self.plan = {step.name: member for member, step in assign(idle, others, ready)}
        return [step for step in ready if step.name in self.plan]

    def submit(self, step: Step, needs: Mapping[str, str]) -> None:
        member = self.plan.pop(step.name)
        member.step, member.group = step, step.group
        _log.info("%s: given to %s", step.name, member)
        request = {
            "name": step.name,
            "settings": dict(step.settings),
            "needs": dict(needs),
        }
        self.transport.send(member.name, request)

    def wait(self) -> list[Outcome]:
        """Block until a step has ended, or a worker has got ready for another one."""
        while True:
            before = {name for name, member in self.members.items() if member.by}
            outcomes = self._receive()
            if outcomes or before != {n for n, member in self.members.items() if member.by}:
                return outcomes

    def close(self) -> None:
        self.members.clear()
        self.transport.close()

    def _start(self, n_ready: int) -> None:
        """Start workers, as many as there is work for."""
        count = self.transport.count()
        spare = sum(not member.step for member in self.members.values())
        for _ in range(min(count - len(self.members), n_ready - spare)):
            taken = {member.slot for member in self.members.values()}
            slot = next(slot for slot in range(count) if slot not in taken)
            self.started += 1
            member = _Member(f"worker-{self.started}", slot)
            self.members[member.name] = member
            self.transport.start(member.name, slot)

    def _receive(self) -> list[Outcome]:
        outcomes = []
        for name, message in self.transport.receive(1.0):
            member = self.members.get(name)
            if member is None:
                continue
            for level, line in message.get("log", ()):
                _log.log(level, "%s: %s", member, line)
            kind = message["kind"]
            if kind == "hello":
                self._welcome(member, message)
            elif kind == "broken":
                error = getattr(errors, message["error"], RunError)
                raise error(f"{member.name} ({message['by']}): {message['why']}")
            elif kind == "gone":
                outcomes += self._bury(member, message["why"])
            else:
                member.step = None
                outcomes.append(Outcome(**message["outcome"]))
        return outcomes

    def _welcome(self, member: _Member, message: Mapping[str, Any]) -> None:
        """Refuse a worker whose results would not be this version's."""
        found = different(dict(message["code"]), versions(), ("there", "here"))
        if found:
            raise RunError(
                f"{member.name} ({message['by']}, {message['python']}): has another version than "
                f"the driver ({'; '.join(found[:3])}); install the same on every machine"
            )
        member.by, self.stillborn = str(message["by"]), 0
        _log.info("%s: ready", member)

    def _bury(self, member: _Member, why: str) -> list[Outcome]:
        """What a dead worker held is lost."""
        del self.members[member.name]
        _log.warning("%s: %s", member, why)
        if not member.by:
            self.stillborn += 1
            if self.stillborn >= STILLBORN:
                raise RunError(f"{STILLBORN} workers in a row died at their start ({why})")
        if member.step is None:
            return []
        return [Outcome(member.step.name, LOST, f"{member} {why}", by=member.by)]


def assign(
    idle: Sequence[Any], busy_groups: set[str | None], ready: Sequence[Step]
) -> list[tuple[Any, Step]]:
    """Steps for idle workers (anything with a `group`), at most one each.

    First of the group that a worker has in memory, then of a group that nobody has, then of the
    group with the most steps left; within a group in the order given.
    """
    left, found = list(ready), []
    waiting = list(idle)

    def give(worker: Any, step: Step | None) -> None:
        if step is not None:
            found.append((worker, step))
            left.remove(step)
            waiting.remove(worker)

    for worker in list(waiting):
        give(worker, next((step for step in left if step.group == worker.group), None))
    for worker in list(waiting):
        had = busy_groups | {other.group for other in idle} | {step.group for _, step in found}
        give(worker, next((step for step in left if step.group not in had), None))
    for worker in list(waiting):
        sizes = {step.group: sum(one.group == step.group for one in left) for step in left}
        give(worker, max(left, key=lambda step: sizes[step.group], default=None))
    return found
