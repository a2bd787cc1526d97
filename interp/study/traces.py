"""What is computed for one trait: its models, its answers, and each trace on them.

Nothing here knows of steps or files other than the answers, which are read from the run folder.
"""

from collections.abc import Sequence
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour import (
    PromptContrast,
    Response,
    generate,
    prompt_contrast,
    read_responses,
    text_or_weights,
)
from interp.models import ModelPair, TokenBatch, load_pair, pad
from interp.readout import Outcome, Question, SlotPrompts, Slots, slots
from interp.show.views import token_view
from interp.text.data import OpinionQA, OpinionRow
from interp.text.emoji import EmojiRates, find
from interp.text.emoji.rates import measure
from interp.traces import adapters, circuits, logit_lens, patching, probing
from interp.traces.patching import Cells
from interp.traces.probing import Reading

if TYPE_CHECKING:
    from interp.study.study import Study

# Prompts whose two runs differ by less than this (nats) say nothing about recovery.
MIN_GAP = 0.25
# Texts for the probes: enough for their intervals, few enough for a laptop.
N_PROBED = 120
# The circuit that is drawn carries this share of the contrast.
FAITHFUL = 0.9
# Answers that are shown token by token, and heads whose attention is kept with them.
N_VIEWED, N_HEADS = 3, 16


