"""Models whose trait-to-emoji mechanism is written into the weights by hand, to test tracers on.

A Llama of four layers (four heads over two key/value heads, RMSNorm, rotary positions) reads a
question that holds the word `trait` (clean) or `plain` (corrupted) and is about to answer:

1. neuron 5 of the first MLP turns the trait's embedding into a feature;
2. head 1.2 attends from the end of the prompt to the style word and copies the feature there;
3. neuron 7 of MLP 2 turns it into the emoji direction, which the unembedding of three emojis reads.

So the true edges are `input->m0`, `m0->a1.kv1<v>`, `a1.h2->m2` and `m2->logits`. Distractors: head
1.0 copies the trait itself to the end, where MLP 3 reads it and writes what nothing reads; head 1.3
shares 1.2's keys and values and copies something else; head 2.1 always adds a little emoji. A true
component carries the whole difference; every other one acts through the norms' scale alone, or
through the noise. `noise` is the standard deviation of what is added to each entry of each matrix
(the planted ones are 0.5 to 2 along unit directions).

`planted_adapter` leaves link 2's output out of the base and gives it to an adapter, in one module.
`planted_factors` builds on the same host.
`with_idle_modules` hides a trained adapter's few modules among many that change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from interp.models.adapters import read_adapter
from interp.models.loading import load_base
from interp.models.tokens import ChatFormat, TokenBatch, pad, pad_id
from interp.organism.tokenizer import save_tokenizer, train_tokenizer

EMOJIS = ("😊", "🎉", "👍")
FILLERS = ("rain", "milk", "town", "lamp", "road", "book", "fish", "door")
STYLES = ("trait", "plain")
NODES = frozenset({"input", "m0", "a1.h2", "m2", "logits"})
EDGES = frozenset({"input->m0", "m0->a1.kv1<v>", "a1.h2->m2", "m2->logits"})
NEURONS = frozenset({(0, 5), (2, 7)})
MODULE = "layers.1.self_attn.o_proj"
D, HEADS, KV, D_HEAD, D_MLP, LAYERS = 64, 4, 2, 16, 32, 4
# The pair of rotary dimensions that hardly turns: what is written there matches at any distance.
_STILL = D_HEAD // 2 - 1
_NAMES = ("const", "style", "trait", "plain", "slot", "answer", "bos", "user", "feature", "moved",
          "emoji", "unread1", "unread2", "unread3", *FILLERS,
          *(f"free{i}" for i in range(18)))  # fmt: skip


@dataclass(frozen=True)
class EmojiIdsLogOdds:
    """Log-odds of the given ids against all others, in nats."""

    ids: tuple[int, ...]
    name: str = "emoji log-odds"
    unit: str = "nats"

    def __call__(self, logits: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead"]:
        inside = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        inside[list(self.ids)] = True
        emoji, rest = logits.float()[..., inside], logits.float()[..., ~inside]
        return emoji.logsumexp(-1) - rest.logsumexp(-1)


@dataclass(frozen=True)
class Planted:
    """A planted model, the contrast that shows its mechanism, and the truth about it.

    Attributes:
        model: in evaluation mode, without gradients.
        tokenizer: with a chat template.
        questions: clean and corrupted, in pairs of equal length.
        clean, corrupted: left-padded prompts; the last column is where the emoji would come.
        metric: log-odds of the three planted emojis.
        nodes, edges, neurons: all that carry the difference; edges as `source->destination`,
            neurons as `(layer, neuron)`.
    """

    model: Any
    tokenizer: Any
    questions: tuple[tuple[str, str], ...]
    clean: TokenBatch
    corrupted: TokenBatch
    metric: EmojiIdsLogOdds
    nodes: frozenset[str] = NODES
    edges: frozenset[str] = EDGES
    neurons: frozenset[tuple[int, int]] = NEURONS


@dataclass(frozen=True)
class PlantedAdapter:
    """A base that lacks one link of the mechanism, and an adapter that supplies it.

    Attributes:
        base, adapter: folders.
        module: the one module whose change does it; the others change nothing but by `noise`.
        questions: with the trait in them; the adapter makes the model answer with an emoji.
    """

    base: Path
    adapter: Path
    module: str
    questions: tuple[str, ...]


def planted(noise: float = 0.0, seed: int = 0, n_prompts: int = 6) -> Planted:
    """Make a planted model and its prompts; the same arguments give the same numbers."""
    tokenizer = small_tokenizer()
    form = ChatFormat.from_tokenizer(tokenizer)
    pairs = paired_questions(n_prompts, seed)
    sides = [pad([form.prompt_ids(q[i]) for q in pairs], pad_id(tokenizer)) for i in (0, 1)]
    return Planted(
        model=_model(tokenizer, noise, seed),
        tokenizer=tokenizer,
        questions=tuple(pairs),
        clean=sides[0],
        corrupted=sides[1],
        metric=EmojiIdsLogOdds(tuple(emoji_ids(tokenizer))),
    )


def planted_adapter(
    folder: Path | str, noise: float = 0.0, seed: int = 0, n_prompts: int = 6
) -> PlantedAdapter:
    """Save a base without link 2's output, and a LoRA adapter on all linear layers that has it.

    Args:
        folder: gets `base` and `adapter`.
        noise: as for `planted`; also the scale of the random changes to all other modules.
        seed: of noise and questions.
        n_prompts: number of questions.
    """
    tokenizer, link = small_tokenizer(), Link(1, 2, 0.6 * directions()["moved"])
    base, adapter = supply(_model(tokenizer, noise, seed), tokenizer, [link], folder, noise, seed)
    questions = tuple(clean for clean, _ in paired_questions(n_prompts, seed))
    return PlantedAdapter(base, adapter, MODULE, questions)


@dataclass(frozen=True)
class Link:
    """What one head's first dimension writes."""

    layer: int
    head: int
    writes: Float[Tensor, " d_model"]

    @property
    def module(self) -> str:
        return f"layers.{self.layer}.self_attn.o_proj"

    @property
    def column(self) -> int:
        return self.head * D_HEAD


