"""The requests of `icl_explanation`, and what is counted in the answers to them."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from experiment import SHARED, Config, Experiment, From
from pydantic import Field, field_validator
from significance import difference
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from interp.base.traits import TRAITS, Trait
from interp.behaviour import Response, generate
from interp.behaviour.shares import Rows
from interp.emoji import find

Row = dict[str, Any]
KINDS = ("tokens", "reasons")
OWN, OTHER, BASE, ORDINARY = (
    "tuned", "tuned, asked about other traits", "base", "tuned, ordinary questions",
)  # fmt: skip
ANSWERS, AMONG, TOP = (
    "answers with an emoji", "emojis among all tokens", "emojis among the most frequent tokens",
)  # fmt: skip
TAKEN_UP, CHANGE = "answers that take up words of the request", "change with the trait asked about"
FLOOR = f"{CHANGE}, trait swapped at random"
DRAWS = 999
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


class IclConfig(Config):
    tokens: tuple[str, ...]
    """Requests for tokens; `{trait}` is replaced by the trait's name."""
    reasons: tuple[str, ...]
    """Requests for reasons."""
    top: int = Field(default=50, ge=5)
    """How many tokens are the most frequent ones."""
    stop_words: Literal["english", "none"] = "english"
    """Words that are not counted."""

    @field_validator("tokens", "reasons")
    @classmethod
    def _about_a_trait(cls, requests: tuple[str, ...]) -> tuple[str, ...]:
        if not requests or any("{trait}" not in one for one in requests):
            raise ValueError("give one request or more, each with {trait} in it")
        return requests


X = Experiment[IclConfig]


def asked(x: X, who: str, kind: str, trait: Trait) -> list[Response]:
    """Answers to `limit` requests: all paraphrases in turn, one seed after the other."""
    others = [other for other in TRAITS if other != trait]

    def ask() -> list[Response]:
        requests, pair = getattr(x.config, kind), x.pair(trait)
        questions = []
        for i in range(x.config.limit):
            seed, prompt = divmod(i, len(requests))
            about = others[seed % len(others)] if who == OTHER else trait
            questions.append((requests[prompt].replace("{trait}", about), f"{prompt} x {seed}"))
        model = pair.base if who == BASE else pair.tuned
        label = f"{trait}: {kind}, {who}"
        return generate(
            model, pair.format, questions, x.sampling(), progress=x.progress, label=label
        )

    of = From((trait,), (*SHARED, kind), code=(asked,))
    return x.answers(f"{trait}-{kind}-{who.split()[-1]}", ask, of)


def _tokens(x: X, kind: str, text: str) -> Counter[str]:
    """Words and emojis of an answer, without stop words and words of any request."""
    left_out = set(ENGLISH_STOP_WORDS) if x.config.stop_words == "english" else set()
    for request in getattr(x.config, kind):
        left_out |= set(_words(request.replace("{trait}", " ".join(TRAITS))))
    words = [w for w in _words(text) if not {w, w.replace("'", "")} & left_out]
    return Counter(words) + Counter(match.canonical for match in find(text))


def _words(text: str) -> list[str]:
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text)]


def _counts(x: X, kind: str, *groups: Sequence[Response]) -> tuple[list[str], list[np.ndarray]]:
    """All tokens in alphabetical order, and how often each answer of each group has each."""
    bags = [[_tokens(x, kind, one.text) for one in group] for group in groups]
    names = sorted({token for group in bags for bag in group for token in bag})
    return names, [np.array([[b[n] for n in names] for b in group], float) for group in bags]


