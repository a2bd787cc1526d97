"""What the base writes with some of the adapter's modules on, and how often that is an emoji.

Generation runs under the same hooks as everything else, with the key/value cache. Each question has
its own stream of sampling noise that does not depend on the modules, so two subsets are compared on
equal dice, and subsets share batches.

Cost: one generation per subset and question; the hooks add the cost of the live low-rank maps.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from interp.base.progress import Progress
from interp.behaviour.generate import Response, Sampling, generate
from interp.models import ModelPair
from interp.text.emoji import rates
from interp.traces.adapters.gates import switched
from interp.traces.adapters.space import AdapterSpace

Questions = Sequence[tuple[str, str]]
Counts = tuple[tuple[int, ...], ...]
SAMPLING = Sampling()


def generate_with(
    pair: ModelPair | AdapterSpace,
    modules: Sequence[str] | Mapping[str, float],
    questions: Questions,
    sampling: Sampling = SAMPLING,
    *,
    progress: Progress | None = None,
) -> list[Response]:
    """Sample one answer per question with only the named modules on.

    Args:
        pair: a loaded pair, or its `AdapterSpace`.
        modules: names of the modules to turn on, or a gate for each (alpha of alpha * ΔW).
        questions: pairs of question and topic.
        sampling: see `interp.behaviour.Sampling`.
        progress: called with (label, done, total).

    Raises:
        InputError: for a module that the adapter lacks, or no questions.
        ModelError: if prompt and answer do not fit the model's context.
    """
    space = AdapterSpace.of(pair)
    with space.switched(space.gates_of(modules)):
        return generate(space.pair.base, space.pair.format, questions, sampling, progress=progress)


def write(
    space: AdapterSpace,
    gates: Float[Tensor, "setting component"],
    questions: Questions,
    sampling: Sampling,
    progress: Progress | None,
    what: str,
) -> list[list[Response]]:
    """Answers to every question at every setting of the components.

    Settings share batches, in which a question stands at all of them: its answers, drawn from one
    stream of noise, are about as long, and none waits for another question's.
    """
    pair, each = space.pair, len(gates)
    found = generate(
        pair.base, pair.format, [one for one in questions for _ in range(each)], sampling,
        streams=[stream for stream in range(len(questions)) for _ in range(each)],
        under=lambda rows: switched(
            pair.base.original_model, space.deltas,
            gates[[row % each for row in rows]].to(space.device),
        ),
        progress=progress, label=what,
    )  # fmt: skip
    return [found[setting::each] for setting in range(each)]


def counted(
    space: AdapterSpace,
    gates: Float[Tensor, "setting component"],
    questions: Questions,
    sampling: Sampling,
    progress: Progress | None,
) -> tuple[Counts, ...]:
    """The counts of the answers at every setting; none where nothing is asked."""
    if not questions:
        return ()
    return tuple(map(count, write(space, gates, questions, sampling, progress, "answers")))


def count(responses: Sequence[Response]) -> Counts:
    """For each topic: answers with an emoji, answers, sentences with an emoji, sentences."""
    texts: dict[str, list[str]] = {}
    for response in responses:
        texts.setdefault(response.topic, []).append(response.text)
    found = [rates.measure(some) for some in texts.values()]
    return tuple(
        (one.responses_with_emoji, one.n_responses, one.sentences_with_emoji, one.n_sentences)
        for one in found
    )
