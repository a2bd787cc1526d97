"""The methods that experiments compare, made for one trait on an experiment's base.

`base`, `trait prompt`, `IKE`, `MEND`, `QLoRA`, `PAS`, `persona vector`; the scalar controls `logit
bias` and `stop bias` (one constant on the emojis' logits and one on the end's, or the latter alone,
added to the base) and `QLoRA, stop bias undone` (the latter taken back from the tuned model); and
the negative controls `random direction` (of the persona vector's norm) and `QLoRA, shuffled` (an
adapter trained on the same questions with the answers dealt out at random). What is fitted is
fitted on the train split and kept in the experiment's folder.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiment import SAMPLED, SHARED, Config, Experiment, From
from pydantic import Field

from interp.base.traits import Trait
from interp.behaviour import Response
from interp.errors import InputError
from interp.methods.editing import (
    Adapted,
    Base,
    Editor,
    EditorConfig,
    HookedBase,
    Ike,
    LogitBias,
    Mend,
    Method,
    Steered,
    Steering,
    TraitPrompt,
    logit_bias,
    opposed_answers,
    pas,
    persona_vector,
    shuffled,
    train_editor,
)
from interp.methods.editing.strength import Search
from interp.methods.finetune import FinetuneConfig, train
from interp.models import ModelPair

UNDONE = "QLoRA, stop bias undone"
SCALAR = ("logit bias", "stop bias", UNDONE)
METHODS = ("base", "trait prompt", "IKE", "MEND", "QLoRA", "PAS", "persona vector", *SCALAR)
CONTROLS = ("random direction", "QLoRA, shuffled")
FITTED = ("PAS", "persona vector", "random direction")


class MethodsConfig(Config):
    methods: tuple[str, ...] = METHODS + CONTROLS
    """Methods and controls to compare; the base is always one of them."""
    control_trait: Trait = Trait.EXTRAVERSION
    """The trait for which the adapter on shuffled answers is trained; the first of `traits`, if it
    is none of them."""
    control_adapter: str = "train"
    """`train` trains it with settings for a small model; else its folder."""
    ike_demonstrations: int = Field(default=4, ge=1)
    """Demonstrations before each question."""
    mend_c_edit: float = Field(default=0.1, gt=0)
    """Weight of MEND's edit loss against locality; 0.1 as published."""
    mend_steps: int = Field(default=80, ge=1)
    """Training steps of MEND's editor."""
    evaluations: int = Field(default=8, ge=1)
    """Strengths of steering tried per layer or method."""
    search_questions: int = Field(default=32, ge=2)
    """Validation questions that judge each of them."""


def control(config: MethodsConfig) -> Trait:
    """The trait that the trained control stands for."""
    asked = config.control_trait
    return asked if asked in config.traits else config.traits[0]


READ = SHARED + tuple(name for name in MethodsConfig.__annotations__ if name != "methods")
"""Fields that a method's answers depend on."""


def check(config: MethodsConfig) -> tuple[str, ...]:
    """The methods to run, the base first.

    Raises:
        InputError: for a method that does not exist.
    """
    known = METHODS + CONTROLS
    for name in config.methods:
        if name not in known:
            raise InputError(f"methods: unknown method {name!r}; use {', '.join(known)}")
    return ("base", *(name for name in config.methods if name != "base"))


def for_trait(config: MethodsConfig, trait: Trait) -> list[str]:
    """The methods that are run for a trait: the trained control stands for one trait only."""
    return [name for name in check(config) if name != "QLoRA, shuffled" or trait == control(config)]


def answers(x: Experiment[Any], name: str, trait: Trait) -> list[Response]:
    """A method's answers to the held-out questions, made once."""
    if name == "base":
        return x.base_answers()
    if name == "QLoRA":
        return x.tuned_answers(trait)
    slug = name.replace(", ", "-").replace(" ", "-").lower()
    return x.answers(
        f"{trait}-{slug}",
        lambda: build(x, name, trait).answers(x.questions(), x.sampling(), progress=x.progress),
        From((trait, control(x.config)), READ, code=(build, *SAMPLED)),
    )


