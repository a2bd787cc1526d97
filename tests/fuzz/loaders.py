"""Every way into the package for a file (or a text) that somebody else wrote."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/, for tiny

from broken_models import good_base

from interp import organism
from interp.base.traits import Trait
from interp.circuits import Circuit
from interp.circuits.export import from_json
from interp.data import ColumnMap, load, load_train_test
from interp.dictionaries import read_dictionary
from interp.errors import InputError
from interp.logit_lens import LensResult
from interp.measures.questionnaire import read_items
from interp.methods.editing.mend.folder import Editor
from interp.models import (
    ChatFormat,
    MergeReport,
    load_base,
    load_pair,
    load_tokenizer,
    read_adapter,
)
from interp.patching import PatchingResult
from interp.study import parse_config
from interp.study.runs import RunFolder


def _tokenizer(source: str) -> Any:
    form = ChatFormat.from_tokenizer(load_tokenizer(source))
    return form.example("Why?", "So it is.")


def _run(path: str) -> Any:
    folder = RunFolder.open(path)
    return folder.traits, folder.manifest


LOADERS = {
    "base": lambda source: load_base(source, device="cpu"),
    "tokenizer": _tokenizer,
    "adapter": read_adapter,
    "pair": lambda adapter: load_pair(good_base(), adapter, device="cpu"),
    "data": load,
    "splits": lambda source: load_train_test(source, test_share=0.3, seed=0),
    "column-mapping": ColumnMap.of,
    "column-text": ColumnMap.parse,
    "trait": Trait.parse,
    "merge report": MergeReport.load,
    "lens": LensResult.load,
    "patching": PatchingResult.load,
    "circuit result": Circuit.load,
    "circuit": from_json,
    "run": _run,
    "answers": lambda path: (
        RunFolder(Path(path).parent).responses(Path(path).name) or _absent(path)
    ),
    "questionnaire": read_items,
    "organism": lambda root: organism.manifest(root=root),
    "editor": Editor.load,
    "dictionary": read_dictionary,
    "study": parse_config,
}


def _absent(path: str) -> None:
    raise InputError(f"{path}: holds no answers")
