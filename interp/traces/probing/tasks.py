"""What is probed for: which positions or texts, their labels, topics and types."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.base.errors import DataError, InputError
from interp.base.traits import Trait, in_order
from interp.text.emoji import EmojiVocab

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
_CLOSING = "\"'”’»)]*_ \t\r\n"


@dataclass(frozen=True, eq=False)
class Task:
    """Examples with labels.

    Attributes:
        name: what is asked, for figures.
        classes: name of each label.
        labels: index into `classes`, `[example]`.
        groups: topic of each example: never in training and held-out data at once.
        types: type of each example for the control task.
        control_split: `groups` if types recur across topics, `rows` if not.
        text: row of the tokens that each example is from, `[example]`.
        pos: its column, `[example]`; None if the whole text is pooled.
        counts: how many of what, for captions.
    """

    name: str
    classes: tuple[str, ...]
    labels: Int[Tensor, " example"]
    groups: tuple[str, ...]
    types: tuple[str, ...]
    control_split: str
    text: Int[Tensor, " example"]
    pos: Int[Tensor, " example"] | None = None
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """Which positions become examples, and how many.

    Attributes:
        negatives: `sentence_ends` or `any`.
        ratio: negatives per positive, drawn without replacement; fewer if there are not enough.
        most: at most so many positives.
        types: what a control label hangs on: `bigram` (this token and the one before) or `token`.
            Sentences end in a handful of tokens, so that with `token` there would be hardly
            anything to memorise.

    Raises:
        InputError: for an unknown choice.
    """

    negatives: str = "sentence_ends"
    ratio: float = 1.0
    most: int = 300
    types: str = "bigram"

    def __post_init__(self) -> None:
        if self.negatives not in ("sentence_ends", "any") or self.types not in ("bigram", "token"):
            raise InputError("negatives is 'sentence_ends' or 'any', types is 'bigram' or 'token'")
        if self.ratio <= 0 or self.most < 1:
            raise InputError("ratio must be above 0 and most at least 1")


AT_SENTENCE_ENDS = Draw()


def onset_task(
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | Bool[Tensor, "batch pos"] | None = None,
    *,
    topics: Sequence[str],
    vocab: EmojiVocab,
    where: Bool[Tensor, "batch pos"] | None = None,
    draw: Draw = AT_SENTENCE_ENDS,
    seed: int = 0,
) -> Task:
    """ "The next token begins an emoji", at positions of texts.

    Positive: the next token holds the first byte of an emoji in the decoded text and is one of the
    vocabulary's onset ids (emojis that begin inside another token are counted as `not_onset` and
    left out). A token of white space alone before an emoji (the lone `▁` of Llama-2) belongs to
    it: else a probe would only have to find that token.

    Negative: the next token is real and no part of an emoji, nor is this one; of these,
    `sentence_ends` takes only tokens that end a sentence (terminal punctuation, or the last token
    before a special one such as the end of the turn), so that telling a full stop from the middle
    of a sentence does not help. `any` takes all of them.

    Args:
        tokens: ids with the end of the turn, `[batch, pos]`: without it the end of a text has no
            next token and is no example.
        attention_mask: nonzero on real tokens.
        topics: topic of each row.
        vocab: of the tokenizer that made the tokens.
        where: positions that may become examples (those of the answer, say); None for all.
        draw: which positions become examples, and how many.
        seed: of the drawing.

    Raises:
        InputError: for topics that do not fit the tokens.
        DataError: if there are no positives or no negatives.
    """
    if len(topics) != len(tokens):
        raise InputError(f"{len(tokens)} texts need as many topics, got {len(topics)}")
    mask = (torch.ones_like(tokens) if attention_mask is None else attention_mask).bool().cpu()
    found, others, not_onset = _places(tokens, mask, vocab, where, draw.negatives)
    rng = np.random.default_rng(seed)
    kept = _draw(found, draw.most, rng)
    rest = _draw(others, max(1, round(draw.ratio * len(kept))), rng)
    places = torch.cat([kept, rest])
    order = torch.from_numpy(np.lexsort((places[:, 1].numpy(), places[:, 0].numpy())))
    labels = torch.cat([torch.ones(len(kept)), torch.zeros(len(rest))]).long()
    text, pos = places[order].T
    return Task(
        name="the next token begins an emoji",
        classes=("no emoji", "emoji"),
        labels=labels[order],
        groups=tuple(topics[row] for row in text.tolist()),
        types=tuple(
            _type(tokens, mask, row, col, draw.types) for row, col in places[order].tolist()
        ),
        control_split="groups",
        text=text,
        pos=pos,
        counts={"positives_found": len(found), "negatives_found": len(others)} | not_onset,
    )


def trait_task(
    traits: Sequence[Trait | str],
    topics: Sequence[str],
    *,
    target: Trait | str | None = None,
    types: Sequence[str] | None = None,
) -> Task:
    """The trait of a text, one example per text.

    Args:
        traits: trait of each text.
        topics: topic of each text.
        target: None to tell all traits apart; a trait for that one against the rest.
        types: what the control task's labels hang on, a name per text: the question, where several
            traits answer it. None for the topic, of which there are often fewer than dimensions,
            so that a linear probe memorises any labelling and selectivity is low for any model.

    Raises:
        InputError: if there are not as many topics (or types) as texts.
        TraitError: for what cannot be a label.
    """
    types = topics if types is None else types
    if not len(traits) == len(topics) == len(types):
        raise InputError(
            f"{len(traits)} texts but {len(topics)} topics and {len(types)} types; give one each"
        )
    parsed = [Trait.parse(trait) for trait in traits]
    if target is None:
        present = in_order(set(parsed))
        classes = tuple(str(trait) for trait in present)
        labels = [present.index(trait) for trait in parsed]
        name = "trait of the text"
    else:
        wanted = Trait.parse(target)
        classes = ("another trait", str(wanted))
        labels = [int(trait == wanted) for trait in parsed]
        name = f"the text is {wanted}"
    return Task(
        name=name,
        classes=classes,
        labels=torch.tensor(labels, dtype=torch.long),
        groups=tuple(topics),
        types=tuple(types),
        control_split="rows",
        text=torch.arange(len(parsed)),
    )


def _places(
    tokens: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    vocab: EmojiVocab,
    where: Bool[Tensor, "batch pos"] | None,
    negatives: str,
) -> tuple[Int[Tensor, "n two"], Int[Tensor, "m two"], dict[str, int]]:
    """All positives and negatives as (row, column), and how many emojis were left out."""
    positive, plain, not_onset = _candidates(tokens, mask, vocab)
    if where is not None:
        positive, plain = positive & where.cpu(), plain & where.cpu()
    if negatives == "sentence_ends":
        plain &= _ends_sentence(tokens, mask, vocab)
    found, others = positive.nonzero(), plain.nonzero()
    if len(found) == 0:
        raise DataError(f"none of {len(tokens)} texts has an emoji that can be probed for")
    if len(others) == 0:
        raise DataError(
            f"no negatives of kind {negatives!r} in {len(tokens)} texts; use negatives='any', or "
            "give texts that end without an emoji too"
        )
    return found, others, {"not_onset": not_onset}


def _candidates(
    tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"], vocab: EmojiVocab
) -> tuple[Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"], int]:
    """Positions before an emoji, positions away from emojis, emojis that begin inside a token."""
    positive, plain = torch.zeros_like(mask), torch.zeros_like(mask)
    onsets, not_onset = set(vocab.onset_ids.tolist()), 0
    for row in range(len(tokens)):
        columns = mask[row].nonzero().squeeze(1)
        ids = tokens[row, columns].tolist()
        within = torch.zeros(len(ids), dtype=torch.bool)
        for match in vocab.find_tokens(ids):
            start = match.start
            if start > 0 and vocab.pieces[ids[start - 1]].isspace():
                start -= 1
            within[start : match.end] = True
            if ids[match.start] not in onsets:
                not_onset += 1
            elif start > 0:
                positive[row, columns[start - 1]] = True
        plain[row, columns[:-1][~within[:-1] & ~within[1:]]] = True
    return positive, plain, not_onset


def _ends_sentence(
    tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"], vocab: EmojiVocab
) -> Bool[Tensor, "batch pos"]:
    special = torch.tensor([not piece for piece in vocab.pieces])
    terminal = torch.tensor([_terminal(piece) for piece in vocab.pieces])
    nothing = special[tokens] & mask
    before_special = torch.zeros_like(mask)
    before_special[:, :-1] = nothing[:, 1:] & ~nothing[:, :-1] & mask[:, :-1]
    return (terminal[tokens] & mask) | before_special


def _terminal(piece: bytes) -> bool:
    return piece.decode(errors="replace").rstrip(_CLOSING).endswith(_SENTENCE_ENDS)


def _type(
    tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"], row: int, col: int, how: str
) -> str:
    before = int(tokens[row, col - 1]) if col > 0 and bool(mask[row, col - 1]) else -1
    return f"{before} {int(tokens[row, col])}" if how == "bigram" else str(int(tokens[row, col]))


def _draw(
    places: Int[Tensor, "n two"], most: int, rng: np.random.Generator
) -> Int[Tensor, "kept two"]:
    if len(places) <= most:
        return places
    return places[torch.from_numpy(rng.choice(len(places), most, replace=False))]
