"""What a study will cost, before it is paid: steps, seconds and memory, and a choice that fits.

A step's work is counted in *token passes* (one token through the whole model once) by a formula per
method, from the model's shape and the settings; `benchmarks/steps_cost.py` holds the formulas
against what is counted on the organism (within a factor of three). Seconds come from a measured
second of this machine, left alone: the rate of matrix products of many rows, and of products
of 32 rows, which is how answers are decoded; of either, whole models reach about half. Loading,
fits, bootstraps and drawing are not in it. Read a price as its order of magnitude, and double it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from interp.base.errors import InputError, ModelError, said
from interp.base.files import kind_of, read_json
from interp.base.sizes import seconds, show, show_time
from interp.models.folders import allows_code, check_folder
from interp.models.loading import resolve_device, resolve_dtype
from interp.readout.coverage import EXACT
from interp.study import catalogue
from interp.study.catalogue import Row
from interp.study.config import StudyConfig
from interp.study.traced.origin import n_expected
from interp.study.traced.probing import PUSHED
from interp.traces.inputs.effects import MOST_KEPT
from interp.traces.patching.sweep_plan import HEADS

PROMPT = 60  # tokens of a question with its frame
_PROBED, _SHOWN, _CURVE = 120, 2, 20  # texts of a probe, models of a view, sizes of a curve
_DRAWN, _PUSHES = 5, 9  # random circuits beside each; pushes after each block
_BRANCHES = 256  # beginnings of emojis that are followed along an answer
# Passes over a prompt: forward and backward at five steps, mostly doubled once; circuits run.
_CIRCUITS = {"edges": 3 * 5 * 2, "circuit": 2 * _CURVE, "judged": 2 + _DRAWN,
             "curve": (2 + _DRAWN) * _CURVE}  # fmt: skip
_SCREENED = 3 + 20  # forward and backward; twice twenty nodes, each the layers above it
_LATENTS = 2 * (1 + 3 + 16 + 3)  # both ways: read, forward and backward, latents and their sums
# Answers decoded per question: two models in four pairings; at four strengths; 2 sets and 8 heads.
_DECODED = {"crossed": 6, "amplified": 2 * 4, "ablated": 2 * (2 + 8)}
_SWITCHED = 8  # questions of a row by name, at the least
_GRADIENTS = 64 + 192  # passes of a prompt for its words' gradients
_REACHED = 0.5  # of a bare matrix product's rate
_ROWS = 32  # answers decoded at a time
_SMALL = 32 * 2**20  # bytes of a base's files
_PROCESS = 600 * 2**20  # bytes of a process with torch, before any model
LADDER: tuple[dict[str, Any], ...] = (
    {},
    {"n_switched": 16},
    {"n_switched": 16, "n_positions": 16},
    {"n_switched": 8, "n_positions": 16, "n_trace": 12},
    {"n_switched": 8, "n_positions": 12, "n_trace": 12, "maps": "denoising"},
    {"n_switched": 0, "n_positions": 8, "n_trace": 8, "maps": "denoising"},
    {"n_switched": 0, "n_positions": 8, "n_trace": 8, "maps": "denoising", "n_responses": 100},
    {"n_switched": 0, "n_trace": 8, "maps": "screen", "n_responses": 100},
    {"n_switched": 0, "n_trace": 6, "maps": "screen", "n_responses": 50},
    {"n_switched": 0, "n_trace": 6, "maps": "screen", "n_responses": 50, "circuits": "log_odds"},
)
"""What is given up first, and next; `maps`: patching one way only, or a screen by gradients whose
largest cells are patched exactly, in place of whole maps and of circuits of all sizes; `circuits`:
of this metric alone."""
AUTO = 12 * 60
"""Seconds a label that a study takes where no budget is given, at a speed that is `NOMINAL`."""
NOMINAL = {"cpu": (2e11, 4e10), "cuda": (2e14, 2e13)}
"""Operations per second of products of many rows and of few: of two laptop cores, of one GPU."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that a price depends on."""

    kind: str
    parameters: float
    layers: int
    heads: int
    d_model: int
    vocab: int

    @classmethod
    def of(cls, base: str, trusted: str | None = None) -> "Shape":
        """The shape of a base: of its configuration, no weight is read.

        Raises:
            ModelError: if there is no such model, or no model can be made of its configuration.
        """
        from transformers import AutoConfig, AutoModelForCausalLM

        path, code = check_folder(base, trusted), allows_code(base, trusted)
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(path)}
        if kind_of(path) == "file":
            where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        try:
            config = AutoConfig.from_pretrained(**where, trust_remote_code=code)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=code)
        except Exception as problem:  # a config's wrong values raise every kind
            raise ModelError(f"{base}: its shape cannot be read ({said(problem)})") from None
        text = config.get_text_config()
        count = sum(parameter.numel() for parameter in model.parameters())
        if not config.tie_word_embeddings:  # rows that are looked up multiply nothing
            count -= model.get_input_embeddings().weight.numel()
        return cls(
            str(config.model_type), float(count), int(text.num_hidden_layers),
            int(text.num_attention_heads), int(text.hidden_size), int(text.vocab_size),
        )  # fmt: skip


