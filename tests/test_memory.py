"""Batches: halved when memory runs out, as under a limit, and of no consequence for numbers."""

import gc
import logging
import resource

import pytest
import torch
from peft import LoraConfig, get_peft_model
from thinned import thinned
from tiny import emoji, llama, tokenizer, vocab

from interp import (
    adapters,
    attribution,
    circuits,
    load_pair,
    logit_lens,
    neurons,
    organism,
    patching,
    probing,
)
from interp.base import machine, memory, sizes
from interp.behaviour import Response, Sampling, emoji_probability, generate, text_or_weights
from interp.behaviour.mixed_batches import BASE, generate_many, live_adapters
from interp.behaviour.scoring import token_log_probs
from interp.errors import InputError, OutOfMemoryError
from interp.models import ChatFormat, hook, pad
from interp.neurons import Prompts
from interp.readout import Question

QUESTIONS = [(f"What do you think about {'very ' * n}long walks?", f"t{n}") for n in range(7)]
REAL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                 "allocate memory: you tried to allocate 8 bytes. Error code 12"),
    MemoryError(),
]  # fmt: skip


@pytest.fixture(scope="module")
def models():
    """Base and tuned, hooked."""
    made = tuple(hook(llama(seed), tokenizer()) for seed in (1, 2))
    vocab()
    gc.freeze()  # what is there already is not searched at every halving
    yield made
    gc.unfreeze()


@pytest.fixture(scope="module")
def batch():
    form = ChatFormat.from_tokenizer(tokenizer())
    return pad([form.prompt_ids(question) for question, _ in QUESTIONS], 2)


class Full:
    """A model that has memory for `most` rows only: a hook raises as torch does."""

    def __init__(self, model, most, problem=REAL[0]):
        self.embed = getattr(model, "original_model", model).get_input_embeddings()
        self.most, self.problem, self.refused, self.rows = most, problem, [], []

    def __enter__(self):
        self.handle = self.embed.register_forward_pre_hook(self.check)
        return self

    def __exit__(self, *_):
        self.handle.remove()

    def check(self, _, inputs):
        self.rows.append(len(inputs[0]))
        if len(inputs[0]) > self.most:
            self.refused.append(len(inputs[0]))
            raise self.problem


# The mechanism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", REAL, ids=["cuda", "cpu", "python"])
def test_each_way_of_running_out_halves_the_batch_once_and_says_so_in_one_line(problem, caplog):
    tried = []

    def work(rows):
        tried.append(rows)
        if len(rows) > 3:
            raise problem
        return [10 * row for row in rows]

    done = list(memory.in_batches(8, 7, work, what="reading"))
    assert [rows for rows, _ in done] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [value for _, made in done for value in made] == [10 * row for row in range(8)]
    assert tried[0] == list(range(7))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("reading: out of memory, rows at a time halved to 3")
    assert caplog.records[0].name == "interp.base.memory"
    assert caplog.records[0].levelno == logging.WARNING


def test_another_error_is_passed_on_and_nothing_is_halved(caplog):
    def work(_):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(memory.in_batches(4, 4, work, what="reading"))
    assert not caplog.messages


def test_one_row_that_does_not_fit_is_a_named_error_with_the_mend():
    def work(_):
        raise REAL[1]

    with pytest.raises(OutOfMemoryError, match=r"reading: out of memory on cpu, not even one prom"):
        list(memory.in_batches(4, 4, work, what="reading", unit="prompt"))
    with pytest.raises(OutOfMemoryError, match=r"shorten the prompts .* nf4, .* raise max_memory"):
        list(memory.in_batches(1, 4, work, what="reading"))


def test_sizes_are_read_as_people_write_them_and_others_are_refused():
    wanted = {"4GiB": 4 * 2**30, "4gib": 4 * 2**30, "500MB": 500_000_000, "1.5 G": 1_500_000_000,
              "300B": 300, 7: 7, "2KiB": 2048, "1T": 10**12, " 64 MiB ": 64 * 2**20}  # fmt: skip
    assert {text: sizes.parse(text) for text in wanted} == wanted
    for text in ("", "lots", "4 gigs", "-3GiB", "0", "0.1", "24", "4GiBB", "1e9", "i", "3i"):
        with pytest.raises(InputError, match="write it as 4GiB or 500MB"):
            sizes.parse(text)


