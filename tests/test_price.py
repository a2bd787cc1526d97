"""What a study will cost, against what is known of its parts; and a budget's choice."""

import json

import pytest
from test_bad_input import command
from transformers import Qwen2MoeConfig

from interp import organism
from interp.base import sizes
from interp.errors import InputError
from interp.study import catalogue, parse_config, price
from interp.study.driver import _priced

DATA, ADAPTER = str(organism.ASSETS), str(organism.adapter_path("extraversion"))
BASE = str(organism.base_path())
SHAPE = price.Shape("llama", 1e8, 30, 9, 576, 49152)
SPEED = (1e10, 1e9)
ROWS = {row.name: row for row in catalogue.ROWS}


def config(**changes):
    return parse_config({"base": BASE, "adapters": {"E": ADAPTER}, "data": DATA} | changes)


def test_a_shape_is_that_of_the_model():
    from transformers import AutoModelForCausalLM

    shape = price.Shape.of(BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE)
    assert shape.kind == "llama"
    assert shape.layers == model.config.num_hidden_layers
    used = sum(p.numel() for p in model.parameters())
    tied = model.config.tie_word_embeddings
    assert shape.parameters == used - (0 if tied else model.get_input_embeddings().weight.numel())


def test_every_row_has_a_price_and_settings_move_it():
    whole = price.price(config(), SHAPE, SPEED)
    assert len(whole.seconds) == len(catalogue.asked(config().model_dump()))
    free = {step for step, seconds in whole.seconds.items() if not seconds}
    assert all("rates" in step for step in free)
    two = price.price(config(adapters={"E": "a", "humour": "b"}), SHAPE, SPEED)
    base = whole.seconds["base/responses-base"]
    assert two.total == pytest.approx(2 * whole.total - base)  # the base's answers are shared
    assert price.price(config(n_responses=100), SHAPE, SPEED).total < whole.total
    assert price.price(config(), SHAPE, (2e10, 2e9)).total == pytest.approx(whole.total / 2)
    assert sum(count for _, count, _ in whole.lines()) == len(whole.seconds)
    assert sum(seconds for *_, seconds in whole.lines()) == pytest.approx(whole.total)


def test_a_map_costs_its_patches():
    """Two prompts, all positions: each patch recomputes half of the layers on half of the rows."""
    small = config(n_trace=2, n_positions=60, max_new_tokens=1)
    read, decoded = price.passes(ROWS["patching-model-denoising-mlp_out"], SHAPE, small)
    unembedding = 576 * 49152 / 1e8
    assert (read, decoded) == (pytest.approx(2 * 30 * 60 * (30 / 2 + unembedding)), 0)
    slow = price.Shape("odd", *list(vars(SHAPE).values())[1:])
    assert price.passes(ROWS["patching-model-denoising-z"], slow, small) == (2 * 61 * 30 * 9, 0)


def test_rows_asked_for_by_name_cost_what_they_do():
    """Words by their rows and gradients, the Jacobian by its width, decoding by its answers."""
    small = config(n_trace=2, n_switched=3, max_new_tokens=40)
    assert price.passes(ROWS["words"], SHAPE, small) == (2 * 100 * (50 * 10 + 256), 0)
    assert price.passes(ROWS["jacobian-lens"], SHAPE, small) == (2 * 100 * 577, 0)
    read, decoded = price.passes(ROWS["amplification"], SHAPE, small)
    assert (read, decoded) == (8 * 3 * 60 + 2 * 2 * 100, 8 * 3 * 40)


def test_no_budget_leaves_out_what_was_asked_for_by_name():
    for budget in ("auto", "2h"):
        asked = config(only=("ablated-writing",), budget=budget)
        made = price.fitted(asked, SHAPE, (1e10, 1e10) if budget == "2h" else (1e9, 1e9))
        assert made.n_switched == 8
        assert "ablated-writing" in {row.name for row in catalogue.asked(made.model_dump())}
    with pytest.raises(InputError, match="only: ablated-writing needs --n-switched"):
        config(only=("ablated-writing",), n_switched=0)


def test_speeds_are_measured_here():
    shape = price.Shape.of(BASE)
    assert all(speed > 1e6 for speed in price.speeds(shape, config(), each=0.01))


def test_a_budget_chooses_the_largest_study_that_fits_and_says_what():
    asked = config(budget="9h")
    made = price.fitted(asked, SHAPE, (1e15, 1e15))
    assert made == asked
    assert price.chosen(asked, made) == "everything that was asked"
    totals, said = [], []
    for hours in (1000, 100, 30, 20, 12):
        one = config(budget=f"{hours}h")
        made = price.fitted(one, SHAPE, SPEED)
        totals.append(price.price(made, SHAPE, SPEED).total)
        assert totals[-1] <= 3600 * hours
        said.append(price.chosen(one, made))
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) > 2
    assert "no noising maps" in said[-2]
    assert "patching screened and verified" in said[-1]
    assert "screen" in made.only
    assert not [row for row in made.only if row.startswith("patching-")]
    large = price.Shape("llama", 7e10, 80, 64, 8192, 32000)
    least = price.fitted(config(), large, SPEED)  # no budget is given: the last step at any price
    assert "circuits of the log-odds alone" in price.chosen(config(), least)
    assert "circuit" in least.only
    assert not [row for row in least.only if "go-on" in row]
    already = config(budget="30h", n_positions=2)
    assert price.fitted(already, SHAPE, SPEED).n_positions == 2, "smaller already: stays so"
    with pytest.raises(InputError, match="budget 1s: the smallest study takes about"):
        price.fitted(config(budget="1s"), SHAPE, SPEED)


