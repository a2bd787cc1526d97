"""The dose curve: its ends, its pairing, and a planted mechanism."""

import pytest
import torch
from planted_models import planted
from tiny import llama, tokenizer, vocab

from interp.base.stats import share_interval
from interp.behaviour import Sampling, generate
from interp.emoji import find
from interp.errors import InputError
from interp.models import ChatFormat, pad
from interp.models.pair import hook
from interp.neurons import Ablation, Doses, TopTest, ablated, dose, rank
from interp.patching import Run
from interp.readout import Question


@pytest.fixture(scope="module")
def made():
    planted_model = planted()
    model = hook(planted_model.model, planted_model.tokenizer)
    clean, corrupted = (
        Run(model, batch.tokens, batch.attention_mask)
        for batch in (planted_model.clean, planted_model.corrupted)
    )
    ranking = rank(
        clean,
        corrupted,
        layers=[0, 2],
        by="total",
        metric=planted_model.metric,
        test=TopTest(k=2, draws=2),
    )
    questions = [(q, f"topic {i}") for i, (q, _) in enumerate(planted_model.questions)]
    curve = dose(
        clean,
        ranking,
        ChatFormat.from_tokenizer(planted_model.tokenizer),
        questions,
        ask=Question(batch_size=7),
        sampling=Sampling(6, temperature=0.0),
        metric=planted_model.metric,
        doses=Doses(ks=(1, 2, 4, 40, 64, 999), using=("zero", "mean"), draws=2),
    )
    return planted_model, model, ranking, questions, curve


def test_planted_neurons_kill_the_emojis_and_controls_do_not(made):
    *_, curve = made
    assert curve.ks == (1, 2, 4, 40, 64)
    assert float(curve.wrote_before.mean()) == 1
    table = curve.curve("esr").set_index(["using", "group", "k"])["mean"]
    assert table["zero", "top", 0] == 1
    for k in (1, 2, 4):
        assert table["zero", "top", k] == 0
        assert table["zero", "control", k] == 1
    odds = curve.curve("log_odds").set_index(["using", "group", "k"])["mean"]
    assert odds["zero", "top", 2] < odds["zero", "top", 0] - 3
    assert abs(odds["zero", "control", 2] - odds["zero", "control", 0]) < 0.5
    difference = curve.difference("log_odds")
    row = difference[(difference["using"] == "zero") & (difference["k"] == 2)].iloc[0]
    assert row["high"] < -2  # of six prompts
    assert row["p"] == pytest.approx(2 / 2**6)  # six prompts: the smallest there is


def test_no_controls_where_neurons_run_out(made):
    """Two layers of 32: 40 have 24 others, so there is nothing to match them with."""
    *_, curve = made
    table = curve.curve("esr")
    assert set(table[table["group"] == "control"]["k"]) == {0, 1, 2, 4}
    assert set(table[table["group"] == "top"]["k"]) == {0, 1, 2, 4, 40, 64}
    assert torch.isnan(curve.control_size[:, 3:]).all()
    assert not torch.isnan(curve.control_size[:, :3]).any()
    assert set(curve.difference("esr")["k"]) == {1, 2, 4}


def test_answers_are_those_of_one_ablation_at_a_time(made):
    planted_model, model, ranking, questions, curve = made
    form = ChatFormat.from_tokenizer(planted_model.tokenizer)
    how = Sampling(6, temperature=0.0)
    for k, wrote in ((0, curve.wrote_before), (2, curve.wrote[0, 0, 1])):
        with ablated(model, Ablation(tuple(ranking.top(k)))):
            answers = generate(model, form, questions, how)
        assert [float(bool(find(answer.text))) for answer in answers] == wrote.tolist()
    batch = planted_model.clean
    with torch.no_grad(), ablated(model, Ablation(tuple(ranking.top(4)))):
        logits = model(batch.tokens, attention_mask=batch.attention_mask.long())[:, -1]
    wanted = planted_model.metric(logits)
    torch.testing.assert_close(curve.log_odds[0, 0, 2], wanted, atol=1e-4, rtol=0)


def test_sampled_doses_share_their_dice():
    """k = 0 is the model as it is, sampled by `generate`; rows and their order do not matter."""
    model = hook(llama(3, initializer_range=0.4), tokenizer())
    other = hook(llama(4, initializer_range=0.4), tokenizer())
    form = ChatFormat.from_tokenizer(tokenizer())
    texts = ("I love them so much!", "Oh no, what if it all goes wrong?", "Rain?")
    batch = pad([form.prompt_ids(text) for text in texts], 2)
    questions = [(text, text) for text in texts] * 3
    clean, corrupted = (Run(m, batch.tokens, batch.attention_mask) for m in (model, other))
    metric = vocab().log_odds
    ranking = rank(
        clean, corrupted, metric=metric, direction="gradient", test=TopTest(k=2, draws=1)
    )
    how = Sampling(8, temperature=1.5, seed=5)
    options = {"doses": Doses((1, 128), ("zero",), 1), "sampling": how, "metric": metric}
    curve, same = (
        dose(clean, ranking, form, questions, ask=Question(batch_size=rows), **options)
        for rows in (4, 50)
    )
    torch.testing.assert_close(curve.wrote, same.wrote, equal_nan=True)
    answers = generate(model, form, questions, how)
    assert [float(bool(find(a.text))) for a in answers] == curve.wrote_before.tolist()
    row = curve.curve("esr").iloc[0]
    interval = share_interval(curve.wrote_before.tolist(), texts * 3)
    assert (row["k"], row["low"], row["high"]) == (0, interval.low, interval.high)


def test_log_odds_alone(made):
    planted_model, _, ranking, questions, curve = made
    rows = curve.to_dataframe()
    assert not rows["value"].isna().any()
    assert set(rows["topic"][rows["quantity"] == "esr"]) == {topic for _, topic in questions}
    model = hook(planted().model, planted_model.tokenizer)
    run = Run(model, planted_model.clean.tokens, planted_model.clean.attention_mask)
    form = ChatFormat.from_tokenizer(planted_model.tokenizer)
    bare = dose(run, ranking, form, metric=planted_model.metric, doses=Doses(ks=(1,), draws=2))
    torch.testing.assert_close(bare.log_odds[0, 0, 0], curve.log_odds[1, 0, 0])
    with pytest.raises(InputError, match="made without esr"):
        bare.curve("esr")


def test_bad_input(made):
    planted_model, model, ranking, questions, curve = made
    run = Run(model, planted_model.clean.tokens, planted_model.clean.attention_mask)
    form = ChatFormat.from_tokenizer(planted_model.tokenizer)
    metric = planted_model.metric
    with pytest.raises(InputError, match=r"ks must lie in 1\.\.64"):
        dose(run, ranking, form, questions, metric=metric, doses=Doses(ks=(0, 1)))
    with pytest.raises(InputError, match=r"ks must lie in 1\.\.64"):
        dose(run, ranking, form, questions, metric=metric, doses=Doses(ks=(65,)))
    with pytest.raises(InputError, match="unknown ablation 'max'"):
        dose(run, ranking, form, questions, metric=metric, doses=Doses(using=("max",)))
    with pytest.raises(InputError, match="6 prompts but 1 topics"):
        dose(run, ranking, form, questions, metric=metric, ask=Question(topics=["a"]))
    with pytest.raises(InputError, match="unknown quantity 'share'"):
        curve.curve("share")
