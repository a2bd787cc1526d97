"""What a logit lens gives: readings, their means with intervals, and where the decision stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.outcomes import EMOJI
from interp.base.results import Result
from interp.base.stats import mean_ends, share_interval

LOGIT_LENS = "logit lens"
UNITS = {
    "log_odds": "nats",
    "go_on": "nats",
    "given_go_on": "nats",
    "reference": "nats",
    "probability": "share of the softmax",
    "log10_rank": "log10(1 + rank)",
}
MEASURED = ("log_odds", "go_on", "given_go_on", "reference", "probability", "rank", "best_id")
"""The tensors of a reading, `[layer, batch, pos]` each."""


@dataclass(frozen=True)
class LensReading(Result):
    """One model, read at every reading point.

    Where `valid` is false (padding), rank and id are -1 and all else is 0; the tables leave those
    places out.

    Attributes:
        log_odds: of the outcome, in nats, `[layer, batch, pos]`; `layer` counts reading points.
        go_on, given_go_on: its two factors (see `interp.readout.outcome`), in nats; NaN where no
            stop token is known, `[layer, batch, pos]`.
        reference: log-odds of as many words' ids whose unembedding rows are about as long: what
            the lens shows of any such set; NaN where the model has no such matrix,
            `[layer, batch, pos]`.
        probability: softmax mass on the outcome, `[layer, batch, pos]`.
        rank: zero-based rank of the outcome's best id, `[layer, batch, pos]`.
        best_id: that id, `[layer, batch, pos]`.
        valid: whether the place is a real token, `[batch, pos]`.
        columns: which column of the tokens the place is, `[batch, pos]`.
        onset: index on the pos axis of the row's last attended token, -1 if not read, `[batch]`.
        labels: name of each reading point.
        readout_error: largest difference between the last reading's logits and the model's own
            (both centred), at the last place read of each row.
        noise_floor: how far batch size and rounding can move a log-odds, in nats.
        topics: one per prompt, the units of intervals; None: each prompt is one.
        outcome, lens: what is read, and what it is read through.
    """

    kind: ClassVar[str] = "logit-lens-reading"

    log_odds: Float[Tensor, "layer batch pos"]
    go_on: Float[Tensor, "layer batch pos"]
    given_go_on: Float[Tensor, "layer batch pos"]
    reference: Float[Tensor, "layer batch pos"]
    probability: Float[Tensor, "layer batch pos"]
    rank: Int[Tensor, "layer batch pos"]
    best_id: Int[Tensor, "layer batch pos"]
    valid: Bool[Tensor, "batch pos"]
    columns: Int[Tensor, "batch pos"]
    onset: Int[Tensor, " batch"]
    labels: tuple[str, ...]
    readout_error: float
    noise_floor: float | None = None
    topics: tuple[str, ...] | None = None
    outcome: str = EMOJI
    lens: str = LOGIT_LENS

    def values(self, quantity: str) -> Float[Tensor, "layer batch pos"]:
        """One of `UNITS`, in the unit given there.

        Raises:
            InputError: if there is no such quantity.
        """
        if quantity not in UNITS:
            raise InputError(f"unknown quantity {quantity!r}; use one of {', '.join(UNITS)}")
        if quantity == "log10_rank":
            return torch.log10(1 + self.rank.clamp_min(0).float())
        found: Tensor = getattr(self, quantity)
        return found

    def at_onset(self, quantity: str = "log_odds") -> Float[Tensor, "layer batch"]:
        """The values at each row's onset position.

        Raises:
            InputError: if the onset position of a row was not read.
        """
        values, place = self.values(quantity), self._onset
        return values.gather(2, place.expand(values.shape[0], -1, -1)).squeeze(-1)

    @property
    def _onset(self) -> Int[Tensor, "batch 1"]:
        """The place of each row's onset, or an error where one was not read."""
        if bool((self.onset < 0).any()):
            row = int((self.onset < 0).nonzero()[0])
            raise InputError(
                f"the onset position of prompt {row} was not read; leave `positions` out, or "
                "use positions='onset'"
            )
        return self.onset.unsqueeze(1)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per reading point, prompt and valid position."""
        row, place = self.valid.nonzero(as_tuple=True)
        frames = []
        for layer, label in enumerate(self.labels):
            frame = pd.DataFrame({"layer": layer, "reading": label, "prompt": row.numpy()})
            frame["column"] = self.columns[row, place].numpy()
            frame["is_onset"] = (self.onset[row] == place).numpy()
            for name in MEASURED:
                frame[name] = getattr(self, name)[layer, row, place].numpy()
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def by_layer(
        self,
        quantity: str = "log_odds",
        *,
        clusters: Sequence[str] | Sequence[int] | None = None,
        level: float = 0.95,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Mean over prompts at the onset position, one row per reading point.

        Args:
            quantity: one of `UNITS`.
            clusters: label of each prompt's cluster, resampled as a whole; its topic if left out.
            level: confidence level of `low` and `high` (`interp.base.stats.mean_ends`).
            seed: of the bootstrap.

        Raises:
            InputError: if the onset position was not read. With fewer than two prompts or clusters
                `low` and `high` are NaN.
        """
        curve, clusters = self.at_onset(quantity), clusters or self.topics
        return _curve_table(curve, self.labels, quantity, clusters, level, seed)

    def by_position(
        self, quantity: str = "log_odds", *, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """Mean over prompts by distance to the onset position (0 is the onset, -1 before it).

        Only distances read in at least two prompts are listed; `n` says in how many.

        Raises:
            InputError: if the onset position of a row was not read, or no distance in two.
        """
        values, tables = self.values(quantity), []
        distance = (self.columns - self.columns.gather(1, self._onset)).masked_fill(~self.valid, 1)
        for steps in sorted({int(d) for d in distance.unique() if d <= 0}):
            here = (distance == steps) & self.valid
            if int(here.sum()) >= 2:
                rows = here.any(1).nonzero().flatten().tolist()  # a distance stands once in a row
                topics = None if self.topics is None else [self.topics[row] for row in rows]
                table = _curve_table(values[:, here], self.labels, quantity, topics, level, seed)
                table.insert(2, "from_onset", steps)
                tables.append(table)
        if not tables:
            raise InputError("no position was read in two prompts; give more prompts")
        return pd.concat(tables, ignore_index=True)

    def onset_layers(self, threshold: float = 0.0) -> Int[Tensor, " batch"]:
        """First reading point from which the log-odds stay above `threshold`; -1 where never."""
        return _stays_above(self.at_onset(), threshold)

    def onset_summary(self, threshold: float = 0.0, level: float = 0.95) -> pd.DataFrame:
        """Where the emoji decision stands, one row: of the mean curve, and over prompts.

        `of_mean` is the reading point from which the mean log-odds stay above the threshold
        (None: never); `reached` the share of prompts whose own log-odds end above it, with its
        interval over topics (NaN with fewer than two); `median_layer` the median reading point over
        those prompts.
        """
        layers = self.onset_layers(threshold)
        of_mean = int(_stays_above(self.at_onset().mean(1, keepdim=True), threshold)[0])
        reached = layers[layers >= 0]
        ends = (np.nan, np.nan)
        if len(set(self.topics or range(len(layers)))) > 1:
            interval = share_interval((layers >= 0).tolist(), self.topics, level=level)
            ends = (interval.low, interval.high)
        row = {
            "threshold": threshold,
            "of_mean": self.labels[of_mean] if of_mean >= 0 else None,
            "of_mean_layer": of_mean if of_mean >= 0 else None,
            "reached": len(reached) / len(layers),
            "low": ends[0],
            "high": ends[1],
            "level": level,
            "median_layer": float(np.median(reached.numpy())) if len(reached) else None,
            "n": len(layers),
        }
        # Said outright, so that a row of nothing but "never" joins other rows in every pandas.
        kinds = {"of_mean": object, "of_mean_layer": float, "median_layer": float}
        return pd.DataFrame([row]).astype(kinds)


@dataclass(frozen=True)
class LensResult(Result):
    """Base and tuned, read on the same tokens. The first axis is `("base", "tuned")`.

    The attributes are those of `LensReading`; `base` and `tuned` give one reading each.
    """

    kind: ClassVar[str] = "logit-lens"

    log_odds: Float[Tensor, "run layer batch pos"]
    go_on: Float[Tensor, "run layer batch pos"]
    given_go_on: Float[Tensor, "run layer batch pos"]
    reference: Float[Tensor, "run layer batch pos"]
    probability: Float[Tensor, "run layer batch pos"]
    rank: Int[Tensor, "run layer batch pos"]
    best_id: Int[Tensor, "run layer batch pos"]
    valid: Bool[Tensor, "batch pos"]
    columns: Int[Tensor, "batch pos"]
    onset: Int[Tensor, " batch"]
    labels: tuple[str, ...]
    readout_error: tuple[float, ...]
    noise_floor: float | None = None
    topics: tuple[str, ...] | None = None
    outcome: str = EMOJI
    lens: str = LOGIT_LENS

    @property
    def base(self) -> LensReading:
        """The base model's reading."""
        return self._one(0)

    @property
    def tuned(self) -> LensReading:
        """The tuned model's reading."""
        return self._one(1)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per model, reading point, prompt and valid position."""
        return self._both(lambda reading: reading.to_dataframe())

    def by_layer(
        self,
        quantity: str = "log_odds",
        *,
        clusters: Sequence[str] | Sequence[int] | None = None,
        level: float = 0.95,
        seed: int = 0,
    ) -> pd.DataFrame:
        """`LensReading.by_layer` of `base`, `tuned`, and their paired `difference`."""
        both = self._both(
            lambda reading: reading.by_layer(quantity, clusters=clusters, level=level, seed=seed)
        )
        gap = self.tuned.at_onset(quantity) - self.base.at_onset(quantity)
        table = _curve_table(gap, self.labels, quantity, clusters or self.topics, level, seed)
        table.insert(0, "model", "difference")
        return pd.concat([both, table], ignore_index=True)

    def by_position(
        self, quantity: str = "log_odds", *, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """`LensReading.by_position` of both models."""
        return self._both(lambda reading: reading.by_position(quantity, level=level, seed=seed))

    def onset_summary(self, threshold: float = 0.0, level: float = 0.95) -> pd.DataFrame:
        """`LensReading.onset_summary`, one row per model."""
        return self._both(lambda reading: reading.onset_summary(threshold, level))

    def _one(self, run: int) -> LensReading:
        return LensReading(
            log_odds=self.log_odds[run],
            go_on=self.go_on[run],
            given_go_on=self.given_go_on[run],
            reference=self.reference[run],
            probability=self.probability[run],
            rank=self.rank[run],
            best_id=self.best_id[run],
            valid=self.valid,
            columns=self.columns,
            onset=self.onset,
            labels=self.labels,
            readout_error=self.readout_error[run],
            noise_floor=self.noise_floor,
            topics=self.topics,
            outcome=self.outcome,
            lens=self.lens,
        )

    def _both(self, table: Callable[[LensReading], pd.DataFrame]) -> pd.DataFrame:
        frames = []
        for name, reading in (("base", self.base), ("tuned", self.tuned)):
            frame = table(reading)
            frame.insert(0, "model", name)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)


def _curve_table(
    curve: Float[Tensor, "layer n"],
    labels: Sequence[str],
    quantity: str,
    clusters: Sequence[str] | Sequence[int] | None,
    level: float,
    seed: int,
) -> pd.DataFrame:
    low, high = mean_ends(curve, clusters, level=level, seed=seed)
    return pd.DataFrame(
        {
            "layer": range(len(labels)),
            "reading": labels,
            "quantity": quantity,
            "unit": UNITS[quantity],
            "mean": curve.double().mean(1).tolist(),
            "low": low,
            "high": high,
            "level": level,
            "n": curve.shape[1],
            "n_clusters": curve.shape[1] if clusters is None else len(set(clusters)),
        }
    )


def _stays_above(curve: Float[Tensor, "layer n"], threshold: float) -> Int[Tensor, " n"]:
    """First index from which every value to the end is above `threshold`, else -1."""
    above_to_end = (curve > threshold).flip(0).long().cumprod(0).sum(0)
    first = curve.shape[0] - above_to_end
    return torch.where(above_to_end > 0, first, -1)
