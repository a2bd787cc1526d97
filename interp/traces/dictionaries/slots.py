"""Activations at a dictionary's places, and runs in which they are another's: one pass each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import DictionaryError
from interp.readout.capture import logits_at
from interp.readout.metric import Several, measure, read_columns
from interp.readout.outcome import Outcome
from interp.readout.question import Question
from interp.readout.run import Run, metric_columns
from interp.traces.dictionaries.dictionary import Dictionary


@dataclass(frozen=True)
class AtSlots:
    """What one pass of a run leaves at its prompts' slots.

    Attributes:
        read: at `hook`, flat over heads, float32 on the CPU, `[batch d_in]`.
        written: at `hook_out`, which an autoencoder reads, too, `[batch d_out]`.
        latents: of `read`.
        values: each of the outcome's factors.
    """

    read: Float[Tensor, "batch d_in"]
    written: Float[Tensor, "batch d_out"]
    latents: Float[Tensor, "batch latent"]
    values: Float[Tensor, "factor batch"]


def check_place(model: Any, dictionary: Dictionary) -> None:
    """Check that a model has the places that a dictionary is of.

    Raises:
        DictionaryError: naming the hook that it lacks.
    """
    made_for = f" (made for {dictionary.config.model})" if dictionary.config.model else ""
    for name in (dictionary.config.hook, dictionary.config.hook_out):
        check_hook(model, name, f"{dictionary.name or 'dictionary'}{made_for}: ")


def check_hook(model: Any, name: str, who: str = "") -> None:
    """Check that a model has a hook.

    Raises:
        DictionaryError: if it has not.
    """
    if model.get_hook_point(name) is None:
        raise DictionaryError(
            f"{who}this model of {int(model.cfg.n_layers)} layers has no hook {name!r:.80}; name "
            "a place as TransformerLens does, such as blocks.1.hook_resid_post"
        )


def both_at_slots(
    runs: tuple[Run, Run], dictionary: Dictionary, outcome: Outcome, ask: Question
) -> tuple[Int[Tensor, "batch *reads"], tuple[AtSlots, AtSlots]]:
    """The columns that the outcome reads, and what base and tuned have there."""
    at = read_columns(outcome.metric(), runs[0], metric_columns(runs[0], ask.places))
    base, tuned = (at_slots(run, dictionary, outcome, at) for run in runs)
    return at, (base, tuned)


def judging_topics(topics: Sequence[str], judging: Bool[Tensor, " batch"]) -> list[str]:
    """Topics of the prompts that judge."""
    return [topic for topic, judges in zip(topics, judging.tolist(), strict=True) if judges]


def at_slots(
    run: Run, dictionary: Dictionary, outcome: Outcome, at: Int[Tensor, "batch *reads"]
) -> AtSlots:
    """Run a model once, and read the dictionary's latents at the slots.

    Args:
        at: the columns that the outcome is read at (`read_columns`); the slot is the first.

    Raises:
        DictionaryError: if the model lacks the place, or is of another width there.
    """
    check_place(run.model, dictionary)
    names = dict.fromkeys((dictionary.config.hook, dictionary.config.hook_out))
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def store(value: Tensor, hook: Any) -> None:  # noqa: ARG001
            kept[name] = value.detach()[rows(value), slot(at, value)].flatten(1).float().cpu()

        return store

    with torch.no_grad():
        logits = logits_at(run, at, [(name, keep(name)) for name in names])
    read, written = kept[dictionary.config.hook], kept[dictionary.config.hook_out]
    latents = dictionary.encode(read)
    if written.shape[1] != dictionary.config.d_out:
        raise DictionaryError(
            f"{dictionary.name or 'dictionary'}: writes activations of width "
            f"{dictionary.config.d_out}, and {dictionary.config.hook_out} of this model has "
            f"{written.shape[1]}; it was made for another model"
        )
    return AtSlots(read, written, latents, factors(outcome, logits))


def factors(
    outcome: Outcome, logits: Float[Tensor, "batch *reads vocab"]
) -> Float[Tensor, "factor batch"]:
    """All of an outcome's factors."""
    return measure(Several(tuple(outcome.metrics().values())), logits).cpu()


def changed(
    name: str, at: Int[Tensor, "batch *reads"], change: Float[Tensor, "batch d_out"]
) -> list[tuple[str, Any]]:
    """The hook that adds a change at the slots, at one place."""

    def add(value: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        # The bridge's hook_resid_mid is the input of the second norm. Only a change in place also
        # reaches the residual stream that goes around the MLP.
        value = value if name.endswith("hook_resid_mid") else value.clone()
        here = value[rows(value), slot(at, value)]
        # In float32 before it is rounded: activation and change are of one size.
        value[rows(value), slot(at, value)] = (
            here.float() + change.to(value.device).reshape(here.shape)
        ).to(value)
        return value

    return [(name, add)]


def slot(at: Int[Tensor, "batch *reads"], value: Tensor) -> Int[Tensor, " batch"]:
    """The slots' columns: where two are read, the first."""
    return at.reshape(len(at), -1)[:, 0].to(value.device)


def rows(value: Tensor) -> Int[Tensor, " batch"]:
    """The number of each prompt."""
    return torch.arange(len(value), device=value.device)
