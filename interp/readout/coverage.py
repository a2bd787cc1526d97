"""What covers which model: one table, which the code, `interp doctor` and the README read.

Every model that TransformerLens bridges is merged, sampled, read by the lens and probed. What takes
a model's layers apart was compared, family by family, with the whole model.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Models of one arithmetic.

    Attributes:
        name: what people call them.
        types: `model_type` in their `config.json`.
        circuits: whether edges can be scored: no norm stands after attention or MLP.
        note: what else differs.
    """

    name: str
    types: tuple[str, ...]
    circuits: bool = True
    note: str = ""


FAMILIES: tuple[Family, ...] = (
    Family("Llama, SmolLM2, TinyLlama, Vicuna", ("llama",)),
    Family("Mistral", ("mistral",)),
    Family("Qwen 2, 2.5 and 3", ("qwen2", "qwen3")),
    Family("Phi-3, Phi-4", ("phi3",)),
    Family("OLMo 2", ("olmo2",), circuits=False, note="`q` and `k` of one head: naive"),
    Family("Gemma", ("gemma",)),
    Family("Gemma 2", ("gemma2",), circuits=False),
    Family("Gemma 3 (text)", ("gemma3_text",), circuits=False),
    Family("GPT-2", ("gpt2",)),
    Family("GPT-NeoX, Pythia", ("gpt_neox",)),
)
EXACT: tuple[str, ...] = tuple(kind for family in FAMILIES for kind in family.types)
"""Model types that the exact patching engine takes."""


def covered() -> dict[str, str]:
    """What goes with which models, in words: for `interp doctor`."""
    exact = ", ".join(family.name for family in FAMILIES)
    post = ", ".join(family.name for family in FAMILIES if not family.circuits)
    return {
        "exact patching": f"{exact}; any other model by one pass per patch",
        "circuits": f"the same, but for {post}",
        "all else": "every model that TransformerLens bridges",
    }


def markdown() -> str:
    """The table of the README."""
    lines = ["| models | `model_type` | patching | circuits |", "|---|---|---|---|"]
    for family in FAMILIES:
        types = ", ".join(f"`{kind}`" for kind in family.types)
        exact = f"exact ({family.note})" if family.note else "exact"
        lines.append(
            f"| {family.name} | {types} | {exact} | {'yes' if family.circuits else 'no'} |"
        )
    lines.append("| any other that TransformerLens bridges | | one pass per patch | no |")
    return "\n".join(lines) + "\n"
