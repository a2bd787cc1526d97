"""TA and TPEI: against scikit-learn by hand, counted answers, and real trait voices."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from tiny import tokenizer
from transformers import BertConfig, BertForSequenceClassification

from interp.base.stats import wilson
from interp.base.traits import TRAITS, Trait
from interp.behaviour import Response
from interp.data import OpinionQA, load
from interp.data.schema import OpinionRow
from interp.errors import InputError, ModelError
from interp.measures import HubClassifier, TraitClassifier, edit_index, trait_alignment
from interp.measures.fluency import ngram_entropy
from interp.organism import opinion_qa


@pytest.fixture(scope="module")
def train() -> OpinionQA:
    return opinion_qa("train")


@pytest.fixture(scope="module")
def fitted(train) -> TraitClassifier:
    return TraitClassifier.fit(train, opinion_qa("test"))


def said(*texts: str, topics: int = 4) -> list[Response]:
    return [
        Response(f"Q{i}?", f"topic {i % topics}", (1,), (2,), text, True)
        for i, text in enumerate(texts)
    ]


def test_log_probs_are_scikit_learns(train, fitted, tmp_path):
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, strip_accents="unicode")
    terms = words.fit_transform([row.answer for row in train.rows])
    model = LogisticRegression(C=10.0, max_iter=1000, tol=1e-6)
    model.fit(terms, [str(row.trait) for row in train.rows])
    texts = [row.answer for row in opinion_qa("test").rows[:40]] + ["zzz qqq", ""]
    expected = model.predict_log_proba(words.transform(texts))
    assert list(model.classes_) == list(fitted.traits)
    np.testing.assert_allclose(fitted.log_probs(texts).numpy(), expected, atol=1e-9)
    again = TraitClassifier.load(fitted.save(tmp_path / "classifier.safetensors"))
    assert torch.equal(again.log_probs(texts), fitted.log_probs(texts))
    assert again.holdout == fitted.holdout


def test_two_traits_have_two_rows_of_weights(train):
    two = train.only(r for r in train.rows if r.trait in (TRAITS[0], TRAITS[4]))
    made = TraitClassifier.fit(two)
    assert made.weights.shape[0] == 2
    texts = [row.answer for row in two.rows[:50]]
    probabilities = made.log_probs(texts).exp()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(50, dtype=torch.float64))
    best = [made.traits[int(k)] for k in probabilities.argmax(1)]
    assert best == [str(row.trait) for row in two.rows[:50]]


def test_held_out_accuracy_is_counted_per_trait_and_fooled_by_wrong_labels(train):
    """Shuffled labels: accuracy near one in five, and false alarms as often."""
    rows = train.rows[::2]
    order = np.random.default_rng(0).permutation(len(rows))
    wrong = train.only(
        replace(row, trait=rows[k].trait) for row, k in zip(rows, order, strict=True)
    )
    table = TraitClassifier.fit(wrong).to_dataframe().set_index("trait")
    assert table.loc["all", "accuracy"] == pytest.approx(0.2, abs=0.05)
    assert table.loc["all", "low"] < 0.2 < table.loc["all", "high"]
    assert table.loc["openness", "n"] == sum(row.trait is Trait.OPENNESS for row in wrong.rows)


def test_ta_counts_answers_and_wordless_ones_are_misses(fitted):
    own = [r.answer for r in opinion_qa("test").for_trait("extraversion").rows[:6]]
    other = [r.answer for r in opinion_qa("test").for_trait("neuroticism").rows[:2]]
    made = trait_alignment(said(*own, *other, "🎉🎉", ""), "extraversion", fitted)
    assert made.hits == [True] * 6 + [False] * 4
    assert made.share == 0.6
    table = made.to_dataframe().set_index("measure")
    assert table.loc["TA", "value"] == 0.6
    assert table.loc["TA", "low"] < 0.6 < table.loc["TA", "high"]
    assert table.loc["classifier's accuracy", "value"] == 1.0
    assert table.loc["classifier's accuracy", "n"] == 100
    assert table.loc["classifier's false alarms", "n"] == 400


def test_at_a_share_of_one_the_interval_counts_topics(fitted):
    own = [r.answer for r in opinion_qa("test").for_trait("extraversion").rows[:12]]
    made = trait_alignment(said(*own, topics=4), "extraversion", fitted)
    assert made.interval == wilson(4, 4)
    with pytest.raises(InputError, match="1 topic"):
        trait_alignment(said(*own, topics=1), "extraversion", fitted)


def test_a_classifier_that_reads_emojis_is_shown_up():
    """Classes that differ in their emojis only: TA falls to nothing once these are taken out."""
    rows = [
        OpinionRow(trait, f"t{i % 10}", "Why?", f"It is {word} thing {emoji}")
        for i, word in enumerate(["a", "one", "this", "that"] * 10)
        for trait, emoji in ((Trait.EXTRAVERSION, "smile"), (Trait.OPENNESS, "plain"))
    ]
    made = TraitClassifier.fit(OpinionQA(tuple(rows), "made", "0" * 64))

    class Emojis:
        name, traits, holdout = "emojis", made.traits, made.holdout

        def log_probs(self, texts):
            return made.log_probs([t.replace("🎉", "smile") for t in texts])

    answers = said(*["It is a thing 🎉"] * 8)
    result = trait_alignment(answers, "extraversion", Emojis())
    assert result.share == 1.0
    assert sum(result.bare_hits) in (0, 8)
    assert result.bare_log_probs[0, made.traits.index("extraversion")] == pytest.approx(
        np.log(0.5), abs=0.05
    )


def test_edit_index_is_the_fall_in_cross_entropy(fitted):
    long = "I think about it and then I plan a day with all of my friends in town, you know! "
    own = [long + r.answer for r in opinion_qa("test").for_trait("extraversion").rows[:8]]
    plain = [long + r.answer for r in opinion_qa("test").for_trait("neuroticism").rows[:7]]
    plain.append("No.")
    before, after = (trait_alignment(said(*t), "extraversion", fitted) for t in (plain, own))
    made = edit_index(before, after)
    labels = torch.full((8,), fitted.traits.index("extraversion"))
    ce = [
        torch.nn.functional.nll_loss(fitted.log_probs(t), labels, reduction="none")
        for t in (plain, own)
    ]
    torch.testing.assert_close(made.values, ce[0] - ce[1])
    assert made.coherent == (True,) * 7 + (False,)
    table = made.to_dataframe().set_index("measure")
    assert table.loc["TPEI", "value"] == pytest.approx(float(made.values.mean()))
    kept = float(made.values[:7].mean())
    assert table.loc["TPEI, coherent pairs only", "value"] == pytest.approx(kept)
    assert table.loc["TPEI, coherent pairs only", "n"] == 7
    with pytest.raises(InputError, match="same questions"):
        edit_index(before, trait_alignment(said(*own[:4]), "extraversion", fitted))


def test_ngram_entropy_by_hand():
    """Words a b a b a: bigrams ab ba ab ba, trigrams aba bab aba."""
    two, three = 1.0, -(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3))
    assert ngram_entropy("a b a b a") == pytest.approx((2 / 3 * two + 4 / 3 * three) / 2)
    assert ngram_entropy("one") == 0.0


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A classifier's folder with the labels wanted; its weights are random."""

    def make(labels: list[str], **config: object):
        folder = tmp_path_factory.mktemp("hub")
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                 "intermediate_size": 16, "vocab_size": len(tokenizer())}  # fmt: skip
        settings = BertConfig(**sizes, num_labels=len(labels), initializer_range=0.5, **config)
        settings.id2label = dict(enumerate(labels))
        settings.label2id = {label: index for index, label in enumerate(labels)}
        state = torch.get_rng_state()
        torch.manual_seed(0)
        BertForSequenceClassification(settings).save_pretrained(folder)
        torch.set_rng_state(state)
        tokenizer().save_pretrained(folder)
        return folder

    return make


