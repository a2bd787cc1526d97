"""Fitting: all probes of one task, on one model's features or on a pair's."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.base.errors import DataError, InputError, ModelError
from interp.base.progress import Progress
from interp.base.stats import fdr_bh, jackknife_ends, sign_flip_p
from interp.traces.probing.features import Features
from interp.traces.probing.labellings import ProbeConfig, ProbePlan
from interp.traces.probing.result import READS, ProbeResult
from interp.traces.probing.scoring import auroc, balanced_accuracy, over_chance
from interp.traces.probing.solver import Probes, Space

Array = NDArray[Any]

# Trained on -> read on, as indices into (base, tuned), in the order of READS.
_ROUTES = ((0, 0), (1, 1), (0, 1), (1, 0))
_FLIPS = 1999


@dataclass(frozen=True)
class About:
    """What the labels are of, and what those of the control task hang on.

    Attributes:
        name: what is asked, for figures.
        classes: name of each class; None for their numbers.
        types: type of each example; None for its topic.
        split: `groups` holds out topics for the control task as well (types must recur across
            topics), `rows` holds out examples (types are bound to topics). None: `groups` if types
            are given, else `rows`.
    """

    name: str = "probe"
    classes: Sequence[str] | None = None
    types: Sequence[str] | None = None
    split: str | None = None


UNNAMED = About()


def fit(
    features: Features,
    labels: Int[Tensor, " example"] | Sequence[int] | Sequence[bool],
    groups: Sequence[str],
    *,
    tuned: Features | None = None,
    about: About = UNNAMED,
    config: ProbeConfig | None = None,
    progress: Progress | None = None,
) -> ProbeResult:
    """Fit probes at every layer and judge them on topics they have not seen.

    Args:
        features: the (base) model's activations, `[layer, example, d_model]`.
        labels: class of each example, counted from 0; a tensor or a list.
        groups: topic of each example.
        tuned: the tuned model's activations of the same examples; adds the reads `tuned`,
            `base→tuned` (trained on base, read on tuned) and `tuned→base`.
        about: what the labels are of, and what those of the control task hang on.
        config: how; None for the defaults.
        progress: called with (label, layers done, layers in all).

    Raises:
        InputError: if lengths or layers do not match.
        DataError: for one class only, one topic only, too few topics for the folds, a class that
            occurs in one topic only, or types too few for a control task.
        ModelError: if an activation is not finite.
    """
    config = config or ProbeConfig()
    both = [features] if tuned is None else [features, tuned]
    y = torch.as_tensor(labels).long().cpu().numpy()
    names = _check(both, y, groups, about.classes)
    given = groups if about.types is None else about.types
    split = about.split or ("rows" if about.types is None else "groups")
    if len(given) != len(y) or split not in ("groups", "rows"):
        raise InputError("types needs one value per example; split is 'groups' or 'rows'")
    plan = ProbePlan.make(y, groups, given, split, len(names), config)
    layers = []
    for layer in range(len(features.layers)):
        rows = [one.values[layer].double().numpy() for one in both]
        # Matrices this small are slower on several threads, tenfold where cores are shared.
        with threadpool_limits(limits=1, user_api="blas"):
            layers.append(_judge(_predict(rows, plan, config), plan, config))
        if progress is not None:
            progress("probes", layer + 1, len(features.layers))
    found = {key: torch.stack([one[key] for one in layers], dim=1) for key in layers[0]}
    counts = _counts(y, groups, given, names, config)
    counts["unconverged_controls"] = int(found.pop("unconverged_controls").sum())
    return ProbeResult(
        **found,
        p_adjusted=torch.from_numpy(fdr_bh(found["p_value"])),
        labels=torch.from_numpy(y),
        fold=torch.from_numpy(plan.fold),
        task=about.name, classes=names, reads=READS[: len(found["auroc"])], layers=features.layers,
        site=features.site, groups=tuple(groups), control_split=split,
        control_seen=plan.control_seen, counts=counts, c=config.c, level=config.level,
        seed=config.seed,
    )  # fmt: skip


def _counts(
    labels: Array,
    groups: Sequence[str],
    types: Sequence[str],
    names: tuple[str, ...],
    config: ProbeConfig,
) -> dict[str, int]:
    """How many of what, for captions."""
    counts = {
        "n_examples": len(labels),
        "n_topics": len(set(groups)),
        "n_types": len(set(types)),
        "n_folds": config.folds,
        "n_controls": config.controls,
        "n_shuffles": config.shuffles,
    }
    return counts | {f"class: {name}": int((labels == k).sum()) for k, name in enumerate(names)}


@dataclass(frozen=True)
class _Predictions:
    """Held-out log-probabilities `[labelling, read, example, class]` of one layer."""

    log_probs: Array
    unconverged: Array


def _predict(rows: list[Array], plan: ProbePlan, config: ProbeConfig) -> _Predictions:
    routes = _ROUTES[: 1 if len(rows) == 1 else None]
    labellings, n = plan.all, len(rows[0])
    log_probs = np.zeros((len(labellings), len(routes), n, plan.n_classes))
    unconverged = np.zeros((len(labellings), len(routes)), dtype=np.int64)
    schemes: dict[bytes, list[int]] = {}
    for index, labelling in enumerate(labellings):
        schemes.setdefault(labelling.fold.tobytes(), []).append(index)
    for members in schemes.values():
        fold = labellings[members[0]].fold
        labels = np.stack([labellings[index].labels for index in members])
        for place, source in product(np.unique(fold), range(len(rows))):
            held = fold == place
            space = Space.of(rows[source][~held], plan.n_classes, config.c)
            probes = Probes.fit(
                space(rows[source][~held]),
                labels[:, ~held],
                plan.n_classes,
                space,
                max_iter=config.max_iter,
            )
            for read, (trained_on, read_on) in enumerate(routes):
                if trained_on == source:
                    found = probes.log_probs(space(rows[read_on][held]))
                    for index, one in zip(members, found, strict=True):
                        log_probs[index, read, held] = one
                    unconverged[members, read] += ~probes.converged
    return _Predictions(log_probs, unconverged)


def _judge(predictions: _Predictions, plan: ProbePlan, config: ProbeConfig) -> dict[str, Tensor]:
    """Every score of one layer, `[read]` (or `[read, ..]`)."""
    reads = []
    first_control = 1 + len(plan.shuffles)
    for read in range(predictions.log_probs.shape[1]):
        log_probs = predictions.log_probs[:, read]
        one = _score(log_probs, plan, config)
        one["unconverged"] = predictions.unconverged[0, read]
        one["unconverged_controls"] = predictions.unconverged[first_control:, read].sum()
        one["scores"] = log_probs[0]
        reads.append(one)
    return {key: torch.from_numpy(np.stack([one[key] for one in reads])) for key in reads[0]}


def _score(log_probs: Array, plan: ProbePlan, config: ProbeConfig) -> dict[str, Any]:
    """The scores of one read: `log_probs` is `[labelling, example, class]`."""
    first_control = 1 + len(plan.shuffles)
    labels, weights = plan.task.labels, plan.weights
    hits = log_probs[0].argmax(1) == labels
    area = auroc(log_probs[0], labels, plan.fold, weights)
    right = balanced_accuracy(hits, labels, weights)
    control = np.mean(
        [
            balanced_accuracy(scores.argmax(1) == one.labels, one.labels, weights)
            for scores, one in zip(log_probs[first_control:], plan.controls, strict=True)
        ],
        axis=0,
    )
    ones = weights[:1]
    floor = list(zip(log_probs[1:first_control], plan.shuffles, strict=True))
    found: dict[str, Any] = {
        "p_value": sign_flip_p(
            over_chance(hits, labels, plan.n_classes),
            config.seed,
            topics=list(plan.groups),
            n_resamples=_FLIPS,
        ),
        "control_accuracy": control[0],
        "shuffled_auroc": np.array([auroc(s, o.labels, o.fold, ones)[0] for s, o in floor]),
        "shuffled_accuracy": np.array(
            [balanced_accuracy(s.argmax(1) == o.labels, o.labels, ones)[0] for s, o in floor]
        ),
    }
    for key, drawn in (("auroc", area), ("accuracy", right), ("selectivity", right - control)):
        low, high = jackknife_ends(
            drawn, config.level, share=key != "selectivity", units=plan.units
        )
        found |= {key: drawn[0], f"{key}_low": low, f"{key}_high": high}
    return found


def check_classes(labels: Array) -> Array:
    """The classes that occur.

    Raises:
        DataError: if there is only one.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(
            f"all {len(labels)} examples have one label; a probe needs at least two classes"
        )
    return present


def _check(
    both: list[Features], labels: Array, groups: Sequence[str], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Check what can be checked before fitting; returns the names of the classes."""
    n = both[0].values.shape[1]
    if len(labels) != n or len(groups) != n:
        raise InputError(
            f"{n} examples, {len(labels)} labels and {len(groups)} groups; give one of each"
        )
    for one in both:
        if one.values.shape != both[0].values.shape or one.layers != both[0].layers:
            raise InputError("base and tuned features differ in examples, layers or width")
        bad = ~torch.isfinite(one.values).all(-1)
        if bool(bad.any()):
            layer, example = bad.nonzero()[0].tolist()
            raise ModelError(
                f"{int(bad.any(0).sum())} of {n} examples have activations that are not finite, "
                f"first example {example} at layer {one.layers[layer]}; load the model in float32 "
                "or bfloat16, and check its weights"
            )
    present = check_classes(labels)
    names = tuple(classes) if classes else tuple(str(k) for k in range(int(present.max()) + 1))
    if present.tolist() != list(range(len(names))):
        raise DataError(
            f"labels are {present.tolist()} but there are {len(names)} classes; every class must "
            "occur, counted from 0"
        )
    return names
