"""Wrong values for the fields of records: where in the file, and what is put there."""

from typing import Any

from corpus import Gone

Change = tuple[tuple[str | int, ...], Any]

CIRCUIT: dict[str, Change] = {
    "format-other": (("format",), "interp circuit 9"),
    "format-number": (("format",), 1),
    "graph-lost": (("graph",), Gone),
    "layers-absurd": (("graph", "n_layers"), 10**9),
    "layers-zero": (("graph", "n_layers"), 0),
    "layers-negative": (("graph", "n_layers"), -2),
    "layers-float": (("graph", "n_layers"), 2.0),
    "heads-contradict": (("graph", "n_heads"), 3),
    "key-heads-absurd": (("graph", "n_kv_heads"), 10**12),
    "key-heads-contradict": (("graph", "n_kv_heads"), 2),
    "parallel-number": (("graph", "parallel"), 0),
    "edges-none": (("edges",), []),
    "edges-object": (("edges",), {}),
    "edge-lost": (("edges", 0), Gone),
    "edge-unknown": (("edges", 0, "source"), "a99.h99"),
    "edge-script": (("edges", 0, "source"), "<script>\x1b[31m"),
    "score-text": (("edges", 0, "score"), "0.5"),
    "score-null": (("edges", 0, "score"), None),
    "score-endless": (("edges", 0, "score"), 10**400),
    "member-number": (("edges", 0, "member"), 1),
    "field-unknown": (("wisdom",), 1),
    "node-lost": (("nodes", 0), Gone),
    "node-renamed": (("nodes", 0, "name"), "m7"),
    "level-unknown": (("level",), "galaxy"),
    "wanted-text": (("wanted",), "40"),
    "rooted-text": (("rooted",), "no"),
}

ANSWERS: dict[str, Change] = {
    "field-lost": ((0, "text"), Gone),
    "field-unknown": ((0, "wisdom"), 1),
    "text-number": ((0, "text"), 5),
    "text-null": ((1, "text"), None),
    "ids-text": ((0, "ids"), "12"),
    "ids-floats": ((0, "ids"), [1.5, 2.5]),
    "ids-number": ((0, "ids"), 7),
    "ids-nested": ((0, "ids"), [[1], [2]]),
    "prompt-ids-null": ((0, "prompt_ids"), None),
    "ended-number": ((0, "ended"), 1),
    "ended-text": ((0, "ended"), "yes"),
    "topic-list": ((0, "topic"), ["a"]),
    "question-object": ((0, "question"), {}),
    "row-text": ((0,), "an answer"),
    "row-null": ((1,), None),
    "row-list": ((0,), [1, 2]),
}

MANIFEST: dict[str, Change] = {
    "config-lost": (("config",), Gone),
    "config-list": (("config",), []),
    "config-text": (("config",), "base"),
    "adapters-lost": (("config", "adapters"), Gone),
    "adapters-list": (("config", "adapters"), ["openness"]),
    "adapters-null": (("config", "adapters"), None),
    "trait-unknown": (("config", "adapters"), {"extravertion": "a"}),
    "trait-escape": (("config", "adapters"), {"\x1b[31mgrit": "a"}),
    "steps-list": (("steps",), []),
    "step-text": (("steps", "openness/merge"), "done"),
    "skipped-list": (("skipped",), ["lens"]),
    "inputs-text": (("inputs",), "none"),
}

ITEMS: dict[str, Change] = {
    "none": (("items",), []),
    "object": (("items",), {}),
    "lost": (("items",), Gone),
    "text-lost": (("items", 0, "text"), Gone),
    "text-empty": (("items", 0, "text"), "  "),
    "text-number": (("items", 0, "text"), 5),
    "text-endless": (("items", 0, "text"), "x" * 10_000),
    "trait-unknown": (("items", 0, "trait"), "extravertion"),
    "trait-null": (("items", 0, "trait"), None),
    "key-zero": (("items", 0, "key"), 0),
    "key-text": (("items", 0, "key"), "+1"),
    "facet-list": (("items", 0, "facet"), []),
}

ORGANISM: dict[str, Change] = {
    "format-other": (("format",), "interp organism 7"),
    "seed-text": (("seed",), "zero"),
    "seed-lost": (("seed",), Gone),
    "recipe-list": (("recipe",), []),
    "files-list": (("files",), []),
    "files-texts": (("files",), {"a": "b"}),
    "adapters-object": (("adapters",), {}),
    "versions-numbers": (("versions",), {"torch": 2}),
}

EDITOR: dict[str, Change] = {
    "format-other": (("format",), "x"),
    "hash-other": (("weights_sha256",), "0" * 64),
    "hash-lost": (("weights_sha256",), Gone),
    "rank-absurd": (("config", "rank"), 10**12),
    "rank-zero": (("config", "rank"), 0),
    "rank-text": (("config", "rank"), "2"),
    "hidden-absurd": (("config", "hidden"), 10**9),
    "setting-unknown": (("config", "wisdom"), 1),
    "config-list": (("config",), []),
    "shapes-none": (("shapes",), {}),
    "shapes-list": (("shapes",), [[8, 4]]),
    "shapes-absurd": (("shapes", "model.layers.0.mlp.up_proj"), [2**40, 2**40]),
    "shapes-negative": (("shapes", "model.layers.0.mlp.up_proj"), [-8, 4]),
    "shapes-three": (("shapes", "model.layers.0.mlp.up_proj"), [8, 4, 2]),
    "shapes-text": (("shapes", "model.layers.0.mlp.up_proj"), "84"),
    "topics-text": (("topics",), "tea"),
    "topics-numbers": (("topics",), [1]),
    "base-number": (("base_sha256",), 5),
}

STUDY: dict[str, Any] = {
    "empty": {},
    "field-unknown": {"wisdom": 1},
    "adapters-list": {"adapters": ["a"]},
    "trait-unknown": {"adapters": {"extravertion": "a"}},
    "responses-one": {"n_responses": 1},
    "responses-text": {"n_responses": "many"},
    "temperature-negative": {"temperature": -1.0},
    "temperature-nan": {"temperature": float("nan")},
    "temperature-infinite": {"temperature": float("inf")},
    "seed-negative": {"seed": -1},
    "dtype-unknown": {"dtype": "float8"},
    "base-number": {"base": 7},
}
