"""IKE: in-context knowledge editing (Zheng et al. 2023, arXiv 2305.12740).

No weight changes. Each question is preceded by answers in the trait's voice to the questions most
like it, taken from the training split, in PersonalityEdit's setting (Mao et al. 2023, arXiv
2310.02168): an instruction to exhibit the trait, then demonstrations about other topics. The
demonstrations stand in order of rising similarity, the nearest one next to the question, as Zheng
et al. have it. In a chat format they are turns of the chat; in the plain format the text that
PersonalityEdit uses.

Cost: no fitting; a prompt of `k` demonstrations is some `k + 1` times as long. Where the context
cannot hold all of them beside the answer, the least similar are left out, and `fitting` says how
many stand.

Not here: PersonalityEdit's fixed three demonstrations, and the copy and retain demonstrations of
Zheng et al., which are for facts: an opinion has no paraphrase to copy and no neighbour to retain.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from interp.base import labels
from interp.base.errors import DataError, InputError, ModelError
from interp.base.progress import Progress
from interp.behaviour.generate import Response, Sampling, generate
from interp.methods.editing.method import (
    SAMPLING,
    Hooked,
    Mask,
    Method,
    check_unseen,
)
from interp.methods.editing.similarity import Encoder, Nearest
from interp.models import ChatFormat
from interp.text.data import OpinionQA
from interp.text.data.schema import topic_key


@dataclass(frozen=True, eq=False)
class Demonstrated(ChatFormat):
    """A format that shows the nearest answered questions before each question.

    Attributes:
        shown: `(question, answer)` pairs to choose from.
        nearest: ranks them.
        k: how many to show.
        room: most tokens that a prompt may have; None for no limit.
    """

    shown: tuple[tuple[str, str], ...] = ()
    nearest: Nearest | None = None
    k: int = 0
    room: int | None = None
    _chosen: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict, repr=False)

    def demonstrations(self, question: str) -> Sequence[tuple[str, str]]:
        """The nearest pairs that fit, the nearest last.

        Raises:
            ModelError: if not even one fits.
        """
        if question not in self._chosen:
            self._chosen[question] = self._choose(question)
        return self._chosen[question]

    def _choose(self, question: str) -> tuple[tuple[str, str], ...]:
        assert self.nearest is not None  # only `Ike` makes this
        order = self.nearest.order(question)[: self.k]
        for count in range(len(order), 0, -1):
            pairs = tuple(self.shown[index] for index in reversed(order[:count]))
            fixed = _Fixed(
                self.tokenizer, self.style, self.instruction, pairs, double_bos=self.double_bos
            )
            needed = len(fixed.prompt_ids(question))
            if self.room is None or needed <= self.room:
                return pairs
        raise ModelError(
            f"{question!r:.60} with one demonstration needs {needed} tokens, but the context "
            f"leaves {self.room}; lower max_new_tokens, or use a model with a longer context"
        )


@dataclass(frozen=True)
class _Fixed(ChatFormat):
    """A format with the same demonstrations before every question."""

    pairs: tuple[tuple[str, str], ...] = ()

    def demonstrations(self, question: str) -> Sequence[tuple[str, str]]:  # noqa: ARG002
        return self.pairs


@dataclass(frozen=True, eq=False)
class Ike(Method):
    """In-context editing with demonstrations from a training split.

    Attributes:
        data: the training rows; those of other traits are not shown.
        k: demonstrations per question.
        instruction: before the first demonstration; the trait's prompt if None, "" for none.
        encoder: embeds questions; TF-IDF if None.
        max_new_tokens: room kept for the answer in `hooked` and `fitting`; `answers` keeps what its
            sampling asks for.
    """

    name = "IKE"

    data: OpinionQA
    k: int = 8
    instruction: str | None = None
    encoder: Encoder | None = None
    max_new_tokens: int = Sampling.max_new_tokens

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k is {self.k}; IKE shows at least one demonstration")
        if not self._rows:
            raise DataError(
                f"{self.data.source}: has no answers for {self.trait} to show; it has "
                f"{', '.join(self.data.traits) or 'no rows'}"
            )
        if self.instruction is None:
            object.__setattr__(self, "instruction", labels.of(self.trait).prompt)

    @cached_property
    def _rows(self) -> tuple[tuple[str, str], ...]:
        rows = self.data.for_trait(self.trait).rows
        return tuple((row.question, row.answer) for row in rows)

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest([question for question, _ in self._rows], self.encoder)

    @property
    def seen(self) -> frozenset[str]:
        """The topics of the rows that may be shown."""
        return frozenset(map(topic_key, self.data.for_trait(self.trait).topics))

    def format(self, max_new_tokens: int) -> Demonstrated:
        """The format that shows demonstrations and leaves room for an answer."""
        base, context = self.base.format, self.base.context
        return Demonstrated(
            base.tokenizer,
            base.style,
            self.instruction or "",
            self._rows,
            self._nearest,
            self.k,
            None if context is None else context - max_new_tokens,
            double_bos=base.double_bos,
        )

    def fitting(self, question: str) -> int:
        """How many demonstrations stand before a question.

        Raises:
            ModelError: if not even one fits.
        """
        return len(self.format(self.max_new_tokens).demonstrations(question))

    @contextmanager
    def hooked(self, topic: str | None = None, answer: Mask | None = None) -> Iterator[Hooked]:  # noqa: ARG002
        """The base, with a format that shows demonstrations."""
        yield Hooked(self.base.model, self.format(self.max_new_tokens))

    def answers(
        self,
        questions: Sequence[tuple[str, str]],
        sampling: Sampling = SAMPLING,
        *,
        progress: Progress | None = None,
    ) -> list[Response]:
        """One answer to each `(question, topic)`; see `Method.answers`."""
        check_unseen(self.seen, questions, self.name)
        form = self.format(sampling.max_new_tokens)
        return generate(
            self.base.model, form, questions, sampling, progress=progress, label=self.name
        )
