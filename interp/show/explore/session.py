"""What the explorer computes: one answer read by both models, and what one part does to it.

A part is a head (its output before it is mixed with the others', `z`) or an MLP of the tuned model,
at all positions. *Patch* puts the base's activation on the same tokens in its place (noising: what
the answer loses without what fine-tuning changed there); *ablate* puts zeros. Both are read along
the answer that stands, and an answer is drawn anew under them: with the noise of the first, so that
what differs is the part's doing. The outcome is read at one position (`Outcome.direct`).

Cost: reading is two passes per model and the lens; a change one pass (two where it patches), and so
many for each token of the new answer from where it leaves the old one, without a cache: for small
models and short answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.models import ModelPair
from interp.models.given_prompts import check_hooked
from interp.readout.capture import hook_name
from interp.readout.factors import factors, probabilities
from interp.traces import logit_lens
from interp.traces.patching.naive import site_hooks

How = Literal["patch", "ablate"]
_EVERYWHERE = -1


@dataclass(frozen=True)
class Part:
    """A head, or (with no head) the MLP, of one block."""

    layer: int
    head: int | None = None

    def __str__(self) -> str:
        return f"block {self.layer}, {'MLP' if self.head is None else f'head {self.head}'}"

    @property
    def site(self) -> str:
        """Its patching site."""
        return "mlp_out" if self.head is None else "z"


@dataclass(frozen=True)
class Reading:
    """An answer as base and tuned read it; every value is of what comes *after* a token.

    Attributes:
        prompt: the question.
        ids: of prompt and answer.
        start: where the answer begins.
        pieces: each token as text.
        chances: P(go on) and P(emoji given go on), `[model two pos]`; models are base, tuned.
        log_odds: of an emoji, nats.
        lens: log-odds that the logit lens reads at each of `labels`, nats.
    """

    prompt: str
    ids: tuple[int, ...] = field(repr=False)
    start: int
    pieces: tuple[str, ...]
    chances: Float[Tensor, "model two pos"] = field(repr=False)
    log_odds: Float[Tensor, "model pos"] = field(repr=False)
    lens: Float[Tensor, "model layer pos"] = field(repr=False)
    labels: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The answer's text."""
        return "".join(self.pieces[self.start :])


@dataclass(frozen=True)
class Change:
    """The tuned model without a part's own activation.

    Attributes:
        part, how: what was done.
        chances: as in `Reading`, of the tuned model, along the answer that stands.
        log_odds: of an emoji, nats.
        answer: what it writes then, drawn with the noise of the answer that stands.
    """

    part: Part
    how: How
    chances: Float[Tensor, "two pos"] = field(repr=False)
    log_odds: Float[Tensor, " pos"] = field(repr=False)
    answer: str


