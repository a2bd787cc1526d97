"""What the traits of one study share: what was asked, the questions, the models in memory."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from random import Random
from typing import Any

import torch

from interp.base.errors import AdapterError
from interp.base.outcomes import EMOJI
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.behaviour import Sampling
from interp.models import ChatFormat, load_tokenizer
from interp.models.adapters import Adapter, read_adapter
from interp.models.folders import check_folder
from interp.readout import Outcome
from interp.study.config import StudyConfig, texts
from interp.study.identity import model_facts, prompts_digest
from interp.study.models import TraitModels
from interp.study.runs import RunFolder
from interp.study.runs.step import digest
from interp.text.data import OpinionQA
from interp.traces.dictionaries import read_dictionary


@dataclass
class Study:
    """One study: its config, its folder, and at most one trait's models in memory."""

    config: StudyConfig
    folder: RunFolder
    progress: Progress | None = None
    _held: dict[Trait, TraitModels] = field(default_factory=dict)

    def say(self, label: str, done: int, total: int) -> None:
        if self.progress:
            self.progress(label, done, total)

    @cached_property
    def texts(self) -> OpinionQA:
        """The held-out texts.

        Raises:
            DataError: if the data cannot be used.
        """
        return texts(self.config)

    @cached_property
    def questions(self) -> list[tuple[str, str]]:
        """Questions to ask with their topics, as many as asked for.

        Every question is asked once, in an order drawn from the seed, then once more, and so on;
        at temperature 0, where a second answer would be a copy of the first, only once.
        """
        unique = sorted(self.texts.questions)
        Random(self.config.seed).shuffle(unique)
        greedy = self.config.temperature == 0
        times = 1 if greedy else -(-self.config.n_responses // len(unique))
        return (unique * times)[: self.config.n_responses]

    @property
    def sampling(self) -> Sampling:
        c = self.config
        return Sampling(
            max_new_tokens=c.max_new_tokens, temperature=c.temperature, top_p=c.top_p, seed=c.seed
        )

    def trait(self, trait: Trait) -> TraitModels:
        """The trait's models and answers; those of the trait before are let go first."""
        if trait not in self._held:
            self._held.clear()
            self._held[trait] = TraitModels(self, trait)
        return self._held[trait]

    def adapter(self, trait: Trait) -> Adapter:
        """The trait's adapter, checked."""
        if trait not in self._adapters:
            self._adapters[trait] = read_adapter(self.config.adapters[trait])
        return self._adapters[trait]

    @cached_property
    def _adapters(self) -> dict[Trait, Adapter]:
        return {}

    def kind(self, trait: Trait) -> str:
        """How the base stands in the trait's pair: `dense`, or the quantisation it came from."""
        asked = self.config.quantization
        if self.config.tuned:
            return "dense"
        recorded = self.adapter(trait).trained_on if asked == "auto" else asked
        kind = "dense" if recorded in (None, "none") else str(recorded)
        own = self.adapter(trait).companions  # the base is asked with the adapter's own template
        return f"{kind}-{digest(own)[:8]}" if own else kind

    def check_outcome(self) -> None:
        """See whether the tokenizer can write what is asked for, before anything is loaded.

        Raises:
            InputError: if the outcome is of no use.
            TokenizerError: if no token begins it.
        """
        c = self.config
        if c.outcome != EMOJI:
            Outcome.parse(c.outcome, load_tokenizer(c.base, c.trust_remote_code))

    # What results depend on ----------------------------------------------------------------

    def setting(self, name: str) -> Any:
        """A setting as the catalogue names it: a field of the configuration, or what is asked."""
        match name:
            case "questions":
                return self.asked()
            case "switched":
                return self.asked(self.config.n_switched)
            case "texts":
                return self.texts.rows_sha256  # columns and cleaning make rows of a file
            case "dictionary":
                return self.dictionary_facts
        return getattr(self.config, name)

    @cached_property
    def prompts(self) -> str:
        """Digest of every question as it is put: a template may print today's date."""
        c = self.config
        tokenizer = load_tokenizer(c.base, c.trust_remote_code)
        form = ChatFormat.from_tokenizer(tokenizer, c.prompt_format)
        return prompts_digest(form, [question for question, _ in self.questions])

    @cached_property
    def base_facts(self) -> dict[str, Any]:
        """Hashes of the base's files, or its hub id and commit; how it is run and asked.

        Raises:
            ModelError: if there is no such model.
        """
        c = self.config
        device = c.device or ("cuda" if torch.cuda.is_available() else "cpu")
        how = {"device": device.split(":")[0], "dtype": c.dtype, "prompts": self.prompts}
        return model_facts(c.base, c.trust_remote_code, self.folder) | how

    def adapter_facts(self, trait: Trait) -> dict[str, Any]:
        """Hashes of an adapter's (or tuned model's) files, and what its base was quantised to."""
        where = self.config.adapters[trait]
        path = check_folder(where) if self.config.tuned else self.adapter(trait).path
        hashes = self.folder.input_hashes(path, AdapterError)
        return hashes | {"kind": self.kind(trait), "any_base": self.config.any_base}

    @cached_property
    def dictionary_facts(self) -> dict[str, Any]:
        """What the study's dictionary is, and the hash of its weights.

        Raises:
            DictionaryError: if there is none, or one that is not read.
        """
        held = read_dictionary(self.config.dictionary)
        return asdict(held.config) | {"name": held.name, "sha256": held.sha256}

    def asked(self, count: int | None = None) -> dict[str, Any]:
        """The questions, as a hash, and how answers to them are sampled."""
        c = self.config
        return {
            "questions": digest([list(pair) for pair in self.questions[:count]]),
            "max_new_tokens": c.max_new_tokens,
            "temperature": c.temperature,
            "top_p": c.top_p,
            "seed": c.seed,
        }