def test_without_a_budget_the_models_size_decides_and_what_was_given_stays():
    assert price.fitted(config(), price.Shape.of(BASE), SPEED) == config(), "the organism: all"
    made = price.fitted(config(), SHAPE, SPEED)
    assert price.fitted(config(), SHAPE, (1.0, 1.0)) == made, "the same on every machine"
    assert made.n_trace < config().n_trace
    assert "screen" in made.only
    given = price.fitted(config(n_trace=23, only=("patching",)), SHAPE, SPEED)
    assert (given.n_trace, given.only) == (23, ("patching",))
    whole = config(budget="none")
    assert price.fitted(whole, SHAPE, SPEED) == whole
    assert price.is_small(BASE)
    assert not price.is_small("org/name")


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("90s", 90)])
def test_times_are_read_and_shown(text, seconds):
    assert sizes.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "1d", "0h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="write it as 30m, 2h or 1h30m"):
        sizes.seconds(text)
    with pytest.raises(InputError, match=r"^budget: time"):
        config(budget=text)


def test_a_dry_run_prints_the_price_and_makes_nothing(tmp_path, monkeypatch, capsys):
    argv = [
        "trace", "--base", BASE, "--adapter", f"E={ADAPTER}", "--data", DATA,
        "--out", str(tmp_path / "run"), "--dry-run",
    ]  # fmt: skip
    monkeypatch.setattr(price, "speeds", lambda *_: (1e9, 1e8))
    assert command([*argv, "--json"], monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == len(catalogue.asked(config().model_dump()))
    assert said["seconds"] > 1
    assert command([*argv, "--budget", "1000h"], monkeypatch) == 0
    assert "budget 1000h: everything that was asked" in capsys.readouterr().err
    dear = config(n_responses=100_000)
    assert price.fitted(dear, price.Shape.of(BASE), SPEED) != dear
    assert command([*argv, "--n-responses", "100000", "--json"], monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["chosen"] == "everything that was asked"
    assert _priced(dear) == dear, "which is what a run makes of a small base"
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_what_its_budget_chose(tmp_path, monkeypatch):
    argv = [
        "trace", "--base", BASE, "--adapter", f"E={ADAPTER}", "--data", DATA, "--json",
        "--n-responses", "9", "--only", "rates", "--out", str(tmp_path / "run"), "--budget", "1h",
    ]  # fmt: skip
    monkeypatch.setattr(price, "speeds", lambda *_: (1e9, 1e8))
    monkeypatch.setattr(price, "LADDER", ({"n_responses": 3},))
    assert command(argv, monkeypatch) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["config"]["n_responses"], manifest["config"]["budget"]) == (3, "1h")
    monkeypatch.setattr(price, "fitted", None)  # it does not choose again
    assert command(argv, monkeypatch) == 0
    again = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert again["config"] == manifest["config"]
    assert again["steps"] == manifest["steps"]


def test_a_budget_chooses_anew_where_other_sizes_are_asked(tmp_path, monkeypatch):
    """Not the earlier choice over what the user asks now; going on keeps what was chosen."""
    argv = [
        "trace", "--base", BASE, "--adapter", f"E={ADAPTER}", "--data", DATA, "--json",
        "--only", "rates", "--out", str(tmp_path / "run"), "--budget", "1h", "--n-responses",
    ]  # fmt: skip
    monkeypatch.setattr(price, "speeds", lambda *_: (1e9, 1e8))
    monkeypatch.setattr(price, "LADDER", ({"n_responses": 6},))
    for asked, chosen in (("9", 6), ("4", 4)):
        assert command([*argv, asked], monkeypatch) == 0
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        assert manifest["config"]["n_responses"] == chosen
    monkeypatch.setattr(price, "fitted", None)  # it does not choose again
    assert command(["run", "resume", str(tmp_path / "run"), "--json"], monkeypatch) == 0


def test_without_a_budget_a_run_is_the_same_again(tmp_path, monkeypatch):
    argv = [
        "trace", "--base", BASE, "--adapter", f"E={ADAPTER}", "--data", DATA, "--json",
        "--only", "rates", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    monkeypatch.setattr(price, "is_small", lambda _: False)
    monkeypatch.setattr(price, "LADDER", ({"n_responses": 3},))
    assert command(argv, monkeypatch) == 0
    first = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert first["config"]["n_responses"] == 3
    assert command(argv, monkeypatch) == 0
    again = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (again["config"], again["steps"]) == (first["config"], first["steps"])


def test_slow_patching_is_said_before_and_only_where_it_is(tmp_path, caplog):
    Qwen2MoeConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=16, moe_intermediate_size=8,
        shared_expert_intermediate_size=8, num_experts=2, num_experts_per_tok=1,
    ).save_pretrained(tmp_path)  # fmt: skip
    odd = price.Shape("qwen2_moe", *list(vars(SHAPE).values())[1:])
    said = price.slow_patching(config(), odd)
    maps = sum(row.family == "patching" for row in catalogue.ROWS)
    patches = 30 * (9 * maps // 4 + 32 * 3 * maps // 4)
    assert f"'qwen2_moe': {maps} maps take {patches:,} forward passes of 24 prompts" in said
    assert price.slow_patching(config(only=("lens",)), odd) is None
    assert price.slow_patching(config(), SHAPE) is None
    assert price.known_exact(BASE)
    assert not price.known_exact(str(tmp_path))
    assert _priced(config()) == config()
    assert not caplog.records
