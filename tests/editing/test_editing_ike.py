"""IKE's demonstrations: against brute-force cosines, and what they must never show."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from editing_made import ASKS, TOPICS, E, N, fresh_base, hooked_base, opinions
from sklearn.feature_extraction.text import TfidfVectorizer
from tiny import llama, save_base, tokenizer

from interp.behaviour import Sampling
from interp.errors import DataError, InputError, ModelError
from interp.methods.editing import Ike, SentenceEncoder
from interp.methods.editing.similarity import Nearest

ASKED = ["Why do you love my day so much?", "What of the weather?", "Do you think about a plan?"]
SAMPLING = Sampling(max_new_tokens=8, seed=2)


def brute(question, texts):
    """Indices by cosine of TF-IDF rows, written out."""
    vectorizer = TfidfVectorizer().fit(texts)
    rows = vectorizer.transform(texts).toarray()
    query = vectorizer.transform([question]).toarray()[0]
    cosines = [
        float(row @ query) / (np.sqrt(row @ row) * np.sqrt(query @ query) or 1.0) for row in rows
    ]
    return sorted(range(len(texts)), key=lambda i: (-round(cosines[i], 12), i)), cosines


@pytest.mark.parametrize("question", ASKED)
def test_the_nearest_demonstrations_stand_nearest_to_the_question(question):
    rows = opinions().for_trait(E).rows
    order, cosines = brute(question, [row.question for row in rows])
    method = Ike(hooked_base(), E, opinions(), k=3)
    shown = method.format(8).demonstrations(question)
    values = [cosines[[r.question for r in rows].index(q)] for q, _ in shown]
    assert values == sorted(values), "the nearest is last"
    assert values == pytest.approx([cosines[i] for i in reversed(order[:3])])
    answers = {(row.question, row.answer) for row in rows}
    assert set(shown) <= answers, "answers of this trait only"


def test_prompts_hold_the_demonstrations_and_the_instruction():
    method = Ike(hooked_base(), E, opinions(), k=2, instruction="Be loud.")
    with method.hooked() as (_, form):
        text = tokenizer().decode(form.prompt_ids(ASKED[0]))
        (first, answer), (second, other) = form.demonstrations(ASKED[0])
    assert text == (
        f"<|bos|><|user|>Be loud. {first}<|assistant|>{answer}<|eos|><|user|>{second}<|assistant|>"
        f"{other}<|eos|><|user|>{ASKED[0]}<|assistant|>"
    )


def test_a_doubled_bos_of_the_base_stands_before_the_demonstrations():
    base = hooked_base()
    twice = replace(base, format=base.format.with_double_bos())
    one, two = (Ike(b, E, opinions(), k=2).format(8).prompt_ids(ASKED[0]) for b in (base, twice))
    assert two == [one[0], *one]
    room = replace(twice, model=fresh_base(max_position_embeddings=len(one) + 8).model)
    assert Ike(room, E, opinions(), k=2, max_new_tokens=8).fitting(ASKED[0]) == 1, "it takes room"


def test_no_topic_that_is_asked_about_is_shown():
    method = Ike(hooked_base(), E, opinions(TOPICS[:4]), k=2)
    asked = [(ask.format(topic), topic) for topic in TOPICS[4:] for ask in ASKS]
    form = method.format(8)
    for question, topic in asked:
        assert all(topic not in text for pair in form.demonstrations(question) for text in pair)
    assert len(method.answers(asked, SAMPLING)) == len(asked)
    with pytest.raises(DataError, match="1 of the topics asked about were in its training data"):
        method.answers([("Why?", TOPICS[5]), ("Why?", f" {TOPICS[0].upper()}")], SAMPLING)


def test_answers_do_not_depend_on_the_batch_size():
    method = Ike(hooked_base(), E, opinions(), k=2)
    asked = [(question, "new") for question in ASKED * 2]
    alone = method.answers(asked, Sampling(max_new_tokens=8, seed=2, batch_size=1))
    assert method.answers(asked, SAMPLING) == alone


def test_the_context_decides_how_many_fit():
    room = {}
    for context in (400, 200, 150):
        made = Ike(fresh_base(max_position_embeddings=context), E, opinions(), k=6, instruction="")
        room[context] = made.fitting(ASKED[0])
        form = made.format(made.max_new_tokens)
        assert len(form.prompt_ids(ASKED[0])) + made.max_new_tokens <= context
    assert 6 == room[400] > room[200] > room[150] >= 1
    small = Ike(fresh_base(max_position_embeddings=100), E, opinions(), k=6, max_new_tokens=70)
    with pytest.raises(ModelError, match=r"one demonstration needs .* tokens"):
        small.fitting(ASKED[0])


def test_bad_input_is_named():
    with pytest.raises(DataError, match="no answers for openness"):
        Ike(hooked_base(), type(E).OPENNESS, opinions())
    with pytest.raises(DataError, match="no answers for neuroticism to show; it has extraversion"):
        Ike(hooked_base(), N, opinions(traits=(E,)))
    with pytest.raises(InputError, match="at least one demonstration"):
        Ike(hooked_base(), E, opinions(), k=0)
    with pytest.raises(DataError, match="hold no words"):
        Nearest(["?", "!"])
    with pytest.raises(ModelError, match="no such folder"):
        SentenceEncoder("no/such/folder")


def test_a_sentence_encoder_averages_its_last_layer(tmp_path):
    folder = save_base(tmp_path / "encoder")
    encoder = SentenceEncoder(folder, device="cpu", batch_size=2)
    texts = ["Why?", "What do you think about long walks in the rain?", "I love rain"]
    made = encoder(texts)
    for text, row in zip(texts, made, strict=True):
        ids = torch.tensor([tokenizer()(text)["input_ids"]])
        hidden = llama().model(ids).last_hidden_state[0]
        assert torch.allclose(torch.from_numpy(row).float(), hidden.mean(0), atol=1e-5)
    nearest = Nearest(texts, encoder)
    assert nearest.order(texts[1])[0] == 1
    assert nearest.similarities(texts[1])[1] == pytest.approx(1.0)
