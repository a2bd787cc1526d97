"""What causes the emojis while answers are being written."""

from interp.behaviour.generate import Response
from interp.readout import Question
from interp.readout.run import Run
from interp.study.models import TraitModels
from interp.study.traced.contrasts import ends, onsets
from interp.traces import decoding
from interp.traces.circuits import Circuit
from interp.traces.decoding import Ablated, Amplification, Crossed

HEADS = 8
"""The circuit's strongest heads that are ablated one by one."""


def crossed(models: TraitModels) -> Crossed:
    """Answers of which one model writes the words, and one decides where they end."""
    study, pair = models.study, models.pair
    return decoding.crossed(
        (pair.base, pair.tuned), pair.format, study.questions[: models.config.n_switched],
        outcome=models.outcome, sampling=study.sampling, ask=Question(progress=models.progress),
    )  # fmt: skip


def amplified(models: TraitModels, tuned: list[Response]) -> Amplification:
    """Answers and slots with more, and with less, of what fine-tuning did to the logits."""
    study, pair = models.study, models.pair
    return decoding.amplification(
        (pair.base, pair.tuned), pair.format, study.questions[: models.config.n_switched],
        onsets(models, tuned), outcome=models.outcome, sampling=study.sampling,
    )  # fmt: skip


def ablated(models: TraitModels, base: list[Response], found: Circuit) -> Ablated:
    """Answers without a circuit's nodes, without all others, and without each of its heads.

    Means are over the base's answers.
    """
    study, pair, config = models.study, models.pair, models.config
    texts = ends(models, base, "base").spread(config.n_trace, config.seed).prompts(pair.pad_id)
    nodes = [node for node in found.nodes if node not in ("input", "logits")]
    strongest = dict.fromkeys(found.to_dataframe()["source"])
    heads = [node for node in strongest if node[0] == "a"]
    return decoding.ablated(
        pair.tuned, pair.format, study.questions[: config.n_switched],
        {"circuit": nodes, "all but the circuit": decoding.all_but(pair.tuned, nodes)}
        | {head: [head] for head in heads[:HEADS]},
        vocab=models.vocab, sampling=study.sampling,
        reference=Run(pair.tuned, texts.batch.tokens, texts.batch.attention_mask),
        ask=Question(seed=config.seed, progress=models.progress),
    )  # fmt: skip
