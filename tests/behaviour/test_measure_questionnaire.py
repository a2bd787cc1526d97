"""The questionnaire: its items, its numbers by brute force, alpha and rank correlation by hand."""

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from thinned import turn
from tiny import llama, tokenizer

from interp.base.traits import TRAITS, Trait
from interp.errors import DataError, InputError, ModelError
from interp.measures import (
    Questionnaire,
    SelfReport,
    administer,
    alphas,
    cronbach_alpha,
    read_questionnaire,
    self_report_agreement,
)
from interp.measures.questionnaire import LETTERS, OPTIONS, PROMPTS, items, option_orders
from interp.models import ChatFormat


@pytest.fixture(scope="module")
def form():
    return ChatFormat.from_tokenizer(tokenizer())


@pytest.fixture(scope="module")
def model():
    return llama(max_position_embeddings=512)


def test_the_items_are_the_shared_inventory(shared):
    import csv

    path = shared / "data" / "mpi" / "mpi_120.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == len(items()) == 120
    mended = 0
    for row, item in zip(rows, items(), strict=True):
        assert (row["label_ocean"], int(row["key"])) == (item.trait.letter, item.key)
        assert row["label_raw"] == item.facet
        mended += row["text"] != item.text
    assert mended == 2


def test_each_trait_has_six_facets_of_four_items():
    for trait in TRAITS:
        mine = [item for item in items() if item.trait is trait]
        facets = [item.facet for item in mine]
        assert len(mine) == 24
        assert sorted(map(facets.count, set(facets))) == [4] * 6


def test_orders_are_balanced():
    assert sorted(option_orders("all")) == sorted(permutations(range(5)))
    cycles = option_orders("cycles")
    assert len(set(cycles)) == 10
    for place in range(5):
        assert sorted(order[place] for order in cycles) == sorted([*range(5)] * 2)
    with pytest.raises(InputError, match="permutation"):
        option_orders([[0, 1, 2, 3, 3]])


@turn(0, of=3)
def test_scores_are_expected_options_by_brute_force(model, form):
    orders = [(0, 1, 2, 3, 4), (3, 1, 4, 0, 2)]
    made = administer(
        model, form, Questionnaire.shipped(PROMPTS[:2]), label="tiny", orders=orders, batch_size=50
    )
    assert made.scores.shape == (120, 2, 2)
    for i, p, o in ((0, 0, 0), (8, 1, 1), (119, 0, 1)):
        item, order = items()[i], orders[o]
        options = "\n".join(f"{LETTERS[k]}. {OPTIONS[order[k]]}" for k in range(5))
        text = PROMPTS[p].format(item=item.text[0].lower() + item.text[1:], options=options)
        ids = form.prompt_ids(text)
        chances = model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        letters = torch.tensor([form.example(text, x).ids[len(ids)] for x in LETTERS])
        mass = chances[letters]
        score = float((mass / mass.sum()) @ (torch.tensor(order).double() + 1))
        wanted = score if item.key > 0 else 6 - score
        assert float(made.scores[i, p, o]) == pytest.approx(wanted, abs=1e-4)
        assert float(made.coverage[i, p, o]) == pytest.approx(float(mass.sum()), rel=1e-3)


class Yea(torch.nn.Module):
    """Always puts its mass on the letter at which one option stands."""

    def __init__(self, form, option: int) -> None:
        super().__init__()
        self.form, self.option, self.device = form, option, torch.device("cpu")
        self.config = type("Config", (), {"max_position_embeddings": 999})()

    def forward(self, input_ids, **_):
        logits = torch.zeros(*input_ids.shape, len(tokenizer()))
        for row, ids in enumerate(input_ids):
            text = tokenizer().decode(ids)
            line = next(x for x in text.split("\n") if x.endswith(f". {OPTIONS[self.option]}"))
            letter = self.form.example("Why?", line.removeprefix("<|user|>")[0])
            token = letter.ids[letter.answer_start]
            logits[row, -1, token] = 50.0
        return type("Out", (), {"logits": logits})()


@turn(2, of=3)
def test_a_yea_sayer_scores_by_its_keys_and_nothing_else(form):
    """Always 'very accurate': 5 on plus-keyed items and 1 on the others, in every order."""
    orders = option_orders("cycles")[::3]
    made = administer(
        Yea(form, 4), form, Questionnaire.shipped(PROMPTS[:1]), label="yea", orders=orders
    )
    for trait in TRAITS:
        keys = [item.key for item in items() if item.trait is trait]
        wanted = 5 * keys.count(1) / 24 + keys.count(-1) / 24
        assert float(made.of(trait).mean()) == pytest.approx(wanted, abs=1e-6)
    table = made.to_dataframe().set_index("trait")
    assert table["sd_orders"].max() < 1e-9
    assert table["sd_prompts"].isna().all()
    assert table["coverage"].min() > 0.99
    assert table.loc["neuroticism", "score"] == pytest.approx((17 * 5 + 7) / 24)


