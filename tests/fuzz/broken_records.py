"""What the package itself writes, broken: results, answers, manifests, circuits, editors, items."""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from broken_bytes import NOT_FILES, NOT_JSON, NOT_SAFETENSORS, pack, unpack, with_tensors
from broken_models import Break, _in_place, _outside, _spoil_bytes, _spoil_text
from corpus import Case, Gone, change, copy_of, put, workshop
from made_results import answers, lens, merge_report, patching
from wrong_fields import (
    ANSWERS,
    CIRCUIT,
    DICTIONARY,
    EDITOR,
    ITEMS,
    MANIFEST,
    ORGANISM,
    STUDY,
    Change,
)

from interp.circuits import Circuit
from interp.circuits.export import to_json
from interp.circuits.graph import Graph
from interp.dictionaries import save_dictionary, train
from interp.measures.questionnaire import items
from interp.methods.editing.mend.editor import EditorConfig, EditorNetwork
from interp.methods.editing.mend.folder import Editor
from interp.organism import ASSETS
from interp.study.runs import RunFolder


def circuit() -> Circuit:
    """Every third edge of a small graph; all of its members lie on paths."""
    graph = Graph(2, 2, 1, False)
    members = torch.ones(graph.n_edges, dtype=torch.bool)
    scores = torch.linspace(-1, 1, graph.n_edges)
    return Circuit(
        members=members, scores=scores, n_layers=2, n_heads=2, n_kv_heads=1, parallel=False,
        name="extraversion", level="edge", contrast="model", rooted=False, metric="log_odds",
        unit="nats", ig_steps=5, n_prompts=8, search="greedy", wanted=40, model="fingerprint",
    )  # fmt: skip


@cache
def good() -> Path:
    """One of everything."""
    where = workshop() / "records"
    folder = RunFolder.create(
        where / "run", {"base": "b", "adapters": {"openness": "a"}, "seed": 1}
    )
    folder.note(steps={"openness/merge": {"state": "done", "seconds": 1.0}})
    folder.save_responses(answers(["I like it. 🎉", "No."]), "answers.json")
    merge_report().save(where / "merge.safetensors")
    lens().save(where / "lens.safetensors")
    patching().save(where / "patching.safetensors")
    circuit().save(where / "circuit.safetensors")
    to_json(circuit(), where / "circuit.json")
    network = EditorNetwork({"model.layers.0.mlp.up_proj": (8, 4)}, EditorConfig(rank=2))
    Editor(network, EditorConfig(rank=2), "0" * 64, ("tea", "art")).save(where / "editor")
    made = train(torch.eye(8)[:, :6], hook="blocks.0.hook_resid_post", latents=5, k=2, steps=2)
    save_dictionary(made, where / "dictionary")
    stored = [
        {"text": i.text, "facet": i.facet, "trait": str(i.trait), "key": i.key} for i in items()[:4]
    ]
    put(where / "items.json", json.dumps({"items": stored}))
    put(where / "organism" / "organism.json", (ASSETS / "organism.json").read_text())
    return where


def _broken(loader: str, target: str, breaks: dict[str, Break], label: str = "") -> list[Case]:
    def make(spoil: Break, folder: Path) -> str:
        where = copy_of(good(), folder)
        spoil(where)
        return str(where / target)

    return [Case(f"{label or loader}: {n}", loader, partial(make, s)) for n, s in breaks.items()]


