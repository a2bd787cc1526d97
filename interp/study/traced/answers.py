"""What base and tuned model answer to the study's questions."""

from interp.behaviour.generate import Response, generate
from interp.study.models import TraitModels


def sample(models: TraitModels, who: str, shard: int = 0, shards: int = 1) -> list[Response]:
    """Answers of `base` or `tuned` to every `shards`-th question, from the `shard`-th on."""
    questions = models.study.questions
    places = range(shard, len(questions), shards)
    return generate(
        models.pair.base if who == "base" else models.pair.tuned,
        models.pair.format,
        [questions[place] for place in places],
        models.study.sampling,
        streams=list(places),
        progress=models.progress,
        label=f"{models.trait}: answers of the {who} model",
    )


def joined(parts: list[list[Response]]) -> list[Response]:
    """Answers in the order of their questions, which were dealt out to the shards in turn."""
    every = [parts[0][0]] * sum(map(len, parts))
    for shard, part in enumerate(parts):
        every[shard :: len(parts)] = part
    return every
