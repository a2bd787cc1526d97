"""Labels of positions against the decoded text, and the tasks end to end on a tiny model."""

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoTokenizer

from interp import emoji
from interp.base.traits import Trait
from interp.emoji import EmojiVocab
from interp.errors import DataError, InputError, TraitError
from interp.models import hook, pad
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

TEXTS = [
    "I love it! 😊 Really. 😢😊",
    "Oh no. What if it goes wrong? 👨‍👩‍👧 so much",
    "Well, I plan my day. Then I do it.",
    "👍🏽 the weather is what it is! 🎉🎉",
    "Long walks, long talks",
]
TOPICS = ["joy", "worry", "plan", "weather", "walks"]


def ids_of(text: str) -> list[int]:
    tokenizer = tiny.tokenizer()
    return [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]


def brute_force(text: str) -> tuple[set[int], set[int], set[int]]:
    """Positions before an emoji, away from emojis, and those of the latter that end a sentence.

    From the characters that the tokenizer says each token covers.
    """
    covers = tiny.tokenizer()(text, return_offsets_mapping=True)["offset_mapping"]
    spans = [(-1, -1), *covers, (len(text) + 1, len(text) + 1)]  # beginning and end of text
    onsets, inside = set(), set()
    for match in emoji.find(text):
        touching = [p for p, (s, e) in enumerate(spans) if s < match.end and match.start < e]
        first = touching[0]
        if text[slice(*spans[first - 1])].isspace():
            first -= 1
        onsets.add(first - 1)
        inside |= {first, *touching}
    plain = {p for p in range(len(spans) - 1) if not {p, p + 1} & inside}
    closing = {
        p
        for p in plain - {0}
        if text[slice(*spans[p])].rstrip().endswith((".", "!", "?")) or p == len(spans) - 2
    }
    return onsets, plain, closing


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("negatives", ["any", "sentence_ends"])
def test_labels_are_what_the_decoded_text_says(vocab, side, negatives):
    rows = [ids_of(text) for text in TEXTS]
    batch = pad(rows, tiny.tokenizer().pad_token_id, side)
    task = onset_task(
        batch.tokens,
        batch.attention_mask,
        topics=TOPICS,
        vocab=vocab,
        draw=Draw(negatives=negatives, ratio=100.0),
    )
    first = batch.attention_mask.long().argmax(1)
    found: dict[int, set[tuple[int, int]]] = {0: set(), 1: set()}
    for row, column, label in zip(task.text, task.pos, task.labels.tolist(), strict=True):
        found[label].add((int(row), int(column - first[row])))
    want: dict[int, set[tuple[int, int]]] = {0: set(), 1: set()}
    for row, text in enumerate(TEXTS):
        onsets, plain, closing = brute_force(text)
        want[1] |= {(row, place) for place in onsets}
        chosen = plain if negatives == "any" else closing
        want[0] |= {(row, place) for place in chosen}
    assert found[1] == want[1]
    assert len(found[1]) == 7  # the emojis of TEXTS
    assert found[0] == want[0]
    assert task.groups == tuple(TOPICS[row] for row in task.text.tolist())
    assert task.counts["not_onset"] == 0


def test_sentence_ends_are_the_tokens_before_a_break(vocab):
    rows = [ids_of(TEXTS[2]), ids_of(TEXTS[0])]
    batch = pad(rows, tiny.tokenizer().pad_token_id)
    task = onset_task(
        batch.tokens, batch.attention_mask, topics=["a", "b"], vocab=vocab, draw=Draw(ratio=9.0)
    )
    plain = (task.text == 0) & (task.labels == 0)
    written = [tiny.tokenizer().decode(batch.tokens[0, : col + 1]) for col in task.pos[plain]]
    assert [text.removeprefix("<|pad|>").split("<|bos|>")[1] for text in written] == [
        "Well, I plan my day.",
        "Well, I plan my day. Then I do it.",
    ]


def test_a_lone_space_before_an_emoji_belongs_to_it(vocab):
    tokenizer = tiny.tokenizer()
    parts = [tokenizer(part)["input_ids"] for part in ("I do it!", " ", "🌵")]
    assert len(parts[1]) == 1
    row = [tokenizer.bos_token_id, *parts[0], *parts[1], *parts[2], tokenizer.eos_token_id]
    batch = pad([row, ids_of(TEXTS[2])], tokenizer.pad_token_id)
    task = onset_task(
        batch.tokens,
        batch.attention_mask,
        topics=["a", "b"],
        vocab=vocab,
        draw=Draw(negatives="any", ratio=99.0),
    )
    where = [tokenizer.decode(batch.tokens[0, int(c)]) for c in task.pos[task.labels == 1]]
    assert where == ["!"]
    negatives = task.pos[(task.text == 0) & (task.labels == 0)]
    assert len(negatives) == len(parts[0])  # BOS and the words, not "!", the space or the emoji


