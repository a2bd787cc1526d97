"""The Jacobian lens against TransformerLens' own fit, and where a head turns the feature."""

import planted_models
import pytest
import tiny
import torch
from thinned import turn
from tiny import emoji
from transformer_lens.tools.analysis import JacobianLens as Theirs

from interp import load_pair, logit_lens
from interp.errors import InputError, ModelError
from interp.logit_lens import JacobianLens
from interp.models import hook, pad
from interp.models.tokens import TokenBatch, pad_id
from interp.readout import Outcome

TEXTS = ("I love it so much!", "Oh no", "Well, the weather is what it is.")


@pytest.fixture(scope="module")
def model():
    return hook(tiny.llama(seed=3), tiny.tokenizer())


@turn(2, of=3)
def test_matrices_are_those_of_transformer_lens(model, tmp_path):
    rows = [model.to_tokens(text)[0].tolist() for text in TEXTS]
    batch = pad(rows, 2)
    where = batch.attention_mask.clone()
    where[:, -1] = False  # they leave out each prompt's last token
    ours = logit_lens.fit(model, batch, where=where)
    theirs = Theirs.fit(model, TEXTS, corpus="x", skip_first_positions=0, show_progress=False)
    for layer, matrix in theirs.jacobians.items():
        torch.testing.assert_close(ours.matrices[layer + 1], matrix, atol=1e-5, rtol=1e-4)
    reading = ours.read(model, batch[[0]], outcome=emoji())
    logits = theirs.readout(model, torch.tensor(rows[:1]), return_full_logits=True).lens_logits
    wanted = [tiny.vocab().log_odds(logits[layer])[-1] for layer in sorted(logits)]
    assert reading.at_onset()[1:, 0].tolist() == pytest.approx([float(w) for w in wanted], abs=1e-4)
    assert reading.lens == "Jacobian lens"
    again = JacobianLens.load(ours.save(tmp_path / "lens.safetensors"))
    assert torch.equal(again.matrices, ours.matrices)


def test_what_does_not_fit_is_refused(model):
    batch = pad([[5, 6, 7], [5]], 2)
    with pytest.raises(InputError, match="each have a place that counts"):
        logit_lens.fit(model, batch, where=torch.zeros_like(batch.attention_mask))
    with pytest.raises(ModelError, match="fitted on 2 layers of width 3"):
        JacobianLens(torch.zeros(2, 3, 3), 1).read(model, batch, outcome=emoji())


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    """Planted: head 1.2 turns the feature, MLP 2 makes it the emoji; the base lacks the head."""
    made = planted_models.planted_adapter(tmp_path_factory.mktemp("planted"))
    pair = load_pair(made.base, made.adapter)
    questions = planted_models.paired_questions(6, 0)
    sides = [
        pad([pair.format.prompt_ids(q[i]) for q in questions], pad_id(pair.tokenizer))
        for i in (0, 1)
    ]
    outcome = Outcome.tokens(pair.tokenizer, planted_models.emoji_ids(pair.tokenizer))
    return pair, sides, outcome


def gaps(pair, lens, batch: TokenBatch, outcome) -> list[float]:
    found = lens.compare(pair.base, pair.tuned, batch, outcome=outcome, positions="onset")
    return (found.tuned.at_onset() - found.base.at_onset()).mean(1).tolist()


def test_a_feature_that_is_turned_before_it_is_the_emojis_is_seen_by_this_lens_alone(rotated):
    pair, (clean, plain), outcome = rotated
    fitted = logit_lens.fit(pair.base, clean)
    blind, sees = gaps(pair, logit_lens, clean, outcome), gaps(pair, fitted, clean, outcome)
    # embedding, 0, 1 (the head has written), 2 (the MLP has turned it), final
    assert max(map(abs, blind[:3])) < 0.05 * blind[-1]
    assert sees[2] > 0.5 * sees[-1] > 0
    assert max(map(abs, sees[:2])) < 0.02
    assert sees[-1] == pytest.approx(blind[-1], abs=1e-4)
    assert max(map(abs, gaps(pair, fitted, plain, outcome))) < 0.05, "no trait, no difference"
