"""Text to token ids: the only place where that happens.

A question becomes a prompt by the tokenizer's chat template (or, on request, a plain
`Question: … Answer:` frame). A prompt has the same ids in training, in generation and in a trace,
whatever follows it: where a token would straddle the end of the prompt, the answer is encoded
apart. The template writes BOS itself where it wants one; the tokenizer adds none. What people
wrote never becomes a control token, whatever it spells.

Padding goes to the left unless asked otherwise, so that the last column of a batch is each row's
last token. Models see ids and masks, never text.
"""

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.base.errors import InputError, InterpError, TokenizerError
from interp.base.files import sha256_text
from interp.base.html import card, chips, note, shown
from interp.models.templates import Template
from interp.text.emoji import find

Style = Literal["chat", "plain"]
_log = logging.getLogger(__name__)
_PLAIN = "Question: {question}\nAnswer:"
_MARK = "\ufdd0"  # a noncharacter: no text has it
_NO_TEXT = re.compile(f"[{_MARK}\ud800-\udfff]")
_MARKED = re.compile(rf"((?:[^{_MARK}]{_MARK})+)", re.DOTALL)
_PROBE = "Yes, 7 or 8 of them."  # an answer that no template has a reason to change


@dataclass(frozen=True)
class TokenBatch:
    """Token ids with the mask that says which of them are real.

    Attributes:
        tokens: ids, `[batch, pos]`.
        attention_mask: true where a token is real, false on padding, `[batch, pos]`.
    """

    tokens: Int[Tensor, "batch pos"]
    attention_mask: Bool[Tensor, "batch pos"]

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __getitem__(self, rows: int | slice | list[int] | Tensor) -> "TokenBatch":
        rows = [rows] if isinstance(rows, int) else rows
        return TokenBatch(self.tokens[rows], self.attention_mask[rows])

    def to(self, device: torch.device | str) -> "TokenBatch":
        return TokenBatch(self.tokens.to(device), self.attention_mask.to(device))

    def __repr__(self) -> str:
        rows, width = self.tokens.shape
        return f"TokenBatch({rows} rows of {width} columns, {int(self.lengths.sum())} tokens)"

    @shown
    def _repr_html_(self) -> str:
        """A card for notebooks: the ids of the first rows; padding dashed."""
        facts = {"rows": len(self), "width": self.tokens.shape[1], "real": int(self.lengths.sum())}
        rows = zip(self.tokens[:4].tolist(), self.attention_mask[:4].tolist(), strict=True)
        parts = [
            chips([str(token) for token in ids], [not one for one in mask]) for ids, mask in rows
        ]
        return card("Token ids", "a decoded row says more", facts, parts)

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Real tokens per row."""
        return self.attention_mask.sum(-1)


def pad(
    rows: Sequence[Sequence[int]], pad_id: int, side: Literal["left", "right"] = "left"
) -> TokenBatch:
    """Pad rows of ids to one length.

    Raises:
        InputError: if there are no rows, or a row is empty.
    """
    if not rows or any(len(row) == 0 for row in rows):
        raise InputError("cannot make a batch of no prompts, or of an empty prompt")
    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        tokens[index, place] = torch.tensor(row, dtype=torch.long)
        mask[index, place] = True
    return TokenBatch(tokens, mask)


def pad_id(tokenizer: Any) -> int:
    """The id to pad with: the tokenizer's own, else its end of text (always under a mask).

    Raises:
        TokenizerError: if the tokenizer has neither.
    """
    for value in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if value is not None:
            return int(value)
    raise TokenizerError(
        f"{tokenizer.name_or_path}: the tokenizer has neither a pad nor an eos token; "
        "set eos_token in tokenizer_config.json"
    )


@dataclass(frozen=True)
class Example:
    """One question with its answer as ids.

    Attributes:
        ids: the whole turn.
        answer_start: index of the answer's first id; before it stands the prompt.
        answer_end: index after the answer's last id; from it on stands the end of the turn.
    """

    ids: tuple[int, ...]
    answer_start: int
    answer_end: int


@dataclass(frozen=True)
class ChatFormat:
    """How questions and answers become ids for one tokenizer.

    Attributes:
        tokenizer: a Hugging Face tokenizer.
        style: `chat` uses the tokenizer's chat template; `plain` is `Question: …\\nAnswer:`.
        instruction: stands before the first question of every prompt, in the user's turn, because
            many templates refuse a system turn; none if empty.
        double_bos: whether the turn begins with BOS twice, as where a rendered template was
            tokenised with the tokenizer's own BOS.

    A subclass that overrides `demonstrations` shows answered questions before each question.
    """

    tokenizer: Any
    style: Style = "chat"
    instruction: str = ""
    double_bos: bool = field(default=False, kw_only=True)

    @shown
    def _repr_html_(self) -> str:
        """A card for notebooks: the tokens of an open turn."""
        try:
            ids = self.prompt_ids("How are you?")
            said = self.tokenizer.convert_ids_to_tokens(ids)
        except InterpError as problem:
            return card("Prompt format", self.style, {}, [note(str(problem))])
        facts = {"tokens of “How are you?”": len(ids), "instruction": self.instruction or "none"}
        return card("Prompt format", self.style, facts, [chips(said)])

    @classmethod
    def from_tokenizer(
        cls, tokenizer: Any, style: Style = "chat", *, double_bos: bool = False
    ) -> "ChatFormat":
        """The format for `tokenizer`.

        Raises:
            TokenizerError: if `style` is `chat` and the tokenizer has no chat template, or several
                and no default; if it has no end-of-text token; if a doubled BOS is asked of one
                whose turns begin with none.
        """
        if style not in ("chat", "plain"):
            raise TokenizerError(f"unknown prompt format {style!r}; use chat or plain")
        if style == "chat":
            for note_ in Template.of(tokenizer).notes:
                _log.warning("%s: %s", tokenizer.name_or_path, note_)
        if tokenizer.eos_token_id is None:
            raise TokenizerError(
                f"{tokenizer.name_or_path}: the tokenizer has no end-of-text token; "
                "set eos_token in tokenizer_config.json"
            )
        return cls(tokenizer, style).with_double_bos() if double_bos else cls(tokenizer, style)

    def with_double_bos(self) -> "ChatFormat":
        """The same, each turn beginning with BOS twice.

        Raises:
            TokenizerError: if its turns begin with no BOS that could be doubled.
        """
        bos = self.tokenizer.bos_token_id
        if bos is None or self.prompt_ids("Why?")[0] != bos:
            raise TokenizerError(
                f"{self.tokenizer.name_or_path}: a turn begins with no BOS, so there is none to "
                "double; leave double_bos out"
            )
        return replace(self, double_bos=True)

    @cached_property
    def _template(self) -> Template:
        return Template.of(self.tokenizer)

    @property
    def template(self) -> str:
        """The template's source text, as it is recorded with an adapter."""
        return self._template.text if self.style == "chat" else _PLAIN

    @property
    def template_sha256(self) -> str:
        """Hash of the template, and of the date that it is told if it asks for today's."""
        return self._template.sha256 if self.style == "chat" else sha256_text(_PLAIN)

    @property
    def told(self) -> dict[str, Any]:
        """What the template is told: a date that never changes, thinking that is off."""
        return self._template.told if self.style == "chat" else {}

    def demonstrations(self, question: str) -> Sequence[tuple[str, str]]:  # noqa: ARG002
        """Questions and answers that the prompt shows before `question`; here none."""
        return ()

    def prompt_ids(self, question: str) -> list[int]:
        """Ids of the turn up to where the answer begins."""
        return self._encode(self._prompt_text(question))[0]

    def example(self, question: str, answer: str) -> Example:
        """Ids of the whole turn: prompt, answer, end of turn.

        Raises:
            TokenizerError: if the chat template does not show the answer as it is.
        """
        answer = self._marked(answer)
        prompt = self._prompt_text(question)
        rest = self._turn_text(question, answer, prompt)
        at = rest.find(answer)
        if not answer or at < 0 or rest[:at].strip():
            raise self._changed(answer)
        prompt_ids, _ = self._encode(prompt)
        ids, starts = self._encode(prompt + rest)
        cut = len(prompt)
        if ids[: len(prompt_ids)] != prompt_ids:  # a token would straddle: encode the rest alone
            tail, starts = self._encode(rest, start=False)
            ids, starts, cut = prompt_ids + tail, [-1] * len(prompt_ids) + starts, 0
        answer_end = cut + at + len(answer)
        stop = next((i for i, s in enumerate(starts) if s >= answer_end), len(ids))
        return Example(tuple(ids), len(prompt_ids), stop)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: end of text, and what the template writes after an answer."""
        example = self.example("Why?", "Because.")
        after = example.ids[example.answer_end : example.answer_end + 1]
        special = set(self.tokenizer.all_special_ids)
        return tuple(sorted({self.tokenizer.eos_token_id} | (set(after) & special)))

    def stops(self, *models: Any) -> tuple[int, ...]:
        """What generation stops at: `stop_ids`, and those of the models' generation settings."""
        found = set(self.stop_ids)
        for model in models:
            settings = getattr(getattr(model, "original_model", model), "generation_config", None)
            own = getattr(settings, "eos_token_id", None)
            found |= {own} if isinstance(own, int) else set(own or ())
        return tuple(sorted(one for one in found if 0 <= one < len(self.tokenizer)))

    def _asked(self, question: str) -> list[tuple[str, str]]:
        """The demonstrations and the question with its answer left open, instruction included."""
        turns = [*self.demonstrations(question), (question, "")]
        if self.instruction:
            turns[0] = (f"{self.instruction} {turns[0][0]}", turns[0][1])
        return [(self._marked(asked), self._marked(answer)) for asked, answer in turns]

    def _prompt_text(self, question: str) -> str:
        """What stands before the answer in a finished turn.

        That is the open turn, but for blanks, and for what a template writes into one of the two
        only: a block of (no) thoughts, a channel's name. The model was trained on finished turns.
        """
        *shown, (last, _) = self._asked(question)
        if self.style == "plain":
            before = [f"{_PLAIN.format(question=one)} {answer}\n\n" for one, answer in shown]
            return "".join(before) + _PLAIN.format(question=last)
        turn = [*_messages(shown), _user(last)]
        opened: str = self._template.render(self.tokenizer, turn, is_open=True)
        finished = [*turn, {"role": "assistant", "content": _PROBE}]
        head, found, _ = self._template.render(self.tokenizer, finished, is_open=False).rpartition(
            _PROBE
        )
        if not found:
            raise self._changed(_PROBE)
        only_blanks = head.startswith(opened) and not head[len(opened) :].strip(" ")
        return opened if only_blanks else head

    def _turn_text(self, question: str, answer: str, prompt: str) -> str:
        """What follows `prompt` in the finished turn: the answer and its end."""
        if self.style == "plain":
            return f" {answer}{self.tokenizer.eos_token}"
        *shown, (last, _) = self._asked(question)
        turn = _messages([*shown, (last, answer)])
        whole = self._template.render(self.tokenizer, turn, is_open=False)
        if not whole.startswith(prompt):
            raise self._changed(answer)
        return whole[len(prompt) :]

    def _changed(self, answer: str) -> TokenizerError:
        shown = answer.replace(_MARK, "")[:40]
        return TokenizerError(
            f"{self.tokenizer.name_or_path}: the chat template changes the answer's text "
            f"({shown!r}…), or what stands before it; strip it first, or use the prompt format "
            "'plain'"
        )

    @cached_property
    def _controls(self) -> dict[int, str]:
        """Control tokens, and added ones that are not declared special but the template writes."""
        texts = [self.template]
        if self.style == "chat":
            turn = _messages([("Why?", _PROBE)])
            texts += [self._template.render(self.tokenizer, turn, is_open=True)]
        written = {
            id_: one.content
            for id_, one in self.tokenizer.added_tokens_decoder.items()
            if one.content.strip() and not find(one.content)
            if any(one.content in text for text in texts)
        }
        return control_tokens(self.tokenizer) | written

    def _marked(self, text: str) -> str:
        """What people wrote, a mark after each character where it reads as a control token.

        Mostly that is the text itself. A marked text holds no control token while a template is
        rendered, and is found again when the turn is encoded.

        Raises:
            InputError: for a text that is none.
            TokenizerError: if the tokenizer takes an emoji out of it.
        """
        if _NO_TEXT.search(text):
            raise InputError(
                f"{text[:40]!r}: holds half a surrogate pair or U+FDD0, which no text does; take "
                "it out"
            )
        self._check_emojis(text)
        read = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        spelled = any(control in text for control in self._controls.values())
        if not spelled and self._controls.keys().isdisjoint(read):  # a normaliser spells, too
            return text
        return "".join(letter + _MARK for letter in text.strip() if letter != _MARK)

    def _check_emojis(self, text: str) -> None:
        """Refuse what a normaliser does to an emoji beside these very words; alone all were tried.

        Raises:
            TokenizerError: naming the emoji.
        """
        rewrite = self.tokenizer.backend_tokenizer.normalizer
        if rewrite is None or text.isascii():
            return
        before, after = bare(text), bare(rewrite.normalize_str(text))
        for emoji in {match.text for match in find(text)}:
            if after.count(bare(emoji)) < before.count(bare(emoji)):
                raise TokenizerError(
                    f"{self.tokenizer.name_or_path}: its normalizer takes {emoji} out of "
                    f"{text[:40]!r}; take that rule out of tokenizer.json"
                )

    def _encode(self, text: str, *, start: bool = True) -> tuple[list[int], list[int]]:
        """Ids of `text`, and where in it each id's characters start.

        Args:
            text: a turn, or its end; marked parts never become control tokens.
            start: whether it is the start of the turn.
        """
        special = start and self.style == "plain"  # a template writes BOS itself
        ids: list[int] = []
        starts: list[int] = []
        at = 0
        for piece in filter(None, _MARKED.split(text)) if _MARK in text else [text]:
            is_said = _MARK in piece
            made, where = self._read(piece.replace(_MARK, ""), special and not at, is_said)
            ids += made
            starts += [at + (1 + is_said) * first for first in where]
            at += len(piece)
        closes = special and ids and ids[-1] == self.tokenizer.eos_token_id
        if closes and not text.endswith(self.tokenizer.eos_token):
            ids, starts = ids[:-1], starts[:-1]  # some tokenizers close every text
        if start and self.double_bos:
            ids, starts = [self.tokenizer.bos_token_id, *ids], [-1, *starts]
        return ids, starts

    def _read(self, text: str, special: bool, is_said: bool) -> tuple[list[int], list[int]]:
        """Ids of a piece and where they start; one that is said is cut within control tokens."""
        made = self.tokenizer(
            text,
            add_special_tokens=special,
            split_special_tokens=is_said,
            return_offsets_mapping=True,
        )
        ids, ends = made["input_ids"], made["offset_mapping"]
        cuts = [
            first + 1
            for id_, (first, end) in zip(ids, ends, strict=True)
            if is_said and id_ in self._controls and end - first > 1
        ]
        if not cuts:
            return ids, [first for first, _ in ends]
        ids, starts = [], []
        for first, end in pairwise([0, *cuts, len(text)]):
            some, where = self._read(text[first:end], special and not first, is_said)
            ids += some
            starts += [first + one for one in where]
        return ids, starts


def bare(text: str) -> str:
    """What of a text Unicode's normal forms and lost variation selectors leave as it is."""
    return unicodedata.normalize("NFKC", text.replace("\ufe0f", "")).casefold()


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Special tokens by id; an emoji that is declared special is text all the same."""
    known = tokenizer.added_tokens_decoder.items()
    return {id_: one.content for id_, one in known if one.special and not find(one.content)}


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Answered questions as chat messages."""
    return [
        message
        for question, answer in turns
        for message in (_user(question), {"role": "assistant", "content": answer})
    ]