def _fields(path: Path, spoil: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a result's metadata holds."""
    header, data = unpack(path.read_bytes())
    facts = json.loads(header["__metadata__"]["interp"])
    spoil(facts)
    header["__metadata__"]["interp"] = json.dumps(facts)
    put(path, pack(header, data))


def _field(file: str, name: str, value: Any) -> Break:
    def spoil(facts: dict[str, Any]) -> None:
        if value is Gone:
            del facts["fields"][name]
        else:
            facts["fields"][name] = value

    return lambda where: _fields(where / file, spoil)


def _facts(file: str, **changes: Any) -> Break:
    return lambda where: _fields(where / file, lambda facts: facts.update(changes))


def _metadata(file: str, text: str | None) -> Break:
    """Put other text in place of the metadata; `None` leaves it out."""

    def spoil(where: Path) -> None:
        header, data = unpack((where / file).read_bytes())
        header["__metadata__"] = {"interp": text} if text is not None else {"other": "x"}
        put(where / file, pack(header, data))

    return spoil


def _tensor(file: str, name: str, spoil: Callable[[torch.Tensor], torch.Tensor]) -> Break:
    return lambda where: with_tensors(where / file, lambda t: t.update({name: spoil(t[name])}))


MERGE = "merge.safetensors"
RESULT: dict[str, Break] = {
    "version-other": _facts(MERGE, format="interp result 1"),
    "version-future": _facts(MERGE, format="interp result 99"),
    "version-number": _facts(MERGE, format=2),
    "version-lost": _facts(MERGE, format=None),
    "kind-other": _facts(MERGE, kind="emoji rates"),
    "kind-escape": _facts(MERGE, kind="\x1b[31mmerge\nerror: none"),
    "kind-list": _facts(MERGE, kind=["merge report"]),
    "fields-list": _facts(MERGE, fields=[1, 2]),
    "fields-text": _facts(MERGE, fields="mean_kl"),
    "fields-null": _facts(MERGE, fields=None),
    "metadata-lost": _metadata(MERGE, None),
    "metadata-empty": _metadata(MERGE, ""),
    "metadata-list": _metadata(MERGE, "[]"),
    "metadata-deep": _metadata(MERGE, "[" * 100_000),
    "metadata-twice": _metadata(MERGE, '{"kind": "merge report", "kind": "merge report"}'),
    "metadata-surrogate": _metadata(MERGE, r'{"kind": "\ud83d"}'),
    "metadata-ten-megabytes": _metadata(MERGE, '"' + "x" * 10_000_000),
    "field-lost": _field(MERGE, "mean_kl", Gone),
    "field-unknown": _field(MERGE, "wisdom", 1),
    "float-text": _field(MERGE, "mean_kl", "0.5"),
    "float-null": _field(MERGE, "mean_kl", None),
    "float-list": _field(MERGE, "mean_kl", [0.5]),
    "float-nan": _field(MERGE, "mean_kl", float("nan")),
    "float-infinite": _field(MERGE, "max_kl", float("inf")),
    "float-true": _field(MERGE, "mean_kl", True),
    "float-endless": _field(MERGE, "mean_kl", 10**400),
    "integer-float": _field(MERGE, "n_prompts", 8.5),
    "integer-text": _field(MERGE, "n_prompts", "8"),
    "integer-true": _field(MERGE, "n_prompts", True),
    "text-number": _field(MERGE, "dtype", 32),
    "text-object": _field(MERGE, "dtype", {"a": 1}),
    "optional-number": _field(MERGE, "quantization", 4),
}  # fmt: skip

PATCHING = "patching.safetensors"
TENSORS: dict[str, Break] = {
    "tensor-lost": lambda where: with_tensors(where / PATCHING, lambda t: t.pop("clean")),
    "tensor-unknown": lambda where: with_tensors(
        where / PATCHING, lambda t: t.update(extra=torch.ones(2))
    ),
    "integers-for-floats": _tensor(PATCHING, "values", lambda t: t.long()),
    "floats-for-booleans": _tensor(PATCHING, "present", lambda t: t.float()),
    "floats-for-integers": _tensor(PATCHING, "metric_positions", lambda t: t.float()),
    "complex": _tensor(PATCHING, "values", lambda t: t.to(torch.complex64)),
    "one-dimension-less": _tensor(PATCHING, "values", lambda t: t[0]),
    "one-dimension-more": _tensor(PATCHING, "clean", lambda t: t[None]),
    "prompts-fewer": _tensor(PATCHING, "clean", lambda t: t[:-1]),
    "units-fewer": _tensor(PATCHING, "present", lambda t: t[:-1]),
    "layers-contradict": _field(PATCHING, "layers", [0, 1]),
    "layers-text": _field(PATCHING, "layers", "0123"),
    "layers-texts": _field(PATCHING, "layers", ["0", "1", "2", "3"]),
    "units-contradict": _field(PATCHING, "units", [0]),
    "labels-numbers": _field(PATCHING, "unit_labels", list(range(20))),
    "axis-number": _field(PATCHING, "axis", 1),
    "tensor-as-field": _field(PATCHING, "values", [1.0, 2.0]),
    "notes-text": _field(PATCHING, "notes", "none"),
    "booleans-of-seven": lambda where: _seven(where / PATCHING, "present"),
}


def _seven(path: Path, name: str) -> None:
    """Bytes in a boolean tensor that are neither 0 nor 1."""
    header, data = unpack(path.read_bytes())
    start, end = header[name]["data_offsets"]
    put(path, pack(header, data[:start] + b"\7" * (end - start) + data[end:]))


CIRCUIT_RESULT: dict[str, Break] = {
    "layers-absurd": _field("circuit.safetensors", "n_layers", 10**9),
    "layers-zero": _field("circuit.safetensors", "n_layers", 0),
    "heads-contradict": _field("circuit.safetensors", "n_heads", 3),
    "members-fewer": _tensor("circuit.safetensors", "members", lambda t: t[:-1]),
    "scores-fewer": _tensor("circuit.safetensors", "scores", lambda t: t[:-1]),
    "level-unknown": _field("circuit.safetensors", "level", "galaxy"),
}


def _changes(file: str, changes: dict[str, Change]) -> dict[str, Break]:
    return {
        name: lambda where, k=keys, v=value: change(where / file, k, v)
        for name, (keys, value) in changes.items()
    }


def _study(changes: dict[str, Any], _: Path) -> dict[str, Any]:
    whole = {"base": "b", "adapters": {"openness": "a"}, "data": "d"}
    return whole | changes if changes else {}


def cases() -> list[Case]:
    made = _broken("merge report", MERGE, RESULT) + _broken("patching", PATCHING, TENSORS)
    result = {
        f"file {n}": partial(_spoil_bytes, MERGE, spoil) for n, spoil in _WITHOUT_TENSORS.items()
    }
    made += _broken("merge report", MERGE, result)
    whole = {
        f"file {n}": partial(_spoil_bytes, "lens.safetensors", s)
        for n, s in NOT_SAFETENSORS.items()
    }
    made += _broken("lens", "lens.safetensors", whole)
    made += _broken("circuit result", "circuit.safetensors", CIRCUIT_RESULT)
    texts = (
        ("circuit", "circuit.json", "circuit.json", CIRCUIT),
        ("answers", "run/answers.json", "run/answers.json", ANSWERS),
        ("run", "run", "run/manifest.json", MANIFEST),
        ("questionnaire", "items.json", "items.json", ITEMS),
        ("organism", "organism", "organism/organism.json", ORGANISM),
        ("editor", "editor", "editor/editor.json", EDITOR),
        ("dictionary", "dictionary", "dictionary/cfg.json", DICTIONARY),
    )
    for loader, target, file, changes in texts:
        spoils = _changes(file, changes)
        spoils |= {f"file {n}": partial(_spoil_text, file, s) for n, s in NOT_JSON.items()}
        for name, make in NOT_FILES.items():
            spoils[f"file {name}"] = lambda where, f=file, m=make: _in_place(where / f, m)
        made += _broken(loader, target, spoils)
    for loader, weights in (("editor", "editor"), ("dictionary", "sae_weights")):
        file = f"{weights}.safetensors"
        for name in ("half", "tensor-twice", "pickle", "huge-shape"):
            spoil = partial(_spoil_bytes, f"{loader}/{file}", NOT_SAFETENSORS[name])
            made += _broken(loader, loader, {f"weights {name}": spoil})
        made += _broken(
            loader,
            loader,
            {"weights outside": lambda w, n=loader, f=file: _outside(f)(w / n)},
        )
    return made + [Case(f"study: {n}", "study", partial(_study, c)) for n, c in STUDY.items()]


_WITHOUT_TENSORS = {
    name: NOT_SAFETENSORS[name]
    for name in ("empty", "seven-bytes", "half", "one-byte-more", "length-2-62", "pickle", "text",
                 "header-no-json", "header-list")
}  # fmt: skip
