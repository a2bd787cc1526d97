"""One small instance of every kind of result, filled from its fields' annotations.

Sizes come from the names of the axes, numbers from a seed; what a kind asks for beyond its types
(labels as many as layers, say) stands in `GIVEN`.
"""

import importlib
import pkgutil
from dataclasses import MISSING, fields
from typing import Any, get_args, get_origin, get_type_hints

import torch
from jaxtyping import AbstractArray

import interp
from interp.base.results import Result
from interp.base.traits import TRAITS
from interp.circuits import Graph

SIZES = {
    "run": 2,
    "writer": 2,
    "reader": 2,
    "decider": 2,
    "model": 2,
    "end": 2,
    "direction": 2,
    "sum": 3,
    "measure": 3,
    "estimate": 3,
    "item": 10,
}
OTHERS = 4
EDGES = Graph(2, 2, 2, False)
CIRCUIT: dict[str, Any] = {"n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "parallel": False}
RATES = (((3, 4, 5, 8), (1, 4, 1, 8)),) * OTHERS  # by topic, for each condition
WHERE: dict[str, Any] = {"layers": (0, 0, 1, 1), "projections": ("q", "k", "q", None)}
GIVEN: dict[str, dict[str, Any]] = {
    "AdjectiveEvaluation": {"trait": "openness"},
    "Added": {"esr": RATES, "scales": (1.0, 1.0), "adapters": ("one", "two")},
    "ActivationDifference": {"names": (("a", "b"),) * OTHERS},
    "Attribution": {"runs": ("base", "tuned")},
    "Circuit": {
        "members": torch.ones(EDGES.n_edges, dtype=torch.bool),
        "scores": torch.linspace(-1, 2, EDGES.n_edges),
        "name": "openness", "level": "edge", "search": "top", **CIRCUIT,
    },
    "Crossed": {"sentences": torch.ones(2, 2, OTHERS, 2, dtype=torch.int64)},
    "DoseCurve": {"neurons": ((1, 0),)},
    "Fluency": {"lengths": (1, 1, 1, 1), "before_emoji": (1, 1, 1, 1)},
    "Interpolation": {"esr": RATES},
    "LatentDifference": {"names": (("a", "b"),) * OTHERS},
    "LatentPatches": {
        "ids": torch.arange(OTHERS), "names": (("a", "b"),) * OTHERS,
        "factors": ("log_odds", "go_on", "given_go_on", "another"),
    },
    "NeuronShift": {"kinds": ("opinion", "opinion", "fact", "fact"), "topics": tuple("abab")},
    "OnsetSurvival": {"times": torch.arange(1, 5)},
    "PartEffects": WHERE,
    "ShapleyEffects": WHERE,
    "RankReadings": {"writes": (("a", "b"),) * OTHERS},
    "SelfReport": {
        "traits": tuple(map(str, TRAITS)) * 2, "facets": ("a facet",) * 10,
        "orders": ((0, 1, 2, 3),) * OTHERS,
    },
    "Steering": {"site": "resid_post", "where": "all", "head_width": 0},
    "TraitAlignment": {"trait": "openness", "traits": TRAITS[:OTHERS]},
}  # fmt: skip
TOPICS = ("tea", "dogs", "rain", "<i>books</i>")


def kinds(of: type = Result) -> set[type[Result]]:
    """Every kind of result that the package defines."""
    if of is Result:
        for module in pkgutil.walk_packages(interp.__path__, "interp."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    direct = {kind for kind in of.__subclasses__() if kind.__module__.startswith("interp.")}
    every = direct.union(*(kinds(kind) for kind in direct))
    return {kind for kind in every if hasattr(kind, "kind")}  # others only share what kinds do


def made(kind: type[Result], **given: Any) -> Result:
    """A result of a kind; `given` fields as they are, the others filled."""
    generator = torch.Generator().manual_seed(0)
    hints = get_type_hints(kind)
    values = {
        field.name: given.get(field.name, _value(hints[field.name], field, generator))
        for field in fields(kind)
    }
    return kind(**values)


def _value(hint: Any, field: Any, generator: torch.Generator) -> Any:
    arrays = [one for one in (hint, *get_args(hint)) if _is_array(one)]
    if arrays:
        return _tensor(arrays[0], generator)
    if field.default is not MISSING:
        return 0.001 if "floor" in field.name else field.default
    if field.name in ("topics", "questions", "prompts"):
        return TOPICS
    plain = {str: f"a {field.name}", int: 3, float: 0.25, bool: True}
    if get_origin(hint) is dict:
        return {}
    wanted = {*get_args(hint), hint} & set(plain)
    if get_origin(hint) is not tuple and wanted:
        return plain[min(wanted, key=lambda one: list(plain).index(one))]
    inner = get_args(hint)[0] if get_args(hint) else None
    if inner is str:
        return tuple(f"{field.name} {place}" for place in range(OTHERS))
    return (plain[inner],) * OTHERS if inner in plain else ()


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _tensor(hint: Any, generator: torch.Generator) -> torch.Tensor:
    shape = [SIZES.get(name, OTHERS) for name in hint.dim_str.split()]
    if "bool" in hint.dtypes:
        return torch.ones(shape, dtype=torch.bool)
    if any("int" in dtype for dtype in hint.dtypes):
        return torch.zeros(shape, dtype=torch.int64)
    dtype = torch.float16 if hint.dtypes == ("float16",) else torch.float32
    return torch.rand(shape, generator=generator).to(dtype)