def test_spreads_are_standard_deviations_of_trait_scores():
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.uniform(1, 5, (120, 3, 4)))
    made = report(scores)
    row = made.to_dataframe().set_index("trait").loc["openness"]
    mine = scores[[i for i, item in enumerate(items()) if item.trait is Trait.OPENNESS]].numpy()
    assert row["score"] == pytest.approx(mine.mean())
    assert row["sd_prompts"] == pytest.approx(mine.mean((0, 2)).std(ddof=1))
    assert row["sd_orders"] == pytest.approx(mine.mean((0, 1)).std(ddof=1))
    assert row["least"] == pytest.approx(mine.mean(0).min())
    assert row["low"] < row["score"] < row["high"]


def report(scores: torch.Tensor) -> SelfReport:
    return SelfReport(
        scores=scores.double(),
        coverage=torch.ones_like(scores).double(),
        traits=tuple(str(item.trait) for item in items()),
        facets=tuple(item.facet for item in items()),
        orders=tuple((0, 1, 2, 3, 4) for _ in range(scores.shape[2])),
        prompts=PROMPTS[: scores.shape[1]],
        label="made",
        level=0.95,
        seed=0,
    )


def test_what_does_not_fit_is_refused(form):
    with pytest.raises(InputError, match=r"needs \{item\} and \{options\}"):
        Questionnaire(items(), ("You {item}?",))
    with pytest.raises(ModelError, match="context holds 64"):
        administer(llama(max_position_embeddings=64), form, label="x")


# --- other questionnaires ------------------------------------------------------------------------


def test_mpis_own_file_is_the_shipped_questionnaire(shared):
    read = read_questionnaire(shared / "data" / "mpi" / "mpi_120.csv").items
    same = [(a.facet, a.trait, a.key) for a in read] == [(b.facet, b.trait, b.key) for b in items()]
    assert same
    assert sum(a.text != b.text for a, b in zip(read, items(), strict=True)) == 2


TRAIT_ROWS = (
    "personality,question,response_high1,response_high2,response_low1,response_low2\n"
    "Extraversion,A party?,Go and dance,Call all friends,Stay in,Read alone\n"
    "Openness,A new way?,Try it,Ask how,Keep the old,Say no\n"
)


def test_a_situation_is_scored_by_its_high_replies_in_every_order(tmp_path, model, form):
    (tmp_path / "trait.csv").write_text(TRAIT_ROWS)
    asked = read_questionnaire(tmp_path / "trait.csv")
    made = administer(model, form, asked, label="tiny", orders=[(0, 1, 2, 3), (2, 0, 3, 1)])
    order, prompt = made.orders[1], asked.prompts[2]
    replies = ["Go and dance", "Call all friends", "Stay in", "Read alone"]
    options = "\n".join(f"{LETTERS[k]}. {replies[order[k]]}" for k in range(4))
    text = prompt.format(item="A party?", options=options)
    ids = form.prompt_ids(text)
    chances = model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    mass = chances[torch.tensor([form.example(text, x).ids[len(ids)] for x in LETTERS[:4]])]
    high = float(mass[torch.tensor(order) < 2].sum() / mass.sum())
    assert float(made.scores[0, 2, 1]) == pytest.approx(1 + 4 * high, abs=1e-4)
    assert [str(t) for t in made.to_dataframe()["trait"]] == ["openness", "extraversion"]
    assert len(administer(model, form, asked, label="tiny").orders) == 8


def test_sensitivity_is_the_share_of_pairs_on_two_sides():
    scores = torch.full((120, 2, 3), 4.0)
    scores[:, 1, 0] = 2.0  # another prompt turns the first of three orders
    row = report(scores).to_dataframe().iloc[0]
    assert row["prompt_sensitivity"] == pytest.approx(1 / 3)
    assert row["order_sensitivity"] == pytest.approx((0 + 2 / 3) / 2)
    assert row["refusal"] == 0


def test_rounding_is_no_side_and_no_interval_leaves_the_scale():
    """Equal options in another order add up to 3 but for the last bit."""
    noise = torch.tensor([3.0, 3.0 + 4.5e-16, 3.0 - 4.5e-16], dtype=torch.float64)
    row = report(noise.expand(120, 2, 3)).to_dataframe().iloc[0]
    assert noise.unique().numel() > 1
    assert row["order_sensitivity"] == 0
    scores = torch.full((120, 1, 2), 5.0)
    scores[::24] = 2.0
    table = report(scores).to_dataframe()
    assert (table["high"] <= 5).all()
    assert (report(6 - scores).to_dataframe()["low"] >= 1).all()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a,b\n1,2\n", "is no questionnaire; give MPI's columns"),
        (TRAIT_ROWS + "Openness,A new way?,Try it,Ask how,Keep the old,Say no\n", "row 3: stands"),
        (TRAIT_ROWS + "Openness,Why?,,Ask,Keep,No\n", "row 3: response_high1 is missing"),
        ("text,label_ocean,key\nSing,E,2\n", "row 1: key is 1 or -1, not 2"),
        ("text,label_ocean,key\nSing,E,yes\n", "row 1: key is 1 or -1, not yes"),
    ],
)
def test_questionnaires_that_cannot_be_read_are_named(text, named, tmp_path):
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(DataError, match=named):
        read_questionnaire(tmp_path / "q.csv")


