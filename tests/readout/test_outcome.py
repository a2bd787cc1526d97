"""Outcomes against brute sums over the vocabulary, and the identity of their factors."""

import pytest
import torch
import torch.nn.functional as F
from thinned import todays
from tiny import tokenizer, vocab
from transformers import AutoTokenizer

import interp
from interp.emoji import EmojiVocab
from interp.errors import InputError, TokenizerError
from interp.models.tokens import ChatFormat
from interp.readout import Outcome
from interp.readout.outcome import joined, stop_ids


def outcome() -> Outcome:
    return Outcome.of_vocab(vocab(), stop=stop_ids(tokenizer()))


def some_logits(*lead: int, spread: float = 4.0) -> torch.Tensor:
    noise = torch.Generator().manual_seed(3)
    return spread * torch.randn(*lead, len(tokenizer()) + 5, generator=noise)


def by_hand(made: Outcome, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Sums of probabilities in double precision."""
    p = logits.double().softmax(-1)
    e, s = p[..., list(made.ids)].sum(-1), p[..., list(made.stop_ids)].sum(-1)
    w = 1 - e - s
    return {
        "log_odds": (e / (1 - e)).log(),
        "go_on": (w / s).log(),
        "given_go_on": (e / w).log(),
    }


def test_the_front_door_has_it():
    assert interp.Outcome is Outcome
    assert "Outcome" in dir(interp)


def test_factors_are_what_their_words_say():
    made, logits = outcome(), some_logits(3, 7)
    for factor, wanted in by_hand(made, logits).items():
        found = getattr(made, factor)(logits)
        assert found.shape == (3, 7)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(made.metric(factor)(logits), found)
    torch.testing.assert_close(made.log_odds(logits), vocab().log_odds(logits))


@pytest.mark.parametrize("spread", [0.1, 4.0, 60.0])
def test_the_identity_of_the_factors_holds_with_its_gradient(spread):
    made = outcome()
    logits = some_logits(20, spread=spread).requires_grad_()
    left = made.log_odds(logits)
    right = joined(made.go_on(logits), made.given_go_on(logits))
    scale = float(logits.detach().abs().max())
    torch.testing.assert_close(left, right, atol=1e-6 * scale, rtol=1e-6)
    one, other = (torch.autograd.grad(x.sum(), logits)[0] for x in (left, right))
    torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)


def test_going_on_does_not_move_when_only_the_outcome_does():
    made, logits = outcome(), some_logits(4)
    raised = logits.clone()
    raised[:, list(made.ids)] += 3
    torch.testing.assert_close(made.go_on(raised), made.go_on(logits))
    torch.testing.assert_close(made.given_go_on(raised), made.given_go_on(logits) + 3)
    stopped = logits.clone()
    stopped[:, list(made.stop_ids)] += 3
    torch.testing.assert_close(made.given_go_on(stopped), made.given_go_on(logits))


def test_half_precision_is_read_in_single():
    made, logits = outcome(), some_logits(4).bfloat16()
    assert made.go_on(logits).dtype == torch.float32
    torch.testing.assert_close(made.go_on(logits), made.go_on(logits.float()))


def test_stop_ids_are_those_that_generation_stops_at():
    assert stop_ids(tokenizer()) == ChatFormat.from_tokenizer(tokenizer()).stop_ids
    assert outcome().stop_ids == stop_ids(tokenizer())


def test_which_is_a_distribution_over_the_outcome():
    made, logits = outcome(), some_logits(4)
    chances = made.which(logits)
    p = logits.softmax(-1)[:, list(made.ids)]
    torch.testing.assert_close(chances, p / p.sum(-1, keepdim=True))


@pytest.mark.parametrize("name", todays())
def test_strings_begin_with_the_tokens_that_write_them(shared, name):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    made = Outcome.strings(real, ["sorry", "cannot"], stop=[0])
    assert made.partial == ()
    assert made.reads == 1
    said = {real.convert_ids_to_tokens(token).strip("▁Ġ") for token in made.ids}
    assert said == {"sorry", "cannot"}
    ids = real("I am so sorry", add_special_tokens=False)["input_ids"]
    assert ids[-1] in made.ids
    rare = Outcome.strings(real, ["unfortunately so"], stop=[0])
    assert rare.partial == ("unfortunately so",)


def test_tokens_are_ids_or_names():
    real = tokenizer()
    word = real.convert_ids_to_tokens(300)
    assert Outcome.tokens(real, [301, word]).ids == (300, 301)


def test_two_rows_add_what_the_lone_space_leads_to():
    made = Outcome("x", ids=(3, 4), stop_ids=(0,), size=9, space=5, after_ids=(3, 6))
    logits = some_logits(6, 2)[..., :9]
    p, q = logits.double().softmax(-1).unbind(-2)
    e = p[:, [3, 4]].sum(-1) + p[:, 5] * q[:, [3, 6]].sum(-1)
    wanted = torch.stack([1 - e - p[:, 0], p[:, 0], e], -1)
    torch.testing.assert_close(made.probability(logits).double(), wanted, atol=1e-6, rtol=1e-5)
    e1 = p[:, [3, 4]].sum(-1)
    direct = made.direct.probability(logits[:, 0]).double()
    torch.testing.assert_close(direct[:, 2], e1, atol=1e-6, rtol=1e-5)
    inputs = logits.clone().requires_grad_()
    left, right = made.log_odds(inputs), joined(made.go_on(inputs), made.given_go_on(inputs))
    torch.testing.assert_close(left, right)
    one, other = (torch.autograd.grad(x.sum(), inputs, retain_graph=True)[0] for x in (left, right))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert F.pad(one, (0, 0)).abs().sum(-1).min() > 0  # both rows matter


def test_what_cannot_be_an_outcome_is_refused_by_name():
    real = tokenizer()
    silent = Outcome("x", ids=(3,), stop_ids=(), size=9)
    silent.log_odds(torch.zeros(2, 9))
    for attempt in (silent.metrics, lambda: silent.metric("go_on"),
                    lambda: silent.go_on(torch.zeros(2, 9))):  # fmt: skip
        with pytest.raises(TokenizerError, match="no stop token is known"):
            attempt()
    with pytest.raises(TokenizerError, match="no token that begins it"):
        Outcome("x", ids=(), stop_ids=(1,), size=9)
    with pytest.raises(TokenizerError, match="outcome id 9 is not among"):
        Outcome("x", ids=(9,), stop_ids=(1,), size=9)
    with pytest.raises(TokenizerError, match="stop id -1"):
        Outcome("x", ids=(3,), stop_ids=(-1,), size=9)
    with pytest.raises(InputError, match="both ends a turn and begins"):
        Outcome.tokens(real, [real.eos_token_id])
    with pytest.raises(InputError, match="no token for words"):
        Outcome("x", ids=(0, 1), stop_ids=(2,), size=3)
    with pytest.raises(InputError, match="is empty or has white space"):
        Outcome.strings(real, ["sorry", ""])
    with pytest.raises(InputError, match="at least one string"):
        Outcome.strings(real, [])
    with pytest.raises(TokenizerError, match="'nope' is not in"):
        Outcome.tokens(real, ["nope"])
    with pytest.raises(TokenizerError, match="logits have 4 columns"):
        outcome().log_odds(torch.zeros(4))
    with pytest.raises(InputError, match="read at two positions"):
        Outcome("x", (3,), (0,), 9, space=5, after_ids=(3,)).log_odds(torch.zeros(3, 9))
    with pytest.raises(InputError, match="unknown factor 'odds'"):
        silent.metric("odds")


def test_a_string_that_no_token_can_write_is_refused(small_words):
    with pytest.raises(TokenizerError, match="cannot write '雨'"):
        Outcome.strings(small_words, ["雨"], stop=[0])
    with pytest.raises(TokenizerError, match="cannot write any emoji"):
        EmojiVocab.from_tokenizer(small_words)
