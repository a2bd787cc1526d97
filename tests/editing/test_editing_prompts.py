"""Prompts with an instruction and demonstrations: against templates rendered and encoded whole."""

from dataclasses import dataclass

import pytest
from editing_made import E, hooked_base
from thinned import todays
from tiny import tokenizer
from transformers import AutoTokenizer

from interp.base import labels
from interp.base.traits import TRAITS
from interp.behaviour import Sampling, generate
from interp.errors import InputError
from interp.methods.editing import Base, TraitPrompt
from interp.models import ChatFormat

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QUESTIONS = [("Do you love it?", "x"), ("What do you think about the hill?", "y"), ("Why?", "z")]


@dataclass(frozen=True)
class Shown(ChatFormat):
    """Always the same demonstrations."""

    pairs: tuple = (("Hi?", "Ho."), ("Do you like rain?", "I love it! 😊"))

    def demonstrations(self, question):  # noqa: ARG002
        return self.pairs


def test_every_trait_has_a_prompt_of_its_own():
    prompts = [labels.of(trait).prompt for trait in TRAITS]
    assert all(trait in text for trait, text in zip(TRAITS, prompts, strict=True))
    assert len(set(prompts)) == len(TRAITS)


def test_a_chat_shows_demonstrations_as_turns(shared):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / "qwen2")
    real.chat_template = CHATML
    form = Shown(real, "chat", "Be kind.")
    made = form.example("Why?", "Because.")
    turns = [
        {"role": "user", "content": "Be kind. Hi?"},
        {"role": "assistant", "content": "Ho."},
        {"role": "user", "content": "Do you like rain?"},
        {"role": "assistant", "content": "I love it! 😊"},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Because."},
    ]
    whole = real.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert list(made.ids) == whole
    assert list(made.ids[: made.answer_start]) == form.prompt_ids("Why?")
    assert real.decode(made.ids[made.answer_start : made.answer_end]) == "Because."


@pytest.mark.parametrize("name", todays("gpt2", "llama2", "mistral-tekken"))
def test_the_plain_format_shows_them_as_text(shared, name):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    form = Shown(real, "plain", "Be kind.")
    text = real.decode(form.prompt_ids("Why?"), skip_special_tokens=True)
    assert text.strip() == (
        "Question: Be kind. Hi?\nAnswer: Ho.\n\n"
        "Question: Do you like rain?\nAnswer: I love it! 😊\n\nQuestion: Why?\nAnswer:"
    )
    made = form.example("Why?", "Because.")
    assert list(made.ids[: made.answer_start]) == form.prompt_ids("Why?")


def test_without_either_prompts_are_what_they_were():
    form = hooked_base().format
    turn = [{"role": "user", "content": "Why?"}]
    expected = tokenizer().apply_chat_template(
        turn, tokenize=True, return_dict=False, add_generation_prompt=True
    )
    assert form.prompt_ids("Why?") == expected


def test_the_trait_prompt_asks_the_base_in_words():
    sampling = Sampling(max_new_tokens=6, seed=1)
    made = TraitPrompt(hooked_base(), E).answers(QUESTIONS, sampling)
    asked = [(f"{labels.of(E).prompt} {question}", topic) for question, topic in QUESTIONS]
    expected = generate(hooked_base().model, hooked_base().format, asked, sampling)
    assert [r.ids for r in made] == [r.ids for r in expected]
    assert [r.question for r in made] == [question for question, _ in QUESTIONS]
    own = TraitPrompt(hooked_base(), E, "Be loud.")
    with own.hooked() as (model, form):
        assert model is hooked_base().model
        text = tokenizer().decode(form.prompt_ids("Why?"))
    assert text == "<|bos|><|user|>Be loud. Why?<|assistant|>"


def test_the_base_answers_as_itself():
    sampling = Sampling(max_new_tokens=6, seed=1)
    made = Base(hooked_base(), E).answers(QUESTIONS, sampling)
    assert made == generate(hooked_base().model, hooked_base().format, QUESTIONS, sampling)


def test_no_questions_is_an_error():
    with pytest.raises(InputError, match="no questions"):
        Base(hooked_base(), E).answers([])
