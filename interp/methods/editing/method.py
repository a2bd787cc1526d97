"""The interface that all methods share, and the methods that need no fitting.

A method takes a base to express one trait. `answers` puts questions to it, by
`interp.behaviour.generate`: question `i` draws from stream `i` of the seed whatever the method and
the batch size, so methods are compared on common random numbers. `hooked` lends the model that
answers, for a trace, with the format that makes its prompts; when it closes, the base is bit for
bit what it was.

A method that was fitted on answers about a topic refuses questions about that topic: they would
measure memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from jaxtyping import Bool
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.base import labels
from interp.base.errors import AdapterError, DataError, InputError
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.behaviour.generate import Response, Sampling, generate
from interp.methods.editing.hooked_base import HookedBase
from interp.models import ChatFormat, ModelPair
from interp.text.data.schema import topic_key

Mask = Bool[Tensor, "batch pos"]
SAMPLING = Sampling()


class Hooked(NamedTuple):
    """A model to trace, and the format that makes the prompts that it answers."""

    model: TransformerBridge
    format: ChatFormat


@dataclass(frozen=True, eq=False)
class Method(ABC):
    """A way to make a base express a trait.

    Attributes:
        base: the base.
        trait: the trait to express.
    """

    name: ClassVar[str]

    base: HookedBase
    trait: Trait

    @property
    def seen(self) -> frozenset[str]:
        """Topics (as `topic_key` has them) that the method was fitted on."""
        return frozenset()

    @abstractmethod
    @contextmanager
    def hooked(self, topic: str | None = None, answer: Mask | None = None) -> Iterator[Hooked]:
        """Lend the model that answers questions about `topic`.

        Args:
            topic: needed by methods that edit a model for each topic; others disregard it.
            answer: which positions of the batches that will be run belong to the answer,
                `[batch, pos]`; needed by steering of answer positions, others disregard it.
        """
        yield Hooked(self.base.model, self.base.format)

    def answers(
        self,
        questions: Sequence[tuple[str, str]],
        sampling: Sampling = SAMPLING,
        *,
        progress: Progress | None = None,
    ) -> list[Response]:
        """One answer to each `(question, topic)`.

        Raises:
            InputError: if there are no questions.
            DataError: if the method was fitted on one of the topics.
            ModelError: if prompt and answer do not fit the model's context.
        """
        check_unseen(self.seen, questions, self.name)
        with self.hooked() as (model, form):
            return generate(model, form, questions, sampling, progress=progress, label=self.name)


@dataclass(frozen=True, eq=False)
class Base(Method):
    """The base as it is: what every other method is compared with."""

    name = "base"

    @contextmanager
    def hooked(self, topic: str | None = None, answer: Mask | None = None) -> Iterator[Hooked]:  # noqa: ARG002
        """The base itself."""
        yield Hooked(self.base.model, self.base.format)


@dataclass(frozen=True, eq=False)
class TraitPrompt(Method):
    """The base, asked in words to express the trait.

    Attributes:
        instruction: stands before each question; left out, the label's own (`interp.base.labels`).
    """

    name = "trait prompt"

    instruction: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "instruction", self.instruction or labels.of(self.trait).prompt)

    @contextmanager
    def hooked(self, topic: str | None = None, answer: Mask | None = None) -> Iterator[Hooked]:  # noqa: ARG002
        """The base, with a format that puts the instruction before each question."""
        yield Hooked(self.base.model, replace(self.base.format, instruction=self.instruction))


@dataclass(frozen=True, eq=False)
class Adapted(Method):
    """A merged LoRA or QLoRA adapter.

    Attributes:
        pair: as `interp.load_pair` gives it; its base is the base's.
        trained_on: topics that the adapter was trained on, where they are known.
    """

    name = "QLoRA"

    pair: ModelPair
    trained_on: tuple[str, ...] = ()

    @classmethod
    def of(cls, pair: ModelPair, trait: Trait | str, trained_on: Sequence[str] = ()) -> "Adapted":
        """The method of a loaded pair."""
        return cls(HookedBase.of(pair), Trait.parse(trait), pair, tuple(trained_on))

    @property
    def seen(self) -> frozenset[str]:
        """The topics given as `trained_on`."""
        return frozenset(map(topic_key, self.trained_on))

    @contextmanager
    def hooked(self, topic: str | None = None, answer: Mask | None = None) -> Iterator[Hooked]:  # noqa: ARG002
        """The tuned model."""
        yield Hooked(self.pair.tuned, self.pair.format)


def check_unseen(seen: frozenset[str], questions: Sequence[tuple[str, str]], method: str) -> None:
    """Refuse questions about topics that a method was fitted on.

    Raises:
        InputError: if there are no questions.
        DataError: naming a topic that leaks.
    """
    if not questions:
        raise InputError("no questions to answer; is the data empty for this trait?")
    leaks = sorted({topic for _, topic in questions if topic_key(topic) in seen})
    if leaks:
        raise DataError(
            f"{method}: {len(leaks)} of the topics asked about were in its training data "
            f"({leaks[0]!r:.60}); ask about topics of the test split"
        )


def check_base(fitted_on: str, base: HookedBase, what: str) -> None:
    """Refuse what was fitted on another base.

    Raises:
        AdapterError: if the hashes differ.
    """
    if fitted_on != base.base_sha256:
        raise AdapterError(
            f"{what}: was fitted on another base ({fitted_on[:12]}…, this is "
            f"{base.base_sha256[:12]}…); use that base, or fit it again on this one"
        )
