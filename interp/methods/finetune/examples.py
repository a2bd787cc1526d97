"""Opinion QA rows as training examples: token ids, and a label for each id that is in the loss.

The loss is on the answer only. A label equals the id at its own position (the model shifts); an id
outside the loss has the label -100. The ids after the answer (the end of the turn) are labelled if,
and only if, `supervise_eos` says so; padding never is, whatever its id.
"""

from dataclasses import asdict, dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from interp.base.errors import DataError
from interp.models import ChatFormat, Example, pad
from interp.text.data import OpinionQA

IGNORED = -100


@dataclass(frozen=True)
class Labelled:
    """One turn: ids, and labels of the same length (`IGNORED` outside the loss)."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Counts:
    """What encoding did to the rows."""

    rows: int
    """Rows trained on."""
    truncated: int
    """Of these, rows that lost tokens to `max_length`."""
    truncated_tokens: int
    """Tokens that these rows lost, ends of turns included."""
    dropped: int
    """Rows left out because `max_length` left no token of their answer."""
    answer_tokens: int
    """Answer tokens in the loss."""
    end_tokens: int
    """End-of-turn tokens in the loss; 0 unless `supervise_eos`."""

    def to_dict(self) -> dict[str, int]:
        """The counts as plain values."""
        return asdict(self)


def label(example: Example, *, supervise_eos: bool, max_length: int) -> Labelled | None:
    """Labels for one example, cut to `max_length`; `None` if no answer token is left."""
    end = len(example.ids) if supervise_eos else example.answer_end
    labels = [
        token if example.answer_start <= place < end else IGNORED
        for place, token in enumerate(example.ids)
    ]
    if example.answer_start >= min(example.answer_end, max_length):
        return None
    return Labelled(example.ids[:max_length], tuple(labels[:max_length]))


def encode(
    data: OpinionQA, chat: ChatFormat, *, supervise_eos: bool, max_length: int
) -> tuple[list[Labelled], Counts]:
    """Every row of `data` as a labelled turn, in order, and what was cut.

    Raises:
        DataError: if no row keeps a token of its answer.
    """
    kept: list[Labelled] = []
    truncated = lost = answers = ends = 0
    for row in data.rows:
        example = chat.example(row.question, row.answer)
        made = label(example, supervise_eos=supervise_eos, max_length=max_length)
        if made is None:
            continue
        kept.append(made)
        truncated += len(made.ids) < len(example.ids)
        lost += len(example.ids) - len(made.ids)
        in_answer = min(example.answer_end, len(made.ids)) - example.answer_start
        answers += in_answer
        ends += sum(token != IGNORED for token in made.labels) - in_answer
    if not kept:
        raise DataError(
            f"{data.source}: every prompt alone fills max_length={max_length} tokens; raise it"
        )
    dropped = len(data) - len(kept)
    return kept, Counts(len(kept), truncated, lost, dropped, answers, ends)


@dataclass(frozen=True)
class Batch:
    """A right-padded batch for a Hugging Face causal model."""

    input_ids: Int[Tensor, "batch pos"]
    attention_mask: Bool[Tensor, "batch pos"]
    labels: Int[Tensor, "batch pos"]


def collate(rows: list[Labelled], pad_id: int) -> Batch:
    """Pad to the longest row; padding is masked and outside the loss."""
    tokens = pad([row.ids for row in rows], pad_id, side="right")
    labels = pad([row.labels for row in rows], IGNORED, side="right")
    return Batch(tokens.tokens, tokens.attention_mask, labels.tokens)
