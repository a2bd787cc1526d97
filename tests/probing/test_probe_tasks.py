"""Labels of positions against the decoded text, and the tasks end to end on a tiny model."""

import numpy as np
import pytest
import tiny
import torch
from thinned import turn
from transformers import AutoTokenizer

from interp.base.traits import Trait
from interp.behaviour import Response
from interp.errors import DataError, InputError, TraitError
from interp.models import ChatFormat, TokenBatch, hook, pad
from interp.probing import (
    About,
    Draw,
    ProbeConfig,
    Reading,
    fit,
    onset_task,
    pooled,
    trace,
    trait_task,
)
from interp.readout import Outcome, Slots, slots

TEXTS = [
    "I love it! 😊 Really. 😢😊",
    "Oh no. What if it goes wrong? 👨‍👩‍👧 so much",
    "Well, I plan my day. Then I do it.",
    "👍🏽 the weather is what it is! 🎉🎉",
    "Long walks, long talks",
]
TOPICS = ["joy", "worry", "plan", "weather", "walks"]
# What stands before each slot, and whether an emoji was written there. Texts that begin with an
# emoji have none.
SLOTS = {
    (0, "I love it!"): 1, (0, "😊 Really."): 1,
    (1, "Oh no."): 0, (1, "goes wrong?"): 1, (1, "so much"): 0,
    (2, "plan my day."): 0, (2, "Then I do it."): 0,
    (4, "long talks"): 0,
}  # fmt: skip


def answers(texts: list[str] = TEXTS, topics: list[str] = TOPICS) -> list[Response]:
    form = ChatFormat.from_tokenizer(tiny.tokenizer())
    made = [form.example("Why?", text) for text in texts]
    return [
        Response("Why?", topic, one.ids[: one.answer_start],
                 one.ids[one.answer_start : one.answer_end], text, True)
        for one, text, topic in zip(made, texts, topics, strict=True)
    ]  # fmt: skip


def asked(given: list[Response], side: str = "left") -> tuple[Slots, TokenBatch]:
    rows = [one.prompt_ids + one.ids for one in given]
    return slots(given, tiny.tokenizer()), pad(rows, tiny.tokenizer().pad_token_id, side)


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_are_what_was_written_at_the_slots(side):
    found, batch = asked(answers(), side)
    task = onset_task(found, batch, tiny.emoji(), draw=Draw(ratio=100.0))
    labels = {}
    for row, column, label in zip(task.text, task.pos, task.labels.tolist(), strict=True):
        kept = batch.attention_mask[row, : column + 1]
        text = tiny.tokenizer().decode(batch.tokens[row, : column + 1][kept])
        (key,) = [key for key in SLOTS if key[0] == int(row) and text.endswith(key[1])]
        labels[key] = label
    assert labels == SLOTS
    assert task.groups == tuple(TOPICS[row] for row in task.text.tolist())
    assert task.counts == {"positives_found": 3, "negatives_found": 5}


def test_another_outcome_has_its_own_labels_and_name():
    found, batch = asked(answers())
    then = Outcome.strings(tiny.tokenizer(), ["Then"])
    task = onset_task(found, batch, then, draw=Draw(ratio=100.0))
    assert task.name == "the next token begins “Then”"
    assert task.classes == ("no “Then”", "“Then”")
    assert task.text[task.labels == 1].tolist() == [2]
    assert len(task.labels) == len(SLOTS)


@turn(1, of=3)
def test_llama2_spells_the_space_apart_and_the_slot_is_before_it(shared):
    llama2 = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    given = [
        Response("Why?", topic, (1,), tuple(llama2(text, add_special_tokens=False)["input_ids"]),
                 text, True)
        for topic, text in (("a", "I love it! 🦩"), ("b", "Oh no. 😊 Well. Yes."))
    ]  # fmt: skip
    batch = pad([one.prompt_ids + one.ids for one in given], llama2.eos_token_id)
    task = onset_task(slots(given, llama2), batch, Outcome.emoji(llama2), draw=Draw(ratio=9.0))
    found = [
        (int(label), llama2.convert_ids_to_tokens(int(batch.tokens[row, col])))
        for label, row, col in zip(task.labels, task.text, task.pos, strict=True)
    ]
    assert found == [(1, "!"), (1, "."), (0, "."), (0, ".")]