@dataclass(frozen=True)
class Price:
    """Seconds by step, in the order they are made, and bytes of memory."""

    seconds: Mapping[str, float]
    memory: int

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def lines(self) -> list[tuple[str, int, float]]:
        """Rows of a table: a family of steps, how many, seconds."""
        rows = {row.name: row.family or row.name for row in catalogue.ROWS}
        found: dict[str, tuple[int, float]] = {}
        for step, took in self.seconds.items():
            name = rows.get(step.rpartition("/")[2], "answers")
            count, total = found.get(name, (0, 0.0))
            found[name] = (count + 1, total + took)
        return [(name, count, total) for name, (count, total) in found.items()]


def passes(row: Row[Any], shape: Shape, c: StudyConfig) -> tuple[float, float]:
    """Token passes of one row for one label: read in long passes, and decoded one by one."""
    text, n = PROMPT + c.max_new_tokens, c.n_trace
    unembedding = shape.d_model * shape.vocab / shape.parameters
    made, _, what = row.make.partition(":")
    if made == "answers":
        return c.n_responses * PROMPT, c.n_responses * c.max_new_tokens
    if made == "patching":
        return _map(row, shape, c), 0
    if what == "exact":  # an adapter's matrices, where answers end
        return 7 * shape.layers * n * text, 0
    if made == "decoding":
        times = _DECODED[what] * c.n_switched
        return times * PROMPT + 2 * n * text, times * c.max_new_tokens
    if made == "adapter":
        modules = 7 * shape.layers
        return modules * c.n_switched * PROMPT, modules * c.n_switched * c.max_new_tokens
    return {
        "rates": 0,
        "merge": 3 * 8 * PROMPT,
        "origin": 4 * (c.n_responses * text + n_expected(c.n_responses) * (text + _BRANCHES)),
        # Half of the tokens begin a word: it is left out, exchanged, and tried in the set.
        "inputs": n * text * (text / 2 * (2 + MOST_KEPT) + _GRADIENTS),
        "lens": n * text * (1 + shape.d_model)
        if what == "jacobian"
        else 2 * n * (text + min(text, c.n_positions) * shape.layers * unembedding),
        "circuit": n / 2 * text * _CIRCUITS.get(what, 0),  # half of the prompts choose, half judge
        "probing": n * text * min(shape.layers, PUSHED) * _PUSHES
        if what == "push"
        else 2 * _PROBED * text,
        "dictionaries": n * text * (_LATENTS if what == "patches" else 2),
        "components": n * text * (_SCREENED if what == "screen" else 2),
        "tokens": _SHOWN * text * (2 + shape.layers * unembedding),
    }.get(made, 2 * n * text), 0


def _map(row: Row[Any], shape: Shape, c: StudyConfig) -> float:
    """Token passes of a patching map."""
    text = PROMPT + c.max_new_tokens
    unembedding = shape.d_model * shape.vocab / shape.parameters
    cells = _cells(row, shape, c)
    if shape.kind not in EXACT:
        return c.n_trace * text * cells
    # A patch recomputes the layers above, from its position on: half of them, half of these.
    rows = text if row.options["site"] in HEADS else min(text, c.n_positions) / 2
    return c.n_trace * cells * (rows / 2 + unembedding)


def _cells(row: Row[Any], shape: Shape, c: StudyConfig) -> int:
    """Patches of a map, per prompt."""
    width = min(c.n_positions, PROMPT + c.max_new_tokens)
    return shape.layers * (shape.heads if row.options["site"] in HEADS else width)


def speeds(shape: Shape, config: StudyConfig, each: float = 0.5) -> tuple[float, float]:
    """Operations per second of products of many rows and of few, measured for so long each.

    The fastest product counts: what the machine does when nothing else is on its cores.
    """
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    weight = torch.randn(shape.d_model, 4 * shape.d_model, device=device, dtype=dtype)
    found = []
    for rows in (4 * _ROWS, _ROWS):
        x = torch.randn(rows, shape.d_model, device=device, dtype=dtype)
        took: list[float] = []
        end = time.perf_counter() + each
        while len(took) < 2 or time.perf_counter() < end:  # the first warms up
            start = time.perf_counter()
            (x @ weight)[0, 0].item()
            took.append(time.perf_counter() - start)
        found.append(2 * rows * weight.numel() / min(took))
    return found[0], found[1]


def price(config: StudyConfig, shape: Shape, speed: tuple[float, float]) -> Price:
    """What a study of this configuration costs, on a machine of this speed."""
    found: dict[str, float] = {}
    for label in config.adapters:
        for row in catalogue.asked(config.model_dump()):
            read, decoded = passes(row, shape, config)
            work = read / speed[0] + decoded / speed[1]
            name = row.step_name(str(label), "base")
            found.setdefault(name, work * 2 * shape.parameters / _REACHED)
    dtype = resolve_dtype(config.dtype, resolve_device(config.device))
    return Price(found, int(2 * shape.parameters * dtype.itemsize) + _PROCESS)


