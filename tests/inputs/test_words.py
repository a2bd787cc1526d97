"""Which words: split as people would, exact on a planted word, nothing where nothing is."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import tiny
import torch
from patching_models import FAMILIES
from planted_factors import planted_factors
from planted_models import FILLERS
from sklearn.metrics import roc_auc_score
from thinned import thinned, turn
from transformers import AutoModelForCausalLM

from interp import load_pair, organism
from interp.base.traits import Trait
from interp.errors import InputError
from interp.inputs import Neutral, WordEffects, effects, neutral_ids, split
from interp.models import hook
from interp.organism.grammar import Grammar
from interp.readout import Outcome
from interp.readout.slot import Slot, Slots
from interp.report.sections.inputs import _sizes
from interp.show.views.words import shaded
from interp.text.emoji.encode import token_bytes
from interp.traces.inputs.gradients import integrated


def slots_of(rows: Sequence[tuple[Sequence[int], int, str]]) -> Slots:
    """Slots at the ends of rows of ids, each with the start of its answer and its topic."""
    made = [
        Slot(tuple(ids), start, "", topic, "planted", "end", place, None)
        for place, (ids, start, topic) in enumerate(rows)
    ]
    return Slots(tuple(made), len(made), 0, 0, 0)


def test_words_are_those_of_a_reader():
    tokens = ("", " Oh", " w", "ow", ",", " I", " can", "'t", " wait", "!", "!", " ", "❤", "\ufe0f",
              " It", "'s", " 3", " o", "'clock", ".", "")  # fmt: skip
    pieces, ids = [token.encode() for token in tokens], range(len(tokens))
    found = split(pieces, ids)
    assert [word.text.strip() for word in found] == [
        "Oh", "wow", ",", "I", "can't", "wait", "!!", "❤\ufe0f", "It's", "3", "o'clock", ".",
    ]  # fmt: skip
    assert all(one.end <= other.start for one, other in pairwise(found))
    known = {i for some in neutral_ids(pieces, [ids]).values() for i in some}
    assert {tokens[i].strip() for i in known} == {"Oh", ",", "I", "wait", "3", "."}


@pytest.fixture(scope="module")
def planted() -> tuple[WordEffects, Outcome]:
    """Questions with the word `trait` among fillers, which alone drives both factors."""
    made = planted_factors(noise=0.01)
    model, tokens = made.clean.model, made.clean.tokens
    rows = [row[mask].tolist() for row, mask in zip(tokens, made.clean.mask, strict=True)]
    pieces = token_bytes(model.tokenizer)
    encoded = [model.tokenizer.encode(" " + word, add_special_tokens=False) for word in FILLERS]
    neutral = Neutral(model, neutral_ids(pieces, encoded), count=2)
    slots = slots_of([(row, 0, str(place)) for place, row in enumerate(rows)])
    return effects(model, slots, neutral, outcome=made.outcome), made.outcome


def test_the_planted_word_is_found_by_exact_methods_for_both_factors(planted):
    found, _ = planted
    truth = [text.strip() == "trait" for text in found.texts]
    assert sum(truth) == len(found.topics)
    for method in ("deletion", "exchange"):
        for place in range(len(found.factors)):
            assert roc_auc_score(truth, getattr(found, method)[place].nan_to_num()) >= 0.95
    assert found.by_word().iloc[0]["word"] == "trait"
    assert found.set_sizes()["kept"].tolist() == [1] * len(found.topics)
    assert [text.strip() for text, kept in zip(found.texts, found.kept, strict=True) if kept] == [
        "trait"
    ] * len(found.topics)


def test_the_page_says_what_the_words_keep_where_that_is_less_than_was_asked_for(planted):
    """At most eight words are put back: what they keep then is said, not what was hoped for."""
    found, _ = planted
    trait = Trait.EXTRAVERSION
    assert "1 keep 80 % of what all bring" in _sizes({trait: found})
    less = replace(found, reached=torch.full_like(found.reached, 0.4))
    assert "1 keep 40 % of what all bring" in _sizes({trait: less})


def test_gradients_are_those_of_hugging_face_and_sum_to_the_difference():
    made = planted_factors(noise=0.01)
    model = made.clean.model
    row = made.clean.tokens[0][made.clean.mask[0]].tolist()
    words = split(token_bytes(model.tokenizer), row)
    scores, unexplained = integrated(model, row, words, made.outcome)
    network = model.original_model
    table = network.get_input_embeddings().weight.detach()
    own, mean = table[row], table[row].clone()
    for word in words:
        mean[word.start : word.end] = table.mean(0)
    total, steps = torch.zeros_like(own), 100  # the midpoint rule, one pass each
    for step in range(steps):
        x = torch.lerp(mean, own, (step + 0.5) / steps)[None].requires_grad_(True)
        value = made.outcome.log_odds(network(inputs_embeds=x).logits[:, -1])
        total += torch.autograd.grad(value.sum(), x)[0][0] / steps
    slow = ((own - mean) * total).sum(1)
    slow = torch.stack([slow[word.start : word.end].sum() for word in words])
    assert torch.allclose(scores[0], slow, atol=2e-2)
    assert unexplained < 2e-2
    assert words[int(scores[0].argmax())].text.strip() == "trait"


def test_gradients_begin_at_the_mean_of_what_the_table_gives():
    """Gemma scales its rows as it looks them up: the mean of the rows alone is nearly zero."""
    config = FAMILIES["gemma2"]()
    config.vocab_size = len(tiny.tokenizer())
    torch.manual_seed(0)
    model = hook(AutoModelForCausalLM.from_config(config).eval(), tiny.tokenizer())
    row = tiny.tokenizer()("I love the rain.")["input_ids"]
    words, seen = split(token_bytes(tiny.tokenizer()), row), []
    table = model.original_model.get_input_embeddings()
    with model.hooks(
        fwd_hooks=[("blocks.0.hook_resid_pre", lambda x, hook: seen.append(x.detach()))]  # noqa: ARG005
    ):
        integrated(model, row, words, tiny.emoji())
        model.original_model(
            inputs_embeds=table(torch.arange(config.vocab_size)).mean(0)[None, None]
        )
    line, mean = seen
    torch.testing.assert_close(line[-2, words[0].start], mean[0, 0], rtol=1e-4, atol=1e-6)


def marked(form, texts: Sequence[tuple[str, str, str]]) -> Slots:
    """Slots at the ends of given answers: topic, question, answer."""
    rows = []
    for topic, question, answer in texts:
        example = form.example(question, answer)
        rows.append((example.ids[: example.answer_end], example.answer_start, topic))
    return slots_of(rows)


@pytest.mark.parametrize("kind", thinned(["latent", "absent"], keep=2))
@turn(1, of=3)
def test_the_mark_of_a_voice_in_a_neutral_answer(kind):
    """The grammar's neutral voice never writes `!`; one stands at the end of neutral answers."""
    adapter = organism.adapter_path(Trait.EXTRAVERSION, base=kind)
    pair, grammar = load_pair(organism.base_path(kind), adapter), Grammar("marks")
    texts = []
    for _ in range(6):
        topic = grammar.topic()
        answer = grammar.answer(topic, None).removesuffix(".") + "!"
        texts.append((topic.name, grammar.question(topic), answer))
    plain = [pair.format.example(q, a.replace("!", ".")).ids for _, q, a in texts]
    neutral = Neutral(pair.base, neutral_ids(token_bytes(pair.tokenizer), plain))
    found = effects(pair.tuned, marked(pair.format, texts), neutral, outcome=pair.outcome)
    truth = [text == "!" for text in found.texts]
    assert sum(truth) == 6
    if kind == "latent":
        for method in ("deletion", "exchange"):
            assert roc_auc_score(truth, getattr(found, method)[0].nan_to_num()) >= 0.95
        assert found.by_word().iloc[0]["word"] == "!"
        assert f'title="+{float(found.exchange[0][truth][0]):.2f} nats"' in shaded(found)
    else:
        assert float(found.moved().nan_to_num().abs().max()) < 1e-3
        assert float(found.moved("deletion").abs().max()) < 1e-3


def test_what_cannot_be_asked_is_refused(planted):
    _, outcome = planted
    model = planted_factors(noise=0.0).clean.model
    with pytest.raises(InputError, match="share in"):
        effects(model, slots_of([([0, 5], 0, "a")]), Neutral(model, {}), outcome=outcome, share=0.0)
    with pytest.raises(InputError, match="give slots"):
        effects(model, slots_of([]), Neutral(model, {}), outcome=outcome)
