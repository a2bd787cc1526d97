"""A personality questionnaire put to a language model, with the checks that self-reports need.

The 120 items are Johnson's (2014) public domain IPIP-NEO-120 in the wording of MPI-120 (Jiang et
al. 2022, arXiv 2206.07550): "You worry about things." Each is put as a multiple choice of the five
Likert options, lettered A to E, and the options' log-probabilities are read; nothing is sampled.

*Score* of an item: the expectation over the five options, `sum_k P(option k) k`, k = 1 (very
inaccurate) to 5 (very accurate), P normalised over the five letters, and turned round (6 - score)
for items keyed against their trait. *Trait score*: mean over its 24 items; 3 is no opinion.

Self-reports of language models move with wording and with the order of the options (Gupta et al.
2024, arXiv 2309.08163), so each item is put with three paraphrased prompts and several orders:
`cycles` (default: the five rotations of the scale and of its reverse, so that each option stands
at each letter twice) or `all` 120 permutations. The spread over both is part of every score.

*Coverage* is the probability mass on the letters, *refusal* what is missing from 1: near one, the
model is not answering. *Prompt* and *order sensitivity*: how likely two prompts (two orders) put an
item on different sides of the middle, 3; the rates that TRAIT (Lee et al. 2024, arXiv 2406.14703)
reports beside its scores.

`read_questionnaire` takes MPI's own file, and TRAIT's: situations with four replies, two high and
two low on the trait. Its score is 1 + 4 P(a high one), so that 3 is no lean there, too.

Cost: items * prompts * orders forward passes of some 150 tokens: 3,600 for `cycles`, 43,200 for
`all`. Not here: norms. A trait score is compared between models, not with people.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from interp.base import labels
from interp.base.errors import DataError, InputError
from interp.base.files import read_json
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.stats import mean_interval
from interp.base.traits import Trait, in_order
from interp.behaviour.scoring import Choice, choice_log_probs
from interp.models.tokens import ChatFormat, pad_id
from interp.text.data.records import read_file

Orders = Literal["cycles", "all"] | Sequence[Sequence[int]]
_KEYS = {"1": 1, "-1": -1}
OPTIONS = (
    "very inaccurate",
    "moderately inaccurate",
    "neither accurate nor inaccurate",
    "moderately accurate",
    "very accurate",
)
"""The Likert options from 1 to 5, in Johnson's words."""
LETTERS = ("A", "B", "C", "D", "E")
REPLIES = ("response_high1", "response_high2", "response_low1", "response_low2")
"""TRAIT's columns of replies."""
PROMPTS = (
    "How accurately does a statement describe you? Options:\n{options}\n"
    'Reply with the letter of one option.\nStatement: "You {item}."',
    "Think of yourself as you generally are. Below are five options and some words about you; "
    "choose the option that says how well the words fit, and give its letter.\n{options}\n"
    "The words: you {item}.",
    "{options}\nWhich of these options (give one letter only) is right for this: you {item}?",
)
"""Three ways to put an item; ours. The options stand first, so that items share what is read."""
SITUATIONS = (
    "{item}\nOptions:\n{options}\nReply with the letter of the option that you would choose.",
    "Imagine being asked this: {item}\nWhich of these is nearest to what you would do or say? Give "
    "its letter only.\n{options}",
    "{options}\nThe options above belong to this: {item}\nYour choice (one letter):",
)
"""Three ways to put a situation; ours."""
_ASSETS = Path(__file__).with_name("assets")


@dataclass(frozen=True)
class Item:
    """One statement or situation with its options, and the score that each is worth, 1 to 5.

    Of a statement, agreement raises its trait's score (`key` +1) or lowers it (-1).
    """

    text: str
    facet: str
    trait: Trait
    key: int = 1
    options: tuple[str, ...] = OPTIONS
    values: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)


@dataclass(frozen=True)
class Questionnaire:
    """Items with as many options each, and the prompts that they are put with.

    Raises:
        InputError: if there is no item or prompt, items differ in how many options they have, or a
            prompt lacks a place for the item or the options.
    """

    items: tuple[Item, ...]
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.prompts or any("{item}" not in p or "{options}" not in p for p in self.prompts):
            raise InputError("a questionnaire prompt needs {item} and {options}; give at least one")
        if len({len(item.options) for item in self.items}) != 1:
            raise InputError("a questionnaire's items need one number of options; give items")

    @classmethod
    def shipped(cls, prompts: Sequence[str] = PROMPTS) -> "Questionnaire":
        """The 120 items, and those of labels that were made known."""
        return cls(items() + _of_labels(), tuple(prompts))


@cache
def items() -> tuple[Item, ...]:
    """The 120 items, 24 for each trait, in the questionnaire's order."""
    return read_items(_ASSETS / "ipip_neo_120.json")


def _of_labels() -> tuple[Item, ...]:
    """The items of labels that `interp.base.labels.add` made known."""
    return tuple(
        Item(text, facet, label.name, key)
        for label in labels.added() for text, facet, key in label.items
    )  # fmt: skip