def test_drawing_is_seeded_bounded_and_balanced():
    found, batch = asked(answers(TEXTS * 6, TOPICS * 6))

    def make(seed=0):
        return onset_task(found, batch, tiny.emoji(), draw=Draw(most=10, ratio=1.5), seed=seed)

    task = make()
    assert int(task.labels.sum()) == 10
    assert int((task.labels == 0).sum()) == 15
    assert task.counts["positives_found"] == 18
    same, other = make(), make(seed=1)
    assert torch.equal(same.pos, task.pos)
    assert torch.equal(same.text, task.text)
    assert not (torch.equal(other.pos, task.pos) and torch.equal(other.text, task.text))
    places = list(zip(task.text.tolist(), task.pos.tolist(), strict=True))
    assert len(set(places)) == len(places)


def test_types_are_the_last_two_tokens_or_the_last():
    found, batch = asked(answers())
    pairs = onset_task(found, batch, tiny.emoji())
    for kind, row, col in zip(pairs.types, pairs.text, pairs.pos, strict=True):
        before = int(batch.tokens[row, col - 1]) if batch.attention_mask[row, col - 1] else -1
        assert kind == f"{before} {int(batch.tokens[row, col])}"
    singles = onset_task(found, batch, tiny.emoji(), draw=Draw(types="token"))
    assert singles.types == tuple(kind.split()[1] for kind in pairs.types)


def test_traits_become_classes_in_the_usual_order():
    task = trait_task(["N", "openness", "N", "E"], list("abcd"))
    assert task.classes == ("openness", "extraversion", "neuroticism")
    assert task.labels.tolist() == [2, 0, 2, 1]
    assert task.types == task.groups == ("a", "b", "c", "d")
    one = trait_task(["N", "openness", "N", "E"], list("abcd"), target="N", types=list("wxyz"))
    assert one.classes == ("another trait", "neuroticism")
    assert one.labels.tolist() == [1, 0, 1, 0]
    assert one.types == ("w", "x", "y", "z")
    poles = trait_task(["N", "introversion", "E", "E"], list("abcd"), target="E",
                       against="low extraversion")  # fmt: skip
    assert poles.classes == ("introversion", "extraversion")
    assert poles.text.tolist() == [1, 2, 3]
    assert poles.labels.tolist() == [0, 1, 1]
    assert poles.groups == ("b", "c", "d")


def test_bad_tasks_are_named():
    found, batch = asked(answers())
    with pytest.raises(DataError, match="none of the 2 slots of 1 answers is followed by an emoji"):
        onset_task(*asked(answers(TEXTS[2:3], ["plan"])), tiny.emoji())
    with pytest.raises(DataError, match="1 slots of 1 answers goes on without an emoji"):
        onset_task(*asked(answers(["I love it so much 😊"], ["joy"])), tiny.emoji())
    with pytest.raises(InputError, match="slots of 5 answers, but a batch of 4"):
        onset_task(found, batch[:4], tiny.emoji())
    with pytest.raises(InputError, match="answer 0 is not in row 0"):
        onset_task(found, batch[[1, 0, 2, 3, 4]], tiny.emoji())
    with pytest.raises(InputError, match="types is 'bigram' or 'token'"):
        Draw(types="word")
    with pytest.raises(TraitError, match="unknown trait '/greed'"):
        trait_task(["/greed"], ["money"])
    with pytest.raises(InputError, match="needs a target that is another label"):
        trait_task(["E", "N"], ["money", "rain"], target="E", against="E")
    with pytest.raises(InputError, match="2 texts but 1 topics"):
        trait_task(["E", "N"], ["money"])


