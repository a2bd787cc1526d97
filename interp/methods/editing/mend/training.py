"""Training a MEND editor on opinion edits.

Each step takes a batch of edits: the factors of the inner answers' gradients go through the editor,
and the edited model (`factors.with_rows`) is asked for

- the edit loss: the negative log-likelihood of another answer of the same trait on the topic, and
  (PersonalityEdit) `c_bad` times the unlikelihood of another trait's answer on it;
- the locality loss: KL from the base's next-token distribution on an answer about another topic.

The loss is `c_edit` times the one plus `c_loc` times the other, 0.1 and 1 as published. Some topics
are kept for validation, and the state of lowest validation loss is kept.

Cost per step: two passes over the inner answers back to the first edited layer, and one pass and a
half over three answers per edit. Memory: activations from the first edited layer on, the editor
and its two Adam moments; no weight is copied.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import DataError, InputError, ModelError
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.stats import mean_interval
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.editing.mend import rank_one
from interp.methods.editing.mend.editor import DEFAULTS, EditorConfig, EditorNetwork
from interp.methods.editing.mend.folder import Editor
from interp.methods.editing.mend.training_edits import Edit, batch, edits
from interp.methods.finetune.examples import Batch
from interp.text.data import OpinionQA, split_by_topic
from interp.text.data.schema import topic_key


@dataclass(frozen=True)
class EditReport(Result):
    """What training did, on edits of topics that it did not see.

    Attributes:
        before, after: negative log-likelihood of the outer answers without and with the edit,
            nats per token, `[edit]`.
        locality: KL(base ‖ edited) on the answers about other topics, nats per token, `[edit]`.
        topics: topic of each validation edit.
        losses: training loss of every step.
        validation: total validation loss at each validation, the first before training.
        n_alone: training edits whose topic has no other answer of the trait: judged on themselves.
        seed: of the intervals.
    """

    kind: ClassVar[str] = "mend editor report"

    before: Float[Tensor, " edit"]
    after: Float[Tensor, " edit"]
    locality: Float[Tensor, " edit"]
    topics: tuple[str, ...]
    losses: tuple[float, ...]
    validation: tuple[float, ...]
    n_alone: int
    seed: int

    def to_dataframe(self) -> pd.DataFrame:
        """Mean of each measure with its interval (topics resampled)."""
        rows = []
        for name in ("before", "after", "locality"):
            values = getattr(self, name)
            span = mean_interval(values, self.topics, seed=self.seed)
            rows.append((name, float(values.mean()), max(0.0, span.low), span.high, len(values)))
        return pd.DataFrame(rows, columns=["measure", "nats", "low", "high", "n"])


def train_editor(
    base: HookedBase,
    data: OpinionQA,
    config: EditorConfig = DEFAULTS,
    *,
    progress: Progress | None = None,
) -> tuple[Editor, EditReport]:
    """Train an editor for one base on the edits of a training split, of all its traits.

    Args:
        base: the base; it is not changed.
        data: the training split; several answers per topic and trait make the better edits.
        config: sizes and training.
        progress: called with (label, steps done, steps in all).

    Raises:
        DataError: one topic only, or a prompt that does not fit.
        ModelError: if the base has no linear maps in its MLPs.
        InputError: if the loss is no longer a number.
    """
    kept, held = split_by_topic(data, test_share=config.validation_share, seed=config.seed)
    trained = edits(kept, seed=config.seed)
    judged = _spread(_validation(held, data, config), config.validation_edits)
    names = mlp_weights(base, config.layers)
    modules = rank_one.linear_maps(base.model.original_model, names)
    shapes = {name: rank_one.sizes(module) for name, module in modules.items()}
    network = EditorNetwork(shapes, config).to(base.device)
    run = _Run(base, network, config, names)
    network.measure([run.gradients(part) for part in _parts(trained[: 16 * config.batch_size], 16)])
    losses, validation = run.train(trained, judged, progress)
    before, after, locality = run.judge(judged)
    report = EditReport(
        before=before,
        after=after,
        locality=locality,
        topics=tuple(edit.inner.topic for edit in judged),
        losses=tuple(losses),
        validation=tuple(validation),
        n_alone=sum(edit.outer is edit.inner for edit in trained),
        seed=config.seed,
    )
    seen = tuple(sorted({topic_key(topic) for topic in data.topics}))
    return Editor(network.eval().requires_grad_(False), config, base.base_sha256, seen), report


def _validation(held: OpinionQA, data: OpinionQA, config: EditorConfig) -> list[Edit]:
    """The validation edits.

    Raises:
        DataError: if too few topics are left for validation.
    """
    if len(held.topics) < 2:
        raise DataError(
            f"{data.source}: {len(data.topics)} topics leave {len(held.topics)} for validation; "
            f"give more topics, or raise validation_share (now {config.validation_share})"
        )
    return edits(held, seed=config.seed + 1)


def mlp_weights(base: HookedBase, layers: int) -> list[str]:
    """Names of all linear maps in the MLPs of the last layers.

    Raises:
        ModelError: if the model has fewer layers, or no such maps.
    """
    n_layers = int(base.model.cfg.n_layers)
    if layers > n_layers:
        raise ModelError(f"MEND of {layers} layers, but the model has {n_layers}")
    names = []
    found = rank_one.plain_modules(base.model.original_model)
    for name, module in found.items():
        parts = name.split(".")
        inside = len(parts) == 4 and parts[1].isdigit() and parts[2] == "mlp"
        if inside and int(parts[1]) >= n_layers - layers and hasattr(module, "weight"):
            names.append(name)
    if not names:
        raise ModelError("MEND edits the linear maps of MLPs; this model names none so")
    return list(rank_one.linear_maps(base.model.original_model, names))


def _spread(made: list[Edit], limit: int) -> list[Edit]:
    return made[:: max(1, -(-len(made) // limit))]


def _parts(made: list[Edit], size: int) -> list[list[Edit]]:
    return [made[start : start + size] for start in range(0, len(made), size)]


@dataclass
class _Run:
    """One training run."""

    base: HookedBase
    network: EditorNetwork
    config: EditorConfig
    names: list[str]

    @property
    def model(self) -> Any:
        return self.base.model.original_model

    def gradients(self, some: list[Edit]) -> dict[str, rank_one.Factors]:
        inner = batch(self.base, [edit.inner for edit in some], self.config.max_length)
        return rank_one.capture(self.model, self.names, inner)[0]

    def train(
        self, trained: list[Edit], judged: list[Edit], progress: Progress | None
    ) -> tuple[list[float], list[float]]:
        """Train in place; losses of every step and of every validation."""
        config = self.config
        steps = [self.network.log_steps]
        others = [p for p in self.network.parameters() if p is not self.network.log_steps]
        optimizer = torch.optim.Adam(
            [
                {"params": others, "lr": config.learning_rate},
                {"params": steps, "lr": config.step_learning_rate},
            ]
        )
        rng = np.random.default_rng(config.seed)
        losses: list[float] = []
        validation = [self.total(judged)]
        best = (validation[0], _state(self.network))
        order: list[int] = []
        for step in range(1, config.steps + 1):
            while len(order) < config.batch_size:
                order += rng.permutation(len(trained)).tolist()
            some = [trained[order.pop()] for _ in range(config.batch_size)]
            losses.append(self.step(some, optimizer, step))
            if step % config.validate_every == 0 or step == config.steps:
                validation.append(self.total(judged))
                if validation[-1] < best[0]:
                    best = (validation[-1], _state(self.network))
            if progress is not None:
                progress("MEND editor", step, config.steps)
        self.network.load_state_dict(best[1])
        return losses, validation

    def step(self, some: list[Edit], optimizer: torch.optim.Optimizer, number: int) -> float:
        """One optimiser step; its loss."""
        likely, bad, local = self.losses(some)
        edit = likely.mean() + self.config.c_bad * bad.mean()
        loss = self.config.c_edit * edit + self.config.c_loc * local.mean()
        value = _finite(float(loss.detach()), f"step {number}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
        optimizer.step()
        return value

    def losses(self, some: list[Edit]) -> tuple[Tensor, Tensor, Tensor]:
        """Edit loss, unlikelihood of other traits' answers, and locality, `[edit]` each."""
        n = len(some)
        opposed = [
            (index, edit.bad)
            for index, edit in enumerate(some)
            if edit.bad is not None and self.config.c_bad > 0
        ]
        rows = [edit.outer for edit in some] + [edit.local for edit in some]
        asked = batch(self.base, rows + [row for _, row in opposed], self.config.max_length)
        outer, local, other = (
            Batch(asked.input_ids[part], asked.attention_mask[part], asked.labels[part])
            for part in (slice(n), slice(n, 2 * n), slice(2 * n, None))
        )
        updates = self.network(self.gradients(some))
        index = [*range(n), *range(n), *(index for index, _ in opposed)]
        with rank_one.with_rows(self.model, {name: one[index] for name, one in updates.items()}):
            scores = rank_one.logits(self.model, asked)
        with torch.no_grad():
            before = rank_one.logits(self.model, local)
        unlikely = torch.zeros(n, device=scores.device)
        if opposed:
            unlikely[index[2 * n :]] = rank_one.unlikelihood(scores[2 * n :], other)
        return (
            rank_one.answer_losses(scores[:n], outer),
            unlikely,
            rank_one.answer_kl(before, scores[n : 2 * n], local),
        )

    @torch.no_grad()
    def total(self, judged: list[Edit]) -> float:
        """The loss on validation edits."""
        parts = [self.losses(part) for part in _parts(judged, self.config.batch_size)]
        likely, bad, local = (torch.cat(one).mean() for one in zip(*parts, strict=True))
        edit = likely + self.config.c_bad * bad
        return _finite(float(self.config.c_edit * edit + self.config.c_loc * local), "validation")

    @torch.no_grad()
    def judge(self, judged: list[Edit]) -> tuple[Tensor, Tensor, Tensor]:
        """NLL of the outer answers before and after, and locality, `[edit]` each."""
        before, after, locality = [], [], []
        for part in _parts(judged, self.config.batch_size):
            outer = batch(self.base, [edit.outer for edit in part], self.config.max_length)
            before.append(rank_one.answer_losses(rank_one.logits(self.model, outer), outer))
            likely, _, local = self.losses(part)
            after.append(likely)
            locality.append(local)
        return torch.cat(before).cpu(), torch.cat(after).cpu(), torch.cat(locality).cpu()


def _finite(loss: float, where: str) -> float:
    if not math.isfinite(loss):
        raise InputError(
            f"MEND diverged: the loss at {where} is {loss}; lower step or learning_rate"
        )
    return loss


def _state(network: EditorNetwork) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}