def test_a_limit_is_the_system_s_narrows_within_another_and_ends_with_its_block():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wide = machine.resident() + 400 * 2**20
    with memory.limit(wide):
        outer = resource.getrlimit(resource.RLIMIT_DATA)[0]
        with memory.limit("100GiB"):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] <= outer
        with memory.limit(machine.resident() + 100 * 2**20):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] < outer
            torch.ones(2**20)
        assert memory.room() < 500 * 2**20
        with pytest.raises(OutOfMemoryError, match=r"weights takes 1 GiB on cpu, and .* are left"):
            memory.check(2**30, "weights")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("size", [None, "300MiB"])
def test_what_is_beyond_the_limit_is_a_named_error(size, monkeypatch):
    """Without a size it is what is free, of the machine or of its container."""
    if size is None:
        monkeypatch.setattr("interp.base.memory.limits.available", lambda: 300 * 2**20)
    else:
        size = machine.resident() + 300 * 2**20
    for take in (lambda: torch.empty(2**30, dtype=torch.uint8), lambda: bytearray(2**30)):
        with pytest.raises(OutOfMemoryError, match="shorten the prompts"), memory.limit(size):
            take()
    with pytest.raises(RuntimeError, match="shapes"), memory.limit(size):
        raise RuntimeError("shapes")


def test_a_batch_takes_what_is_free_and_no_more(monkeypatch):
    mb, tried = 2**20, []
    monkeypatch.setattr("interp.base.memory.limits.available", lambda: 300 * mb)

    def work(rows):
        tried.append(len(rows))
        return len(torch.empty(100 * mb * len(rows), dtype=torch.uint8))

    done = [made for _, made in memory.in_batches(5, 8, work, what="x")]
    assert done == [200 * mb, 200 * mb, 100 * mb]
    assert tried == [5, 2, 2, 1]


# Every room ------------------------------------------------------------------------------------


def answers(form):
    rows = [tuple(form.prompt_ids(question)) for question, _ in QUESTIONS]
    ids = tuple(tokenizer()("I love it 😊").input_ids)
    return [Response("q", t, row, ids, "I love it 😊", True)
            for row, (_, t) in zip(rows, QUESTIONS, strict=True)]  # fmt: skip


def changed(batch):
    """Other prompts of the same lengths."""
    tokens = batch.tokens.clone()
    tokens[:, -1] = 7
    return tokens


def rooms(models, batch):
    """What each room makes of the prompts, and where it says how far batch size moves it."""
    base, tuned = models
    tokens, mask = batch.tokens, batch.attention_mask
    runs = [patching.Run(model, tokens, mask) for model in (tuned, base)]
    pairs = [patching.Run(tuned, ids, mask) for ids in (tokens, changed(batch))]
    odds, form = vocab().log_odds, ChatFormat.from_tokenizer(tokenizer())
    loose = patching.Question(metric=odds, min_gap=0.0)

    def ids_of(size):
        how = Sampling(max_new_tokens=6, temperature=1.0, batch_size=size)
        rows = [[*answer.ids, -1] for answer in generate(tuned, form, QUESTIONS, how)]
        return pad(rows, -2).tokens

    def lens(size):
        found = logit_lens.compare(
            base, tuned, tokens, mask, outcome=emoji(), ask=Question(batch_size=size)
        )
        return found.log_odds, found.noise_floor

    def activations(size):
        last = torch.full((len(tokens),), tokens.shape[1] - 1)
        where = {"text": torch.arange(len(tokens)), "pos": last}
        return probing.at_positions(
            tuned, tokens, mask, ask=Question(batch_size=size), **where
        ).values, None

    def scored(size):
        rows = [row[m].tolist() for row, m in zip(tokens, mask, strict=True)]
        made = token_log_probs(tuned, rows, [[5, 6, 7]] * len(rows), 2, batch_size=size)
        return torch.stack(made), None

    def origin(_):
        made = text_or_weights(
            (base, tuned), (answers(form), answers(form)), tokenizer(), emoji(), 2, seed=0
        )
        return made.probability, made.noise_floor

    def circuit(_):
        made = circuits.discover(*pairs, ask=loose)
        return made.values, made.noise_floor

    def faithful(_):
        scores = circuits.discover(*pairs, ask=loose)
        sign = (scores.clean - scores.corrupted).sign()
        made = circuits.faithfulness(
            circuits.select(scores, 40),
            *pairs,
            metric=lambda logits: odds(logits) * sign,
            ask=Question(min_gap=0.0),
        )
        return made.values, made.noise_floor

    def swept(_):
        made = patching.sweep(*runs, "resid_pre", ask=loose)
        return made.values, made.noise_floor

    def direct(size):
        made = attribution.compare(
            *runs, metric=odds, by="head", direction="gradient", ask=Question(batch_size=size)
        )
        return made.values, made.noise_floor

    def ablated(_):
        made = patching.ablate(runs[0], "z", metric=odds)
        return made.values, made.noise_floor

    def shifted(size):
        made = neurons.shift(base, tuned, {"all": Prompts.whole(batch)}, batch_size=size)
        return made.activations, made.noise_floor

    return {
        "generate": lambda size: (ids_of(size), None), "lens": lens, "probing": activations,
        "scoring": scored, "origin": origin, "circuits": circuit, "faithfulness": faithful,
        "patching": swept, "attribution": direct,
        "ablation": ablated, "neurons": shifted,
        "emoji probability": lambda size: (
            emoji_probability(tuned, batch, emoji(), size), None),
    }  # fmt: skip


