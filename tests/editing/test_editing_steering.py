"""Steering: against additions written by hand, and bit for bit gone when it is over."""

from dataclasses import replace

import pytest
import torch
from editing_made import E, N, fresh_base, hooked_base
from tiny import llama, vocab

from interp.behaviour import Sampling, generate
from interp.errors import AdapterError, DataError, InputError, ModelError
from interp.methods.editing import Steered, Steering
from interp.patching import Run, naive, sweep

QUESTIONS = [("Do you love it?", "x"), ("What do you think about the hill?", "y"), ("Why?", "z")]
IDS = torch.arange(40, 64).view(2, 12)


def steering(site="resid_post", layers=(1,), where="all", strength=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Steering(
        vectors=torch.randn(len(layers), 64, generator=generator),
        layers=layers,
        site=site,
        strength=strength,
        where=where,
        method="persona vector",
        trait=str(E),
        base_sha256=hooked_base().base_sha256,
        topics=("rain",),
        head_width=16 if site == "z" else 0,
        heads=(),
        search=(),
        against="base",
        seed=0,
    )


def logits(ids=IDS):
    return hooked_base().model.original_model(ids).logits


def by_hand(made, ids=IDS, chosen=None):
    """The addition as hooks on a plain Hugging Face model."""
    model = llama()
    chosen = torch.ones(ids.shape, dtype=torch.bool) if chosen is None else chosen
    for layer, vector in zip(made.layers, made.vectors, strict=True):
        shift = made.strength * vector * chosen[..., None]
        block = model.model.layers[layer]
        if made.site == "z":
            block.self_attn.o_proj.register_forward_pre_hook(
                lambda _, args, shift=shift: (args[0] + shift,)
            )
        else:
            block.register_forward_hook(
                lambda _, __, out, shift=shift: (
                    (out[0] + shift, *out[1:]) if isinstance(out, tuple) else out + shift
                )
            )
    return model(ids).logits


@pytest.mark.parametrize("site", ["resid_post", "z"])
@pytest.mark.parametrize("layers", [(0,), (0, 2)])
def test_steering_adds_the_vectors(site, layers):
    made = steering(site, layers, strength=1.5)
    with made.active(hooked_base().model):
        found = logits()
    assert torch.allclose(found, by_hand(made), atol=1e-4)
    assert (found - logits()).abs().max() > 0.1, "it does something"


@pytest.mark.parametrize("site", ["resid_post", "z"])
def test_strength_zero_is_bit_for_bit_nothing_and_so_is_closing(site):
    before = logits()
    with steering(site).at(0.0).active(hooked_base().model):
        assert torch.equal(logits(), before)
    with pytest.raises(RuntimeError, match="inside"), steering(site).active(hooked_base().model):
        raise RuntimeError("inside")
    assert torch.equal(logits(), before)


def test_a_shift_before_the_output_projection_is_a_bias_of_it():
    made = steering("z", strength=0.7)
    model = llama()
    o = model.model.layers[1].self_attn.o_proj
    o.bias = torch.nn.Parameter(0.7 * made.vectors[0] @ o.weight.T, requires_grad=False)
    with made.active(hooked_base().model):
        assert torch.allclose(logits(), model(IDS).logits, atol=1e-4)


@pytest.mark.parametrize("site", ["resid_post", "z"])
def test_answer_positions_and_the_one_before_them_are_steered(site):
    made = steering(site, where="answer")
    answer = torch.zeros(IDS.shape, dtype=torch.bool)
    answer[0, 7:], answer[1, 4:] = True, True
    steered = answer.clone()
    steered[0, 6], steered[1, 3] = True, True
    with made.active(hooked_base().model, answer):
        found = logits()
    assert torch.allclose(found, by_hand(made, chosen=steered), atol=1e-4)
    assert torch.equal(found[0, :6], logits()[0, :6])
    with (
        made.active(hooked_base().model, answer),
        pytest.raises(InputError, match="answer's positions"),
    ):
        logits(IDS[:, :5])


@pytest.mark.parametrize("where", ["all", "answer"])
def test_generation_with_the_cache_is_what_forced_text_says(where):
    made = steering(where=where, strength=0.5)
    method = Steered.of(hooked_base(), made)
    greedy = Sampling(max_new_tokens=8, temperature=0.0)
    for response in method.answers(QUESTIONS, greedy):
        ids = torch.tensor([response.prompt_ids + response.ids])
        start = len(response.prompt_ids)
        answer = torch.arange(ids.shape[1])[None] >= start
        with made.active(hooked_base().model, answer):
            forced = logits(ids)[0, start - 1 : -1].argmax(-1)
        assert forced.tolist() == list(response.ids)
    plain = generate(hooked_base().model, hooked_base().format, QUESTIONS, greedy)
    assert [r.ids for r in plain] != [r.ids for r in method.answers(QUESTIONS, greedy)]


def test_answers_do_not_depend_on_the_batch_size():
    method = Steered.of(hooked_base(), steering(where="answer", strength=0.5))
    alone = method.answers(QUESTIONS, Sampling(max_new_tokens=8, seed=2, batch_size=1))
    assert method.answers(QUESTIONS, Sampling(max_new_tokens=8, seed=2, batch_size=3)) == alone


@pytest.mark.parametrize("site", ["resid_post", "z"])
def test_exact_sweeps_go_through_steering(site):
    clean, corrupted = Run(hooked_base().model, IDS[:1]), Run(hooked_base().model, IDS[1:])
    plain = sweep(clean, corrupted, "resid_pre", metric=vocab().log_odds)
    with steering(site, strength=0.3).active(hooked_base().model):
        fast = sweep(clean, corrupted, "resid_pre", metric=vocab().log_odds)
        slow = naive.sweep(clean, corrupted, "resid_pre", metric=vocab().log_odds)
    assert torch.allclose(fast.values, slow.values, atol=1e-3)
    assert (fast.values - plain.values).abs().max() > 0.05


@pytest.mark.parametrize("site", ["resid_post", "z"])
def test_the_random_control_has_the_same_norms_and_another_direction(site):
    made = steering(site, (0, 2))
    if site == "z":
        made.vectors[0, 16:32] = 0.0  # a head that is left alone stays so
    control = made.random(5)
    assert torch.allclose(control.norms, made.norms, rtol=1e-7, atol=0)
    assert control.norms.shape == ((2, 4) if site == "z" else (2, 1))
    assert torch.equal(control.vectors, made.random(5).vectors)
    assert not torch.equal(control.vectors, made.random(6).vectors)
    assert control.method == "persona vector, random direction"
    many = torch.stack([made.random(seed).vectors[1] for seed in range(400)])
    cosine = torch.cosine_similarity(many, made.vectors[1], dim=-1)
    assert cosine.mean().abs() < 4 * (1 / 64 / 400) ** 0.5, "no direction is favoured"
    assert cosine.std() == pytest.approx((1 / 64) ** 0.5, rel=0.15)


def test_a_saved_steering_is_the_same(tmp_path):
    made = replace(
        steering("z", (0, 2)), heads=((0, 1, 0.9, 0.5), (2, 3, 0.8, 1.5)), search=((-1, 0.0, 2.0),)
    )
    back = Steering.load(made.save(tmp_path / "steering.safetensors"))
    assert torch.equal(back.vectors, made.vectors)
    assert replace(back, vectors=made.vectors) == made
    table = back.to_dataframe()
    assert table.loc[(table["layer"] == 2) & (table["head"] == 3), "spread"].item() == 1.5


def test_bad_input_is_named():
    with pytest.raises(AdapterError, match="fitted on another base"):
        Steered.of(fresh_base(seed=1), steering())
    with pytest.raises(InputError, match="was fitted for extraversion, not neuroticism"):
        Steered(hooked_base(), N, steering())
    with pytest.raises(DataError, match="topics asked about were in its training data"):
        Steered.of(hooked_base(), steering()).answers([("Why?", "Rain")])
    with pytest.raises(InputError, match="acts on answer positions"):
        Steered.of(hooked_base(), steering(where="answer")).hooked().__enter__()
    with (
        pytest.raises(ModelError, match="has 3 layers"),
        steering(layers=(7,)).active(hooked_base().model),
    ):
        pass
    narrow = replace(steering(), vectors=torch.ones(1, 12))
    with pytest.raises(ModelError, match="12 wide"), narrow.active(hooked_base().model):
        pass
    with pytest.raises(InputError, match="finite"):
        replace(steering(), vectors=torch.full((1, 64), torch.nan))
    with pytest.raises(InputError, match="use site"):
        replace(steering(), site="q")
