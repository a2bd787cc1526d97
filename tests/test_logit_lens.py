"""The lens against Hugging Face logits, a hand-made norm and unembedding, and planted residuals."""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from tiny import emoji
from transformer_lens.model_bridge import TransformerBridge
from transformers import Gemma2Config, Gemma2ForCausalLM

from interp import logit_lens
from interp.base.stats import share_interval
from interp.emoji import EmojiVocab
from interp.errors import InputError, ModelError, TokenizerError
from interp.logit_lens import LensReading
from interp.models import hook, pad
from interp.readout import Outcome, Question
from interp.readout.outcome import joined


def bridge(model) -> TransformerBridge:
    return hook(model, tiny.tokenizer())


@pytest.fixture(scope="module")
def vocab() -> EmojiVocab:
    return tiny.vocab()


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    texts = ["I love it so much!", "Oh no", "Well, the weather is what it is."]
    return [tiny.tokenizer()(text)["input_ids"] for text in texts]


def by_hand(logits: torch.Tensor, ids: torch.Tensor) -> tuple[float, float, int, int]:
    """Log-odds, probability, rank and best id of one row, from the full softmax in float64."""
    share = logits.double().softmax(-1)
    inside = float(share[ids].sum())
    best = int(ids[logits[ids].argmax()])
    rank = sum(1 for value in logits.tolist() if value > float(logits[best]))
    return math.log(inside) - math.log1p(-inside), inside, rank, best


def assert_reads(reading: LensReading, layer: int, row: int, place: int, logits, ids) -> None:
    log_odds, probability, rank, best = by_hand(logits, ids)
    assert reading.log_odds[layer, row, place].item() == pytest.approx(log_odds, abs=1e-4)
    assert reading.probability[layer, row, place].item() == pytest.approx(probability, abs=1e-5)
    assert reading.rank[layer, row, place].item() == rank
    assert reading.best_id[layer, row, place].item() == best


def test_every_layer_against_norm_and_unembedding_by_hand(vocab, prompts):
    model = tiny.llama(seed=3)
    batch = pad(prompts, 2)
    with torch.no_grad():
        out = model(batch.tokens, attention_mask=batch.attention_mask, output_hidden_states=True)
        # Hugging Face's last hidden state is normed already; the others are not.
        hand = [
            model.lm_head(state if last else model.model.norm(state))
            for last, state in [
                (index == len(out.hidden_states) - 1, state)
                for index, state in enumerate(out.hidden_states)
            ]
        ]
    torch.testing.assert_close(hand[-1], out.logits)
    reading = logit_lens.read(bridge(model), batch.tokens, batch.attention_mask, outcome=emoji())
    assert reading.labels == ("embedding", "0", "1", "final")
    for layer, logits in enumerate(hand):
        for row, place in batch.attention_mask.nonzero().tolist():
            assert_reads(reading, layer, row, place, logits[row, place], vocab.emoji_ids)
    assert reading.readout_error < 1e-4
    free = dict(enumerate(model.lm_head.weight.norm(dim=1)[: emoji().size].tolist()))
    length = dict(free)
    for taken in (*emoji().ids, *emoji().stop_ids):
        free.pop(taken)
    words = []
    for token in emoji().ids:  # each the nearest in length that is left
        words.append(min(free, key=lambda word, token=token: abs(free[word] - length[token])))
        free.pop(words[-1])
    for layer, logits in enumerate(hand):
        log_odds, *_ = by_hand(logits[0, -1], torch.tensor(words))
        assert reading.reference[layer, 0, -1].item() == pytest.approx(log_odds, abs=1e-4)


