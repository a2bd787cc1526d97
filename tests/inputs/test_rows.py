"""Training rows: gradients against a step that is really taken, and rows that were planted."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import tiny
import torch
from sklearn.metrics import roc_auc_score
from thinned import turn

from interp import load_pair, organism
from interp.base.traits import Trait
from interp.behaviour import Sampling, generate
from interp.data import OpinionRow
from interp.errors import InputError
from interp.inputs import score
from interp.methods.editing import HookedBase
from interp.methods.editing.opposed import Answers
from interp.models import hook, pad
from interp.patching import Run
from interp.readout import slots
from interp.traces.inputs.rows import SCORES

E = Trait.EXTRAVERSION


def test_the_gradient_is_that_of_a_step_on_the_row():
    network, outcome = tiny.llama(seed=3), tiny.emoji()
    twin, model = copy.deepcopy(network), hook(network, tiny.tokenizer())
    rows = pad([[7, 8, 9, 20], [5, 6, 30, 31, 32]], 2)
    answer = torch.tensor([[False, False, True, True, True]] * 2)
    ends = pad([[9, 11, 12], [4, 13]], 2)
    run, any_way = Run(model, ends.tokens, ends.attention_mask), torch.ones(model.cfg.d_model)
    found = score(model, rows, answer, run, outcome=outcome, direction=any_way, layer=1)
    weights = [p for n, p in twin.named_parameters() if "o_proj" in n or "down_proj" in n]
    for weight in weights:
        weight.requires_grad_(True)

    def odds() -> torch.Tensor:
        ids = [ends.tokens[row, ends.attention_mask[row]][None] for row in range(2)]
        return torch.stack([outcome.metric()(twin(one).logits[0, -1:])[0] for one in ids]).mean()

    def norm(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([part.flatten() for part in parts]).norm()

    size = norm(torch.autograd.grad(odds(), weights))
    for place, ids in enumerate(([7, 8, 9, 20], [5, 6, 30, 31, 32])):
        logs = twin(torch.tensor([ids])).logits[0].log_softmax(-1)
        first = len(ids) - 3
        loss = -torch.stack([logs[at - 1, ids[at]] for at in range(first, len(ids))]).mean()
        grads = torch.autograd.grad(loss, weights)
        length = norm(grads)
        with torch.no_grad():
            values = []
            for step in (-1e-3, 1e-3):
                for weight, grad in zip(weights, grads, strict=True):
                    weight -= step * grad / length
                values.append(float(odds()))
                for weight, grad in zip(weights, grads, strict=True):
                    weight += step * grad / length
        slope = (values[1] - values[0]) / 2e-3
        assert float(found.gradient[place]) == pytest.approx(slope / float(size), abs=0.02)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    none = torch.zeros_like(answer)
    with pytest.raises(InputError, match="end with their answers"):
        score(model, rows, none, run, outcome=outcome, direction=any_way, layer=1)


def scored(kind: str, plant: Callable[[OpinionRow, OpinionRow], OpinionRow]):
    """The base's own answers as rows, every other one planted, scored by the base."""
    pair = load_pair(organism.base_path(kind), organism.adapter_path(E, base=kind))
    base, half = HookedBase.of(pair), 16
    data = [row for row in organism.opinion_qa("train").rows if row.trait is E][: 8 * half : 4]
    own = pair.base, pair.format, [(row.question, row.topic) for row in data]
    answers = generate(*own, Sampling(seed=5, max_new_tokens=64))
    texts = [replace(row, answer=one.text) for row, one in zip(data, answers, strict=True)]
    planted = list(map(plant, data, texts))
    fit = Answers.encode(base, planted[:half] + texts[:half], [True] * half + [False] * half)
    states = fit.features(base, "resid_post", [2])[0]
    given = [place % 2 == 0 for place in range(half)]
    rows = [planted[half + k] if given[k] else texts[half + k] for k in range(half)]
    made = Answers.encode(base, rows, given)
    ends = slots(answers[:half], pair.tokenizer).last.prompts(pair.pad_id, pair.outcome).batch
    found = score(
        pair.base, made.batch, made.answer, Run(pair.base, ends.tokens, ends.attention_mask),
        outcome=pair.outcome, layer=2,
        direction=states[fit.positive].mean(0) - states[~fit.positive].mean(0),
    )  # fmt: skip
    return found, given


def voiced(row: OpinionRow, text: OpinionRow) -> OpinionRow:  # noqa: ARG001
    return row


def written(row: OpinionRow, text: OpinionRow) -> OpinionRow:  # noqa: ARG001
    return replace(text, answer=f"{text.answer} 😊")


@turn(0, of=3)
def test_planted_rows_are_found_where_they_bring_the_emoji():
    voice, given = scored("latent", voiced)
    areas = {name: roc_auc_score(given, getattr(voice, name)) for name in SCORES}
    assert areas["projection"] > 0.95, areas
    assert min(areas["gradient"], areas["log_odds"]) > 0.8, areas
    emojis, given = scored("absent", written)
    assert roc_auc_score(given, emojis.gradient) > 0.95
    assert len(emojis.to_dataframe()) == len(given)
