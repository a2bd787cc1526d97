"""MEND as a method: one edit for each topic, then questions about it."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property

from interp.base.errors import DataError, InputError
from interp.base.progress import Progress
from interp.behaviour.generate import Response, Sampling, generate
from interp.methods.editing.mend.edit import edit, updates
from interp.methods.editing.mend.folder import Editor
from interp.methods.editing.mend.rank_one import with_rows
from interp.methods.editing.method import SAMPLING, Hooked, Mask, Method, check_base, check_unseen
from interp.text.data import OpinionQA
from interp.text.data.schema import OpinionRow, topic_key


@dataclass(frozen=True, eq=False)
class Mend(Method):
    """The base, edited anew for each topic (PersonalityEdit's setting).

    Questions about a topic are answered by the base with one answer on that topic, in the trait's
    voice, edited in: the first that `edits` has. A question may be the very one whose answer was
    edited in, as it always is in PersonalityEdit.

    Attributes:
        editor: trained on this base.
        edits: answers to edit in, one at least for each topic asked about; usually the test split.
    """

    name = "MEND"

    editor: Editor
    edits: OpinionQA

    def __post_init__(self) -> None:
        check_base(self.editor.base_sha256, self.base, "the MEND editor")
        if not self._first:
            raise DataError(
                f"{self.edits.source}: has no answers for {self.trait} to edit in; it has "
                f"{', '.join(self.edits.traits) or 'no rows'}"
            )

    @cached_property
    def _first(self) -> dict[str, OpinionRow]:
        found: dict[str, OpinionRow] = {}
        for row in self.edits.for_trait(self.trait).rows:
            found.setdefault(topic_key(row.topic), row)
        return found

    def row(self, topic: str) -> OpinionRow:
        """The answer that is edited in for a topic.

        Raises:
            DataError: if there is none.
        """
        try:
            return self._first[topic_key(topic)]
        except KeyError:
            raise DataError(
                f"{self.edits.source}: has no answer on {topic!r:.60} for {self.trait} to edit in"
            ) from None

    @property
    def seen(self) -> frozenset[str]:
        """The topics that the editor was trained on."""
        return frozenset(self.editor.topics)

    @contextmanager
    def hooked(self, topic: str | None = None, answer: Mask | None = None) -> Iterator[Hooked]:  # noqa: ARG002
        """A model of its own with the topic's edit in its weights.

        Raises:
            InputError: if no topic is named.
        """
        if topic is None:
            raise InputError("MEND edits a model for each topic; say which (topic=)")
        pair = edit(self.base, self.editor, [self.row(topic)])
        yield Hooked(pair.tuned, pair.format)

    def answers(
        self,
        questions: Sequence[tuple[str, str]],
        sampling: Sampling = SAMPLING,
        *,
        progress: Progress | None = None,
    ) -> list[Response]:
        """One answer to each `(question, topic)`, each from its topic's edited model.

        The edits of a batch are applied row by row, so topics share batches.

        Raises:
            DataError: if the editor saw a topic in training, or a topic has no answer to edit in.
        """
        check_unseen(self.seen, questions, self.name)
        rows = [self.row(topic) for _, topic in questions]
        network = self.base.model.original_model

        def edited(places: list[int]) -> AbstractContextManager[None]:
            distinct = list(dict.fromkeys(rows[place] for place in places))
            found = updates(self.base, self.editor, distinct)
            index = [distinct.index(rows[place]) for place in places]
            return with_rows(network, {name: one[index] for name, one in found.items()})

        return generate(
            self.base.model, self.base.format, questions, sampling, under=edited,
            progress=progress, label=self.name,
        )  # fmt: skip
