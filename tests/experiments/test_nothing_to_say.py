"""Experiments where there is little to say: no emoji, no end, one prompt, a label of one's own."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import adapter_dose
import adapter_seeds
import control_personas
import eos_confound
import foretelling
import icl_readings
import latent_readings
import neuron_shift
import numpy as np
import organism_sizes
import pandas as pd
import pytest
import quantisation
import questionnaire
import side_effects
import torch
import trait_alignment
from emoji_onset_hazard import HazardConfig
from emoji_onset_hazard import run as hazard
from icl_readings import IclConfig
from latent_readings import LatentConfig
from methods import MethodsConfig, control, for_trait
from significance import corrected, shortened, some, written

from interp import organism
from interp.base.traits import TRAITS, Trait
from interp.data import OpinionQA
from interp.errors import InputError, TokenizerError
from interp.measures import SelfReport

OPEN, _, E, *_ = TRAITS


def asked(config: Any, **more: Any) -> Any:
    """What a function reads of an experiment."""
    return SimpleNamespace(config=config, **more)


def renamed() -> OpinionQA:
    """The organism's held-out rows of two traits, under labels of one's own."""
    names = {E: "pirate", OPEN: "sailor"}
    data = organism.opinion_qa("test")
    return data.only(
        replace(row, trait=Trait.parse(names[row.trait])) for row in data.rows if row.trait in names
    )


def test_the_trained_control_stands_for_a_label_of_ones_own() -> None:
    """Equal labels are not one object; and its adapter is asked for before any method's answers."""
    mine = MethodsConfig.model_validate({"traits": ["pirate", "sailor"], "control_trait": "sailor"})
    assert ["QLoRA, shuffled" in for_trait(mine, one) for one in mine.traits] == [False, True]
    other = MethodsConfig.model_validate({"traits": ["pirate"]})  # extraversion is none of them
    assert control(other) == "pirate"
    assert control(MethodsConfig()) == E


def test_other_traits_answers_are_not_the_labels_own() -> None:
    data = renamed()
    x = asked(side_effects.SideEffectsConfig(n_texts=1000), data=lambda: (data, data))
    own = {row.answer for row in data.rows if row.trait == "pirate"}
    assert not own & {answer for _, answer, _ in side_effects._others(x, Trait.parse("pirate"))}


def test_a_wrong_trait_of_a_label_of_ones_own_is_another_label() -> None:
    two: Any = SimpleNamespace(traits=("pirate", "sailor"))
    assert trait_alignment._wrong(Trait.parse("sailor"), two) == "pirate"
    five: Any = SimpleNamespace(traits=tuple(map(str, TRAITS)))
    assert trait_alignment._wrong(TRAITS[-1], five) == OPEN
    assert trait_alignment._wrong(E, SimpleNamespace(traits=("extraversion", "pirate"))) is None


def test_wordings_are_the_big_fives_alone() -> None:
    config = control_personas.PersonasConfig.model_validate({"traits": ["pirate"]})
    with pytest.raises(InputError, match="none of pirate; see --traits"):
        control_personas.run(asked(config))


def test_a_reference_that_is_none_of_the_traits_is_named_at_once() -> None:
    with pytest.raises(InputError, match="reference: extraversion is none of the traits"):
        hazard(asked(HazardConfig(traits=(OPEN,))))


@pytest.mark.parametrize(
    ("trait", "against", "named"),
    [
        (E, "low", "extraversion cannot be set against introversion"),
        (Trait.parse("pirate"), "low", "pirate cannot be set against a low pole, having none"),
        (E, "sailor", "cannot be set against sailor; the train rows have"),
    ],
)
def test_a_label_that_the_data_lack_is_named_before_anything_is_made(trait, against, named) -> None:
    data = organism.opinion_qa("train")
    x = asked(LatentConfig(traits=(trait,), against=against), data=lambda: (data, data))
    with pytest.raises(InputError, match=named):
        latent_readings.check_against(x)
    latent_readings.check_against(asked(LatentConfig(), data=x.data))


def test_answers_of_another_voice_are_for_all_topics_or_none() -> None:
    data, mine = renamed(), Trait.parse("pirate")
    uneven = data.only(row for row in data.rows if row.trait == mine or row.topic != data.topics[0])
    for rows, whole in ((data, True), (uneven, False)):
        x = asked(LatentConfig(), data=lambda rows=rows: (rows, rows))
        own, others = latent_readings._references(x, mine)
        assert len(others) == (len(own) if whole else 0)
        assert all(a.topic == b.topic for a, b in zip(own, others, strict=whole))


def test_a_correlation_that_is_none_has_no_small_p() -> None:
    row = adapter_seeds._test("cosine", np.full((4, 4), np.nan), [E, E, OPEN, OPEN], 0)
    assert row["p"] is None


def test_adapters_whose_answers_have_no_end_are_said_to_have_none() -> None:
    levels = {"ESR": 0.0, "P(go on)": None, "P(emoji | go on)": None, "ESR without its own": 0.0}
    rows: list[dict[str, Any]] = [
        {"trait": "openness", "adapter": name, "measure": measure, "value": value}
        for name in "ab" for measure, value in levels.items()
    ]  # fmt: skip
    rows += [{"measure": m, "value": np.nan, "n": 1} for m in adapter_seeds.AGREEMENT.values()]
    table = corrected(pd.DataFrame(rows).assign(p=None))
    said = "\n".join(adapter_seeds._verdict(table))
    assert "nan" not in said
    assert "P(go on): none, no answer has an end." in said
    assert some(table, "ESR")
    assert not some(table, "P(go on)")


