"""Prompts and answers as ids: against the template rendered and encoded whole."""

import copy

import pytest
import torch
from thinned import todays
from tiny import tokenizer
from transformers import AutoTokenizer

from interp.errors import InputError, TokenizerError
from interp.models import ChatFormat, pad, pad_id

# Templates as the two model families of the paper publish them.
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] "
    "+ ' [/INST]' }}{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TURNS = [("Do you like rain?", "I love it! 😊"), ("Why?", "Because it is wet."), ("Hi", "☀ 👨‍👩‍👧")]


@pytest.mark.parametrize(
    ("name", "template"), [("llama2", LLAMA2), ("mistral-v1", LLAMA2), ("qwen2", CHATML)]
)
def test_example_is_the_template_encoded_whole(shared, name, template):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    real.chat_template = template
    form = ChatFormat.from_tokenizer(real)
    for question, answer in TURNS:
        made = form.example(question, answer)
        turn = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        whole = real.apply_chat_template(turn, tokenize=True, return_dict=False)
        assert list(made.ids) == whole
        assert list(made.ids[: made.answer_start]) == form.prompt_ids(question)
        assert real.decode(made.ids[made.answer_start : made.answer_end]).strip() == answer
        assert made.ids[made.answer_end :]  # the end of the turn is there, and apart
    assert real.eos_token_id in form.stop_ids


def test_a_doubled_bos_stands_before_the_turn_and_moves_nothing_else(shared):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    real.chat_template = LLAMA2
    once = ChatFormat.from_tokenizer(real)
    twice = ChatFormat.from_tokenizer(real, double_bos=True)
    for question, answer in TURNS:
        one, two = once.example(question, answer), twice.example(question, answer)
        assert list(two.ids) == [real.bos_token_id, *one.ids]
        assert (two.answer_start, two.answer_end) == (one.answer_start + 1, one.answer_end + 1)
        assert twice.prompt_ids(question) == list(two.ids[: two.answer_start])
    assert twice.stop_ids == once.stop_ids
    real.chat_template = CHATML
    with pytest.raises(TokenizerError, match="begins with no BOS"):
        ChatFormat.from_tokenizer(real, double_bos=True)


@pytest.mark.parametrize("name", todays())
def test_plain_examples_decode_to_the_frame(shared, name):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    form = ChatFormat.from_tokenizer(real, "plain")
    for question, answer in TURNS:
        made = form.example(question, answer)
        text = real.decode(made.ids, skip_special_tokens=True)
        assert text.strip() == f"Question: {question}\nAnswer: {answer}"
        assert made.ids[made.answer_end :] == (real.eos_token_id,)
        assert list(made.ids[: made.answer_start]) == form.prompt_ids(question)
        if real.bos_token_id is not None and name not in ("gpt2", "qwen2"):
            assert made.ids[0] == real.bos_token_id
            assert made.ids.count(real.bos_token_id) == 1


def test_no_template_is_an_error_that_names_the_mend(shared):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    with pytest.raises(TokenizerError, match=r"no chat template.*'plain'"):
        ChatFormat.from_tokenizer(real)


def test_template_that_changes_the_answer_is_refused():
    broken = copy.deepcopy(tokenizer())
    broken.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(TokenizerError, match="changes the answer"):
        ChatFormat.from_tokenizer(broken).example("why?", "because")


def test_pad_puts_last_tokens_in_the_last_column():
    batch = pad([[5, 6], [7, 8, 9]], pad_id=2)
    assert batch.tokens.tolist() == [[2, 5, 6], [7, 8, 9]]
    assert batch.attention_mask.tolist() == [[False, True, True], [True, True, True]]
    assert batch.lengths.tolist() == [2, 3]
    right = pad([[5, 6], [7, 8, 9]], pad_id=2, side="right")
    assert right.tokens.tolist() == [[5, 6, 2], [7, 8, 9]]
    assert torch.equal(right.attention_mask, right.tokens != 2)


@pytest.mark.parametrize("rows", [[], [[1], []]])
def test_empty_prompts_are_refused(rows):
    with pytest.raises(InputError, match=r"empty prompt|no prompts"):
        pad(rows, 0)


def test_pad_id_falls_back_to_end_of_text(shared):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / "gpt2")
    assert pad_id(real) == real.eos_token_id
    assert pad_id(tokenizer()) == tokenizer().pad_token_id
