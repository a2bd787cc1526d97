"""What probing gives: scores with intervals, noise floor, control and p-values, by layer."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import jackknife_ends, without_each
from interp.traces.probing.scoring import auroc, balanced_accuracy

# Trained on -> read on. A result of one model has only the first.
READS = ("base", "tuned", "base→tuned", "tuned→base")

_BY_LAYER = (
    "auroc",
    "auroc_low",
    "auroc_high",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "control_accuracy",
    "selectivity",
    "selectivity_low",
    "selectivity_high",
    "p_value",
    "p_adjusted",
    "unconverged",
)


@dataclass(frozen=True)
class ProbeResult(Result):
    """Held-out scores of linear probes, `[read, layer]` unless said otherwise.

    Attributes:
        auroc: area under the ROC curve with `auroc_low`, `auroc_high`; chance 0.5.
        accuracy: balanced accuracy with its interval; chance 1 / number of classes.
        control_accuracy: the same for labels drawn per type, mean over drawings.
        selectivity: accuracy minus control accuracy, with its interval.
        p_value: two-sided, of accuracy against chance, by flipping topics' signs.
        p_adjusted: Benjamini-Hochberg over all reads and layers of this result.
        shuffled_auroc: the same probes on shuffled labels, `[read, layer, shuffle]`.
        shuffled_accuracy: likewise.
        unconverged: how many of the folds' regressions did not converge.
        scores: held-out log-probability of each class, `[read, layer, example, class]`.
        labels: of each example.
        fold: in which each example was held out.
        task: what was asked.
        classes: name of each label.
        reads: a subset of `READS`: on whose activations the probe was trained, and read.
        layers: names.
        site: where in the block.
        groups: topic of each example.
        control_split: `groups` or `rows`: how the control task was held out.
        control_seen: share of held-out control examples whose type occurred in training.
        counts: n_examples, n_topics, n_types, n_folds, n_controls, n_shuffles,
            unconverged_controls, one `class: <name>` each, and the task's own counts.
        c: inverse penalty of the regression.
        level: confidence level of all intervals.
        seed: of everything random.
    """

    kind: ClassVar[str] = "probe"

    auroc: Float[Tensor, "read layer"]
    auroc_low: Float[Tensor, "read layer"]
    auroc_high: Float[Tensor, "read layer"]
    accuracy: Float[Tensor, "read layer"]
    accuracy_low: Float[Tensor, "read layer"]
    accuracy_high: Float[Tensor, "read layer"]
    control_accuracy: Float[Tensor, "read layer"]
    selectivity: Float[Tensor, "read layer"]
    selectivity_low: Float[Tensor, "read layer"]
    selectivity_high: Float[Tensor, "read layer"]
    p_value: Float[Tensor, "read layer"]
    p_adjusted: Float[Tensor, "read layer"]
    shuffled_auroc: Float[Tensor, "read layer shuffle"]
    shuffled_accuracy: Float[Tensor, "read layer shuffle"]
    unconverged: Int[Tensor, "read layer"]
    scores: Float[Tensor, "read layer example class"]
    labels: Int[Tensor, " example"]
    fold: Int[Tensor, " example"]
    task: str
    classes: tuple[str, ...]
    reads: tuple[str, ...]
    layers: tuple[str, ...]
    site: str
    groups: tuple[str, ...]
    control_split: str
    control_seen: float
    counts: dict[str, int]
    c: float
    level: float
    seed: int

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing; that of the AUROC is 0.5."""
        return 1 / len(self.classes)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per read and layer, with the noise floor's mean and largest value."""
        rows = []
        for read, read_name in enumerate(self.reads):
            for layer, layer_name in enumerate(self.layers):
                row: dict[str, object] = {"task": self.task, "read": read_name, "layer": layer_name}
                row |= {name: getattr(self, name)[read, layer].item() for name in _BY_LAYER}
                for name in ("shuffled_auroc", "shuffled_accuracy"):
                    floor = getattr(self, name)[read, layer]
                    row |= {f"{name}_mean": float(floor.mean()), f"{name}_max": float(floor.max())}
                row |= {"chance": self.chance, "level": self.level}
                row |= {"n": len(self.labels), "n_topics": self.counts["n_topics"]}
                rows.append(row)
        return pd.DataFrame(rows)

    def difference(self, read: str = "tuned", other: str = "base") -> pd.DataFrame:
        """AUROC and balanced accuracy of one read minus another's, paired over topics, by layer.

        Raises:
            InputError: if this result does not have one of the reads.
        """
        for name in (read, other):
            if name not in self.reads:
                raise InputError(f"no read {name!r} here; there are {', '.join(self.reads)}")
        weights = without_each(self.groups)
        labels, fold = self.labels.numpy(), self.fold.numpy()
        rows = []
        for layer, layer_name in enumerate(self.layers):
            ours, theirs = (
                self.scores[self.reads.index(name), layer].numpy() for name in (read, other)
            )
            gaps = {
                "auroc": auroc(ours, labels, fold, weights) - auroc(theirs, labels, fold, weights),
                "accuracy": _accuracy(ours, labels, weights) - _accuracy(theirs, labels, weights),
            }
            for metric, gap in gaps.items():
                low, high = jackknife_ends(gap, self.level, share=False)
                rows.append(
                    {
                        "read": read,
                        "minus": other,
                        "layer": layer_name,
                        "metric": metric,
                        "difference": float(gap[0]),
                        "low": low,
                        "high": high,
                        "level": self.level,
                        "n_topics": self.counts["n_topics"],
                    }
                )
        return pd.DataFrame(rows)


def _accuracy(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return balanced_accuracy(scores.argmax(1) == labels, labels, weights)
