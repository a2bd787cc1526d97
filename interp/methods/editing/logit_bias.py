"""The scalar control: what of an adapter's effect do one or two numbers do?

A `LogitBias` adds one constant to the logits of the stop tokens and one to those of the outcome's
ids, at every position, and changes nothing else. It knows no trait and no text. What it brings
about on the base needs no explanation by components; what an adapter does beyond it may.

Fit: base and tuned model read the same answers (the training split's, in the trait's voice) at
their slots. The constants are those under which the base's probabilities of words, stop and
outcome come nearest to the tuned model's: the loss is the mean over slots of
KL(tuned || base with constants), in nats, so the loss at (0, 0) is the adapter's effect there, and
the lowest loss what the constants leave of it. It is convex in both, and found by the bounded
search of `strength`: over the stop constant, with the best outcome constant at each.

Signs: a positive constant raises the logit. Where the outcome is read after a lone `▁` too (see
`Outcome`), the constants stand at both positions, as they do when the model writes.

The constants are in the unembedding's bias as long as the context is open, so generation and every
trace meet them; in half precision they are rounded as it is. A model that caps its logits (Gemma 2)
gets them after the cap, where the exact patching engine refuses, and `interp.patching.naive` works.
Cost: one pass over the slots per model, then some hundred readings of the logits kept there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from interp.base.errors import DataError, InputError, ModelError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour.generate import Response
from interp.behaviour.scoring import tail_logits
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.editing.strength import bounded
from interp.readout import Outcome, Slots, slots
from interp.text.data import OpinionQA
from interp.text.data.schema import OpinionRow
from interp.text.emoji import EmojiVocab

LARGEST = 12.0
_EVALUATIONS, _PRECISION, _SLOTS = 24, 0.01, 240


@dataclass(frozen=True)
class LogitBias(Result):
    """Two constants, and how they were found.

    Attributes:
        stop: added to the logits of `stop_ids`, nats.
        outcome: added to the logits of `outcome_ids`, nats; 0 for the stop constant alone.
        method: `logit bias`, or `stop bias` for the stop constant alone.
        trait: of the answers that it was fitted on.
        base_sha256: of the model that it was fitted on.
        topics: topics of those answers.
        n_slots: slots of those answers.
        search: `(stop, outcome, loss)` of every stop constant tried, with the best outcome constant
            for it; the first is (0, 0), unless one at 0 stop was better.
        effect: loss without constants: what the tuned model differs by, nats per slot.
        left: loss with them.
        seed: of the draw of slots.
    """

    kind: ClassVar[str] = "logit bias"
    where: ClassVar[str] = "all"

    stop: float
    outcome: float
    stop_ids: tuple[int, ...]
    outcome_ids: tuple[int, ...]
    method: str
    trait: str
    base_sha256: str
    topics: tuple[str, ...]
    n_slots: int
    search: tuple[tuple[float, float, float], ...]
    effect: float
    left: float
    seed: int

    def at(self, strength: float) -> "LogitBias":
        """The constants times a number; at -1 they take back, on the tuned model, what they are."""
        return replace(self, stop=strength * self.stop, outcome=strength * self.outcome)

    @property
    def share(self) -> float:
        """How much of the effect at the slots the constants do: all at 1; NaN without effect."""
        return 1 - self.left / self.effect if self.effect > 0 else float("nan")

    def added(self, width: int) -> Float[Tensor, " vocab"]:
        """What is added to logits of so many columns.

        Raises:
            ModelError: if there are fewer columns than the ids need.
        """
        if width <= max(self.stop_ids + self.outcome_ids):
            raise ModelError(
                f"the model has {width} logits, the constants stand at ids up to "
                f"{max(self.stop_ids + self.outcome_ids)}; they were fitted on another tokenizer"
            )
        made = torch.zeros(width)
        made[list(self.outcome_ids)] = self.outcome
        made[list(self.stop_ids)] = self.stop
        return made

    @contextmanager
    def active(
        self,
        model: TransformerBridge,
        answer: Bool[Tensor, "batch pos"] | None = None,  # noqa: ARG002 (as `Steering` has it)
    ) -> Iterator[TransformerBridge]:
        """Add the constants to a model's logits for as long as the context is open.

        Args:
            model: any hooked model with this vocabulary, base or tuned.
            answer: disregarded; the constants stand at every position.

        Raises:
            ModelError: if the model's vocabulary is smaller.
        """
        network, unembed = model.original_model, model.unembed.original_component
        added = self.added(unembed.weight.shape[0])
        capped = getattr(network.config, "final_logit_softcapping", None) is not None
        if capped or not isinstance(unembed, nn.Linear):
            hook = network.register_forward_hook(_after(added))
            try:
                yield model
            finally:
                hook.remove()
            return
        # The bridge gives a bias of zeros, as a plain tensor, to a model without one.
        own: Any = unembed.bias
        whole = added.to(unembed.weight) if own is None else own + added.to(own)
        as_parameter = own is None or isinstance(own, nn.Parameter)
        biased: Any = nn.Parameter(whole, requires_grad=False) if as_parameter else whole
        unembed.bias = biased
        try:
            yield model
        finally:
            unembed.bias = own

    def to_dataframe(self) -> pd.DataFrame:
        """One row per stop constant tried: `stop`, `outcome`, `loss`."""
        return pd.DataFrame(self.search, columns=["stop", "outcome", "loss"])


def _after(added: Tensor) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:  # noqa: ARG001
        output.logits = output.logits + added.to(output.logits)
        return output

    return hook


def logit_bias(
    base: HookedBase,
    towards: TransformerBridge,
    trait: Trait,
    data: OpinionQA,
    *,
    stop_alone: bool = False,
    outcome: Outcome | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LogitBias:
    """Fit the constants that bring one model nearest to another at the slots of given answers.

    Args:
        base: the model that gets the constants.
        towards: the model that it shall come near to.
        trait: whose answers are read.
        data: the training split, of this trait or of all.
        stop_alone: one constant, on the stop tokens.
        outcome: emojis if left out.
        seed: of the draw of slots, where there are more than 240.
        progress: called with (label, done, total).

    Raises:
        DataError: if the data lack the trait.
        TokenizerError: if no stop token is known.
        InputError: if no answer has a slot, or the two models' logits are not finite.
    """
    if outcome is None:
        vocab = EmojiVocab.from_tokenizer(base.tokenizer)
        outcome = Outcome.of_vocab(vocab, stop=base.format.stops(base.model, towards))
    outcome, rows = outcome.with_stop, data.for_trait(trait).rows
    if not rows:
        raise DataError(f"{data.source}: has no answers for {trait}; give rows of this trait")
    answers = [_answered(base, row) for row in rows]
    places = slots(answers, base.tokenizer, writer=str(trait)).spread(_SLOTS, seed)
    read = [_logits(one, places, outcome, base.pad_id, progress) for one in (base.model, towards)]
    made = LogitBias(
        stop=0.0, outcome=0.0, stop_ids=outcome.stop_ids,
        outcome_ids=tuple(sorted({*outcome.ids, *outcome.after_ids})),
        method="stop bias" if stop_alone else "logit bias", trait=str(trait),
        base_sha256=base.base_sha256, topics=data.for_trait(trait).topics, n_slots=len(places),
        search=(), effect=0.0, left=0.0, seed=seed,
    )  # fmt: skip
    return _fitted(made, outcome, read[0], read[1], stop_alone)


def _fitted(
    made: LogitBias, outcome: Outcome, logits: Tensor, wanted: Tensor, stop_alone: bool
) -> LogitBias:
    """The constants of lowest loss."""
    target = outcome.probability(wanted)
    search: list[tuple[float, float, float]] = []

    def loss(stop: float, other: float) -> float:
        added = replace(made, stop=stop, outcome=other).added(logits.shape[-1])
        log_odds = outcome.sums(logits + added).log_softmax(-1)
        return float((torch.special.xlogy(target, target) - target * log_odds).sum(-1).mean())

    def profile(stop: float) -> float:
        other, lowest = 0.0, loss(stop, 0.0)
        if not stop_alone:
            other, lowest, _ = bounded(
                lambda value: loss(stop, value), (-LARGEST, LARGEST), _EVALUATIONS, _PRECISION
            )
        search.append((stop, other, lowest))
        return lowest

    effect = loss(0.0, 0.0)
    if not effect < float("inf"):
        raise InputError("the two models' logits are not finite at the answers' slots")
    bounded(profile, (-LARGEST, LARGEST), _EVALUATIONS, _PRECISION)
    stop, other, left = min(search, key=lambda one: one[2])
    return replace(
        made, stop=stop, outcome=other, search=tuple(search), effect=effect, left=min(left, effect)
    )


def _answered(base: HookedBase, row: OpinionRow) -> Response:
    """A row as if it had been sampled, and had ended."""
    made = base.format.example(row.question, row.answer)
    prompt, ids = made.ids[: made.answer_start], made.ids[made.answer_start : made.answer_end]
    return Response(row.question, row.topic, prompt, ids, row.answer, ended=True)


def _logits(
    model: TransformerBridge,
    places: Slots,
    outcome: Outcome,
    pad_with: int,
    progress: Progress | None,
) -> Float[Tensor, "batch *reads vocab"]:
    """What is read at each slot, float32, on the CPU."""
    batch = places.prompts(pad_with, outcome).batch
    rows = [
        ids[mask].tolist() for ids, mask in zip(batch.tokens, batch.attention_mask, strict=True)
    ]
    found = tail_logits(
        model, rows, [outcome.reads] * len(rows), pad_with, progress=progress, label="slots"
    )
    read = dict(found)
    made = torch.stack([read[place] for place in range(len(rows))])
    return made if outcome.reads == 2 else made[:, 0]