def fitted(config: StudyConfig, shape: Shape, speed: tuple[float, float]) -> StudyConfig:
    """The largest study of the ladder that fits into the configuration's budget.

    Settings that are smaller already stay so. With the budget `auto`, so do all that are not at
    their defaults, and the choice is the same on every machine: it goes by `NOMINAL` speeds.

    Raises:
        InputError: if not even the smallest fits into a time that was given.
    """
    if config.budget == "none":
        return config
    auto = config.budget == "auto"
    limit = AUTO * len(config.adapters) if auto else seconds(config.budget)
    if auto:
        speed = NOMINAL.get(resolve_device(config.device).type, NOMINAL["cpu"])
    least, made = 0.0, config
    for step in LADDER:
        made = _smaller(config, step)
        least = price(made, shape, speed).total
        if least <= limit:
            return made
    if auto:
        return made
    raise InputError(
        f"budget {config.budget}: the smallest study takes about {show_time(least)} here; give "
        "more time, fewer labels, or name the traces that you need (--only)"
    )


def chosen(config: StudyConfig, made: StudyConfig) -> str:
    """What a budget chose, in words: `n-positions 16, n-switched 16`; `everything` of nothing."""
    names = ("n_responses", "n_trace", "n_positions", "n_switched")
    less = [f"{name.replace('_', '-')} {getattr(made, name)}" for name in names
            if getattr(made, name) != getattr(config, name)]  # fmt: skip
    if made.only != config.only:
        rows, kept = _rows(config), _rows(made)
        less.append("patching screened and verified" if "screen" in kept else "no noising maps")
        gone = [row for name, row in rows.items() if name not in kept]
        if any(row.options.get("factor") == "go_on" for row in gone):
            less.append("circuits of the log-odds alone")
    return ", ".join(less) or "everything that was asked"


def _rows(config: StudyConfig) -> dict[str, Row]:
    return {row.name: row for row in catalogue.asked(config.model_dump())}


def _smaller(config: StudyConfig, step: Mapping[str, Any]) -> StudyConfig:
    given = {
        name for name, field in StudyConfig.model_fields.items()
        if config.budget == "auto" and getattr(config, name) != field.get_default()
    }  # fmt: skip
    sizes = {
        name: value for name, value in step.items() if name not in {"maps", "circuits", *given}
    }
    rows, maps = catalogue.asked(config.model_dump()), step.get("maps")
    named = {
        row.when for row in rows if config.only
    }  # what was asked for is made smaller, not left
    sizes |= {name: _SWITCHED for name, value in sizes.items() if not value and name in named}
    less = {name: value for name, value in sizes.items() if value < getattr(config, name)}
    one_way = {row.name for row in rows if row.options.get("direction") == "noising"}
    whole = {row.name for row in rows if row.family == "patching" or row.name.endswith("-curve")}
    left_out = {"denoising": one_way, "screen": whole}.get(str(maps), set())
    if only := step.get("circuits"):
        left_out |= {row.name for row in rows if row.options.get("factor", only) != only}
    if left_out and "only" not in given:
        kept = tuple(row.name for row in rows if row.name not in left_out)
        less["only"] = kept + (("screen",) if maps == "screen" else ())
    return config.model_copy(update=less)


def slow_patching(config: StudyConfig, shape: Shape) -> str | None:
    """What is said before a study that makes one pass per patch; None if it makes none."""
    rows = [r for r in catalogue.asked(config.model_dump()) if "site" in r.options]
    if shape.kind in EXACT or not rows:
        return None
    count = len(config.adapters) * sum(_cells(row, shape, config) for row in rows)
    return (
        f"the exact patching engine does not cover model type {shape.kind!r}: {len(rows)} maps "
        f"take {count:,} forward passes of {config.n_trace} prompts; --n-positions, --n-trace and "
        "--only make them fewer"
    )


def told(config: StudyConfig, price: Price) -> str:
    """One line: how many steps, how long, how much memory."""
    return (
        f"{len(price.seconds)} steps for {len(config.adapters)} label"
        f"{'s' * (len(config.adapters) > 1)}: about {show_time(price.total)} here, memory about "
        f"{show(price.memory)} (an estimate from the model's shape and a measured second)"
    )


def as_given(config: StudyConfig) -> bool:
    """Whether no size is chosen: a base that the exact engine takes, without a budget or small."""
    auto = config.budget == "auto" and is_small(config.base)
    return (config.budget == "none" or auto) and known_exact(config.base)


def is_small(base: str) -> bool:
    """Whether a base's folder is so small that every study of it fits a laptop."""
    place = Path(base)
    if kind_of(place) != "folder":
        return False
    return sum(file.stat().st_size for file in place.glob("*") if file.is_file()) < _SMALL


def known_exact(base: str) -> bool:
    """Whether a base's own file says that the exact engine takes it; False where it must be asked.

    Looks at one small file of a local folder: what most studies need not wait for.
    """
    try:
        return read_json(Path(base) / "config.json").get("model_type") in EXACT
    except (InputError, AttributeError):
        return False
