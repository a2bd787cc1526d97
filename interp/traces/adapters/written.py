"""The metric "an emoji is written": every measure of this room, by generation.

Where fine-tuning changes the words before the emoji and not the decision itself, log-odds on given
text hardly move and this does. Give `Written(questions)` in place of prompts: the metric of a
question is then 1 if the answer that is written to it holds an emoji, else 0, with the same dice at
every setting of the gates.

There is no rounding to speak of, so the noise floor is 0; the noise is that of sampling, which the
intervals over questions (or topics) contain. Where no answer changes at all they have no width, as
any bootstrap of equal values; 0 of n is then all that is known. There is no derivative either.

Cost: one generated answer per setting and question.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.outcomes import Asked, reworded
from interp.base.progress import Progress
from interp.behaviour.generate import Sampling
from interp.behaviour.occurrences import holds
from interp.readout.question import Question
from interp.traces.adapters.gated_runs import GatedRuns, Prompts
from interp.traces.adapters.generation import SAMPLING, Questions, write
from interp.traces.adapters.space import AdapterSpace, Unit

EMOJIS = Asked()


@dataclass(frozen=True)
class Written:
    """Questions whose written answers are measured.

    Attributes:
        questions: pairs of question and topic; repeat a question for several answers to it.
        sampling: how they are answered.
        asked: what is looked for in the answers.
    """

    questions: Questions
    sampling: Sampling = SAMPLING
    asked: Asked = EMOJIS

    def __post_init__(self) -> None:
        if not self.questions:
            raise InputError("no questions to answer; give (question, topic) pairs")


class WrittenRuns:
    """As `GatedRuns`, for written answers."""

    unit = "share of answers"
    notes: tuple[str, ...] = ()

    def __init__(self, space: AdapterSpace, asked: Written, progress: Progress | None) -> None:
        self.space, self.asked, self.progress = space, asked, progress
        self.metric_label = reworded("answers with an emoji", asked.asked.name)
        self.topics: tuple[str, ...] | None = tuple(str(topic) for _, topic in asked.questions)

    def __len__(self) -> int:
        return len(self.asked.questions)

    def values(
        self, gates: Float[Tensor, "setting component"], what: str = "adapter runs"
    ) -> Float[Tensor, "setting batch"]:
        """1 where the answer to a question holds an emoji at a setting, else 0; float64."""
        unique, back = gates.unique(dim=0, return_inverse=True)
        asked = self.asked
        answers = write(self.space, unique, asked.questions, asked.sampling, self.progress, what)
        hits = [[holds(asked.asked, answer) for answer in row] for row in answers]
        return torch.tensor(hits, dtype=torch.float64)[back.cpu()]

    def ends(self) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], float]:
        """What base and tuned write, and the noise floor, which is 0."""
        table = torch.zeros(2, self.space.n_components)
        table[1] = 1.0
        off, on = self.values(table, "base and tuned")
        return off, on, 0.0

    def gradient(
        self, units: Sequence[Unit], gates: Float[Tensor, " component"]
    ) -> Float[Tensor, "unit batch"]:
        """Refused: whether an emoji is written has no derivative.

        Raises:
            InputError: always.
        """
        del units, gates
        raise InputError("written answers have no derivative; use gradient_steps=0 (or no top_k)")


Runs = GatedRuns | WrittenRuns


def runs_of(
    space: AdapterSpace,
    prompts: Prompts | Written,
    ask: Question,
) -> Runs:
    """The runs behind a measure: on given text, or on what is written.

    Raises:
        InputError: if prompts and options do not fit.
    """
    if not isinstance(prompts, Written):
        return GatedRuns(space, prompts, ask)
    if not (ask.metric is ask.unit is ask.places is ask.topics is None):
        raise InputError(
            "written answers are their own metric and carry their topics; leave metric, unit, "
            "places and topics out"
        )
    return WrittenRuns(space, prompts, ask.progress)