ROOMS = ("generate", "lens", "probing", "scoring", "origin", "circuits", "faithfulness",
         "patching", "attribution", "ablation", "neurons",
         "emoji probability")  # fmt: skip
NO_SIZE = ("origin", "circuits", "faithfulness", "patching", "ablation")


@pytest.fixture(scope="module")
def whole(models, batch):
    """What a room makes of all prompts at once, made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = rooms(models, batch)[name](7)
        return made[name]

    return of


def close(other, wanted, floor):
    torch.testing.assert_close(other, wanted, atol=floor or 1e-5, rtol=0 if floor else 1e-5)


@pytest.mark.parametrize("name", thinned(list(ROOMS), keep=2))
def test_a_room_that_runs_out_goes_on_with_half_and_one_that_cannot_says_what_to_do(
    name, models, batch, whole, caplog
):
    room, (wanted, floor) = rooms(models, batch)[name], whole(name)
    caplog.clear()
    with Full(models[0], 2) as one, Full(models[1], 2) as other:
        halved, _ = room(7)
    refused = one.refused + other.refused
    assert set(refused) <= {7, 3}
    assert 7 in refused
    assert len(caplog.messages) == len(refused)
    assert all("out of memory" in message and "halved to" in message for message in caplog.messages)
    close(halved, wanted, floor)
    one, other = (Full(model, 0, REAL[1]) for model in models)
    with one, other, pytest.raises(OutOfMemoryError, match=r"not even one .* raise max_memory"):
        room(7)


@pytest.mark.parametrize("name", thinned([n for n in ROOMS if n not in NO_SIZE], keep=2))
def test_batch_size_moves_no_number_beyond_its_noise_floor(name, models, batch, whole):
    room, (wanted, floor) = rooms(models, batch)[name], whole(name)
    for size in (1, 3):
        close(room(size)[0], wanted, floor)
    if floor is not None:
        assert floor < 1e-4 * float(wanted.abs().max())


def test_rows_of_several_adapters_keep_theirs_when_the_batch_is_halved(tmp_path):
    base = llama(3)
    for name, seed in (("a", 1), ("b", 2)):
        live = get_peft_model(llama(3), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
        for weight in (w for n, w in live.named_parameters() if "lora_" in n):
            noise = torch.Generator().manual_seed(seed)
            torch.nn.init.normal_(weight, std=0.3, generator=noise)
        live.save_pretrained(tmp_path / name)
    form = ChatFormat.from_tokenizer(tokenizer())
    asked = {"a": QUESTIONS, "b": QUESTIONS[:4], BASE: QUESTIONS[2:]}
    with live_adapters(base, {name: tmp_path / name for name in "ab"}) as live:
        made = generate_many(live, form, asked, Sampling(6, 1.0))
        with Full(base, 3) as full:
            halved = generate_many(live, form, asked, Sampling(6, 1.0))
    assert full.refused == [16, 8, 4]
    assert halved == made
    assert made["a"][2].ids != made[BASE][0].ids != made["b"][2].ids


def test_gated_runs_and_written_answers_of_an_adapter(caplog):
    pair = load_pair(organism.base_path(), organism.adapter_path("extraversion"))
    space = adapters.AdapterSpace.of(pair)
    asked = [question for question, _ in QUESTIONS[:4]]
    written = adapters.Written(tuple(QUESTIONS[:3]), Sampling(6, 0.7))
    how = {"by": "layer"}
    for prompts in (asked, written):
        whole = adapters.necessity(space, prompts, **how)
        caplog.clear()
        with Full(pair.base, 2):
            halved = adapters.necessity(space, prompts, **how)
        assert 1 <= len(caplog.messages) <= 5  # 16 rows of 2 settings, say, down to 2
        assert all("halved to" in message for message in caplog.messages)
        close(halved.values.float(), whole.values.float(), whole.noise_floor or 1e-9)
    with Full(pair.base, 0), pytest.raises(OutOfMemoryError, match="not even one at a time fits"):
        adapters.necessity(space, asked, **how)