def test_llama2_spells_the_space_apart_and_the_onset_is_before_it(shared):
    llama2 = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    vocab = EmojiVocab.from_tokenizer(llama2)
    rows = [llama2(text)["input_ids"] for text in ("I love it! 🦩", "Oh no. 😊 Well. Yes.")]
    batch = pad([[*row, llama2.eos_token_id] for row in rows], llama2.eos_token_id)
    task = onset_task(
        batch.tokens, batch.attention_mask, topics=["a", "b"], vocab=vocab, draw=Draw(ratio=9.0)
    )
    found = [
        (int(label), llama2.convert_ids_to_tokens(int(batch.tokens[row, col])))
        for label, row, col in zip(task.labels, task.text, task.pos, strict=True)
    ]
    assert found == [(1, "!"), (1, "."), (0, "."), (0, ".")]


def test_drawing_is_seeded_bounded_and_balanced(vocab):
    rows = [ids_of(text) for text in TEXTS] * 6
    batch = pad(rows, tiny.tokenizer().pad_token_id)

    def make(seed=0):
        draw = Draw(negatives="any", most=10, ratio=1.5)
        return onset_task(
            batch.tokens, batch.attention_mask, topics=TOPICS * 6, vocab=vocab, draw=draw, seed=seed
        )

    task = make()
    assert int(task.labels.sum()) == 10
    assert int((task.labels == 0).sum()) == 15
    assert task.counts["positives_found"] == 42
    same, other = make(), make(seed=1)
    assert torch.equal(same.pos, task.pos)
    assert torch.equal(same.text, task.text)
    assert not (torch.equal(other.pos, task.pos) and torch.equal(other.text, task.text))
    places = list(zip(task.text.tolist(), task.pos.tolist(), strict=True))
    assert len(set(places)) == len(places)


def test_only_chosen_places_become_examples(vocab):
    batch = pad([ids_of(text) for text in TEXTS], tiny.tokenizer().pad_token_id)
    where = torch.zeros_like(batch.attention_mask)
    where[:, -8:] = True
    task = onset_task(
        batch.tokens,
        batch.attention_mask,
        topics=TOPICS,
        vocab=vocab,
        where=where,
        draw=Draw(ratio=9.0),
    )
    assert int(task.pos.min()) >= batch.tokens.shape[1] - 8


def test_types_are_the_last_two_tokens_or_the_last(vocab):
    batch = pad([ids_of(text) for text in TEXTS], tiny.tokenizer().pad_token_id)
    pairs = onset_task(batch.tokens, batch.attention_mask, topics=TOPICS, vocab=vocab)
    for kind, row, col in zip(pairs.types, pairs.text, pairs.pos, strict=True):
        before = int(batch.tokens[row, col - 1]) if batch.attention_mask[row, col - 1] else -1
        assert kind == f"{before} {int(batch.tokens[row, col])}"
    singles = onset_task(
        batch.tokens, batch.attention_mask, topics=TOPICS, vocab=vocab, draw=Draw(types="token")
    )
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


def test_bad_tasks_are_named(vocab):
    batch = pad([ids_of(text) for text in TEXTS], tiny.tokenizer().pad_token_id)
    plain = pad([ids_of(TEXTS[2])], tiny.tokenizer().pad_token_id)
    crowded = pad([ids_of("I love it so much 😊")[:-1]], tiny.tokenizer().pad_token_id)
    with pytest.raises(DataError, match="none of 1 texts has an emoji"):
        onset_task(plain.tokens, topics=["plan"], vocab=vocab)
    with pytest.raises(DataError, match="no negatives of kind 'sentence_ends' in 1 texts"):
        onset_task(crowded.tokens, topics=["joy"], vocab=vocab)
    with pytest.raises(InputError, match="5 texts need as many topics"):
        onset_task(batch.tokens, batch.attention_mask, topics=["joy"], vocab=vocab)
    with pytest.raises(InputError, match="negatives is 'sentence_ends' or 'any'"):
        onset_task(batch.tokens, topics=TOPICS, vocab=vocab, draw=Draw(negatives="hard"))
    with pytest.raises(TraitError, match="unknown trait '/greed'"):
        trait_task(["/greed"], ["money"])
    with pytest.raises(InputError, match="2 texts but 1 topics"):
        trait_task(["E", "N"], ["money"])


def onset_texts() -> tuple[list[list[int]], list[str]]:
    """Where "so much!" precedes an emoji and "I do." does not, on twelve topics."""
    words = ["rain", "walks", "weather", "day", "plan", "worry", "wrong", "lot", "think", "long",
             "love", "well"]  # fmt: skip
    texts = [f"{word} {word}. I love it so much! 😊" for word in words]
    texts += [f"What {word}? I do." for word in words]
    return [ids_of(text) for text in texts], words * 2


def test_a_token_that_gives_the_emoji_away_is_read_from_the_embedding(vocab):
    rows, topics = onset_texts()
    batch = pad(rows, tiny.tokenizer().pad_token_id)
    task = onset_task(
        batch.tokens, batch.attention_mask, topics=topics, vocab=vocab, draw=Draw(ratio=3.0)
    )
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


def test_the_trait_of_a_text_is_read_over_its_answer_only(vocab):  # noqa: ARG001
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
