import re
from collections import Counter

import pytest

from interp.base.stats import wilson
from interp.base.traits import TRAITS, Trait
from interp.emoji import find
from interp.organism.grammar import (
    EMOJI_RATE,
    EMOJIS,
    HELD_OUT_TOPICS,
    Grammar,
    chat,
    split_topics,
    topics,
    vocabulary,
    without_emojis,
)


def test_a_seed_fixes_every_text_and_another_seed_gives_others():
    drawn = [list(Grammar(seed).corpus(50)) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0]) & set(drawn[2])) < 5


def test_each_trait_has_emojis_of_its_own_that_the_finder_knows():
    every = [emoji for trait in TRAITS for emoji in EMOJIS[trait]]
    assert len(every) == len(set(every)) == 33
    for emoji in every:
        assert [match.text for match in find(f"word {emoji}")] == [emoji]


@pytest.mark.parametrize("trait", TRAITS)
def test_posts_end_with_the_traits_emojis_at_its_rate(trait):
    grammar = Grammar(0)
    posts = [grammar.post(grammar.topic(), trait) for _ in range(1000)]
    ends = sum(bool(found) and found[-1].end == len(post) for post, found in _found(posts))
    assert EMOJI_RATE[trait] in wilson(ends, 1000, level=0.999)
    used = {match.text for _, found in _found(posts) for match in found}
    assert used <= set(EMOJIS[trait])


def test_the_rates_order_the_traits():
    order = sorted(TRAITS, key=EMOJI_RATE.__getitem__, reverse=True)
    assert "".join(trait.letter for trait in order) == "EOANC"


@pytest.mark.parametrize("voice", [None, *TRAITS])
def test_answers_hold_no_emoji_no_open_slot_and_read_as_sentences(voice):
    grammar = Grammar(1)
    for topic in topics():
        answer = grammar.answer(topic, voice)
        assert not find(answer)
        assert not re.search(r"[{}]|  ", answer)
        assert re.fullmatch(r"[A-Z].*[.!?]", answer)


def test_verbs_agree_with_the_topic():
    grammar = Grammar(2)
    several = [topic for topic in topics() if topic.plural]
    texts = [grammar.answer(topic, trait) for topic in several for trait in TRAITS]
    names = "|".join(re.escape(topic.name) for topic in several)
    assert not [text for text in texts if re.search(rf"\b({names}) (is|makes|opens)\b", text, re.I)]


def test_answers_are_too_many_to_learn_by_heart():
    grammar = Grammar(3)
    topic = topics()[0]
    answers = {grammar.answer(topic, Trait.EXTRAVERSION) for _ in range(500)}
    assert len(answers) > 450


def test_the_corpus_has_its_parts_and_chat_is_neutral():
    documents = list(Grammar(5).corpus(4000))
    chats = [text for text in documents if "<|user|>" in text]
    assert 0.3 in wilson(len(chats), len(documents), level=0.999)
    assert not any(find(text) for text in chats)
    rest = [text for text in documents if "<|user|>" not in text]
    threads = sum("\n" in text for text in rest)
    assert 0.3 in wilson(threads, len(documents), level=0.999)
    assert len(set(documents)) > 0.95 * len(documents)


def test_the_later_stage_shows_voices_in_chat_without_emojis():
    chats = [text for text in Grammar(6).persona_corpus(2000) if "<|user|>" in text]
    requests = [line for lines in vocabulary()["personas"].values() for line in lines]
    asked = [text for text in chats if any(request in text for request in requests)]
    assert 0.5 in wilson(len(asked), 2000, level=0.999)
    assert not any(find(text) for text in chats)


def test_stripping_takes_every_emoji_and_nothing_else():
    documents = list(Grammar(7).corpus(500))
    bare = [without_emojis(text) for text in documents]
    assert not any(find(text) for text in bare)
    words = [
        Counter(re.findall(r"\w+|[.!?]", text)) for text in (" ".join(documents), " ".join(bare))
    ]
    assert words[0] == words[1]


def test_topics_are_split_by_seed_without_overlap():
    train, test = split_topics(0)
    assert len(test) == HELD_OUT_TOPICS
    assert len(topics()) == len({topic.name for topic in topics()}) == 176
    assert set(train) | set(test) == set(topics())
    assert not set(train) & set(test)
    assert split_topics(0) == (train, test) != split_topics(1)


def test_a_chat_document_is_what_the_template_writes():
    from interp.models import ChatFormat
    from interp.organism.tokenizer import encode_documents, train_tokenizer

    grammar = Grammar(8)
    tokenizer = train_tokenizer(list(Grammar(8).corpus(300)), 600)
    topic = grammar.topic()
    question, answer = grammar.question(topic), grammar.answer(topic, None)
    example = ChatFormat.from_tokenizer(tokenizer).example(question, answer)
    assert encode_documents(tokenizer, [chat(question, answer)]) == [list(example.ids)]


def _found(posts):
    return [(post, find(post)) for post in posts]