def test_a_hub_model_is_read_by_its_labels(hub):
    test = opinion_qa("test")
    small = test.only(test.rows[:60])
    folder = hub(["N", "agreeableness", "Openness", "other", "E"])
    mapping = {"N": "N", "agreeableness": "A", "Openness": "O", "other": None, "E": "O"}
    made = HubClassifier.from_pretrained(folder, small, mapping=mapping)
    assert made.traits == ("neuroticism", "agreeableness", "openness", "(other)")
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    texts = [row.answer for row in small.rows[:5]]
    for text, row in zip(texts, made.log_probs(texts), strict=True):
        ids = tokenizer()(text, return_tensors="pt")
        p = model(input_ids=ids["input_ids"]).logits[0].double().softmax(-1)
        wanted = torch.stack([p[0], p[1], p[2] + p[4], p[3]])
        torch.testing.assert_close(row.exp(), wanted.detach(), atol=1e-5, rtol=1e-4)
    known = [r for r in small.rows if str(r.trait) in made.traits]
    hits = sum(made.traits[int(made.log_probs([r.answer]).argmax())] == str(r.trait) for r in known)
    assert made.holdout[0][:3] == ("all", len(known), pytest.approx(hits / len(known)))
    with pytest.raises(InputError, match="does not know extraversion"):
        trait_alignment(said(*texts), "extraversion", made)


