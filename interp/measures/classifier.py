"""Which trait does a text voice? The classifiers behind TA and TPEI.

`TraitClassifier` is TF-IDF over words and word pairs with a multinomial logistic regression
(scikit-learn), fitted on the opinion QA train split; the fit is deterministic. `HubClassifier` is
any Hugging Face text classification model, safetensors only, no remote code. Both carry their
accuracy on held-out answers: a TA can be no better than the classifier that measures it.

Not here: calibration. Probabilities are compared between texts (TPEI), never read as chances.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from interp.base.errors import InputError, ModelError, said
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour.shares import Rows
from interp.models.folders import check_folder
from interp.models.loading import load_tokenizer, resolve_device
from interp.text.data import OpinionQA
from interp.text.data.schema import topic_key

Holdout = tuple[tuple[str, int, float, float | None, float | None, float], ...]
"""Rows of (trait or `all`, n, accuracy, low, high, false alarms); see `holdout_table`. Answers to
one topic have neither low nor high."""

_HOLDOUT = ["trait", "n", "accuracy", "low", "high", "false_alarms"]


@runtime_checkable
class Classifier(Protocol):
    """What `trait_alignment` asks of a classifier."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    @property
    def traits(self) -> tuple[str, ...]:
        """The traits it knows, in the order of `log_probs`' columns; a column may be no trait."""

    @property
    def holdout(self) -> Holdout:
        """Accuracy on answers it was not fitted on."""

    def log_probs(self, texts: Sequence[str]) -> Float[Tensor, "text trait"]:
        """Log-probability of each trait for each text."""


@dataclass(frozen=True)
class TraitClassifier(Result):
    """TF-IDF and logistic regression; `save` and `load` as any result (safetensors and JSON).

    Attributes:
        traits: names of the classes, in the order of the weights' rows.
        vocabulary: terms, in the order of the weights' columns.
        idf: inverse document frequency, `[term]`.
        weights: `[trait term]`.
        bias: `[trait]`.
        source, rows_sha256: what it was fitted on.
        holdout: accuracy on held-out answers, per trait and over all.
        held_out: which answers those were.
    """

    kind: ClassVar[str] = "trait classifier"

    traits: tuple[str, ...]
    vocabulary: tuple[str, ...]
    idf: Float[Tensor, " term"]
    weights: Float[Tensor, "trait term"]
    bias: Float[Tensor, " trait"]
    source: str
    rows_sha256: str
    holdout: Holdout
    held_out: str

    @property
    def name(self) -> str:
        return "TF-IDF + logistic regression"

    @classmethod
    def fit(
        cls, train: OpinionQA, test: OpinionQA | None = None, *, c: float = 10.0, seed: int = 0
    ) -> "TraitClassifier":
        """Fit on the answers of `train`.

        Args:
            train: rows of at least two traits.
            test: answers on other topics to measure the accuracy on. Left out: five folds of
                `train` by topic, each predicted by a classifier fitted on the other four.
            c: inverse strength of the ridge.
            seed: of the accuracy's bootstrap; the fit itself has no randomness.

        Raises:
            InputError: if there are fewer than two traits, or the held-out answers have fewer than
                two topics or a trait that `train` has not.
        """
        if len(train.traits) < 2:
            raise InputError(
                f"{train.source}: a trait classifier needs answers of two or more traits, this has "
                f"{', '.join(train.traits) or 'none'}; load the train split without trait="
            )
        vectoriser, model = _fit(train, c)
        names = tuple(str(name) for name in model.classes_)
        bias = np.asarray(model.intercept_)
        weights = np.asarray(model.coef_)
        if len(names) == 2:  # scikit-learn keeps one row for two classes
            weights, bias = (np.concatenate([0 * part, part]) for part in (weights, bias))
        where, predicted, held = _held_out(train, test, vectoriser, model, c)
        return cls(
            traits=names,
            vocabulary=tuple(vectoriser.get_feature_names_out().tolist()),
            idf=torch.tensor(vectoriser.idf_),
            weights=torch.tensor(weights),
            bias=torch.tensor(bias),
            source=train.source,
            rows_sha256=train.rows_sha256,
            holdout=holdout_rows(held, predicted, seed=seed),
            held_out=where,
        )

    def log_probs(self, texts: Sequence[str]) -> Float[Tensor, "text trait"]:
        """Log-probability of each trait for each text; a text of unknown words gives the prior."""
        vectoriser = _vectoriser(vocabulary=list(self.vocabulary))
        vectoriser.idf_ = self.idf.numpy()
        terms = vectoriser.transform(list(texts))
        scores = torch.tensor(terms @ self.weights.numpy().T) + self.bias
        return scores.log_softmax(-1)

    def to_dataframe(self) -> pd.DataFrame:
        """The held-out accuracy; see `holdout_table`."""
        return holdout_table(self.holdout)