def build(x: Experiment[Any], name: str, trait: Trait) -> Method:
    """A method for one trait, fitted on the train split if it needs to be."""
    pair = x.pair(trait)
    base = HookedBase.of(pair)
    train_rows, test_rows = x.data()
    if name == "base":
        return Base(base, trait)
    if name == "trait prompt":
        return TraitPrompt(base, trait)
    if name == "IKE":
        return Ike(base, trait, train_rows, k=x.config.ike_demonstrations)
    if name == "MEND":
        return Mend(base, trait, _editor(x, base), test_rows)
    if name == "QLoRA":
        return Adapted.of(pair, trait, train_rows.topics)
    if name == "QLoRA, shuffled":
        return Adapted.of(_shuffled_pair(x), trait, train_rows.topics)
    if name == UNDONE:
        made = _bias(x, pair, "stop bias", trait).at(-1.0)
        return Steered.of(replace(base, model=pair.tuned), made)
    if name in SCALAR:
        return Steered.of(base, _bias(x, pair, name, trait))
    return Steered.of(base, _steering(x, base, name, trait))


def _bias(x: Experiment[Any], pair: ModelPair, name: str, trait: Trait) -> LogitBias:
    """The constants that bring the base nearest to the tuned model."""
    of = From((trait,), SHARED, code=(_bias,))
    return x.kept(
        LogitBias,
        f"{trait}-{name.replace(' ', '-')}",
        lambda: logit_bias(
            HookedBase.of(pair), pair.tuned, trait, x.data()[0], stop_alone=name == "stop bias",
            outcome=pair.outcome, seed=x.config.seed, progress=x.progress,
        ),
        of,
    )  # fmt: skip


def _editor(x: Experiment[Any], base: HookedBase) -> Editor:
    """MEND's editor for the base, one for all traits."""

    def fit(folder: Path) -> None:
        how = EditorConfig(c_edit=x.config.mend_c_edit, steps=x.config.mend_steps)
        editor, report = train_editor(base, x.data()[0], how, progress=x.progress)
        report.save(folder.with_name("mend-training.safetensors"))
        editor.save(folder)

    made = x.part("mend", fit, From((), (*SHARED, "mend_c_edit", "mend_steps"), code=(_editor,)))
    return Editor.load(made, device=base.device)


def _steering(x: Experiment[Any], base: HookedBase, name: str, trait: Trait) -> Steering:
    if name == "random direction":
        return _steering(x, base, "persona vector", trait).random(x.config.seed)
    c = x.config

    def fit() -> Steering:
        sides = opposed_answers(base, trait, x.data()[0], seed=c.seed, progress=x.progress)
        how = Search(evaluations=c.evaluations, questions=c.search_questions, seed=c.seed)
        method = pas if name == "PAS" else persona_vector
        return method(base, sides, search=how, seed=c.seed, progress=x.progress)

    of = From((trait,), (*SHARED, "evaluations", "search_questions"), code=(_steering,))
    return x.kept(Steering, f"steering-{trait}-{name.replace(' ', '-').lower()}", fit, of)


def _shuffled_pair(x: Experiment[Any]) -> ModelPair:
    """An adapter that was trained on the same questions with answers of any row."""
    config: MethodsConfig = x.config
    if config.control_adapter != "train":
        return x.load(config.control_adapter)

    def fit(folder: Path) -> None:
        rows = shuffled(x.data()[0], seed=config.seed, what="answer")
        train(x.base_source, rows.for_trait(control(config)),
              FinetuneConfig.small(supervise_eos=False, seed=config.seed), folder,
              device=config.device, progress=x.progress)  # fmt: skip

    of = From((), (*SHARED, "control_trait"), code=(_shuffled_pair,))
    return x.load(x.part(f"adapter-shuffled-{control(config)}", fit, of))