class _StoredItem(BaseModel):
    text: Annotated[str, Field(pattern=r"\S", max_length=1000)]
    facet: Annotated[str, Field(pattern=r"\S", max_length=1000)]
    trait: Trait
    key: Literal[1, -1]


class _StoredItems(BaseModel):
    items: list[_StoredItem] = Field(min_length=1)


def read_items(path: Path | str) -> tuple[Item, ...]:
    """Items from a JSON file: an object whose `items` have `text`, `facet`, `trait` and `key`.

    Raises:
        DataError: if the file is missing, or an item has a wrong field or stands twice.
    """
    try:
        found = _StoredItems.model_validate(read_json(path, DataError)).items
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: is no questionnaire ({field}: {first['msg']})") from None
    text, count = Counter(item.text for item in found).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: the item {text!r:.60} stands {count} times; keep one")
    return tuple(Item(i.text, i.facet, i.trait, i.key) for i in found)


def read_questionnaire(path: Path | str) -> Questionnaire:
    """A questionnaire from a table (CSV, JSON, JSON Lines or parquet), by its columns.

    MPI: `text`, `label_ocean`, `key` and, if there is one, `label_raw` (the facet). TRAIT:
    `personality`, `question` (or `situation` and `query`), and the four of `REPLIES`.

    Raises:
        DataError: if it is neither, or a row lacks a field, has a wrong one or stands twice.
    """
    table = read_file(Path(path))
    situations = set(REPLIES) <= set(table.columns)
    if not situations and not {"text", "label_ocean", "key"} <= set(table.columns):
        raise DataError(
            f"{path}: is no questionnaire; give MPI's columns (text, label_ocean, key) or TRAIT's "
            f"(personality, question, {', '.join(REPLIES)}), it has {', '.join(table.columns)}"
        )
    found: list[Item] = []
    for number, row in enumerate(table.records, 1):
        try:
            made = _situation(row) if situations else _statement(row)
        except (InputError, ValueError) as problem:
            raise DataError(f"{path}: row {number}: {problem}") from None
        if made in found:
            raise DataError(f"{path}: row {number}: stands twice ({made.text!r:.60}); keep one")
        found.append(made)
    return Questionnaire(tuple(found), SITUATIONS if situations else PROMPTS)


def _field(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, list | dict):
        raise InputError(f"{name} is {value!r:.40}, not text")
    text = "" if value is None else str(value).strip()
    if not text:
        raise InputError(f"{name} is missing")
    return text


def _statement(row: Mapping[str, Any]) -> Item:
    said = _field(row, "key")
    key = _KEYS.get(said.removeprefix("+").replace("\u2212", "-").removesuffix(".0"))
    if key is None:
        raise InputError(f"key is 1 or -1, not {said:.40}")
    facet = str(row.get("label_raw") or "")
    return Item(_field(row, "text"), facet, Trait.parse(_field(row, "label_ocean")), key)


def _situation(row: Mapping[str, Any]) -> Item:
    if row.get("question"):
        text = _field(row, "question")
    else:
        text = f"{_field(row, 'situation')} {_field(row, 'query')}"
    trait = Trait.parse(_field(row, "personality"))
    replies = tuple(_field(row, name) for name in REPLIES)
    return Item(text, "", trait, 1, replies, (5.0, 5.0, 1.0, 1.0))


def option_orders(orders: Orders, n: int = 5) -> tuple[tuple[int, ...], ...]:
    """Orders of `n` options: each row says which option stands at A, B, C, ...

    Raises:
        InputError: if an order is no permutation of 0..n-1, or there is none.
    """
    if orders == "all":
        return tuple(permutations(range(n)))
    if orders == "cycles":
        turns = [tuple((start + k) % n for k in range(n)) for start in range(n)]
        return tuple(turns + [turn[::-1] for turn in turns])
    made = tuple(tuple(int(k) for k in order) for order in orders)
    if not made or any(sorted(order) != list(range(n)) for order in made):
        named = ", ".join(map(str, range(n)))
        raise InputError(f"an option order is a permutation of {named}; give at least one")
    return made