def test_mid_readings_are_the_stream_between_attention_and_mlp(vocab, prompts):
    model = tiny.llama(seed=3)
    tokens = torch.tensor(prompts[:1])
    mids: list[torch.Tensor] = []
    layer = model.model.layers[1]
    handle = layer.post_attention_layernorm.register_forward_pre_hook(
        lambda _, inputs: mids.append(inputs[0])
    )
    with torch.no_grad():
        model(tokens)
        logits = model.lm_head(model.model.norm(mids[0]))
    handle.remove()
    reading = logit_lens.read(bridge(model), tokens, outcome=emoji(), include_mid=True)
    assert reading.labels == ("embedding", "0.mid", "0", "1.mid", "1", "2.mid", "final")
    for place in range(tokens.shape[1]):
        assert_reads(reading, 3, 0, place, logits[0, place], vocab.emoji_ids)


def test_bfloat16_last_reading_is_the_models_own(vocab, prompts):
    model = tiny.llama(seed=3).to(torch.bfloat16)
    tokens = torch.tensor(prompts[:1])
    with torch.no_grad():
        logits = model(tokens).logits
    reading = logit_lens.read(bridge(model), tokens, outcome=emoji())
    torch.testing.assert_close(reading.log_odds[-1], vocab.log_odds(logits), atol=0.05, rtol=0.02)
    assert reading.readout_error < 0.02 * logits.abs().max()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_and_is_marked(prompts, side):
    model = bridge(tiny.llama(seed=4))
    batch = pad(prompts, 2, side)
    whole = logit_lens.read(
        model, batch.tokens, batch.attention_mask, outcome=emoji(), ask=Question(batch_size=2)
    )
    for row, ids in enumerate(prompts):
        alone = logit_lens.read(model, torch.tensor([ids]), outcome=emoji())
        real = whole.valid[row]
        assert real.tolist() == batch.attention_mask[row].tolist()
        torch.testing.assert_close(
            whole.log_odds[:, row, real], alone.log_odds[:, 0], atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            whole.at_onset()[:, row], alone.log_odds[:, 0, -1], atol=1e-4, rtol=1e-4
        )
        assert bool((whole.rank[:, row, ~real] == -1).all())
        assert bool((whole.probability[:, row, ~real] == 0).all())
    assert bool(torch.isfinite(whole.log_odds).all())
    table = whole.to_dataframe()
    assert len(table) == 4 * sum(map(len, prompts))
    assert table.is_onset.sum() == 4 * len(prompts)


@pytest.mark.parametrize("side", ["left", "right"])
def test_choosing_positions_picks_the_same_values(prompts, side):
    model = bridge(tiny.llama(seed=4))
    batch = pad(prompts, 2, side)
    every = logit_lens.read(model, batch.tokens, batch.attention_mask, outcome=emoji())
    onset = logit_lens.read(
        model, batch.tokens, batch.attention_mask, outcome=emoji(), positions="onset"
    )
    assert onset.log_odds.shape == (4, 3, 1)
    torch.testing.assert_close(onset.at_onset(), every.at_onset())
    two = logit_lens.read(
        model, batch.tokens, batch.attention_mask, outcome=emoji(), positions=[0, -1]
    )
    torch.testing.assert_close(two.log_odds, every.log_odds[..., [0, -1]])
    if side == "right":  # the last column is padding for the shorter prompts
        with pytest.raises(InputError, match="onset position of prompt 0 was not read"):
            two.at_onset()


def test_compare_reads_both_and_their_gap(prompts):
    base, tuned = bridge(tiny.llama(seed=4)), bridge(tiny.llama(seed=5))
    batch = pad(prompts, 2)
    said = []
    result = logit_lens.compare(
        base,
        tuned,
        batch.tokens,
        batch.attention_mask,
        outcome=emoji(),
        ask=Question(batch_size=2, progress=lambda *step: said.append(step)),
    )
    alone = logit_lens.read(tuned, batch.tokens, batch.attention_mask, outcome=emoji())
    torch.testing.assert_close(result.tuned.log_odds, alone.log_odds)
    assert said[0] == ("logit lens, base", 2, 3)
    assert said[-1] == ("logit lens, tuned", 3, 3)
    table = result.by_layer().set_index(["model", "layer"])
    gap = (result.tuned.at_onset() - result.base.at_onset()).mean(1)
    assert table.loc[("difference", 2), "mean"] == pytest.approx(float(gap[2]), abs=1e-5)
    assert bool((table.low <= table["mean"]).all())
    assert bool((table["mean"] <= table.high).all())


