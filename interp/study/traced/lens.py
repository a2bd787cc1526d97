"""Where in the layers the decision forms."""

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.study.models import TraitModels
from interp.study.traced.contrasts import ends, onsets
from interp.traces import logit_lens
from interp.traces.logit_lens import LensResult


def lens(models: TraitModels, tuned: list[Response]) -> LensResult:
    """The logit lens of both models, up to where the text of the tuned model's answers ends."""
    prompts = onsets(models, tuned)
    batch = prompts.batch
    window = range(-min(models.config.n_positions, batch.tokens.shape[1]), 0)
    return logit_lens.compare(
        models.pair.base, models.pair.tuned, batch.tokens, batch.attention_mask,
        outcome=models.outcome, positions="onset" if models.outcome.reads > 1 else window,
        ask=Question(topics=prompts.topics, progress=models.progress),
    )  # fmt: skip


def jacobian(models: TraitModels, base: list[Response], tuned: list[Response]) -> LensResult:
    """The Jacobian lens, fitted on the base's answers, of both models at the same places."""
    config, pair = models.config, models.pair
    texts = ends(models, base, "base").spread(config.n_trace, config.seed).prompts(pair.pad_id)
    prompts = onsets(models, tuned)
    fitted = logit_lens.fit(pair.base, texts.batch, ask=Question(progress=models.progress))
    return fitted.compare(
        pair.base, pair.tuned, prompts.batch, outcome=models.outcome, positions="onset",
        ask=Question(topics=prompts.topics, progress=models.progress),
    )  # fmt: skip