def _vectoriser(vocabulary: list[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, strip_accents="unicode", vocabulary=vocabulary
    )


def _fit(data: OpinionQA, c: float) -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression

    vectoriser = _vectoriser()
    terms = vectoriser.fit_transform([row.answer for row in data.rows])
    model = LogisticRegression(C=c, max_iter=1000, tol=1e-6)
    return vectoriser, model.fit(terms, [str(row.trait) for row in data.rows])


def _held_out(
    train: OpinionQA, test: OpinionQA | None, vectoriser: Any, model: Any, c: float
) -> tuple[str, list[str], OpinionQA]:
    """Where the held-out answers come from, what was predicted for them, and their rows."""
    if test is not None:
        strange = set(test.traits) - set(train.traits)
        if strange or not test.rows:
            raise InputError(
                f"{test.source}: cannot measure accuracy on it ({len(test)} rows, traits unknown "
                f"to the classifier: {', '.join(sorted(strange)) or 'none'})"
            )
        found = model.predict(vectoriser.transform([row.answer for row in test.rows]))
        return test.source, [str(name) for name in found], test
    from sklearn.model_selection import GroupKFold

    groups = [topic_key(row.topic) for row in train.rows]
    folds = min(5, len(set(groups)))
    if folds < 2:
        raise InputError(f"{train.source}: one topic cannot be split into folds; give a test split")
    predicted = np.empty(len(train), dtype=object)
    rows = np.arange(len(train))
    for fitted, left in GroupKFold(folds).split(rows, groups=groups):
        words, part = _fit(train.only(train.rows[i] for i in fitted), c)
        predicted[left] = part.predict(words.transform([train.rows[i].answer for i in left]))
    return f"{train.source} ({folds} folds by topic)", [str(name) for name in predicted], train


def holdout_rows(held: OpinionQA, predicted: Sequence[str], *, seed: int) -> Holdout:
    """Accuracy on held-out answers, per trait and over all, with intervals over topics.

    A trait's false alarms are the share of other traits' answers that were given its name: what
    its TA would be if no answer voiced it.
    """
    truth = [str(row.trait) for row in held.rows]
    topics = [topic_key(row.topic) for row in held.rows]
    made = []
    for name in ("all", *held.traits):
        mine = [i for i, trait in enumerate(truth) if name in ("all", trait)]
        others = [i for i, trait in enumerate(truth) if trait != name]
        hits = [predicted[i] == truth[i] for i in mine]
        row = Rows(0.95, seed).rate(str(name), hits, [topics[i] for i in mine])
        wrong = [predicted[i] == name for i in others]
        alarms = 1 - row["value"] if name == "all" else sum(wrong) / max(1, len(wrong))
        made.append((str(name), len(mine), row["value"], row["low"], row["high"], alarms))
    return tuple(made)


def holdout_table(holdout: Holdout) -> pd.DataFrame:
    """`trait`, `n`, `accuracy` with `low` and `high`, `false_alarms`; first row over all traits."""
    return pd.DataFrame(list(holdout), columns=_HOLDOUT)


@dataclass(frozen=True, eq=False)
class HubClassifier:
    """A Hugging Face text classification model whose labels are traits; see `from_pretrained`."""

    model: Any
    tokenizer: Any
    name: str
    traits: tuple[str, ...]
    columns: tuple[int, ...]
    """For each of the model's labels, which of `traits` it counts for."""
    holdout: Holdout
    batch_size: int = 32

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        test: OpinionQA,
        *,
        mapping: Mapping[str, Trait | str | None] | None = None,
        device: torch.device | str | None = None,
        seed: int = 0,
    ) -> "HubClassifier":
        """Load a classifier from a folder or hub id and measure its accuracy on `test`.

        Args:
            source: folder or hub id; safetensors only.
            test: answers it was not trained on, of the traits it knows.
            mapping: which trait each of its labels is; `None` for a label that is no trait. Needed
                unless all labels are names or OCEAN letters of traits.
            device: CUDA if there is one, else the CPU.
            seed: of the accuracy's bootstrap.

        Raises:
            ModelError: it cannot be loaded, is pickled, or scores labels independently.
            InputError: its labels are not traits and no mapping says what they are.
        """
        folder = check_folder(source)
        model = _load(str(folder), device)
        labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
        named = _map_labels(labels, mapping, str(source))
        traits = tuple(dict.fromkeys(named))
        columns = tuple(traits.index(name) for name in named)
        made = cls(model, load_tokenizer(folder), str(source), traits, columns, ())
        known = test.only(row for row in test.rows if str(row.trait) in traits)
        if not known.rows:
            raise InputError(f"{test.source}: no answer of a trait that {source} knows ({traits})")
        best = made.log_probs([row.answer for row in known.rows]).argmax(-1)
        predicted = [traits[int(index)] for index in best]
        rows = holdout_rows(known, predicted, seed=seed)
        return cls(model, made.tokenizer, str(source), traits, columns, rows)

    @torch.no_grad()
    def log_probs(self, texts: Sequence[str]) -> Float[Tensor, "text trait"]:
        """Log-probability of each trait for each text; long texts are cut to what it reads."""
        limit = getattr(self.model.config, "max_position_embeddings", None) or 512
        parts = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.tokenizer(
                list(texts[start : start + self.batch_size]),
                return_tensors="pt",
                padding=True,
                truncation=True,
                split_special_tokens=True,  # an answer that spells one is text
                # RoBERTa counts positions from its pad id, so two are not there to be used.
                max_length=limit - 2,
            ).to(self.model.device)
            parts.append(self.model(**batch).logits.double().log_softmax(-1).cpu())
        by_label = torch.cat(parts) if parts else torch.zeros(0, len(self.columns)).double()
        where = torch.tensor(self.columns)
        columns = [by_label[:, where == k].logsumexp(-1) for k in range(len(self.traits))]
        return torch.stack(columns, -1)