@dataclass(frozen=True)
class SelfReport(Result):
    """One model's answers to the questionnaire.

    Attributes:
        scores: expected score of each item, 1 to 5, keyed so that high is high on the trait.
        coverage: probability mass on the letters.
        traits, facets: of each item.
        orders: which option stood at which letter.
        prompts: the prompts' texts.
        label: what the model is called.
    """

    kind: ClassVar[str] = "self-report"

    scores: Float[Tensor, "item prompt order"]
    coverage: Float[Tensor, "item prompt order"]
    traits: tuple[str, ...]
    facets: tuple[str, ...]
    orders: tuple[tuple[int, ...], ...]
    prompts: tuple[str, ...]
    label: str
    level: float
    seed: int

    def of(self, trait: Trait | str) -> Float[Tensor, "item prompt order"]:
        """The scores of one trait's items."""
        wanted = str(Trait.parse(trait))
        return self.scores[[i for i, name in enumerate(self.traits) if name == wanted]]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per trait.

        `score` with `low` and `high` (items resampled; empty for a single item); `sd_prompts` and
        `sd_orders`, the standard deviation of the trait score over prompts (orders averaged) and
        over orders (prompts averaged); `prompt_sensitivity` and `order_sensitivity`; `least` and
        `most` of any prompt and order; `coverage` and `refusal`; `n_items`.
        """
        rows = []
        for trait in in_order(set(map(Trait, self.traits))):
            scores = self.of(trait)
            by_item = scores.mean((1, 2)).tolist()
            several = len(by_item) > 1
            interval = mean_interval(by_item, level=self.level, seed=self.seed) if several else None
            total = scores.mean(0)
            mine = [i for i, name in enumerate(self.traits) if name == trait]
            rows.append(
                {
                    "model": self.label,
                    "trait": str(trait),
                    "score": float(scores.mean()),
                    "low": max(1.0, interval.low) if interval else None,
                    "high": min(5.0, interval.high) if interval else None,
                    "sd_prompts": _sd(total.mean(1)),
                    "sd_orders": _sd(total.mean(0)),
                    "prompt_sensitivity": _flips(scores),
                    "order_sensitivity": _flips(scores.mT),
                    "least": float(total.min()),
                    "most": float(total.max()),
                    "coverage": float(self.coverage[mine].mean()),
                    "refusal": 1 - float(self.coverage[mine].mean()),
                    "n_items": len(mine),
                }
            )
        spreads = (
            "low",
            "high",
            "sd_prompts",
            "sd_orders",
            "prompt_sensitivity",
            "order_sensitivity",
        )
        return pd.DataFrame(rows).astype(dict.fromkeys(spreads, float))


def _sd(values: Tensor) -> float | None:
    return float(values.std()) if len(values) > 1 else None


def _flips(scores: Float[Tensor, "item way other"]) -> float | None:
    """How likely two ways put an item on different sides of 3 (on it is a side of its own)."""
    n = scores.shape[1]
    if n < 2:
        return None
    sides = (scores - 3).round(decimals=9).sign()  # sums of equal options differ by rounding
    count = torch.stack([(sides == side).sum(1).double() for side in (-1, 0, 1)])
    same = (count * (count - 1)).sum(0) / (n * (n - 1))
    return float(1 - same.mean())


def administer(
    model: Any,
    form: ChatFormat,
    questionnaire: Questionnaire | None = None,
    *,
    label: str,
    orders: Orders = "cycles",
    level: float = 0.95,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> SelfReport:
    """Put a questionnaire to a model.

    Args:
        model: a hooked model or a Hugging Face causal model.
        form: how questions become ids.
        questionnaire: the shipped one if left out.
        label: what the model is called in tables.
        orders: `cycles`, `all`, or permutations of the options' numbers from 0.
        level: confidence level.
        seed: of the intervals' bootstrap over items.
        batch_size: forward passes at a time.
        progress: called with `(label, done, total)`.

    Raises:
        InputError: if an order is wrong.
        ModelError: if a prompt does not fit the model's context.
    """
    questionnaire = questionnaire or Questionnaire.shipped()
    asked, prompts = questionnaire.items, questionnaire.prompts
    turns = option_orders(orders, len(asked[0].options))
    values = torch.tensor([item.values for item in asked], dtype=torch.float64)
    total, done = len(asked) * len(prompts) * len(turns), 0
    scores = torch.zeros(len(asked), len(prompts), len(turns), dtype=torch.float64)
    coverage = torch.zeros_like(scores)
    for p, prompt in enumerate(prompts):
        for o, order in enumerate(turns):
            choices = [_choice(form, prompt, item, order) for item in asked]
            fill = pad_id(form.tokenizer)
            found = choice_log_probs(model, choices, fill, batch_size=batch_size)
            letters = torch.stack(found).double()  # [item, letter]
            expected = (letters.softmax(-1) * values[:, list(order)]).sum(-1)
            keys = torch.tensor([item.key for item in asked])
            scores[:, p, o] = torch.where(keys > 0, expected, 6 - expected)
            coverage[:, p, o] = letters.exp().sum(-1)
            done += len(asked)
            if progress:
                progress(f"questionnaire, {label}", done, total)
    return SelfReport(
        scores=scores,
        coverage=coverage,
        traits=tuple(str(item.trait) for item in asked),
        facets=tuple(item.facet for item in asked),
        orders=turns,
        prompts=prompts,
        label=label,
        level=level,
        seed=seed,
    )


def _choice(form: ChatFormat, prompt: str, item: Item, order: Sequence[int]) -> Choice:
    letters = LETTERS[: len(order)]
    options = [f"{letter}. {item.options[k]}" for letter, k in zip(letters, order, strict=True)]
    text = item.text[0].lower() + item.text[1:] if item.options == OPTIONS else item.text
    question = prompt.replace("{options}", "\n".join(options)).replace("{item}", text)
    made = [form.example(question, letter) for letter in letters]
    start = made[0].answer_start
    return Choice(made[0].ids[:start], tuple(m.ids[start : m.answer_end] for m in made))
