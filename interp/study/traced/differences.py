"""What base and tuned model differ in, on texts of both: next tokens, and mean activations."""

import torch

from interp.behaviour.generate import Response
from interp.models.tokens import pad
from interp.readout import Question
from interp.study.models import TraitModels
from interp.study.traced.contrasts import ends, model_runs, onsets
from interp.traces import differences
from interp.traces.differences import ActivationDifference, TokenKL, TokenShifts


def kl(models: TraitModels, base: list[Response], tuned: list[Response]) -> TokenKL:
    """KL after each token of the first answers of both models, from their first token on."""
    n = models.config.n_trace
    answers = [*base[:n], *tuned[:n]]
    batch = pad([a.prompt_ids + a.ids for a in answers], models.pair.pad_id)
    width = batch.tokens.shape[1]
    starts = torch.tensor([width - len(a.ids) - 1 for a in answers])
    return differences.kl(
        models.pair.base, models.pair.tuned, batch,
        groups=["base's text"] * len(base[:n]) + ["tuned model's text"] * len(tuned[:n]),
        where=torch.arange(width) >= starts[:, None],
        ask=Question(
            topics=[a.topic for a in answers], seed=models.config.seed, progress=models.progress
        ),
    )  # fmt: skip


def shifts(models: TraitModels, tuned: list[Response]) -> TokenShifts:
    """The tokens that rose and fell most where the tuned model's answers end."""
    prompts = onsets(models, tuned)
    one, other = model_runs(models, prompts)
    ask = Question(topics=prompts.topics, seed=models.config.seed, places=-models.outcome.reads)
    return differences.shifts(other, one, ask=ask)


def activations(models: TraitModels, base: list[Response]) -> ActivationDifference:
    """The mean activation difference up to the ends of the base's answers, and what it steers."""
    chosen = ends(models, base, "base").spread(models.config.n_trace, models.config.seed)
    prompts = chosen.prompts(models.pair.pad_id, models.outcome)
    one, other = model_runs(models, prompts)
    ask = Question(topics=prompts.topics, seed=models.config.seed)
    return differences.activations(other, one, outcome=models.outcome, ask=ask)
