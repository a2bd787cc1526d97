"""One label's models in memory, and the results of earlier steps that traces are given."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from interp.base.outcomes import EMOJI
from interp.base.traits import Trait
from interp.models import ModelPair, load_pair, load_tokenizer
from interp.readout import Outcome
from interp.text.emoji import EmojiVocab

if TYPE_CHECKING:
    from interp.study.study import Study


class TraitModels:
    """One trait's pair, loaded when it is first needed, and what was read for its steps."""

    def __init__(self, study: "Study", trait: Trait) -> None:
        self.study, self.trait = study, trait
        self.config, self.progress = study.config, study.progress
        self.read: dict[str, Any] = {}

    @cached_property
    def vocab(self) -> EmojiVocab:
        c = self.config
        return EmojiVocab.from_tokenizer(load_tokenizer(c.base, c.trust_remote_code))

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

    @cached_property
    def outcome(self) -> Outcome:
        """What is traced."""
        stop, asked = self.pair.stop_ids, self.config.outcome
        if asked == EMOJI:
            return Outcome.of_vocab(self.vocab, stop=stop)
        return Outcome.parse(asked, self.pair.tokenizer, stop=stop)
