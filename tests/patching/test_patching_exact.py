"""The exact engine, case by case: padding, metrics, choices, and what it refuses."""

import pytest
import torch
from patching_models import VOCAB, bridge, pick, prompts

from interp.emoji import EmojiVocab
from interp.errors import InputError, ModelError
from interp.patching import Cells, Run, naive, sweep
from interp.readout import Question


def both(clean, corrupted, site, **options):
    options = {"metric": pick} | options
    fast = sweep(clean, corrupted, site, **options)
    slow = naive.sweep(clean, corrupted, site, **options)
    assert slow.effect().abs().max() > 0.1  # the patches do something
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.clean, slow.clean)
    assert torch.equal(fast.present, slow.present)
    return fast


def test_padding_changes_nothing():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, mask = prompts([7, 4], side="left")
    padded = sweep(Run(one, tokens, mask), Run(other, tokens, mask), "attn_out", metric=pick)
    short = tokens[1:, 3:]
    alone = sweep(Run(one, short), Run(other, short), "attn_out", metric=pick)
    torch.testing.assert_close(padded.values[:, 3:, 1:], alone.values, atol=1e-5, rtol=0)
    assert padded.present[:, 1].tolist() == [False] * 3 + [True] * 4
    assert padded.unit_labels == ("-6", "-5", "-4", "-3", "-2", "-1", "0")
    assert torch.equal(padded.values[:, :3, 1], padded.corrupted[1].expand(3, 3))


def test_metric_left_of_the_end():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, mask = prompts([7, 6])
    columns = torch.tensor([3, 5])
    fast = both(
        Run(one, tokens, mask), Run(other, tokens, mask), "mlp_out", ask=Question(places=columns)
    )
    assert torch.equal(fast.metric_positions, columns)
    right = fast.effect()[:, 4:, 0]
    assert torch.equal(right, torch.zeros_like(right))


def test_default_metric_is_the_emoji_log_odds():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, mask = prompts([7, 6])
    with torch.no_grad():  # the bridge adds a bias of zeros; a real one must count
        other.unembed.original_component.bias.copy_(torch.linspace(-1, 1, VOCAB))
    clean, corrupted = Run(one, tokens, mask), Run(other, tokens, mask)
    found = sweep(clean, corrupted, "resid_pre")
    ids = EmojiVocab.from_tokenizer(one.tokenizer).emoji_ids

    def log_odds(logits):
        emoji = torch.zeros(logits.shape[-1], dtype=torch.bool)
        emoji[ids] = True
        return logits[:, emoji].logsumexp(-1) - logits[:, ~emoji].logsumexp(-1)

    slow = naive.sweep(clean, corrupted, "resid_pre", metric=log_odds)
    torch.testing.assert_close(found.values, slow.values, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.clean, slow.clean, atol=1e-5, rtol=0)
    assert (found.metric, found.unit, found.contrast) == ("emoji log-odds", "nats", "model")


def test_last_stream_is_read_out_by_the_other_model():
    """With one token, `resid_post` of the last layer is all that the readout sees."""
    one, other = bridge("gpt2", 1), bridge("gpt2", 2)
    tokens, _ = prompts([1, 1, 1])
    found = sweep(Run(one, tokens), Run(other, tokens), "resid_post", metric=pick)
    with torch.no_grad():
        _, cache = one.run_with_cache(tokens)
        hf = other.original_model
        stream = cache["blocks.2.hook_resid_post"][:, 0]
        wanted = pick(hf.lm_head.original_component(hf.transformer.ln_f(stream)))
    torch.testing.assert_close(found.values[-1, 0], wanted, atol=1e-5, rtol=0)


def test_choice_of_layers_positions_and_heads():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, _ = prompts([6, 6])
    clean, corrupted = Run(one, tokens), Run(other, tokens)
    whole = sweep(clean, corrupted, "resid_pre", metric=pick)
    part = sweep(
        clean, corrupted, "resid_pre", metric=pick, cells=Cells(layers=[2, 0], positions=[-1, 1])
    )
    assert (part.layers, part.units) == ((2, 0), (5, 1))
    torch.testing.assert_close(part.values, whole.values[[2, 0]][:, [5, 1]], atol=1e-5, rtol=0)
    heads = sweep(clean, corrupted, "z", metric=pick, cells=Cells(heads=[3]))
    assert heads.values.shape == (3, 1, 2)
    assert heads.axis == "head"


def test_custom_metric_sees_whole_batches_in_order():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, _ = prompts([6, 6, 6])
    answers = torch.tensor([5, 9, 33])

    def answer_logit(logits):
        return logits[torch.arange(3), answers]

    both(Run(one, tokens), Run(other, tokens), "mlp_out", metric=answer_logit)


def test_reports_progress():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, _ = prompts([3])
    calls = []
    sweep(
        Run(one, tokens),
        Run(other, tokens),
        "z",
        metric=pick,
        ask=Question(progress=lambda *call: calls.append(call)),
    )
    assert calls == [("patching z", done, 3) for done in range(4)]


def test_engine_refuses_a_model_that_it_does_not_reproduce():
    """A hook that someone left on the model is not in the engine's arithmetic."""
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, _ = prompts([5])
    other.add_hook("blocks.1.hook_mlp_out", lambda value, **_: value * 0.5)
    with pytest.raises(ModelError, match="does not reproduce this llama model"):
        sweep(Run(one, tokens), Run(other, tokens), "resid_pre", metric=pick)
    other.reset_hooks()


def test_model_is_left_as_it_was():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, _ = prompts([5])
    before = {name: value.clone() for name, value in other.original_model.state_dict().items()}
    with torch.no_grad():
        logits = other(tokens)
    both(Run(one, tokens), Run(other, tokens), "resid_mid")
    assert all(torch.equal(v, before[n]) for n, v in other.original_model.state_dict().items())
    assert not any(point.fwd_hooks for point in other.hook_dict.values())
    with torch.no_grad():
        assert torch.equal(other(tokens), logits)


def test_nothing_to_recover_is_an_error():
    one = bridge("llama", 1)
    tokens, _ = prompts([5])
    with pytest.raises(InputError, match="nothing to recover"):
        sweep(Run(one, tokens), Run(bridge("llama", 1), tokens), "z", metric=pick)