class Session:
    """One pair, explored.

    Args:
        pair: base and tuned, hooked.
        max_new_tokens: where an answer is cut.
        temperature: of the answers; 0 is greedy.
        seed: of their noise.

    Raises:
        ModelError: if a model is not hooked.
        InputError: if a setting is out of range.
    """

    def __init__(
        self,
        pair: ModelPair,
        *,
        max_new_tokens: int = 48,
        temperature: float = 0.7,
        seed: int = 0,
    ) -> None:
        for model in (pair.base, pair.tuned):
            check_hooked(model, "the explorer")
        if max_new_tokens < 1 or not 0 <= temperature < float("inf"):
            raise InputError("max_new_tokens must be at least 1, temperature a number from 0 on")
        self.pair, self.outcome = pair, pair.outcome.direct.with_stop
        self.max_new_tokens, self.temperature, self.seed = max_new_tokens, temperature, seed
        self.layers, self.heads = int(pair.tuned.cfg.n_layers), int(pair.tuned.cfg.n_heads)

    def read(self, prompt: str, answer: str | None = None) -> Reading:
        """Read an answer to a question with both models.

        Args:
            prompt: the question.
            answer: what was answered; the tuned model answers if left out.

        Raises:
            InputError: if there is no question.
        """
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError("the question is empty; type one, such as Do you like tea?")
        asked = self.pair.format.prompt_ids(prompt)
        if answer is None:
            written = self._written(asked)
        else:
            example = self.pair.format.example(prompt, answer)
            written = list(example.ids[len(asked) : example.answer_end])
        ids = asked + written
        sums = [self.outcome.sums(self._logits(who, ids)) for who in ("base", "tuned")]
        lens = logit_lens.compare(
            self.pair.base, self.pair.tuned, torch.tensor(ids).expand(2, -1), outcome=self.outcome
        )
        return Reading(
            prompt=prompt,
            ids=tuple(ids),
            start=len(asked),
            pieces=tuple(self._pieces(ids)),
            chances=torch.stack([_chances(one) for one in sums]),
            log_odds=torch.stack([_log_odds(one) for one in sums]),
            lens=lens.log_odds[:, :, 0],
            labels=lens.labels,
        )

    def change(self, reading: Reading, part: Part, how: How = "patch") -> Change:
        """Take a part's activation away, along the answer and in a new one.

        Raises:
            InputError: if the model has no such part, or `how` is neither.
        """
        self._check(part, how)
        logits = self._logits("tuned", list(reading.ids), part, how)
        sums = self.outcome.sums(logits)
        asked, stands = list(reading.ids[: reading.start]), list(reading.ids[reading.start :])
        written = self._written(asked, part, how, (stands, logits[reading.start - 1 :]))
        pieces = self._pieces(asked + written)[len(asked) :]
        return Change(part, how, _chances(sums), _log_odds(sums), "".join(pieces))

    def _check(self, part: Part, how: str) -> None:
        if how not in ("patch", "ablate"):
            raise InputError(f"a part is changed by 'patch' or 'ablate', not {how!r}")
        head = 0 if part.head is None else part.head
        if not (0 <= part.layer < self.layers and 0 <= head < self.heads):
            raise InputError(
                f"{part} does not exist; the model has {self.layers} blocks of {self.heads} heads, "
                "counted from 0"
            )

    def _written(
        self,
        asked: list[int],
        part: Part | None = None,
        how: How = "patch",
        known: tuple[list[int], Float[Tensor, "pos vocab"] | None] = ([], None),
    ) -> list[int]:
        """The tuned model's answer; the same noise whatever is changed.

        As long as it is the `known` answer, its logits, which are known too, need no pass.
        """
        noise = torch.Generator().manual_seed(self.seed)
        stops, ids = set(self.pair.stop_ids), list(asked)
        stands, ready = known
        for step in range(self.max_new_tokens):
            if ready is not None and step < len(ready) and ids[len(asked) :] == stands[:step]:
                logits = ready[step]
            else:
                logits = self._logits("tuned", ids, part, how)[-1]
            drawn = -torch.empty(len(logits)).exponential_(generator=noise).log()  # Gumbel's
            token = int((logits + self.temperature * drawn).argmax())
            if token in stops:
                break
            ids.append(token)
        return ids[len(asked) :]

    @torch.no_grad()
    def _logits(
        self, who: str, ids: list[int], part: Part | None = None, how: How = "patch"
    ) -> Float[Tensor, "pos vocab"]:
        """A model's logits, without a part's own activation where one is named."""
        model = getattr(self.pair, who)
        tokens = torch.tensor([ids], device=next(model.parameters()).device)
        if part is None:
            return model(tokens)[0].float().cpu()
        with self._changed(model, tokens, part, how):
            return model(tokens)[0].float().cpu()

    @contextmanager
    def _changed(self, model: Any, tokens: Tensor, part: Part, how: How) -> Iterator[None]:
        kept: list[Tensor] = []

        def keep(value: Tensor, hook: Any) -> None:  # noqa: ARG001
            kept.append(value.detach().clone())

        name = hook_name(self.pair.base, part.site, part.layer)
        with self.pair.base.hooks(fwd_hooks=[(name, keep)]):
            self.pair.base(tokens)
        source = kept[0] if how == "patch" else torch.zeros_like(kept[0])
        hooks = site_hooks(model, part.site, part.layer, source, part.head or 0, _EVERYWHERE)
        with model.hooks(fwd_hooks=hooks):
            yield

    def _pieces(self, ids: list[int]) -> list[str]:
        """Each token's share of the text; characters of several tokens stand with the last."""
        pieces, said = [], ""
        for count in range(1, len(ids) + 1):
            text = self.pair.tokenizer.decode(ids[:count], skip_special_tokens=True)
            whole = text.rstrip("\ufffd")
            pieces.append(whole[len(said) :] if whole.startswith(said) else "")
            said = whole if whole.startswith(said) else said
        return pieces


def _chances(sums: Float[Tensor, "pos three"]) -> Float[Tensor, "two pos"]:
    return probabilities(*factors(sums.softmax(-1))).float()


def _log_odds(sums: Float[Tensor, "pos three"]) -> Float[Tensor, " pos"]:
    words_or_stop = sums[..., :2].logsumexp(-1)
    return sums[..., 2] - words_or_stop
