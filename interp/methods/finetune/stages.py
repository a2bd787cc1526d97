"""A stage as a model of its own: a base with its adapter merged in, written as a folder.

The next stage's adapter is trained on that folder, and any two stages are a pair: with `stage1` the
folder, `load_pair(stage1, adapter2)` traces what the second stage changed, and
`load_pair(base, tuned=stage2)` what both did.
"""

from pathlib import Path
from typing import Any, Literal

from interp.base.errors import RunError
from interp.base.files import write_json
from interp.methods.finetune.output import whole_folder
from interp.models.loading import Quantization
from interp.models.pair import QUESTIONS, merged
from interp.models.tokens import Style

MADE_OF = "stage.json"


def write_stage(
    base: str | Path,
    adapter: str | Path,
    out: str | Path,
    *,
    quantization: Quantization | Literal["auto"] | None = "auto",
    prompt_format: Style = "chat",
    any_base: bool = False,
    **how: Any,
) -> Path:
    """Merge an adapter into its base and write the model to `out`.

    Args:
        base, adapter, quantization, prompt_format, any_base: as of `load_pair`, which merges so.
        out: a folder that is absent or empty.
        how: device and dtype, as of `load_base`.

    Returns:
        The folder: model, tokenizer with the chat template, and `stage.json`, which says what of.

    Raises:
        RunError: if `out` holds something.
        ModelError, AdapterError, MergeError: as `load_pair`.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is not empty; choose another output folder for the stage")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = merged(base, adapter, quantization, prompt_format, QUESTIONS, 0.05, any_base, how)
    model = made.tuned
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    model.config.tie_word_embeddings = head.weight is embedding.weight  # what is stored once
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        made.form.tokenizer.save_pretrained(folder)
        write_json(folder / MADE_OF, {"base": made.identity, "adapter": made.adapter.name,
                                      "merge_error": made.report.mean_kl})  # fmt: skip
    return out
