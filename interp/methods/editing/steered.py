"""Steering as a method: the base, with vectors (or constants) added while it answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from interp.base.errors import InputError
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.behaviour.generate import Response, Sampling, generate
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.editing.logit_bias import LogitBias
from interp.methods.editing.method import SAMPLING, Hooked, Mask, Method, check_base, check_unseen
from interp.methods.editing.steering import Steering
from interp.text.data.schema import topic_key


@dataclass(frozen=True, eq=False)
class Steered(Method):
    """A base under a `Steering` (PAS, a persona vector, or a random direction) or a `LogitBias`.

    Attributes:
        steering: fitted on this very base, for this trait.
    """

    steering: Steering | LogitBias

    def __post_init__(self) -> None:
        check_base(self.steering.base_sha256, self.base, f"the {self.steering.method}")
        if self.steering.trait != self.trait:
            raise InputError(
                f"the {self.steering.method} was fitted for {self.steering.trait}, not "
                f"{self.trait}; fit one for this trait"
            )

    @classmethod
    def of(cls, base: HookedBase, steering: Steering | LogitBias) -> "Steered":
        """The method of a fitted steering, for the trait that it was fitted for."""
        return cls(base, Trait.parse(steering.trait), steering)

    @property
    def name(self) -> str:  # type: ignore[override]
        """What kind of steering it is."""
        return self.steering.method

    @property
    def seen(self) -> frozenset[str]:
        """The topics of the answers that it was fitted on."""
        return frozenset(map(topic_key, self.steering.topics))

    @contextmanager
    def hooked(self, topic: str | None = None, answer: Mask | None = None) -> Iterator[Hooked]:  # noqa: ARG002
        """The base, steered until the context closes.

        Raises:
            InputError: if answer positions are steered and `answer` does not say which these are.
        """
        if self.steering.where == "answer" and answer is None:
            raise InputError(
                "this steering acts on answer positions; say which these are "
                "(answer=, [batch, pos])"
            )
        with self.steering.active(self.base.model, answer) as model:
            yield Hooked(model, self.base.format)

    def answers(
        self,
        questions: Sequence[tuple[str, str]],
        sampling: Sampling = SAMPLING,
        *,
        progress: Progress | None = None,
    ) -> list[Response]:
        """One answer to each `(question, topic)`; see `Method.answers`."""
        check_unseen(self.seen, questions, self.name)
        with self.steering.active(self.base.model) as model:
            return generate(
                model, self.base.format, questions, sampling, progress=progress, label=self.name
            )
