"""What a pair can be asked without a prologue: its vocabulary, its outcome, answers.

Answers and outcomes are made on floors above this one, so a pair asks for them at the front door
(`import interp`), which knows every floor and opens none before it is used.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import interp
from interp.base.errors import InputError
from interp.models.given_prompts import Given, as_batch
from interp.models.questions import TOPICS, questions_on
from interp.models.tokens import ChatFormat, TokenBatch, pad_id
from interp.text.emoji import EmojiVocab


class Asking:
    """The part of a `ModelPair` that is asked, rather than loaded."""

    base: Any
    tuned: Any
    tokenizer: Any
    format: ChatFormat

    @property
    def pad_id(self) -> int:
        return pad_id(self.tokenizer)

    @cached_property
    def vocab(self) -> EmojiVocab:
        """The emojis of the tokenizer."""
        return EmojiVocab.from_tokenizer(self.tokenizer)

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """What ends an answer of either model: the template's, and those of their settings."""
        return self.format.stops(self.base, self.tuned)

    @cached_property
    def outcome(self) -> "interp.Outcome":
        """What is traced if nothing else is said: emojis, beside this pair's ends of a turn."""
        return interp.Outcome.of_vocab(self.vocab, stop=self.stop_ids)

    def prompts(self, questions: Given) -> TokenBatch:
        """A question, questions or ids as a left-padded batch of prompts."""
        return as_batch(questions, self.format)

    def questions(self, n: int = len(TOPICS)) -> list[tuple[str, str]]:
        """Plain questions of opinion to begin with, each with its topic; every topic once.

        Raises:
            InputError: for more than there are.
        """
        return questions_on(n)

    def slots(self, answers: "Sequence[interp.behaviour.Response]") -> "interp.readout.Slots":
        """Where the answers' writer stops, goes on in words, or begins an emoji."""
        return interp.readout.slots(answers, self.tokenizer)

    def generate(
        self,
        questions: str | Sequence[str] | Sequence[tuple[str, str]],
        who: Literal["tuned", "base"] = "tuned",
        *,
        temperature: float = 0.7,
        max_new_tokens: int = 96,
        seed: int = 0,
    ) -> "list[interp.behaviour.Response]":
        """One answer to each question; see `interp.behaviour.generate`.

        Args:
            questions: a question, questions, or pairs of question and topic.
            who: which model answers.
            temperature: 0 is greedy.
            max_new_tokens: where an answer is cut if it has not ended.
            seed: of the sampling; both models draw the same noise.

        Raises:
            InputError: if there is no question, or neither model is meant.
        """
        if who not in ("tuned", "base"):
            got = repr(who) if isinstance(who, str) else type(who).__name__
            raise InputError(f"who answers is 'tuned' or 'base', got {got}")
        how = interp.behaviour.Sampling(
            max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        return interp.behaviour.generate(getattr(self, who), self.format, questions, how)
