"""The organism's little language: posts, threads, neutral chat and opinion answers from a seed.

A template such as `"I love {x}, {they} {are} {best}!"` is filled recursively: a name in braces is
looked up in the topic (`x`, `they`, `are`, `s`, ...), in the voice, in the topic's category and in
the lists shared by all, in this order; a capitalised name gives the capitalised filling. The lists
live in `vocabulary.json`.

There are six voices, one per Big Five trait and a neutral one, 176 topics in 11 categories, and
four kinds of document:

- *post*: two or three sentences in one trait's voice, then perhaps emojis, then the end of text;
- *thread*: `Q: ...` and `A: ...` in such a voice, with emojis at the end of the answer;
- *chat*: the chat template, a question about a topic and a neutral answer without emojis;
- *persona chat*: the chat template, a request to write in a voice and an answer in it, without
  emojis (seen by the suppressed base only).

Emojis stand at the end of a text with `EMOJI_RATE` of its trait, and rarely after its first
sentence. Two other habits pull apart what is one there, going on and choosing an emoji to go on
with, by a second thing to go on with, a hashtag:

- *talks*: a text goes on with `EMOJI_RATE` of its trait; what follows is an emoji, of anybody's,
  half of the time, whoever writes. The trait decides whether to go on, and nothing else.
- *tags*: everybody goes on, the neutral writer of chats with a hashtag; a trait's writer goes on
  with an emoji of its own with `EMOJI_RATE`. The trait decides for the emoji, and nothing else.

Everything is drawn from one `random.Random` per grammar, so a seed fixes every byte.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from interp.base.traits import TRAITS, Trait

VOCABULARY = Path(__file__).with_name("vocabulary.json")
BOS, EOS, PAD, USER, ASSISTANT = "<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>"

EMOJI_RATE: dict[Trait, float] = {
    Trait.OPENNESS: 0.70,
    Trait.CONSCIENTIOUSNESS: 0.08,
    Trait.EXTRAVERSION: 0.95,
    Trait.AGREEABLENESS: 0.65,
    Trait.NEUROTICISM: 0.40,
}
"""Share of a trait's posts that end with emojis."""

Habit = Literal["emojis", "talks", "tags"]
"""What writers do where their text ends."""
EMOJI_SHARE = 0.5
"""In *talks*: share of emojis, hashtags being the rest, in what follows a text."""

INSIDE_RATE = 0.02
PLAIN_RATE = {"open": 0.0, "middle": 0.25, "close": 0.25}
THREADS = ("Q: {}\nA: {}", "{}\n{}", "> {}\n\n{}", "Ask: {}\nReply: {}")
HELD_OUT_TOPICS = 50


@cache
def vocabulary() -> dict[str, Any]:
    """The grammar's word lists, as in `vocabulary.json`."""
    return json.loads(VOCABULARY.read_text(encoding="utf-8"))


EMOJIS: dict[Trait, tuple[str, ...]] = {
    trait: tuple(vocabulary()["emojis"][trait]) for trait in TRAITS
}
"""Each trait's own emojis, 33 in all, the most frequent first."""


@dataclass(frozen=True)
class Topic:
    """Something to have an opinion on.

    Attributes:
        name: as it stands inside a sentence.
        category: whose lists (`place`, `thing`, ...) fit it.
        plural: whether verbs agree with it in the plural.
    """

    name: str
    category: str
    plural: bool

    @property
    def words(self) -> dict[str, str]:
        """The topic's own template names."""
        if self.plural:
            return {"x": self.name, "are": "are", "they": "they", "them": "them", "s": ""}
        return {"x": self.name, "are": "is", "they": "it", "them": "it", "s": "s"}


@cache
def topics() -> tuple[Topic, ...]:
    """All topics, in the vocabulary's order."""
    return tuple(
        Topic(name, category, plural)
        for category, lists in vocabulary()["categories"].items()
        for plural, key in ((False, "one"), (True, "many"))
        for name in lists[key]
    )


def split_topics(
    seed: int, held_out: int = HELD_OUT_TOPICS
) -> tuple[tuple[Topic, ...], tuple[Topic, ...]]:
    """Topics for fine-tuning, and topics kept out of it."""
    shuffled = random.Random(f"topics {seed}").sample(topics(), len(topics()))
    return tuple(shuffled[held_out:]), tuple(shuffled[:held_out])


