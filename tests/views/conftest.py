"""One pair of the organism, one text with an emoji, and their token view, for all tests here."""

import pytest

import interp
from interp import organism
from interp.behaviour import Sampling, generate
from interp.emoji import EmojiVocab
from interp.show.views import token_view


@pytest.fixture(scope="session")
def pair():
    return interp.load_pair(organism.base_path(), organism.adapter_path("extraversion"))


@pytest.fixture(scope="session")
def vocab(pair):
    return EmojiVocab.from_tokenizer(pair.tokenizer)


@pytest.fixture(scope="session")
def answer(pair, vocab):
    """The first of a few answers that holds an emoji."""
    questions = [(row.question, row.topic) for row in organism.opinion_qa("test").rows[:6]]
    written = generate(pair.tuned, pair.format, questions, Sampling(seed=1))
    return next(one for one in written if vocab.find_tokens(one.ids))


@pytest.fixture(scope="session")
def ids(answer):
    return [*answer.prompt_ids, *answer.ids]


@pytest.fixture(scope="session")
def view(pair, vocab, answer, ids):
    return token_view(
        pair, ids, vocab=vocab, answer_start=len(answer.prompt_ids), title=answer.question
    )