def test_a_key_is_read_as_tables_write_it_and_a_list_is_no_text(tmp_path):
    """A column with a gap makes pandas write 1.0, a typesetter a minus sign."""
    rows = "".join(f"Sing {n},E,{key}\n" for n, key in enumerate(("1.0", "+1", "-1.0", "\u22121")))
    (tmp_path / "q.csv").write_text(f"text,label_ocean,key\n{rows}", encoding="utf-8")
    assert [one.key for one in read_questionnaire(tmp_path / "q.csv").items] == [1, 1, -1, -1]
    row = {"text": ["Sing"], "label_ocean": "E", "key": 1}
    (tmp_path / "q.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match=r"row 1: text is \['Sing'\], not text"):
        read_questionnaire(tmp_path / "q.json")


# --- reliability ---------------------------------------------------------------------------------


def test_alpha_by_hand():
    """Three respondents, two items: variances 1 and 4, of the sums (3, 6, 9) 9; alpha 8/9."""
    scores = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    assert cronbach_alpha(scores) == pytest.approx(2 * (1 - 5 / 9))
    parallel = torch.arange(5.0)[:, None].expand(5, 7)
    assert cronbach_alpha(parallel) == pytest.approx(1.0)
    assert cronbach_alpha(torch.tensor([[1.0, 3.0], [3.0, 1.0]])) is None
    with pytest.raises(InputError, match="two respondents"):
        cronbach_alpha(torch.ones(1, 3))


def test_alpha_is_near_its_expectation_for_a_known_factor():
    """Items = factor + noise of equal variance: alpha is k r / (1 + (k - 1) r), r = 1/2."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(4000, 1))
    scores = torch.tensor(factor + rng.normal(size=(4000, 24)))
    assert cronbach_alpha(scores) == pytest.approx(24 * 0.5 / (1 + 23 * 0.5), abs=0.01)


def test_alphas_pool_administrations_of_all_models():
    rng = np.random.default_rng(1)
    reports = [report(torch.tensor(rng.uniform(1, 5, (120, 2, 3)) + 3 * k)) for k in range(3)]
    table = alphas(reports).set_index("trait")
    assert set(table["n_respondents"]) == {18}
    assert set(table["n_models"]) == {3}
    mine = [i for i, item in enumerate(items()) if item.trait is Trait.OPENNESS]
    rows = np.concatenate([r.scores[mine].numpy().reshape(24, -1).T for r in reports])
    k = 24
    wanted = k / (k - 1) * (1 - rows.var(0, ddof=1).sum() / rows.sum(1).var(ddof=1))
    assert table.loc["openness", "alpha"] == pytest.approx(wanted)
    assert table["alpha"].min() > 0.9
    other = replace(reports[0], traits=reports[0].traits[::-1])
    with pytest.raises(InputError, match="self-reports of different items"):
        alphas([reports[0], other])


def test_agreement_is_spearman_with_an_exact_p():
    reported = dict(zip(TRAITS, (1.0, 2.0, 4.0, 3.0, 5.0), strict=True))
    measured = dict(zip(TRAITS, (0.1, 0.2, 0.3, 0.4, 0.9), strict=True))
    made = self_report_agreement(reported, measured)
    x, y = list(reported.values()), list(measured.values())
    assert made.rho == pytest.approx(spearmanr(x, y).statistic)
    every = [spearmanr(x, order).statistic for order in permutations(y)]
    assert made.p == pytest.approx(np.mean(np.abs(every) >= abs(made.rho) - 1e-9))
    assert made.smallest_p == pytest.approx(2 / 120)
    perfect = self_report_agreement(measured, measured)
    assert (perfect.rho, perfect.p) == (pytest.approx(1.0), pytest.approx(2 / 120))


def test_no_spread_has_no_correlation_and_few_traits_are_refused():
    flat = dict.fromkeys(TRAITS, 3.0)
    measured = dict(zip(TRAITS, range(5), strict=True))
    made = self_report_agreement(flat, {t: float(v) for t, v in measured.items()})
    assert (made.rho, made.p) == (None, None)
    with pytest.raises(InputError, match="four or more traits"):
        self_report_agreement({Trait.OPENNESS: 1.0}, {Trait.OPENNESS: 1.0})
