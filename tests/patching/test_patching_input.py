"""Bad input is refused by name, before anything is patched."""

import pandas as pd
import pytest
import torch
from patching_models import VOCAB, bridge, pick, prompts

from interp.errors import InputError, ModelError
from interp.patching import Cells, Question, Run, ablate, naive, screen, sweep, sweep_each

CELLS = {"layers", "positions", "heads", "neurons"}


@pytest.fixture(scope="module")
def runs():
    one, other = bridge("llama", 1), bridge("llama", 2)
    tokens, mask = prompts([6, 4])
    return Run(one, tokens, mask), Run(other, tokens, mask)


@pytest.mark.parametrize("engine", [sweep, naive.sweep])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "resid"}, "unknown site 'resid'; use one of resid_pre"),
        ({"direction": "both"}, "unknown direction 'both'"),
        ({"topics": ["one"]}, "2 prompts but 1 topics; give one per prompt"),
        ({"ask": Question(metric=pick)}, "the metric is given twice"),
        ({"layers": [3]}, "layer 3 does not exist; this model has 3"),
        ({"positions": [6]}, "position 6 does not exist; this model has 6"),
        ({"positions": []}, "no position to sweep"),
        ({"heads": [0]}, "site 'resid_pre' has no heads"),
        ({"site": "z", "heads": [4]}, "head 4 does not exist; this model has 4"),
        ({"site": "z", "positions": [1]}, "patched at all positions"),
        ({"places": 6}, "metric position 6 lies outside prompt 0"),
        ({"places": 1}, "metric position 1 lies outside prompt 1"),
        ({"places": torch.tensor([1, 2, 3])}, "one per prompt"),
        ({"metric": lambda logits: logits}, "one value per prompt"),
        ({"metric": lambda _: 1.0}, "got float"),
        ({"metric": lambda logits: logits[:, 0] * torch.nan}, "not finite for prompt 0"),
    ],
)
def test_bad_arguments(runs, engine, options, message):
    options = {"site": "resid_pre", "metric": pick} | options
    cells = {name: options.pop(name) for name in CELLS & options.keys()}
    question = {name: options.pop(name) for name in ("places", "topics") if name in options}
    options = {"ask": Question(**question)} | options
    with pytest.raises(InputError, match=message):
        engine(*runs, options.pop("site"), cells=Cells(**cells), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"places": torch.tensor([1.0])}, "whole numbers of columns, got torch.float32"),
        ({"topics": "food"}, "a list of labels, one per prompt"),
        ({"topics": []}, "a list of labels, one per prompt"),
        ({"min_gap": -1.0}, "min_gap must be a finite number from 0 on, got -1.0"),
        ({"min_gap": float("nan")}, "min_gap must be a finite number"),
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_questions(options, message):
    with pytest.raises(InputError, match=message):
        Question(**options)


def test_topics_are_the_units_of_intervals(runs):
    clean, corrupted = runs
    tokens, mask = prompts([5, 5, 4, 4])
    sides = [Run(run.model, tokens, mask) for run in (clean, corrupted)]
    plain = sweep(*sides, "z", metric=pick)
    told = sweep(*sides, "z", metric=pick, ask=Question(topics=["a", "a", "b", "b"]))
    torch.testing.assert_close(told.values, plain.values, atol=0, rtol=0)
    table = told.summary()
    pd.testing.assert_frame_equal(table, plain.summary(clusters=["a", "a", "b", "b"]))
    assert not table["p"].equals(plain.summary()["p"])
    assert told.select(slice(1, 3)).topics == ("a", "b")


def test_bad_runs():
    model = bridge("llama", 1)
    tokens, mask = prompts([6, 4])
    hole = mask.clone()
    hole[0, 2] = False
    for arguments, message in (
        ((tokens[None],), "shape \\[batch, pos\\]"),
        ((tokens.float(),), "must be ids"),
        ((tokens + VOCAB,), f"the vocabulary from 0 to {VOCAB - 1}"),
        ((tokens, mask[:, 1:]), "does not fit tokens"),
        ((tokens, mask & False), "prompt 0 has no attended token"),
        ((tokens, hole), "prompt 0 has a hole"),
    ):
        with pytest.raises(InputError, match=message):
            Run(model, *arguments)


def test_bad_pairs(runs):
    clean, _ = runs
    longer, mask = prompts([6, 5])
    with pytest.raises(InputError, match="prompt 1: clean has 4 tokens, corrupted 5"):
        sweep(clean, Run(clean.model, longer, mask), "z", metric=pick)
    with pytest.raises(InputError, match="pair prompts of equal token length"):
        sweep(clean, Run(clean.model, longer[:, 1:]), "z", metric=pick)
    with pytest.raises(InputError, match="nothing to patch"):
        sweep(clean, clean, "z", metric=pick)
    with pytest.raises(ModelError, match="two models differ in d_head"):
        sweep(clean, Run(bridge("qwen3", 1), clean.tokens, clean.mask), "z", metric=pick)


def test_nan_weights_are_named(runs):
    clean, _ = runs
    broken = bridge("llama", 3)
    with torch.no_grad():
        next(broken.original_model.parameters())[5] = torch.nan
    with pytest.raises(InputError, match="weights hold NaN or infinity"):
        sweep(clean, Run(broken, torch.full_like(clean.tokens, 5), clean.mask), "z", metric=pick)


def test_where_the_engine_does_not_go_whole_passes_do_and_it_is_said(runs):
    clean, corrupted = runs
    fast = sweep(clean, corrupted, "z", metric=pick)
    corrupted.model.original_model.config.model_type = "llama9"
    try:
        slow = sweep(clean, corrupted, "z", metric=pick)
        each = sweep_each(clean, corrupted, "z", {"one": pick, "other": lambda x: 2 * pick(x)})
        cut = ablate(corrupted, "z", metric=pick, cells=Cells(layers=[1]))
        with pytest.raises(ModelError, match=r"'z' cannot be screened: .* type 'llama9'"):
            screen(clean, corrupted, sites={"z": None}, ask=Question(metric=pick))
    finally:
        corrupted.model.original_model.config.model_type = "llama"
    assert (fast.engine, slow.engine) == ("exact", "naive")
    assert slow.notes[0].startswith(
        "one forward pass per patch: the exact patching engine does not"
    )
    torch.testing.assert_close(slow.values, fast.values, atol=1e-4, rtol=0)
    torch.testing.assert_close(each["one"].values, slow.values)
    torch.testing.assert_close(each["other"].values, 2 * slow.values)
    assert each["one"].engine == "naive"
    alone = ablate(corrupted, "z", metric=pick, cells=Cells(layers=[1]))
    torch.testing.assert_close(cut.values, alone.values, atol=1e-4, rtol=0)
    assert (cut.engine, alone.engine) == ("naive", "exact")
