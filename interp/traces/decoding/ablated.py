"""Heads and MLPs ablated at every token while answers are sampled.

Given text takes what a node does for the writing of it for granted. Here a set of nodes is
overwritten at each step of the sampling, by its mean over a reference's tokens or by zero, and the
outcome is counted in the answers (ESR) and expected along emoji-free ones (`ExpectedRate`, which
sees rates that few answers cannot). A circuit's nodes are such a set; so are all others
(`all_but`), which asks whether the circuit suffices. Nodes are ablated whole: a circuit of edges
says more than its nodes do. Every set draws from the same noise.

Cost: per set two samplings at most, and a pass per emoji-free answer and token trie.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import Interval, mean_interval, share_interval
from interp.behaviour.emoji_free import emoji_free
from interp.behaviour.generate import Sampling, generate
from interp.models.tokens import ChatFormat
from interp.readout.capture import hook_name
from interp.readout.expected import expected_rate
from interp.readout.question import Question, asked
from interp.readout.run import Run
from interp.text.emoji import EmojiVocab
from interp.text.emoji.rates import measure
from interp.traces.circuits.graph import Graph
from interp.traces.patching.sweep_plan import attended_means

DEFAULT = Sampling()


@dataclass(frozen=True)
class Ablated(Result):
    """Answers by what was ablated while they were written; the first set is none.

    Attributes:
        names: of the sets.
        nodes: how many heads and MLPs each holds.
        emoji: whether an answer holds an emoji.
        expected: probability that one comes up along the emoji-free answer.
        left_out: at most so much more; the table's upper ends include its mean.
        ended: whether the answer ended within the budget.
        topics: of each question, the units of intervals.
        using: `mean` or `zero`.
    """

    kind: ClassVar[str] = "ablated writing"

    names: tuple[str, ...]
    nodes: Int[Tensor, " set"]
    emoji: Bool[Tensor, "set batch"]
    expected: Float[Tensor, "set batch"]
    left_out: Float[Tensor, "set batch"]
    ended: Bool[Tensor, "set batch"]
    topics: tuple[str, ...]
    using: str
    seed: int = 0

    def to_dataframe(self) -> pd.DataFrame:
        """A row per set: ESR and expected rate with intervals over topics.

        Columns: `ablated`, `nodes`, `esr`, `low`, `high`, `expected`, `expected_low`,
        `expected_high`, `ended` (share), `n`.
        """
        rows = []
        for place, name in enumerate(self.names):
            hits, chances = self.emoji[place], self.expected[place]
            ends = share_interval(hits.tolist(), self.topics)
            inner = mean_interval(chances, self.topics, seed=self.seed)
            high = min(1.0, inner.high + float(self.left_out[place].mean()))
            inner = Interval(max(0.0, inner.low), high, inner.level)
            rows.append((name, int(self.nodes[place]), float(hits.float().mean()), ends.low,
                         ends.high, float(chances.mean()), inner.low, inner.high,
                         float(self.ended[place].float().mean()), len(self.topics)))  # fmt: skip
        columns = ["ablated", "nodes", "esr", "low", "high", "expected", "expected_low",
                   "expected_high", "ended", "n"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)


def all_but(model: Any, nodes: Iterable[str]) -> tuple[str, ...]:
    """Every head (`a1.h2`) and MLP (`m1`) of a model that is not among some nodes."""
    kept = set(nodes)
    return tuple(name for name in Graph.of(model).sources[1:] if name not in kept)


def without(
    model: Any, nodes: Iterable[str], reference: Run | None = None
) -> AbstractContextManager[Any]:
    """The model without some heads and MLPs, as long as the context is open, also as it generates.

    Args:
        model: a hooked model.
        nodes: `a1.h2` and `m1`; `input` and `logits` are passed over.
        reference: whose tokens the means are over; zero if left out.

    Raises:
        InputError: for a node that the model does not have.
    """
    graph = Graph.of(model)
    wanted = _ablatable(nodes)
    wrong = [name for name in wanted if name not in graph.sources]
    if wrong:
        raise InputError(f"{wrong[0]!r} is no head or MLP of this model; write a1.h2 or m1")
    heads: dict[int, list[int]] = {}
    mlps = [int(name[1:]) for name in wanted if name[0] == "m"]
    for name in wanted:
        if name[0] == "a":
            layer, head = name[1:].split(".h")
            heads.setdefault(int(layer), []).append(int(head))
    sites = [("z", layer) for layer in heads] + [("mlp_out", layer) for layer in mlps]
    means: dict[str, Sequence[Tensor]] = {}
    if reference is not None:
        means = {site: attended_means(reference, site) for site in {site for site, _ in sites}}

    def overwrite(value: Tensor, hook: Any, *, site: str, layer: int) -> Tensor:  # noqa: ARG001
        value = value.clone()
        mean: Any = means[site][layer].to(value) if means else 0.0
        if site == "z":
            value[:, :, heads[layer]] = mean[heads[layer]] if means else mean
        else:
            value[:] = mean
        return value

    if not sites:
        return nullcontext()
    made: AbstractContextManager[Any] = model.hooks(
        fwd_hooks=[
            (hook_name(model, site, layer), partial(overwrite, site=site, layer=layer))
            for site, layer in sites
        ]
    )
    return made


def _ablatable(nodes: Iterable[str]) -> tuple[str, ...]:
    """The heads and MLPs of a set, each once."""
    return tuple(dict.fromkeys(name for name in nodes if name not in ("input", "logits")))


def ablated(
    model: Any,
    form: ChatFormat,
    questions: Sequence[tuple[str, str]],
    sets: Mapping[str, Iterable[str]],
    *,
    vocab: EmojiVocab,
    reference: Run | None = None,
    sampling: Sampling = DEFAULT,
    ask: Question | None = None,
) -> Ablated:
    """Sample answers without each set of nodes, and with all of them.

    Args:
        model: a hooked model.
        form: how questions become ids.
        questions: with their topics.
        sets: by name, nodes as in `without`.
        vocab: the emojis.
        reference: whose tokens the means are over; zero if left out.
        sampling: see `Sampling`.
        ask: seed and progress.

    Raises:
        InputError: if there is no question, for a node that the model does not have, or at
            temperature 0, at which nothing is drawn.
    """
    if not questions or sampling.temperature == 0:
        raise InputError("give questions of two or more topics, and a temperature above 0")
    ask = asked(ask)
    every = {"none": (), **{name: _ablatable(nodes) for name, nodes in sets.items()}}
    emoji, chances, left_out, ended = [], [], [], []
    for place, nodes in enumerate(every.values()):
        with without(model, nodes, reference):
            answers = generate(model, form, questions, sampling)
            texts = emoji_free(model, form, answers, vocab, sampling)
            found = expected_rate(
                model, texts, vocab, writer="ablated", reader="ablated",
                temperature=sampling.temperature, seed=ask.seed,
            )  # fmt: skip
        emoji.append([one.responses_with_emoji > 0 for one in (measure([a.text]) for a in answers)])
        chances.append(found.probability)
        left_out.append(found.left_out)
        ended.append([answer.ended for answer in answers])
        ask.tell("ablated writing", place + 1, len(every))
    return Ablated(
        names=tuple(every),
        nodes=torch.tensor([len(nodes) for nodes in every.values()]),
        emoji=torch.tensor(emoji),
        expected=torch.stack(chances).float(),
        left_out=torch.stack(left_out).float(),
        ended=torch.tensor(ended),
        topics=tuple(topic for _, topic in questions),
        using="zero" if reference is None else "mean",
        seed=ask.seed,
    )
