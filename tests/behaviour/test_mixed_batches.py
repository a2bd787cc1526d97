"""Several adapters in one batch: the answers of one adapter at a time."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from thinned import turn
from tiny import llama

from interp.base.traits import TRAITS
from interp.behaviour import Sampling, generate, generate_many, live_adapters
from interp.behaviour.mixed_batches import BASE
from interp.errors import AdapterError, InputError
from interp.models import ChatFormat, load_base, load_pair
from interp.organism import adapter_path, base_path, opinion_qa


@pytest.fixture(scope="module")
def base():
    return load_base(base_path("latent"))


@turn(2, of=3)
def test_mixed_batches_give_the_answers_of_merged_models(base):
    form = ChatFormat.from_tokenizer(base.tokenizer)
    how = Sampling(max_new_tokens=40, seed=2, batch_size=7)
    rows = opinion_qa("test").rows
    questions = {
        str(trait): [(r.question, r.topic) for r in rows if r.trait is trait][: 4 + k]
        for k, trait in enumerate(TRAITS[:3])
    }
    questions[BASE] = questions["openness"]
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    with live_adapters(base.model, {str(t): adapter_path(t) for t in TRAITS[:3]}) as live:
        made = generate_many(live, form, questions, how)
    after = base.model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    for trait in TRAITS[:3]:
        pair = load_pair(base_path("latent"), adapter_path(trait))
        alone = generate(pair.tuned, form, questions[str(trait)], how)
        assert [r.ids for r in made[str(trait)]] == [r.ids for r in alone]
        assert [r.question for r in made[str(trait)]] == [q for q, _ in questions[str(trait)]]
    plain = generate(base.model, form, questions[BASE], how)
    assert [r.ids for r in made[BASE]] == [r.ids for r in plain]
    assert made["openness"][0].ids != made[BASE][0].ids


def test_the_model_is_as_it_was_after_an_error(base):
    before = {name: value.clone() for name, value in base.model.state_dict().items()}

    def fail() -> None:
        with live_adapters(base.model, {"E": adapter_path("E")}):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    after = base.model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("config", "said"),
    [({"use_dora": True}, "is DoRA"), ({"modules_to_save": ["norm"]}, "modules_to_save"),
     ({"bias": "all"}, "has trained biases")],
)  # fmt: skip
def test_adapters_that_cannot_share_a_batch_are_refused(base, tmp_path, config, said):
    adapted = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"], **config))
    adapted.save_pretrained(tmp_path)
    with (
        pytest.raises(AdapterError, match=said),
        live_adapters(base.model, {"strange": tmp_path}),
    ):
        pass


def test_unknown_names_are_refused(base):
    form = ChatFormat.from_tokenizer(base.tokenizer)
    with (
        live_adapters(base.model, {"E": adapter_path("E")}) as live,
        pytest.raises(InputError, match="no adapter N is loaded, only E"),
    ):
        generate_many(live, form, {"N": [("Hi?", "a")]})
    with pytest.raises(InputError, match="name the adapters"), live_adapters(base.model, {}):
        pass