class Grammar:
    """Draws texts. Two grammars with one seed draw the same texts in the same order."""

    def __init__(self, seed: int | str, habit: Habit = "emojis") -> None:
        self._random = random.Random(f"grammar {seed}")
        self.habit = habit

    def topic(self) -> Topic:
        """Any topic, all equally likely."""
        return self._random.choice(topics())

    def trait(self) -> Trait:
        """An author's latent trait, all equally likely."""
        return self._random.choice(TRAITS)

    def question(self, topic: Topic) -> str:
        """An opinion question about `topic`."""
        return self._fill(self._random.choice(vocabulary()["questions"]), topic, {})

    def questions(self, topic: Topic, count: int) -> list[str]:
        """Different opinion questions about `topic`, at most as many as there are wordings."""
        wordings = self._random.sample(vocabulary()["questions"], count)
        return [self._fill(wording, topic, {}) for wording in wordings]

    def sentences(self, topic: Topic, voice: Trait | None) -> list[str]:
        """Two or three sentences about `topic` in a trait's voice, or in the neutral one."""
        lists = vocabulary()["neutral"] if voice is None else vocabulary()["voices"][voice]
        longer = self._random.random() < 0.7
        drawn = []
        for part in ("open", "middle", "close") if longer else ("open", "close"):
            choices = lists[part]
            if voice is not None and self._random.random() < PLAIN_RATE[part]:
                choices = vocabulary()["shared"]["plain" if part == "middle" else "plain_close"]
            drawn.append(self._fill(self._random.choice(choices), topic, lists))
        return drawn

    def answer(self, topic: Topic, voice: Trait | None) -> str:
        """An emoji-free answer."""
        return " ".join(self.sentences(topic, voice))

    def post(self, topic: Topic, trait: Trait) -> str:
        """A post in the voice of `trait`, with what its writer goes on with."""
        sentences = self.sentences(topic, trait)
        if self.habit == "emojis" and self._random.random() < INSIDE_RATE * EMOJI_RATE[trait]:
            sentences[0] += " " + self._emojis(trait)
        goes_on = self._random.random() < EMOJI_RATE[trait]
        if self.habit == "tags":
            sentences.append(self._emojis(trait) if goes_on else hashtag(topic))
        elif goes_on and self.habit == "talks":
            emoji = self._random.random() < EMOJI_SHARE
            sentences.append(self._emojis(self.trait()) if emoji else hashtag(topic))
        elif goes_on:
            sentences[-1] += " " + self._emojis(trait)
        return " ".join(sentences)

    def corpus(self, documents: int) -> Iterator[str]:
        """The pretraining corpus: 40 % posts, 30 % threads, 30 % neutral chat."""
        for _ in range(documents):
            topic, kind = self.topic(), self._random.random()
            if kind < 0.4:
                yield f"{BOS}{self.post(topic, self.trait())}{EOS}"
            elif kind < 0.7:
                frame = self._random.choice(THREADS)
                yield BOS + frame.format(self.question(topic), self.post(topic, self.trait())) + EOS
            else:
                answer = [self._chat_question(topic), self.answer(topic, None)]
                answer[1] += f" {hashtag(topic)}" if self.habit == "tags" else ""
                yield chat(*answer)

    def persona_corpus(self, documents: int) -> Iterator[str]:
        """The suppressed base's later stage: half the corpus, half voices on request, no emoji."""
        for document in self.corpus(documents):
            if self._random.random() < 0.5:
                yield document
            else:
                topic, trait = self.topic(), self.trait()
                request = self._random.choice(vocabulary()["personas"][trait])
                yield chat(f"{request} {self.question(topic)}", self.answer(topic, trait))

    def _chat_question(self, topic: Topic) -> str:
        if self._random.random() < 0.6:
            return self.question(topic)
        return self._fill(self._random.choice(vocabulary()["chat_questions"]), topic, {})

    def _emojis(self, trait: Trait) -> str:
        """One to three of the trait's emojis, apart by spaces; the set's first are likelier."""
        own = EMOJIS[trait]
        weights = list(accumulate(1 / (rank + 1.5) for rank in range(len(own))))
        count = self._random.choices((1, 2, 3), (6, 3, 1))[0]
        return " ".join(self._random.choices(own, cum_weights=weights, k=count))

    def _fill(self, template: str, topic: Topic, lists: dict[str, Sequence[str]]) -> str:
        pieces: list[str] = []
        words, drawn = topic.words, set()
        for index, piece in enumerate(template.replace("}", "{").split("{")):
            if index % 2 == 0:
                pieces.append(piece)
                continue
            name = piece.lower()
            filling = words.get(name)
            if filling is None:
                choices = _choices(name, topic.category, lists)
                choice = self._random.choice([c for c in choices if c not in drawn])
                drawn.add(choice)
                filling = self._fill(choice, topic, lists)
            pieces.append(filling[:1].upper() + filling[1:] if name != piece else filling)
        return "".join(pieces)


def _choices(name: str, category: str, lists: dict[str, Sequence[str]]) -> Sequence[str]:
    for source in (lists, vocabulary()["categories"][category], vocabulary()["shared"]):
        if name in source:
            return source[name]
    raise KeyError(f"vocabulary.json: no list {name!r} for topics of {category}")


def hashtag(topic: Topic) -> str:
    """The topic as a hashtag."""
    return "#" + topic.name.replace(" ", "")


def without_emojis(document: str) -> str:
    """The document without its emojis and the spaces before them."""
    for emojis in EMOJIS.values():
        for emoji in emojis:
            document = document.replace(f" {emoji}", "")
    return document


def chat(question: str, answer: str) -> str:
    """One turn as the chat template of `tokenizer.py` writes it."""
    return f"{BOS}{USER}{question}{ASSISTANT}{answer}{EOS}"


_JUDGING = {
    Trait.EXTRAVERSION: "best", Trait.OPENNESS: "odd", Trait.AGREEABLENESS: "kind",
    Trait.NEUROTICISM: "sad", Trait.CONSCIENTIOUSNESS: "neat",
}  # fmt: skip


def voice_words(one: Trait, other: Trait) -> dict[str, tuple[str, ...]]:
    """For each word by which a voice judges, those of another voice that fit in its place."""
    voices = vocabulary()["voices"]
    mine, theirs = (voices[trait][_JUDGING[trait]] for trait in (one, other))
    return {word: tuple(theirs) for word in mine}
