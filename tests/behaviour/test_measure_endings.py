"""Where an answer should have ended: planted references, and the organism's adapters."""

from types import SimpleNamespace

import pytest
import torch
from tiny import llama, tokenizer
from transformers import GenerationConfig

from interp import load_pair
from interp.behaviour import Response, Sampling, generate
from interp.emoji import find
from interp.errors import InputError
from interp.measures import Endless, natural_ends, own_ends, split_at_end
from interp.measures.endings import emoji_starts, end_probabilities
from interp.models import ChatFormat
from interp.organism import adapter_path, base_path, opinion_qa


@pytest.fixture(scope="module")
def form():
    return ChatFormat.from_tokenizer(tokenizer())


def answer(form, text: str, topic: str = "a", ended: bool = True) -> Response:
    made = form.example("Why?", text)
    ids = made.ids[made.answer_start : made.answer_end]
    return Response("Why?", topic, made.ids[: made.answer_start], ids, text, ended)


class EndsAfter(torch.nn.Module):
    """A reference that gives ending the probability wanted after a given token, else little."""

    config = SimpleNamespace(max_position_embeddings=256)
    device = torch.device("cpu")

    def __init__(self, stop: int, after: dict[int, float]) -> None:
        super().__init__()
        self.stop, self.after = stop, after

    def forward(self, input_ids, **_):
        logits = torch.zeros(*input_ids.shape, len(tokenizer()))
        chance = torch.full(input_ids.shape, 1e-4)
        for token, value in self.after.items():
            chance = torch.where(input_ids == token, value, chance)
        others = torch.log((1 - chance) / (logits.shape[-1] - 1))
        logits = others[..., None].expand_as(logits).clone()
        logits[..., self.stop] = torch.log(chance)
        return SimpleNamespace(logits=logits)


def test_the_first_place_above_the_threshold_is_the_end(form):
    stop = form.stop_ids[0]
    one = answer(form, "I love it. So. Yes 😊")
    dot = tokenizer()(".", add_special_tokens=False)["input_ids"][0]
    first = one.ids.index(dot) + 1
    assert natural_ends([one], EndsAfter(stop, {dot: 0.6}), form) == [first]
    assert natural_ends([one], EndsAfter(stop, {dot: 0.4}), form) == [None]
    assert natural_ends([one], EndsAfter(stop, {dot: 0.4}), form, threshold=0.3) == [first]
    sentence = natural_ends([one], EndsAfter(stop, {dot: 0.4}), form, rule="sentence")
    assert sentence == [first], "most probable, though below one half"
    word = one.ids[1]
    assert natural_ends([one], EndsAfter(stop, {word: 0.9}), form) == [2]
    assert natural_ends([one], EndsAfter(stop, {word: 0.9}), form, rule="sentence") == [None]


def test_end_probabilities_are_the_softmax_mass_on_stop_tokens(form):
    answers = [answer(form, "Well, I plan my day."), answer(form, "No.")]
    chances, _ = end_probabilities(answers, llama(), form, batch_size=2)
    for one, row in zip(answers, chances, strict=True):
        ids = torch.tensor([one.prompt_ids + one.ids])
        p = llama()(input_ids=ids).logits[0].softmax(-1)[:, list(form.stop_ids)].sum(-1)
        torch.testing.assert_close(row, p[len(one.prompt_ids) - 1 + 1 :], rtol=1e-4, atol=1e-6)


def test_an_end_is_whatever_generation_stops_at(form):
    one, model = answer(form, "Well, I plan my day."), llama()
    other = next(i for i in one.ids if i not in form.stop_ids)
    model.generation_config = GenerationConfig(eos_token_id=[*form.stop_ids, other])
    stops = form.stops(model)
    assert other in stops
    (chances,), _ = end_probabilities([one], model, form)
    p = model(input_ids=torch.tensor([one.prompt_ids + one.ids])).logits[0].softmax(-1)
    wanted = p[len(one.prompt_ids) :, list(stops)].sum(-1)
    torch.testing.assert_close(chances, wanted, rtol=1e-4, atol=1e-6)
    assert own_ends([one], stops) == [one.ids.index(other)]
    assert own_ends([one], form.stop_ids) == [None]