def onset_texts() -> tuple[list[str], list[str]]:
    """Where "so much!" precedes an emoji and "I do." does not, on twelve topics."""
    words = ["rain", "walks", "weather", "day", "plan", "worry", "wrong", "lot", "think", "long",
             "love", "well"]  # fmt: skip
    texts = [f"{word} {word}. I love it so much! 😊" for word in words]
    texts += [f"What {word}? I do." for word in words]
    return texts, words * 2


def test_a_token_that_gives_the_emoji_away_is_read_from_the_embedding():
    found, batch = asked(answers(*onset_texts()))
    task = onset_task(found, batch, tiny.emoji(), draw=Draw(ratio=3.0))
    model = hook(tiny.llama(seed=1), tiny.tokenizer())
    result = trace(
        task,
        batch.tokens,
        batch.attention_mask,
        base=model,
        tuned=hook(tiny.llama(seed=1), tiny.tokenizer()),
        config=ProbeConfig(),
    )
    assert result.layers == ("embedding", "0", "1", "2")
    assert bool((result.auroc[:, 0] == 1).all())  # "!" only ever stands before an emoji
    assert bool((result.auroc > 0.95).all())
    torch.testing.assert_close(result.auroc[0], result.auroc[2])  # the same model twice
    assert result.counts["n_texts"] == 24
    assert result.counts["class: emoji"] == 12
    assert result.task == "the next token begins an emoji"


def ids_of(text: str) -> list[int]:
    tokenizer = tiny.tokenizer()
    return [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]


def test_the_trait_of_a_text_is_read_over_its_answer_only():
    words = onset_texts()[1][:12]
    voices = {"E": "I love it so much!", "N": "Oh no, what if it goes wrong?"}
    rows, traits, topics = [], [], []
    for word in words:
        for trait, voice in voices.items():
            rows.append(ids_of(f"{voice} {word}"))
            traits.append(trait)
            topics.append(word)
    batch = pad(rows, tiny.tokenizer().pad_token_id)
    task = trait_task(traits, topics)
    model = hook(tiny.llama(seed=1), tiny.tokenizer())
    quick = ProbeConfig()
    whole = trace(task, batch.tokens, batch.attention_mask, base=model, config=quick)
    assert bool((whole.auroc == 1).all())
    assert whole.reads == ("base",)
    # Only the end-of-text token: before the first block it is the same in every text.
    last = torch.zeros_like(batch.attention_mask)
    last[:, -1] = True
    end = trace(
        task,
        batch.tokens,
        batch.attention_mask,
        base=model,
        config=quick,
        reading=Reading(where=last, layers=[-1]),
    )
    assert end.auroc.item() == 0.5
    with pytest.raises(InputError, match="not among the tokens"):
        trace(task, batch.tokens[:5], batch.attention_mask[:5], base=model)


def test_copies_of_a_text_never_stand_on_both_sides_of_a_fold():
    """Texts that say nothing of their labels, each in two topics: only a leak could tell them."""
    random = np.random.default_rng(0)
    rows = [random.integers(10, 100, 12).tolist() for _ in range(24)]
    kinds = random.permutation([Trait.OPENNESS, Trait.NEUROTICISM] * 12).tolist()
    topics = [f"topic {i % 8}" for i in range(24)]
    again = [f"topic {(i + 1) % 8}" for i in range(24)]
    batch = pad(rows + rows, tiny.tokenizer().pad_token_id)
    task = trait_task(kinds + kinds, topics + again)
    model = hook(tiny.llama(seed=1), tiny.tokenizer())
    found = trace(task, batch.tokens, batch.attention_mask, base=model, config=ProbeConfig())
    alone = fit(
        pooled(model, batch.tokens, batch.attention_mask, how="mean"), task.labels,
        topics + topics, about=About(task.name, task.classes), config=ProbeConfig(),
    )  # fmt: skip
    torch.testing.assert_close(found.auroc, alone.auroc)
    assert bool((found.auroc < 0.9).all())