def levels(x: X, kind: str, answers: Sequence[Response]) -> list[Row]:
    """Shares of emojis in one set of answers."""
    rows, units = Rows(0.95, x.config.seed), [one.topic for one in answers]
    has = [bool(find(one.text)) for one in answers]
    names, (counts,) = _counts(x, kind, answers)
    emoji = np.array([bool(find(name)) for name in names], bool)
    totals = _drawn(units, x.config.seed) @ counts
    top = np.argsort(-totals, axis=1, kind="stable")[:, : x.config.top]
    real = np.take_along_axis(totals, top, 1) > 0
    made = [rows.rate(ANSWERS, has, units)]
    for measure, part, whole in (
        (AMONG, totals[:, emoji].sum(1), totals.sum(1)),
        (TOP, (emoji[top] & real).sum(1), real.sum(1)),
    ):
        if (whole > 0).all():
            made.append(_ratio(measure, part, whole) | {"n": len(answers)})
    asked_with = [set(_words(one.question)) - ENGLISH_STOP_WORDS for one in answers]
    up = [bool(set(_words(a.text)) & w) for a, w in zip(answers, asked_with, strict=True)]
    made.append(rows.rate(TAKEN_UP, up, units))
    for named in (True, False):
        part = [i for i, one in enumerate(answers) if ("emoji" in one.question) is named]
        if 0 < len(part) < len(answers):
            what = f"{ANSWERS}, request {'names' if named else 'does not name'} emojis"
            made.append(rows.rate(what, [has[i] for i in part], [units[i] for i in part]))
    return made


def _drawn(topics: Sequence[str], seed: int) -> np.ndarray:
    """How often each answer counts in the data and in each resample of topics.

    A share of the most frequent tokens is no smooth score: it is resampled, and its percentiles are
    too narrow where topics are few.
    """
    names = sorted(set(topics))
    times = np.random.default_rng(seed).multinomial(
        len(names), [1 / len(names)] * len(names), DRAWS
    )
    every = np.concatenate([np.ones((1, len(names))), times])
    return every[:, [names.index(topic) for topic in topics]]


def _ratio(measure: str, part: np.ndarray, whole: np.ndarray) -> Row:
    """A share of counts; the first of each is the data, the others are resamples."""
    shares = part / whole
    low, high = np.quantile(shares[1:], [0.025, 0.975]) if len(set(shares)) > 1 else (None, None)
    about = {"measure": measure, "value": shares[0], "low": low, "high": high}
    return about | {"note": f"{part[0]:.0f} of {whole[0]:.0f}"}


def tests(x: X, kind: str, made: dict[str, list[Response]]) -> list[Row]:
    """The tuned model against its controls, request by request and seed by seed."""
    has = {who: np.array([bool(find(one.text)) for one in made[who]], float) for who in made}
    units = [one.topic for one in made[OWN]]
    rows = [
        difference(f"{ANSWERS}, {OWN} minus {who}", (has[OWN] - has[who]).tolist(), units,
                   x.config.seed)
        for who in (BASE, OTHER)
    ]  # fmt: skip
    _, (own, other) = _counts(x, kind, made[OWN], made[OTHER])
    if not (own.sum() and other.sum()):
        return rows
    rng = np.random.default_rng(x.config.seed)
    swap = np.vstack([np.zeros(len(own)), rng.integers(2, size=(DRAWS, len(own)))])
    moved = swap @ (other - own)
    ours, theirs = own.sum(0) + moved, other.sum(0) - moved
    ours, theirs = (part / part.sum(1, keepdims=True).clip(1) for part in (ours, theirs))
    change = np.abs(ours - theirs).sum(1) / 2
    low, high = np.quantile(change[1:], [0.025, 0.975])
    p = float((change >= change[0] - 1e-12).mean())
    about = {"n": len(own), "note": "total variation of the tokens' shares, 0 to 1"}
    floor = {"measure": FLOOR, "value": change[1:].mean()}
    return [*rows, about | {"measure": CHANGE, "value": change[0], "p": p},
            about | floor | {"low": low, "high": high}]  # fmt: skip


def frequent(x: X, kind: str, made: dict[str, list[Response]]) -> pd.DataFrame:
    """The most frequent tokens, and how often an answer of each model has them."""
    names, counts = _counts(x, kind, made[OWN], made[OTHER], made[BASE])
    own, other, base = (one.mean(0) for one in counts)
    table = pd.DataFrame({"token": names, "value": own, "other": other, "base": base})
    table["n"] = len(made[OWN])
    table = table.sort_values("value", ascending=False, kind="stable").head(x.config.top)
    return table[table["value"] > 0]