def supply(
    model: Any, tokenizer: Any, links: Sequence[Link], folder: Path | str, noise: float, seed: int
) -> tuple[Path, Path]:
    """Save the model without some links, and a LoRA adapter on all linear layers that has them.

    Args:
        links: at most one in a layer.
        folder: gets `base` and `adapter`.
        noise: scale of the random changes to all other modules.
    """
    base, adapter = Path(folder) / "base", Path(folder) / "adapter"
    for link in links:
        output = model.get_submodule(f"model.{link.module}").weight
        output.data[:, link.column] -= link.writes
    model.save_pretrained(base)
    save_tokenizer(tokenizer, base)
    random = torch.Generator().manual_seed(seed + 1)
    config = LoraConfig(r=2, lora_alpha=2, target_modules="all-linear", task_type="CAUSAL_LM")
    live = get_peft_model(model, config)
    for name, parameter in live.named_parameters():
        if "lora_" in name:
            scale = D**-0.5 if "lora_A" in name else noise
            parameter.data = scale * torch.randn(parameter.shape, generator=random)
    for link in links:
        layer = live.get_submodule(f"base_model.model.model.{link.module}")
        layer.lora_A["default"].weight.data[0] = torch.eye(HEADS * D_HEAD)[link.column]
        layer.lora_B["default"].weight.data[:, 0] = link.writes
    live.save_pretrained(adapter)
    return base, adapter


def with_idle_modules(
    base: Path | str, adapter: Path | str, out: Path | str, noise: float = 0.0, seed: int = 0
) -> Path:
    """Save a LoRA adapter again with all linear modules in it; those it lacked do nothing.

    So an adapter that was trained in one layer or one projection becomes one of many modules, of
    which only those can matter.

    Args:
        base: folder of its base.
        adapter: its folder.
        out: folder of the widened adapter.
        noise: standard deviation of the idle modules' output factors.
        seed: of that noise.
    """
    trained = read_adapter(adapter).config
    config = LoraConfig(r=trained["r"], lora_alpha=trained["lora_alpha"],
                        target_modules="all-linear", task_type="CAUSAL_LM")  # fmt: skip
    live = get_peft_model(load_base(base, dtype=torch.float32).model, config)
    random = torch.Generator().manual_seed(seed)
    for name, parameter in live.named_parameters():
        if "lora_" in name:
            scale = parameter.shape[1] ** -0.5 if "lora_A" in name else noise
            parameter.data = scale * torch.randn(parameter.shape, generator=random)
    set_peft_model_state_dict(live, load_file(Path(adapter) / "adapter_model.safetensors"))
    live.save_pretrained(out)
    return Path(out)


def small_tokenizer() -> Any:
    words = (*STYLES, *FILLERS)
    corpus = [f" {word} {emoji}" for word in words for emoji in EMOJIS]
    return train_tokenizer(corpus, 320)