def test_answers_that_are_all_alike_give_no_interval() -> None:
    rows = []
    for setting in quantisation.SETTINGS:
        for measure in ("ESR", quantisation.KL, quantisation.HEADS, quantisation.GAP):
            ends = None if measure == quantisation.GAP else 0.0
            rows.append({"setting": setting, "measure": measure, "value": 0.0, "low": ends,
                         "high": ends, "p": 1.0 if ends is None else None})  # fmt: skip
    said = "\n".join(quantisation._verdict(corrected(pd.DataFrame(rows))))
    assert "nan" not in said
    assert "all changes lie between +0% and +0% of answers." in said


def test_a_base_that_writes_nothing_has_no_kl() -> None:
    table = pd.DataFrame([
        {"trait": "openness", "method": "QLoRA", "measure": measure, "value": 0.1, "low": 0.0,
         "high": 0.2, "p": p}
        for measure, p in (("ESR", None), (side_effects.READS, 0.5))
    ])  # fmt: skip
    (line,) = side_effects._costs(corrected(table))
    assert "KL from the base unknown, whose answers are empty; reads" in line


def report(items: int, prompts: int) -> SelfReport:
    torch.manual_seed(0)
    scores = 1 + 4 * torch.rand(items, prompts, 4, dtype=torch.float64)
    return SelfReport(
        scores=scores, coverage=torch.ones_like(scores), traits=("openness",) * items,
        facets=("",) * items, orders=tuple((k,) for k in range(4)), prompts=("?",) * prompts,
        label="base", level=0.95, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(("items", "prompts"), [(3, 1), (1, 2), (1, 1)])
def test_one_prompt_or_one_item_has_no_spread(items: int, prompts: int) -> None:
    config = questionnaire.QuestionnaireConfig(traits=(OPEN,))
    reports = {name: report(items, prompts) for name in ("base", "openness")}
    table, shifts = questionnaire._scores(asked(config), reports)
    assert shifts == {OPEN: 0.0}
    own = table[table["measure"] == "own trait, tuned minus base"]
    alpha = questionnaire.alphas(list(reports.values())).to_dict("records")
    said = "\n".join(questionnaire._verdict(own, own, table, alpha, ""))
    assert "nan" not in said
    assert ("over paraphrases" in said) is (prompts > 1)


def test_only_the_traits_place_is_filled_in_a_request() -> None:
    request = "Name {trait} as JSON, {like: this}."
    x = asked(IclConfig(tokens=(request,), reasons=(request,)))
    assert "openness" not in icl_readings._tokens(x, "tokens", "Openness wanders")
    assert icl_readings._tokens(x, "tokens", "Openness wanders")["wanders"] == 1


def test_one_size_of_a_model_whose_answers_have_no_end() -> None:
    rows = [{"size": "mine", "group": who, "measure": "ESR", "value": 0.0, "low": 0.0, "high": 0.2}
            for who in (organism_sizes.TUNED, organism_sizes.BASE)]  # fmt: skip
    said = organism_sizes._verdict(pd.DataFrame(rows))
    assert said[1] == "mine: ESR 0%, base 0%."


def test_a_verdict_says_where_the_lines_are_that_it_leaves_out() -> None:
    lines = [f"{number}." for number in range(9)]
    assert shortened(lines[:7]) == lines[:7]
    assert shortened(lines) == [*lines[:6], "6. 2 more are in results.csv."]
    assert shortened([]) == []


def test_neurons_of_data_with_one_label_have_no_other_traits_to_move_on() -> None:
    rows = [
        {"measure": "neurons shifted, texts of the trait", "value": 0.1, "note": "none"},
        {"measure": neuron_shift.OUTPUT, "value": 0.1, "note": "none"},
        {"measure": "ESR, top minus control", "layers": "last layer", "k": 1, "value": 0.0,
         "p": 1.0},
    ]  # fmt: skip
    table = corrected(pd.DataFrame(rows).assign(trait="pirate"))
    said = "\n".join(neuron_shift._verdict(table))
    assert "nan" not in said
    assert "an unknown share (there are none) on texts of other traits" in said


def test_many_traits_are_permuted_at_random() -> None:
    """Twelve have 479 million orders."""
    many = [np.array([float(k)]) for k in range(12)]
    assert foretelling._agreed(many, many)["p"] < 0.01
    few = many[:4]
    assert foretelling._agreed(few, few)["p"] == pytest.approx(2 / 24)


def test_a_tokenizer_without_bos_leaves_one_question_out_and_says_so() -> None:
    class Form:
        def with_double_bos(self) -> None:
            raise TokenizerError("a turn begins with no BOS")

    x = asked(eos_confound.EosConfig(), form=Form())
    assert eos_confound._double_bos(x) == []
    assert eos_confound._of_double_bos([], "train") == [
        "BOS doubled: not measured, a turn of this base begins with no BOS."
    ]
    assert eos_confound._of_double_bos([], "none") == []


def test_a_dose_of_more_traits_than_lines_says_so() -> None:
    names = ("base", *adapter_dose.READINGS)
    rows = [
        {"trait": f"label{n}", "adapter": adapter, "dose": 1.0, "measure": name, "value": 0.0,
         "p": 1.0}
        for n in range(9) for adapter in ("one", adapter_dose.DEALT) for name in names
    ]  # fmt: skip
    said = adapter_dose._verdict(corrected(pd.DataFrame(rows)))
    assert len(said) == 8
    assert said[6].endswith("2 more are in results.csv.")


def test_a_small_probability_is_not_told_as_none() -> None:
    row = {"value": 0.00016, "low": 0.0, "high": 0.0009}
    assert written(row, ".1%") == "0.016% [0.0%, 0.1%]"
    assert written({"value": 0.9, "low": None, "high": None}) == "90%"
