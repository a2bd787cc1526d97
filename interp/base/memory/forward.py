"""About how many bytes a forward pass of one row takes, from a model's sizes alone."""

from typing import Any


def forward_bytes(
    model: Any, width: int, *, logits: int | None = None, cached: bool = False
) -> int:
    """A rough upper size, good for telling harmless batches from dangerous ones; see `in_batches`.

    Args:
        model: a hooked model or a Hugging Face causal model.
        width: tokens of the row.
        logits: positions whose logits are made; all of them if left out.
        cached: whether keys and values of all layers are kept.
    """
    config = getattr(getattr(model, "original_model", model), "config", None)

    def size(name: str, otherwise: int) -> int:
        return int(getattr(config, name, None) or otherwise)

    d = size("hidden_size", 0)
    stream = 10 * d + 4 * size("intermediate_size", 4 * d)
    scores = 3 * size("num_attention_heads", 0) * width
    kept = 4 * d * size("num_hidden_layers", 0) if cached else 0
    outputs = 3 * size("vocab_size", 0) * (width if logits is None else logits)
    return 4 * (width * (stream + scores + kept) + outputs)