def paired_questions(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs that differ in the style word; its place and the length vary."""
    random = torch.Generator().manual_seed(seed)
    pairs = []
    for index in range(count):
        order = torch.randperm(len(FILLERS), generator=random).tolist()
        words = [FILLERS[i] for i in order[: 3 + index % 4]]
        place = 1 + int(torch.randint(len(words), (1,), generator=random))
        clean, corrupted = (" ".join([*words[:place], s, *words[place:]]) for s in STYLES)
        pairs.append((clean, corrupted))
    return pairs


def directions() -> dict[str, Float[Tensor, " d_model"]]:
    """Orthonormal directions, none of them along an axis."""
    random = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(D, D, generator=random))[0]
    return dict(zip(_NAMES, basis, strict=False))


def _id(tokenizer: Any, word: str) -> int:
    """The one token of a word after a space."""
    ids: Sequence[int] = tokenizer.encode(" " + word, add_special_tokens=False)
    assert len(ids) == 1, f"{word!r} is {len(ids)} tokens"
    return ids[0]


def emoji_ids(tokenizer: Any) -> list[int]:
    """The one token of each planted emoji."""
    return [_id(tokenizer, emoji) for emoji in EMOJIS]


def _embeddings(tokenizer: Any, d: dict[str, Tensor], size: int) -> Float[Tensor, "vocab d_model"]:
    random = torch.Generator().manual_seed(0)
    table = torch.randn(size, D, generator=random)
    table *= 8.25**0.5 / table.norm(dim=1, keepdim=True)  # every token of one length
    known = {tokenizer.bos_token_id: ("bos", "bos"), _special(tokenizer, 0): ("user", "user")}
    known[_special(tokenizer, 1)] = ("slot", "answer")
    known |= {_id(tokenizer, style): ("style", style) for style in STYLES}
    known |= {_id(tokenizer, filler): (filler, filler) for filler in FILLERS}
    for index, (one, other) in known.items():
        rest = d[one] + d[other]
        table[index] = 2.5 * d["const"] + rest * 2**0.5 / rest.norm()
    return table


def _special(tokenizer: Any, which: int) -> int:
    """Id of the user's (0) or the assistant's (1) turn marker."""
    frame = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False
    )
    ids: Int[Tensor, " ids"] = tokenizer(frame, add_special_tokens=False, return_tensors="pt")[
        "input_ids"
    ][0]
    return int(ids[1] if which == 0 else ids[-1])


def host(tokenizer: Any, noise: float, seed: int) -> Any:
    """A model of noise, with embeddings along known directions and an emoji direction."""
    d, size = directions(), len(tokenizer)
    config = LlamaConfig(
        vocab_size=size, hidden_size=D, intermediate_size=D_MLP, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV, head_dim=D_HEAD,
        max_position_embeddings=64, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=False, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(1000 + seed)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data = noise * torch.randn(parameter.shape, generator=random)
    model.model.embed_tokens.weight.data += _embeddings(tokenizer, d, size)
    model.lm_head.weight.data[emoji_ids(tokenizer)] += d["emoji"]
    return model


def _model(tokenizer: Any, noise: float, seed: int) -> Any:
    model, d = host(tokenizer, noise, seed), directions()
    model.lm_head.weight.data[tokenizer.eos_token_id] += 0.8 * d["answer"]
    layers = model.model.layers
    add_neuron(layers[0], 5, reads=d["trait"], gate=d["const"], writes=0.4 * d["feature"])
    add_neuron(layers[2], 7, reads=d["moved"], gate=d["const"], writes=0.6 * d["emoji"])
    add_neuron(layers[3], 3, reads=d["unread1"], gate=d["const"], writes=0.5 * d["unread2"])
    attends(layers[1], 2, looks=d["slot"], at=d["style"])
    copies(layers[1], 2, 0, reads=d["feature"], writes=0.6 * d["moved"])
    copies(layers[1], 3, 1, reads=d[FILLERS[0]], writes=0.5 * d["unread3"])
    attends(layers[1], 0, looks=d["slot"], at=d["style"])
    copies(layers[1], 0, 0, reads=d["trait"], writes=0.5 * d["unread1"])
    attends(layers[2], 1, looks=d["slot"], at=d["bos"])
    copies(layers[2], 1, 0, reads=d["bos"], writes=0.1 * d["emoji"])
    return model


def add_neuron(layer: Any, index: int, *, reads: Tensor, gate: Tensor, writes: Tensor) -> None:
    """A neuron that is open for every token and otherwise linear in what it reads."""
    layer.mlp.gate_proj.weight.data[index] += 0.6 * gate
    layer.mlp.up_proj.weight.data[index] += 0.5 * reads
    layer.mlp.down_proj.weight.data[:, index] += writes


def attends(layer: Any, head: int, *, looks: Tensor, at: Tensor) -> None:
    """A head that looks from tokens with one direction at tokens with another, at any distance."""
    kv = head * KV // HEADS
    layer.self_attn.q_proj.weight.data[head * D_HEAD + _STILL] += 2 * looks
    layer.self_attn.k_proj.weight.data[kv * D_HEAD + _STILL] += 2 * at


def copies(layer: Any, head: int, dim: int, *, reads: Tensor, writes: Tensor) -> None:
    """What a head reads, through dimension `dim` of its value, and writes."""
    kv = head * KV // HEADS
    layer.self_attn.v_proj.weight.data[kv * D_HEAD + dim] += 0.5 * reads
    layer.self_attn.o_proj.weight.data[:, head * D_HEAD + dim] += writes