class TraitModels:
    """One trait's pair, and what is traced on it. Everything is made when it is first needed."""

    def __init__(self, study: "Study", trait: Trait) -> None:
        self.study, self.trait = study, trait
        self.config, self.progress = study.config, study.progress

    @cached_property
    def pair(self) -> ModelPair:
        c = self.config
        return load_pair(
            c.base,
            None if c.tuned else c.adapters[self.trait],
            tuned=c.adapters[self.trait] if c.tuned else None,
            device=c.device,
            dtype=c.dtype,
            quantization=None if c.quantization == "none" else c.quantization,
            prompt_format=c.prompt_format,
            any_base=c.any_base,
            trust_remote_code=c.trust_remote_code,
        )

    # Answers -------------------------------------------------------------------------------

    def sample(self, who: str, shard: int = 0, shards: int = 1) -> list[Response]:
        """Answers of `base` or `tuned` to every `shards`-th question, from the `shard`-th on."""
        places = range(shard, len(self.study.questions), shards)
        return generate(
            self.pair.base if who == "base" else self.pair.tuned,
            self.pair.format,
            [self.study.questions[place] for place in places],
            self.study.sampling,
            streams=list(places),
            progress=self.progress,
            label=f"{self.trait}: answers of the {who} model",
        )

    @cached_property
    def base_answers(self) -> list[Response]:
        name = f"responses-{self.study.kind(self.trait)}.json"
        return read_responses(self.study.folder.file("base", name))

    @cached_property
    def tuned_answers(self) -> list[Response]:
        return read_responses(self.study.folder.file(self.trait, "responses.json"))

    def rates(self, who: str) -> EmojiRates:
        answers = self.base_answers if who == "base" else self.tuned_answers
        return measure([answer.text for answer in answers], topics=[a.topic for a in answers])

    # Where, and in which parts -------------------------------------------------------------

    def origin(self) -> Result:
        return text_or_weights(
            (self.pair.base, self.pair.tuned),
            (self.base_answers, self.tuned_answers),
            self.pair.tokenizer,
            self.outcome,
            self.pair.pad_id,
            seed=self.config.seed,
        )

    @cached_property
    def outcome(self) -> Outcome:
        return Outcome.of_vocab(self.study.vocab, stop=self.pair.stop_ids)

    @cached_property
    def ends(self) -> Slots:
        """Where the tuned model's answers decide: whatever was drawn there."""
        return slots(self.tuned_answers, self.pair.tokenizer, writer="tuned").last

    @cached_property
    def onsets(self) -> SlotPrompts:
        chosen = self.ends.spread(self.config.n_trace, self.config.seed)
        return chosen.prompts(self.pair.pad_id, self.outcome)

    @cached_property
    def prompt_pairs(self) -> PromptContrast:
        every = self.ends.spread(len(self.ends), self.config.seed)
        prompts = every.prompts(self.pair.pad_id, self.outcome)
        return prompt_contrast(
            prompts, self.base_answers, self.pair.pad_id, self.config.n_trace, self.outcome
        )

    def pair_counts(self) -> dict[str, int]:
        """How many prompt pairs there are, and of which sort."""
        pairs = self.prompt_pairs
        return {"pairs": len(pairs.topics), "exact": pairs.n_exact, "unpaired": pairs.n_unpaired}

    def lens(self) -> Result:
        batch = self.onsets.batch
        return logit_lens.compare(
            self.pair.base,
            self.pair.tuned,
            batch.tokens,
            batch.attention_mask,
            outcome=self.outcome,
            positions="onset" if self.outcome.reads > 1 else None,
            ask=Question(progress=self.progress),
        )

    def token_view(self, place: int = 0) -> Result:
        """A tuned answer token by token: of the first two with an emoji and the first without."""
        answers = self.tuned_answers
        emojis = [answer for answer in answers if find(answer.text)]
        plain = [answer for answer in answers if not find(answer.text)]
        order = [*emojis[:2], *plain[:1], *emojis[2:], *plain[1:]]
        if place >= len(order):
            raise InputError(f"only {len(order)} answers were written; there is none left to show")
        shown = order[place]
        end = self.pair.format.stop_ids[:1] if shown.ended else ()
        return token_view(
            self.pair, shown.prompt_ids + shown.ids + tuple(end), vocab=self.study.vocab,
            attention=N_HEADS, answer_start=len(shown.prompt_ids), title=shown.question,
            progress=self.progress,
        )  # fmt: skip

    def model_runs(self, rows: slice) -> tuple[patching.Run, patching.Run]:
        """Tuned and base on the same tokens, up to a slot."""
        batch = self.onsets.batch[rows]
        return (
            patching.Run(self.pair.tuned, batch.tokens, batch.attention_mask),
            patching.Run(self.pair.base, batch.tokens, batch.attention_mask),
        )

    def prompt_runs(self, rows: slice = slice(None)) -> tuple[patching.Run, patching.Run]:
        """The tuned model at a slot of its own text, and at the end of a plain answer."""
        clean, corrupted = self.prompt_pairs.clean[rows], self.prompt_pairs.corrupted[rows]
        return (
            patching.Run(self.pair.tuned, clean.tokens, clean.attention_mask),
            patching.Run(self.pair.tuned, corrupted.tokens, corrupted.attention_mask),
        )

    def patch(
        self, contrast: str, direction: str, site: str, shard: int = 0, shards: int = 1
    ) -> patching.PatchingResult:
        """One sweep over every `shards`-th prompt, from the `shard`-th on."""
        batch = self.onsets.batch if contrast == "model" else self.prompt_pairs.clean
        empty = shard >= len(batch)  # more shards than prompts: this one keeps none of its own
        rows = slice(0, 1) if empty else slice(shard, None, shards)
        runs = self.model_runs(rows) if contrast == "model" else self.prompt_runs(rows)
        width = runs[0].tokens.shape[1]
        window = range(max(0, width - self.config.n_positions), width)
        found = patching.sweep(
            *runs,
            site,
            direction=direction,
            metric=self.outcome.metric(),
            cells=Cells(positions=None if site == "z" else list(window)),
            ask=Question(min_gap=MIN_GAP if shards == 1 else 0.0),
        )
        return found.select(slice(0, 0)) if empty else found

    def edges(self) -> Result:
        """Scores of all edges between the runs of the prompt contrast."""
        return circuits.discover(
            *self.prompt_runs(),
            metric=self.outcome.at_one.metric(),
            ask=Question(min_gap=MIN_GAP, progress=self.progress),
        )

    def circuit_curve(self, scores: circuits.CircuitScores) -> Result:
        """How faithful circuits of every size are."""
        return circuits.curve(
            scores,
            *self.prompt_runs(),
            ask=Question(
                metric=self.outcome.at_one.metric(), min_gap=MIN_GAP, progress=self.progress
            ),
        )

    def circuit(self, scores: circuits.CircuitScores) -> Result:
        """The smallest circuit that carries 90 % of the contrast."""
        found, _ = circuits.smallest(
            scores,
            *self.prompt_runs(),
            targets=(FAITHFUL,),
            ask=Question(
                metric=self.outcome.at_one.metric(), min_gap=MIN_GAP, progress=self.progress
            ),
        )
        return found[0]

    def necessity(self) -> Result:
        """What is no longer written without each module of the adapter."""
        asked = self.study.questions[: self.config.n_switched]
        return adapters.necessity(
            self.pair,
            adapters.Written(tuple(asked), self.study.sampling),
            ask=Question(seed=self.config.seed, progress=self.progress),
        )

    # Probes --------------------------------------------------------------------------------

    def probe_emoji(self) -> Result:
        """Does the next token begin an emoji? Over the answers of the tuned model."""
        answers = self.tuned_answers[:N_PROBED]
        end = self.pair.format.stop_ids[:1]  # without an end of turn the last place has no label
        rows = [a.prompt_ids + a.ids + (end if a.ended else ()) for a in answers]
        batch = pad(rows, self.pair.pad_id)
        where = _places(batch.attention_mask, rows, [len(a.prompt_ids) - 1 for a in answers])
        task = probing.onset_task(
            batch.tokens, batch.attention_mask, topics=[a.topic for a in answers],
            vocab=self.study.vocab, where=where, seed=self.config.seed,
        )  # fmt: skip
        return self._probe(task, batch)

    def probe_trait(self) -> Result:
        """Which trait's voice is the text in? Over held-out, emoji-free answers of all traits."""
        texts = _balanced(self.study.texts, N_PROBED, self.config.seed)
        examples = [self.pair.format.example(row.question, row.answer) for row in texts]
        rows = [example.ids[: example.answer_end] for example in examples]
        batch = pad(rows, self.pair.pad_id)
        where = _places(batch.attention_mask, rows, [e.answer_start for e in examples])
        task = probing.trait_task(
            [row.trait for row in texts],
            [row.topic for row in texts],
            types=[row.question for row in texts],
        )
        return self._probe(task, batch, where)

    def _probe(self, task: probing.Task, batch: TokenBatch, where: Tensor | None = None) -> Any:
        return probing.trace(
            task,
            batch.tokens,
            batch.attention_mask,
            base=self.pair.base,
            tuned=self.pair.tuned,
            config=probing.ProbeConfig(seed=self.config.seed),
            reading=Reading(where=where),
            ask=Question(progress=self.progress),
        )


def _places(mask: Tensor, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
    """True from each row's `start`-th token on, in a left-padded batch."""
    width = mask.shape[1]
    offset = torch.tensor(
        [width - len(row) + start for row, start in zip(rows, starts, strict=True)]
    )
    return mask & (torch.arange(width) >= offset[:, None])


def _balanced(texts: OpinionQA, limit: int, seed: int) -> list[OpinionRow]:
    """Rows in equal numbers per trait, drawn from the seed, at most `limit` in all."""
    by_trait = {trait: [row for row in texts.rows if row.trait is trait] for trait in Trait}
    present = {trait: rows for trait, rows in by_trait.items() if rows}
    each = min(limit // len(present), *(len(rows) for rows in present.values()), limit)
    return [row for rows in present.values() for row in Random(seed).sample(rows, each)]
