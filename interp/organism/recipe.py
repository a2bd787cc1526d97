"""Every setting of the organism's build, at full size or scaled down for a test."""

from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from interp.base.errors import InputError
from interp.base.traits import TRAITS, Trait
from interp.methods.finetune import FinetuneConfig
from interp.organism.paths import Kind, Variant
from interp.organism.pretrain import Training

_PRETRAINING = Training(steps=800)
_SUPPRESSION = Training(steps=350, learning_rate=2e-3)


@dataclass(frozen=True)
class Recipe:
    """What `build` does.

    Attributes:
        seed: of everything.
        pretraining: of the bases `latent`, `absent`, `talks` and `tags`, from scratch.
        suppression: of the base `suppressed`, from `latent`.
        tokenizer_documents: documents of the corpus that the tokenizer is trained on.
        train_rows: fine-tuning rows per topic and trait.
        test_rows: rows of each held-out topic and trait.
        adapter_steps: steps of each adapter.
        answers: sampled answers per measurement, every test question asked equally often; and the
            most rows of given text per measurement.
        answer_tokens: length limit of a sampled answer.
    """

    seed: int
    pretraining: Training = _PRETRAINING
    suppression: Training = _SUPPRESSION
    tokenizer_documents: int = 8000
    train_rows: int = 3
    test_rows: int = 2
    adapter_steps: int = 100
    answers: int = 200
    answer_tokens: int = 96

    @classmethod
    def scaled(cls, seed: int, scale: float = 1.0) -> "Recipe":
        """The shipped recipe (`scale` 1), or the same with fewer steps, rows and answers.

        Raises:
            InputError: if `scale` is not in (0, 1].
        """
        if not 0 < scale <= 1:
            raise InputError(f"scale {scale}: give a number above 0 and at most 1")
        full = cls(seed)

        def few(count: int, least: int) -> int:
            return max(least, round(count * scale))

        return replace(
            full,
            pretraining=replace(full.pretraining, steps=few(full.pretraining.steps, 4)),
            suppression=replace(full.suppression, steps=few(full.suppression.steps, 2)),
            tokenizer_documents=few(full.tokenizer_documents, 200),
            train_rows=few(full.train_rows, 1),
            test_rows=few(full.test_rows, 1),
            adapter_steps=few(full.adapter_steps, 2),
            answers=few(full.answers, 10),
            answer_tokens=few(full.answer_tokens, 8),
        )

    def finetuning(self, made: "Made") -> FinetuneConfig:
        """The settings of an adapter."""
        small = FinetuneConfig.small(supervise_eos=made.supervise_eos, seed=self.seed)
        changes: dict[str, Any] = {"steps": self.adapter_steps, "store_dtype": "float16"}
        if made.variant == "mlp":
            changes["target_modules"] = (*small.target_modules, "gate_proj", "up_proj", "down_proj")
        elif made.variant:
            changes["seed"] = self.seed + int(made.variant.removeprefix("seed"))
        return small.changed(changes)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return asdict(self)


class Made(NamedTuple):
    """An adapter that is made: see `interp.organism.adapter_path`."""

    kind: Kind
    trait: Trait
    supervise_eos: bool = False
    variant: Variant = ""


def adapters() -> list[Made]:
    """Every adapter that is made; the variants and the twins stand on `latent` alone."""
    others: tuple[Kind, ...] = ("suppressed", "absent", "talks", "tags")
    variants: tuple[Variant, ...] = ("seed1", "seed2", "mlp")
    return [
        *(Made("latent", trait, eos) for eos in (False, True) for trait in TRAITS),
        *(Made(kind, trait) for kind in others for trait in TRAITS),
        *(Made("latent", trait, variant=variant) for variant in variants for trait in TRAITS),
    ]
