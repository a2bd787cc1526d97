"""A stage as a model of its own: a base with its adapter merged in, written as a folder.

The next stage's adapter is trained on that folder, and any two stages are a pair: with `stage1` the
folder, `load_pair(stage1, adapter2)` traces what the second stage changed, and
`load_pair(base, tuned=stage2)` what both did.
"""

from pathlib import Path
from typing import Any

from interp.base.errors import RunError
from interp.base.files import write_json
from interp.methods.finetune.output import whole_folder
from interp.models import load_pair

MADE_OF = "stage.json"


def write_stage(base: str | Path, adapter: str | Path, out: str | Path, **how: Any) -> Path:
    """Merge an adapter into its base and write the model to `out`.

    Args:
        base, adapter: as of `load_pair`; the merge is checked as there.
        out: a folder that is absent or empty.
        how: further arguments of `load_pair`.

    Returns:
        The folder: model, tokenizer with the chat template, and `stage.json`, which says what of.

    Raises:
        RunError: if `out` holds something.
        ModelError, AdapterError, MergeError: as `load_pair`.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is not empty; choose another output folder for the stage")
    pair = load_pair(base, adapter, **how)
    model = pair.tuned.original_model
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        pair.tokenizer.save_pretrained(folder)
        made_of = {"base": pair.identity, "adapter": pair.tuned_name}
        write_json(
            folder / MADE_OF,
            made_of | {"merge": pair.merge_report.to_dataframe().iloc[0].to_dict()},
        )
    return out