def planted(log_odds: list[list[float]]) -> LensReading:
    """A reading of one position per prompt with the given log-odds, `[layer][prompt]`."""
    values = torch.tensor(log_odds, dtype=torch.float32).unsqueeze(-1)
    layers, batch, _ = values.shape
    return LensReading(
        values,
        values,
        values,
        values,
        torch.sigmoid(values),
        torch.zeros_like(values, dtype=torch.long),
        torch.zeros_like(values, dtype=torch.long),
        valid=torch.ones(batch, 1, dtype=torch.bool),
        columns=torch.zeros(batch, 1, dtype=torch.long),
        onset=torch.zeros(batch, dtype=torch.long),
        labels=tuple(str(layer) for layer in range(layers)),
        readout_error=0.0,
    )


def test_onset_layer_is_where_the_log_odds_stay_up():
    #                 stays from 2 | dips again | never | from the start
    reading = planted(
        [[-3, 1, -1, 5], [-2, -1, -1, 5], [1, 2, -1, 5], [2, -4, -1, 5], [3, 1, -1, 5]]
    )
    assert reading.onset_layers().tolist() == [2, 4, -1, 0]
    summary = reading.onset_summary().iloc[0]
    assert summary.reached == 0.75
    assert summary.median_layer == 2
    # means: .5, .25, 1.75, .5, 2
    assert summary.of_mean_layer == 0
    assert reading.onset_summary(threshold=1.0).iloc[0].of_mean == "4"
    assert reading.onset_summary(threshold=9.0).iloc[0].of_mean is None
    assert reading.onset_summary(threshold=9.0).iloc[0].reached == 0


def test_intervals_over_clusters_are_wider_when_clusters_agree():
    topics = [topic for topic in range(6) for _ in range(10)]
    reading = planted([[float(topic % 3) for topic in topics]] * 2)
    free = reading.by_layer().iloc[0]
    grouped = reading.by_layer(clusters=topics).iloc[0]
    assert free["mean"] == grouped["mean"] == 1.0
    assert grouped.high - grouped.low > 2 * (free.high - free.low)
    assert (grouped.n, grouped.n_clusters) == (60, 6)


def test_topics_and_copies_of_prompts_are_the_units(prompts):
    model = bridge(tiny.llama(seed=4))
    batch = pad([prompts[0]] * 3 + list(prompts[1:]), 2)
    how = {"outcome": emoji(), "positions": "onset"}
    reading = logit_lens.read(model, batch.tokens, batch.attention_mask, **how)
    units = len(set(map(tuple, prompts)))
    assert set(reading.by_layer().n_clusters) == {units}
    others = [f"topic {i % 2}" for i in range(len(batch.tokens))]
    topics = [others[0]] * 3 + others[3:]
    named = logit_lens.read(
        model, batch.tokens, batch.attention_mask, ask=Question(topics=topics), **how
    )
    assert named.topics == tuple(topics)
    assert set(named.by_position().n_clusters) == {2}
    pd.testing.assert_frame_equal(named.by_layer(), reading.by_layer(clusters=topics))


def test_prompts_that_end_above_zero_are_counted_over_topics():
    reading = replace(planted([[1, 1, 1, -1, -1, -1]]), topics=("a",) * 3 + ("b",) * 3)
    row = reading.onset_summary().iloc[0]
    wanted = share_interval([True] * 3 + [False] * 3, reading.topics)
    assert (row.low, row.high) == (wanted.low, wanted.high)
    assert row.high - row.low > 0.8  # two topics that disagree say nothing
    one = replace(reading, topics=("a",) * 6).onset_summary().iloc[0]
    assert one.reached == 0.5
    assert np.isnan([one.low, one.high]).all()


