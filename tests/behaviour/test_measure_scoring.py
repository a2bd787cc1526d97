"""Log-probabilities in shared, padded batches, against Hugging Face on one row at a time."""

import pytest
import torch
from tiny import llama, tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from interp.behaviour.scoring import Choice, choice_log_probs, tail_logits, token_log_probs
from interp.errors import InputError, ModelError
from interp.models import hook

PROMPTS = [[5, 9, 40, 41], [7], [5, 9, 40, 41, 42, 43, 44, 45, 46, 50, 51]]
ANSWERS = [[60, 61, 62], [63, 64], [65]]


def alone(model, prompt, answer) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return torch.stack([logits[len(prompt) - 1 + k, t] for k, t in enumerate(answer)])


def gpt2():
    state = torch.get_rng_state()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=448, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    torch.set_rng_state(state)
    return model


@pytest.mark.parametrize("make", [llama, gpt2], ids=["rotary", "absolute positions"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_token_log_probs_are_those_of_a_row_alone(make, batch_size):
    model = make()
    made = token_log_probs(model, PROMPTS, ANSWERS, 0, batch_size=batch_size)
    for prompt, answer, row in zip(PROMPTS, ANSWERS, made, strict=True):
        torch.testing.assert_close(row, alone(model, prompt, answer), rtol=1e-4, atol=1e-4)


def test_a_hooked_model_reads_like_the_plain_one():
    made = token_log_probs(hook(llama(), tokenizer()), PROMPTS, ANSWERS, 0)
    for prompt, answer, row in zip(PROMPTS, ANSWERS, made, strict=True):
        torch.testing.assert_close(row, alone(llama(), prompt, answer), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [llama, gpt2], ids=["rotary", "absolute positions"])
@pytest.mark.parametrize(
    "options",
    [((60,), (61,), (62,)), ((60, 61), (62,), (63, 64, 65))],
    ids=["one token", "several tokens"],
)
def test_choices_that_share_a_long_prompt_are_those_of_a_row_alone(make, options):
    model = make()
    choices = [Choice(tuple(range(10, 10 + n)), options) for n in (3, 14, 20)]
    made = choice_log_probs(model, choices, 0, batch_size=4)
    for choice, row in zip(choices, made, strict=True):
        wanted = [alone(model, choice.prompt, option).sum() for option in options]
        torch.testing.assert_close(row, torch.stack(wanted), rtol=1e-4, atol=1e-4)


def test_rows_that_share_a_beginning_keep_their_own_ends():
    """The shared part is read once; rows of unequal length after it are padded in the middle."""
    model, start = llama(), list(range(20, 40))
    rows = [[*start, 50, 51, 52], [*start, 53], [*start, 54, 55]]
    for index, logits in tail_logits(model, rows, [2, 1, 2], 0):
        plain = model(input_ids=torch.tensor([rows[index]])).logits[0]
        torch.testing.assert_close(logits, plain[-len(logits) :], rtol=1e-4, atol=1e-4)


def test_wrong_rows_are_refused():
    with pytest.raises(InputError, match="one prompt of at least one token"):
        token_log_probs(llama(), [[]], [[1]], 0)
    with pytest.raises(InputError, match="options of at least one token"):
        choice_log_probs(llama(), [Choice((1,), ((),))], 0)
    with pytest.raises(ModelError, match="context holds 256"):
        token_log_probs(llama(), [[1] * 300], [[1]], 0)
    assert token_log_probs(llama(), [[1]], [[]], 0)[0].shape == (0,)