def _load(source: str, device: torch.device | str | None) -> Any:
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as problem:  # a config's wrong values raise every kind
        raise ModelError(
            f"{source}: cannot be loaded as a text classifier ({said(problem)})"
        ) from None
    if report["missing_keys"]:
        raise ModelError(
            f"{source}: the weights lack {len(report['missing_keys'])} tensors "
            f"({sorted(report['missing_keys'])[0]}); is it a text classifier?"
        )
    if model.config.problem_type == "multi_label_classification":
        raise ModelError(f"{source}: scores each label by itself; TA needs one trait per answer")
    return model.to(resolve_device(device)).eval().requires_grad_(False)


def _map_labels(
    labels: Sequence[str], mapping: Mapping[str, Trait | str | None] | None, source: str
) -> list[str]:
    """The trait of each label; a label that is none keeps its own name in brackets."""
    if mapping is not None:
        strange, lost = set(mapping) - set(labels), set(labels) - set(mapping)
        if strange or lost:
            raise InputError(
                f"{source}: the mapping must name each of its labels ({', '.join(labels)}); "
                f"missing {', '.join(sorted(lost)) or 'none'}, unknown "
                f"{', '.join(sorted(strange)) or 'none'}"
            )
        return [
            f"({label})" if mapping[label] is None else str(Trait.parse(str(mapping[label])))
            for label in labels
        ]
    if not any(re.fullmatch(r"LABEL_\d+", label) for label in labels):  # they say nothing
        with contextlib.suppress(InputError):
            return [str(Trait.parse(label)) for label in labels]
    raise InputError(
        f"{source}: its labels are not the Big Five traits ({', '.join(labels)}); give "
        "mapping={label: trait, ...} for each of them, None for a label that is no trait"
    )