def test_by_position_averages_what_stands_at_the_same_distance_from_the_end(prompts):
    model = bridge(tiny.llama(seed=4))
    batch = pad(prompts, 2)
    reading = logit_lens.read(model, batch.tokens, batch.attention_mask, outcome=emoji())
    table = reading.by_position().set_index(["from_onset", "layer"])
    assert table.loc[(0, 1), "mean"] == pytest.approx(float(reading.at_onset()[1].mean()), abs=1e-5)
    lengths = sorted(map(len, prompts))
    second = [row for row, ids in enumerate(prompts) if len(ids) >= lengths[1]]
    first_of_second = -(lengths[1] - 1)
    want = reading.log_odds[2, second, first_of_second - 1].mean()
    assert table.loc[(first_of_second, 2), "mean"] == pytest.approx(float(want), abs=1e-5)
    assert table.index.get_level_values(0).min() == first_of_second  # no distance of one prompt
    assert table.loc[(first_of_second, 2), "n"] == 2


def test_a_distance_from_an_onset_that_was_not_read_is_not_said(prompts):
    model, batch = bridge(tiny.llama(seed=4)), pad(prompts, 2)
    how = {"outcome": emoji(), "positions": [-3, -2]}
    reading = logit_lens.read(model, batch.tokens, batch.attention_mask, **how)
    with pytest.raises(InputError, match="onset position of prompt 0 was not read"):
        reading.by_position()
    how["positions"] = [-1, -3]
    reading = logit_lens.read(model, batch.tokens, batch.attention_mask, **how)
    assert set(reading.by_position()["from_onset"]) == {-2, 0}


def test_a_model_is_left_as_it_was(prompts):
    model = bridge(tiny.llama(seed=4))
    tokens = torch.tensor(prompts[:1])
    before = model(tokens)
    logit_lens.read(model, tokens, outcome=emoji(), include_mid=True)
    assert torch.equal(model(tokens), before)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_a_readout_that_is_not_the_models_is_refused(prompts):
    model = tiny.llama(seed=4, tie_word_embeddings=False)
    hooked = bridge(model)
    # A model whose logits are scaled after the unembedding, unknown to TransformerLens.
    model.lm_head.register_forward_hook(lambda _, __, out: 3.0 * out)
    with pytest.raises(ModelError, match="last reading differs from the model's own logits"):
        logit_lens.read(hooked, torch.tensor(prompts[:1]), outcome=emoji())


def test_activations_that_are_no_numbers_are_refused(prompts):
    model = tiny.llama(seed=4)

    # Not finite in the middle, finite at the end: the logits alone do not show it.
    saved: list[torch.Tensor] = []

    def spoil(_, __, out):
        saved.append(out)
        return torch.full_like(out, float("inf"))

    model.model.layers[0].register_forward_hook(spoil)
    model.model.layers[1].register_forward_pre_hook(lambda _, args: (saved[-1], *args[1:]))
    with pytest.raises(ModelError, match=r"blocks\.0\.hook_resid_post overflows"):
        logit_lens.read(bridge(model), torch.tensor(prompts[:1]), outcome=emoji())


def test_a_model_in_training_mode_is_refused(prompts):
    model = bridge(tiny.llama(seed=4)).train()
    with pytest.raises(ModelError, match=r"cannot read this model.*model.eval\(\)"):
        logit_lens.read(model, torch.tensor(prompts[:1]), outcome=emoji())