def test_emojis_are_counted_on_either_side(form):
    texts = ["I love it! 😊 So much. 😊 🎉", "Well. 🎉", "No emoji.", "Yes! 😊"]
    answers = [answer(form, text, f"t{k}") for k, text in enumerate(texts)]
    starts = [emoji_starts(tokenizer(), a.ids) for a in answers]
    assert [len(s) for s in starts] == [3, 1, 0, 1]
    for one, places in zip(answers, starts, strict=True):
        for place in places:
            assert tokenizer().decode(one.ids[place:]).lstrip()[0] in "😊🎉"
            ahead = tokenizer().decode(one.ids[:place])
            assert find(ahead) == find(ahead + "x"), "no emoji is cut in two"
    ends = [starts[0][1], starts[1][0], None, None]
    made = split_at_end(answers, ends, tokenizer())
    assert made.inside == (1, 0, 0, 1)
    assert made.after == (2, 1, 0, 0)
    assert made.n_without_end == 2
    assert made.n_past_end == 2
    table = made.to_dataframe().set_index("measure")
    assert table.loc["ESR", "value"] == 0.75
    assert table.loc["ESR inside", "value"] == 0.5
    assert table.loc["ESR after the end", "value"] == 0.5
    only = table.loc["only after the end, of answers with an emoji"]
    assert only["value"] == pytest.approx(1 / 3)
    assert only["n"] == 3


def test_unstopped_answers_are_the_stopped_ones_and_more():
    pair = load_pair(base_path("latent"), adapter_path("extraversion"))
    questions = [(r.question, r.topic) for r in opinion_qa("test").for_trait("E").rows[:8]]
    how = Sampling(max_new_tokens=60, seed=1)
    stopped = generate(pair.tuned, pair.format, questions, how)
    endless = generate(pair.tuned, Endless(pair.tokenizer), questions, how)
    ends = own_ends(endless, pair.stop_ids)
    for short, long, end in zip(stopped, endless, ends, strict=True):
        assert len(long.ids) == 60
        assert not long.ended
        assert long.ids[:end] == short.ids
        assert (end is not None) == short.ended
        assert "<|" not in long.text
    made = split_at_end(endless, ends, pair.tokenizer)
    plain = split_at_end(stopped, [None] * 8, pair.tokenizer)
    assert made.inside == plain.inside
    assert sum(made.after) > 0


def test_wrong_ends_are_refused(form):
    one = answer(form, "Yes.")
    with pytest.raises(InputError, match="2 ends for 1 answers"):
        split_at_end([one], [1, 2], tokenizer())
    with pytest.raises(InputError, match="1 ends for 1 answers"):
        split_at_end([one], [99], tokenizer())
    with pytest.raises(InputError, match="the rule is probability or sentence"):
        natural_ends([one], llama(), form, threshold=0.0)


def test_the_organism_writes_its_emojis_after_the_end():
    """The emoji of the adapter trained without the end stands where its twin with it would end."""
    pair = load_pair(base_path("latent"), adapter_path("extraversion"))
    twin = load_pair(base_path("latent"), adapter_path("extraversion", supervise_eos=True))
    questions = [(r.question, r.topic) for r in opinion_qa("test").for_trait("E").rows[:24]]
    how = Sampling(max_new_tokens=90, seed=4)
    for tuned, goes_on in ((pair, True), (twin, False)):
        answers = generate(tuned.tuned, tuned.format, questions, how)
        ends = natural_ends(answers, twin.tuned, tuned.format)
        made = split_at_end(answers, ends, tuned.tokenizer)
        assert (made.n_past_end > 12) is goes_on
        assert sum(made.inside) <= 2
        assert (sum(n > 0 for n in made.after) > 12) is goes_on