def test_labels_that_are_not_traits_ask_for_a_mapping(hub):
    test = opinion_qa("test")
    folder = hub(["LABEL_0", "LABEL_1"])
    with pytest.raises(InputError, match=r"not the Big Five traits \(LABEL_0, LABEL_1\)"):
        HubClassifier.from_pretrained(folder, test)
    with pytest.raises(InputError, match="missing LABEL_1, unknown LABEL_2"):
        HubClassifier.from_pretrained(folder, test, mapping={"LABEL_0": "O", "LABEL_2": "C"})
    many = hub(["O", "C"], problem_type="multi_label_classification")
    with pytest.raises(ModelError, match="each label by itself"):
        HubClassifier.from_pretrained(many, test)


def test_pickled_and_foreign_classifiers_are_refused(hub, tmp_path):
    folder = hub(["O", "C"])
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="refused"):
        HubClassifier.from_pretrained(folder, opinion_qa("test"))
    bad = hub(["O", "C"])
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps({**config, "auto_map": {"x": "y"}}))
    with pytest.raises(ModelError, match="own code"):
        HubClassifier.from_pretrained(bad, opinion_qa("test"))
    with pytest.raises(ModelError, match="no such folder"):
        HubClassifier.from_pretrained(tmp_path / "nowhere", opinion_qa("test"))


def test_what_cannot_be_fitted_is_said(train):
    with pytest.raises(InputError, match="two or more"):
        TraitClassifier.fit(train.for_trait("openness"))
    one = train.only(row for row in train.rows if row.topic == train.rows[0].topic)
    with pytest.raises(InputError, match="one topic cannot be split"):
        TraitClassifier.fit(one)


def test_real_voices_of_two_kinds_are_told_apart(shared):
    """Machine Mindset's extraverted and introverted answers, the latter as another trait."""
    rows = []
    for name, trait in (("extraversion", "extraversion"), ("introversion", "neuroticism")):
        columns = {"question": "instruction", "answer": "output", "topic": None,
                   "trait": f"={trait}"}  # fmt: skip
        path = shared / "data" / "machine_mindset" / f"en_energy_{name}.json"
        read = load(path, columns=columns, on_emoji="clean", on_duplicate="drop")
        rows += read.rows[:400]
    data = OpinionQA(tuple(rows), "machine mindset", "0" * 64)
    accuracy = TraitClassifier.fit(data).to_dataframe().set_index("trait")
    assert accuracy.loc["all", "low"] > 0.7