def test_bad_input_is_named(prompts):
    model = bridge(tiny.llama(seed=4))
    tokens = torch.tensor(prompts[:1])
    with pytest.raises(InputError, match="prompt 0 is all padding"):
        logit_lens.read(model, tokens, torch.zeros_like(tokens), outcome=emoji())
    with pytest.raises(InputError, match=r"positions \[99\] are not among"):
        logit_lens.read(model, tokens, outcome=emoji(), positions=[99])
    with pytest.raises(InputError, match="positions 'last' is neither"):
        logit_lens.read(model, tokens, outcome=emoji(), positions="last")
    with pytest.raises(InputError, match="positions is empty"):
        logit_lens.read(model, tokens, outcome=emoji(), positions=[])
    with pytest.raises(InputError, match="the lens has its own metric and positions"):
        logit_lens.read(model, tokens, ask=Question(metric=lambda logits: logits[:, 0]))
    with pytest.raises(TokenizerError, match="ids but the model only 300"):
        logit_lens.read(bridge(tiny.llama(vocab_size=300)), tokens, outcome=emoji())
    with pytest.raises(ModelError, match="base has 3 layers and tuned 2"):
        logit_lens.compare(model, bridge(tiny.llama(num_hidden_layers=2)), tokens, outcome=emoji())
    with pytest.raises(InputError, match="unknown quantity"):
        planted([[1.0, 2.0]]).values("logit")


def test_the_readout_follows_a_final_softcap(vocab, prompts):
    config = Gemma2Config(
        vocab_size=448, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).eval().requires_grad_(False)
    tokens = torch.tensor(prompts[:1])
    logits = model(tokens).logits
    hooked = hook(model, tiny.tokenizer())
    reading = logit_lens.read(hooked, tokens, outcome=emoji())
    assert 0.4 < logits.abs().max() <= 0.5  # the cap is at work
    for place in range(tokens.shape[1]):
        assert_reads(reading, -1, 0, place, logits[0, place], vocab.emoji_ids)


def test_both_factors_are_read_with_the_log_odds(prompts):
    model, tokens = tiny.llama(seed=4), torch.tensor(prompts[:1])
    made = emoji()
    reading = logit_lens.read(bridge(model), tokens, outcome=made)
    logits = model(tokens).logits[0]
    torch.testing.assert_close(reading.go_on[-1, 0], made.go_on(logits), atol=1e-4, rtol=1e-4)
    wanted = made.given_go_on(logits)
    torch.testing.assert_close(reading.given_go_on[-1, 0], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        joined(reading.go_on, reading.given_go_on), reading.log_odds, atol=1e-4, rtol=1e-4
    )
    silent = dataclasses.replace(made, stop_ids=())
    assert logit_lens.read(bridge(model), tokens, outcome=silent).go_on.isnan().all()


def test_an_outcome_behind_a_lone_space_is_read_at_both_positions(prompts):
    two = Outcome("x", (300, 301), (1,), 364, space=9, after_ids=(301,))
    model = tiny.llama(seed=4)
    batch = pad([[*prompts[0], 9], [*prompts[1], 9]], 0)
    reading = logit_lens.read(
        bridge(model), batch.tokens, batch.attention_mask, outcome=two, positions="onset"
    )
    for row, ids in enumerate(prompts[:2]):
        logits = model(torch.tensor([[*ids, 9]])).logits[0, -2:]
        for name in ("log_odds", "go_on", "given_go_on"):
            wanted = getattr(two, name)(logits)
            found = getattr(reading, name)[-1, row, 0]
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (reading.columns == batch.tokens.shape[1] - 2).all()
    behind = dataclasses.replace(two, ids=())  # nothing but what follows the space begins it
    only = logit_lens.read(
        bridge(model), batch.tokens, batch.attention_mask, outcome=behind, positions="onset"
    )
    wanted = torch.stack([behind.log_odds(model(row[None]).logits[0, -2:]) for row in (
        torch.tensor([*ids, 9]) for ids in prompts[:2])])  # fmt: skip
    torch.testing.assert_close(only.log_odds[-1, :, 0], wanted, atol=1e-4, rtol=1e-4)
    assert set(only.best_id[-1, :, 0].tolist()) == {301}
    with pytest.raises(InputError, match="read at two positions"):
        logit_lens.read(bridge(model), batch.tokens, batch.attention_mask, outcome=two)
    with pytest.raises(InputError, match="read at two positions"):
        logit_lens.read(
            bridge(model), batch.tokens[:, :-1], batch.attention_mask[:, :-1], outcome=two,
            positions="onset",
        )  # fmt: skip
