"""A small random base with small opinion data, for the tests of this room."""

from functools import cache

from tiny import llama, tokenizer

from interp.base.traits import Trait
from interp.data import OpinionQA
from interp.data.schema import OpinionRow
from interp.methods.editing import HookedBase
from interp.models import ChatFormat, hook

E, N = Trait.EXTRAVERSION, Trait.NEUROTICISM
SAYS = {E: "I love {} so much, my friends!", N: "What if {} all goes wrong? I worry."}
ASKS = ("What do you think about {}?", "Do you love {} so much?", "Why {}?")
TOPICS = ("rain", "long walks", "the weather", "my day", "a plan", "the sun")


def opinions(topics=TOPICS, traits=(E, N), asks=ASKS) -> OpinionQA:
    """One row per topic, trait and question."""
    rows = tuple(
        OpinionRow(trait, topic, ask.format(topic), f"{SAYS[trait].format(topic)} {number}")
        for topic in topics
        for trait in traits
        for number, ask in enumerate(asks)
    )
    return OpinionQA(rows, "made up", "")


@cache
def hooked_base() -> HookedBase:
    """A random hooked Llama; nothing in these tests may change it."""
    return fresh_base()


def fresh_base(seed: int = 0, **changes) -> HookedBase:
    """A random hooked Llama of its own."""
    return HookedBase(
        hook(llama(seed, **changes), tokenizer()),
        ChatFormat.from_tokenizer(tokenizer()),
        f"base {seed}",
    )
