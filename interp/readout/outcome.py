"""Outcomes, and the two decisions that lead to one.

At a slot a writer stops (S), goes on in words (W) or begins the outcome (E), an emoji by default.
With S, W and E the logsumexps of these three groups of logits,

    go_on       = W - S            words against stop; raising the outcome alone does not move it
    given_go_on = E - W            the outcome against words
    log_odds    = E - log(e^W + e^S) = given_go_on - softplus(-go_on), exactly

Signs: positive is for going on, and for the outcome. All in nats, float32, differentiable.

*What begins an outcome* are token ids: of emojis `EmojiVocab.emoji_ids`; of strings the first
tokens of their spellings after a letter and after a space (see `interp.readout.spelling`).

*Two positions.* Llama-2 and Mistral-v1 write a lone `▁` before a spaced emoji, and before much
else. Their slot lies before it, so P(outcome) there is P(direct) + P(▁) P(outcome | ▁). Such an
outcome has a `space` and reads two rows of logits of one forward pass over text and `▁`: at the
slot, and after the `▁`. All that follows the `▁` and is not the outcome counts as words. `direct`
is the same outcome as seen at one position alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError, TokenizerError
from interp.base.outcomes import Asked
from interp.models.tokens import ChatFormat
from interp.readout.spelling import Beginnings, beginnings
from interp.text.emoji import EmojiVocab

WORDS, STOP, OUTCOME = range(3)


def stop_ids(tokenizer: Any) -> tuple[int, ...]:
    """The ids that end a turn: those that generation stops at; empty if there is none.

    The end-of-text token, and where there is a chat template what it writes after an answer.
    """
    if tokenizer.chat_template and tokenizer.eos_token_id is not None:
        return ChatFormat.from_tokenizer(tokenizer).stop_ids
    return () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)


@dataclass(frozen=True)
class Outcome:
    """What is traced, as token ids of one tokenizer.

    Attributes:
        name: for tables and figures: `emoji`, `"sorry"`.
        ids: ids that begin the outcome at a slot.
        stop_ids: ids that end a turn.
        size: number of ids that the tokenizer uses; logits have at least as many columns, and those
            beyond count as words.
        space: id of the lone space token that can stand before the outcome; None if there is none.
        after_ids: ids that begin the outcome after that token.
        partial: strings known by a first token that other words begin with too.
    """

    name: str
    ids: tuple[int, ...]
    stop_ids: tuple[int, ...]
    size: int
    space: int | None = None
    after_ids: tuple[int, ...] = ()
    partial: tuple[str, ...] = ()
    _tensors: dict[Any, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, ids in (("outcome", self.ids + self.after_ids), ("stop", self.stop_ids)):
            wrong = [token for token in ids if not 0 <= token < self.size]
            if wrong:
                raise TokenizerError(
                    f"{what} id {wrong[0]} is not among the tokenizer's {self.size} ids; take ids "
                    "of this tokenizer"
                )
        if not self.ids and not self.after_ids:
            raise TokenizerError(f"outcome {self.name!r} has no token that begins it")
        both = set(self.ids) & set(self.stop_ids)
        if both:
            raise InputError(
                f"id {min(both)} both ends a turn and begins outcome {self.name!r}; leave it out"
            )
        if len({*self.ids, *self.stop_ids, self.space} - {None}) >= self.size:
            raise InputError(f"outcome {self.name!r} leaves no token for words; give fewer ids")

    @classmethod
    def emoji(cls, tokenizer: Any, *, stop: Sequence[int] | None = None) -> "Outcome":
        """Emojis. Reads the whole vocabulary, see `EmojiVocab.from_tokenizer`.

        Args:
            tokenizer: a Hugging Face tokenizer.
            stop: ids that end a turn, where generation stops at others than `stop_ids` gives.

        Raises:
            TokenizerError: if the tokenizer can write no emoji.
        """
        ends = stop_ids(tokenizer) if stop is None else tuple(stop)
        return cls.of_vocab(EmojiVocab.from_tokenizer(tokenizer), stop=ends)

    @classmethod
    def of_vocab(cls, vocab: EmojiVocab, *, stop: Sequence[int]) -> "Outcome":
        """Emojis, of a vocabulary that is known already.

        Raises:
            TokenizerError: if no id is pure enough to count as emoji.
        """
        ids = tuple(vocab.emoji_ids.tolist())
        if not ids:
            raise TokenizerError(f"no token is an emoji at purity {vocab.threshold}; lower it")
        after = () if vocab.lone_space is None else ids
        return cls("emoji", ids, tuple(sorted(stop)), vocab.size, vocab.lone_space, after)

    @classmethod
    def strings(
        cls, tokenizer: Any, strings: Sequence[str], *, stop: Sequence[int] | None = None
    ) -> "Outcome":
        """Any of some strings, whatever follows them.

        Raises:
            InputError: if there is no string, or an empty one.
            TokenizerError: if the tokenizer cannot write one of them.
        """
        found: Beginnings = beginnings(tokenizer, strings)
        name = Asked("strings", tuple(strings)).name
        ends = stop_ids(tokenizer) if stop is None else tuple(stop)
        return cls(name, found.ids, ends, found.size, found.space, found.after_ids, found.partial)

    @classmethod
    def tokens(
        cls, tokenizer: Any, tokens: Sequence[int | str], *, stop: Sequence[int] | None = None
    ) -> "Outcome":
        """Any of some tokens, given as ids or as the vocabulary writes them (`Ġsorry`).

        Raises:
            InputError: if there is none.
            TokenizerError: if one is not in the vocabulary.
        """
        known = tokenizer.get_vocab()
        missing = [token for token in tokens if isinstance(token, str) and token not in known]
        if missing:
            raise TokenizerError(f"token {missing[0]!r} is not in the tokenizer's vocabulary")
        ids = {known[token] if isinstance(token, str) else int(token) for token in tokens}
        if not ids:
            raise InputError("an outcome needs at least one token")
        name = Asked("ids", tuple(dict.fromkeys(map(str, tokens)))).name
        ends = stop_ids(tokenizer) if stop is None else tuple(stop)
        return cls(name, tuple(sorted(ids)), ends, max(known.values()) + 1)

    @classmethod
    def parse(cls, text: str, tokenizer: Any, *, stop: Sequence[int] | None = None) -> "Outcome":
        """As a command says it: `emoji`, `strings:sorry,cannot` or `ids:12,15`.

        Raises:
            InputError: for another form.
            TokenizerError: if the tokenizer has no token that begins it.
        """
        asked = Asked.parse(text)
        if asked.kind == "emoji":
            return cls.emoji(tokenizer, stop=stop)
        if asked.kind == "strings":
            return cls.strings(tokenizer, asked.parts, stop=stop)
        return cls.tokens(tokenizer, [int(part) for part in asked.parts], stop=stop)

    # Reading ---------------------------------------------------------------------------------

    @property
    def reads(self) -> int:
        """Rows of logits that one value needs: 2 where a lone `▁` can stand in between."""
        return 1 if self.space is None else 2

    @property
    def space_ids(self) -> tuple[int, ...]:
        """What a prompt that ends at a slot goes on with, so that all rows can be read."""
        return () if self.space is None else (self.space,)

    @property
    def direct(self) -> "Outcome":
        """The outcome as seen at one position, without what a lone `▁` may lead to.

        Raises:
            TokenizerError: if nothing begins the outcome there.
        """
        return self if self.space is None else replace(self, space=None, after_ids=(), _tensors={})

    def sums(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*lead three"]:
        """Logsumexps of words, stop and outcome, up to one constant per row.

        Args:
            logits: at the slot, `[*lead vocab]`; with `reads` of 2 `[*lead 2 vocab]`, the second
                row after the lone `▁`.

        Raises:
            TokenizerError: if the logits have fewer columns than the tokenizer has ids.
            InputError: if there are not two rows where two are read.
        """
        logits = self._checked(logits).float()
        if self.space is None:
            return torch.stack(self._parts(logits, self.ids + self.stop_ids), -1)
        slot, after = logits.unbind(-2)
        words, stop, outcome = self._parts(slot, (*self.ids, *self.stop_ids, self.space))
        through = slot[..., self.space] - after.logsumexp(-1)
        begun = after[..., self._index("after_ids", after)].logsumexp(-1) + through
        rest = self._without(after, self.after_ids).logsumexp(-1) + through
        return torch.stack(
            [torch.logaddexp(words, rest), stop, torch.logaddexp(outcome, begun)], -1
        )

    def _parts(self, logits: Tensor, others: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self._without(logits, others).logsumexp(-1),
            logits[..., self._index("stop_ids", logits)].logsumexp(-1),
            logits[..., self._index("ids", logits)].logsumexp(-1),
        )

    def _without(self, logits: Tensor, ids: tuple[int, ...]) -> Tensor:
        return logits.index_fill(-1, self._tensor(ids, logits.device), float("-inf"))

    def _index(self, which: str, like: Tensor) -> Tensor:
        return self._tensor(getattr(self, which), like.device)

    def _tensor(self, ids: tuple[int, ...], device: torch.device) -> Tensor:
        if (ids, device) not in self._tensors:
            self._tensors[ids, device] = torch.tensor(ids, dtype=torch.long, device=device)
        return self._tensors[ids, device]

    def _checked(self, logits: Tensor) -> Tensor:
        if logits.shape[-1] < self.size:
            raise TokenizerError(
                f"logits have {logits.shape[-1]} columns but the tokenizer has {self.size} ids; "
                "the tokenizer belongs to another model, or the embeddings were not resized"
            )
        if self.reads == 2 and (logits.ndim < 2 or logits.shape[-2] != 2):
            raise InputError(
                f"outcome {self.name!r} of this tokenizer is read at two positions, the slot and "
                f"after a lone ▁: logits [..., 2, vocab] are needed, got {list(logits.shape)}; "
                "or read `direct`, at one"
            )
        return logits

    def log_odds(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*lead"]:
        """The outcome against everything else, nats; see `sums` for the logits."""
        return log_odds(self.sums(logits))

    def go_on(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*lead"]:
        """Words against stop, nats.

        Raises:
            TokenizerError: if no stop token is known.
        """
        return go_on(self.with_stop.sums(logits))

    def given_go_on(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*lead"]:
        """The outcome against words, nats.

        Raises:
            TokenizerError: if no stop token is known.
        """
        return given_go_on(self.with_stop.sums(logits))

    def probability(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*lead three"]:
        """Probabilities of words, stop and outcome."""
        return self.sums(logits).softmax(-1)

    def which(self, logits: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead ids"]:
        """Given the outcome at one position, which: the distribution over `ids`."""
        logits = self.direct._checked(logits).float()
        return logits[..., self._index("ids", logits)].softmax(-1)

    @property
    def with_stop(self) -> "Outcome":
        """This outcome, if a stop token is known.

        Raises:
            TokenizerError: if none is.
        """
        if not self.stop_ids:
            raise TokenizerError(
                "no stop token is known, so going on cannot be told from stopping; give the "
                "tokenizer an eos_token, or the outcome its stop ids (stop=[...])"
            )
        return self

    def metric(self, factor: str = "log_odds") -> "OutcomeMetric":
        """One factor as a metric: `log_odds`, `go_on` or `given_go_on`."""
        return OutcomeMetric(self, factor)

    def metrics(self) -> dict[str, "OutcomeMetric"]:
        """All three, by name: what `metric=` takes to read them from one pass.

        Raises:
            TokenizerError: if no stop token is known.
        """
        return {factor: self.with_stop.metric(factor) for factor in FACTORS}


def log_odds(sums: Float[Tensor, "*lead three"]) -> Float[Tensor, "*lead"]:
    """Outcome against words and stop."""
    return sums[..., OUTCOME] - torch.logaddexp(sums[..., WORDS], sums[..., STOP])


def go_on(sums: Float[Tensor, "*lead three"]) -> Float[Tensor, "*lead"]:
    """Words against stop."""
    return sums[..., WORDS] - sums[..., STOP]


def given_go_on(sums: Float[Tensor, "*lead three"]) -> Float[Tensor, "*lead"]:
    """Outcome against words."""
    return sums[..., OUTCOME] - sums[..., WORDS]


FACTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "log_odds": log_odds,
    "go_on": go_on,
    "given_go_on": given_go_on,
}


def joined(
    go_on: Float[Tensor, "*lead"], given_go_on: Float[Tensor, "*lead"]
) -> Float[Tensor, "*lead"]:
    """The log-odds that two factors make: given_go_on - softplus(-go_on)."""
    return given_go_on - F.softplus(-go_on)


@dataclass(frozen=True)
class OutcomeMetric:
    """One factor of an outcome, as a metric: logits to one value per prompt, in nats.

    Attributes:
        outcome: whose.
        factor: `log_odds`, `go_on` or `given_go_on`.
    """

    outcome: Outcome
    factor: str = "log_odds"
    unit = "nats"

    def __post_init__(self) -> None:
        if self.factor not in FACTORS:
            raise InputError(f"unknown factor {self.factor!r}; use one of {', '.join(FACTORS)}")
        if self.factor != "log_odds":
            object.__setattr__(self, "outcome", self.outcome.with_stop)

    @property
    def name(self) -> str:
        """For tables and figures: `emoji log-odds`, `go on`, `emoji given go on`."""
        said = {"log_odds": "{} log-odds", "go_on": "go on", "given_go_on": "{} given go on"}
        return said[self.factor].format(self.outcome.name)

    @property
    def reads(self) -> int:
        """Rows of logits that it needs per prompt, see `Outcome.reads`."""
        return self.outcome.reads

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids above the line: those of the outcome; for `go_on`, all that are neither."""
        if self.factor != "go_on":
            return self.outcome.ids
        taken = {*self.outcome.ids, *self.outcome.stop_ids}
        return tuple(token for token in range(self.outcome.size) if token not in taken)

    def __call__(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*lead"]:
        return self.of(self.outcome.sums(logits))

    def of(self, sums: Float[Tensor, "*lead three"]) -> Float[Tensor, "*lead"]:
        """The factor from the outcome's three logsumexps."""
        return FACTORS[self.factor](sums)
