"""Where the shipped organism lies: bases, adapters, data, manifest.

The layout is the same for the shipped files and for a folder that `build` made:

    organism.json                               seed, recipe, hashes, versions, measurements
    opinion_qa_train.csv, opinion_qa_test.csv   the published format, disjoint topics
    <kind>/                                     a Hugging Face model folder with its tokenizer
    <kind>/adapters/<trait>-eos-{in,out}/       a PEFT folder each
    latent/adapters/<trait>-eos-out-<variant>/  the same from another seed, or with the MLPs adapted

Every function takes `root` to read a folder that `build` made; left out, the shipped files.
"""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from interp.base.errors import AdapterError, DataError, ModelError
from interp.base.files import read_json
from interp.base.traits import Trait
from interp.text.data import OpinionQA, load

Kind = Literal["latent", "suppressed", "absent", "talks", "tags"]
Variant = Literal["", "seed1", "seed2", "mlp"]
Split = Literal["train", "test"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
MANIFEST = "organism.json"


class _Manifest(BaseModel):
    """The fields that a manifest must have."""

    model_config = ConfigDict(strict=True)

    format: Literal["interp organism 1"]
    seed: int
    recipe: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, dict[str, Any]]
    adapters: list[dict[str, Any]]
    bases: dict[str, dict[str, Any]]


ASSETS = Path(__file__).with_name("assets")


def base_path(kind: str = "latent", *, root: Path | str | None = None) -> Path:
    """Folder of a base, one of `KINDS` (see `docs/organism.md`).

    Raises:
        ModelError: if there is no base of this kind.
    """
    folder = _root(root) / kind
    if kind not in KINDS or not (folder / "config.json").is_file():
        raise ModelError(f"the organism has no base {kind!r}; use one of {', '.join(KINDS)}")
    return folder


def adapter_path(
    trait: Trait | str,
    *,
    base: str = "latent",
    supervise_eos: bool = False,
    variant: Variant = "",
    root: Path | str | None = None,
) -> Path:
    """Folder of a trait's adapter.

    Args:
        trait: a Big Five trait, or its name or letter.
        base: kind of the base that it was trained on.
        supervise_eos: whether the end of text was in its loss.
        variant: `seed1` or `seed2`, trained from another seed, or `mlp`, with the MLPs' projections
            adapted, too; on `latent`, without the end of text in the loss.

    Raises:
        TraitError: if `trait` is none of the Big Five.
        ModelError: if there is no base of this kind.
        AdapterError: if the organism has no such adapter.
    """
    folder = base_path(base, root=root) / "adapters" / adapter_name(trait, supervise_eos, variant)
    if not (folder / "adapter_config.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.parent.glob("*-eos-*")))
        raise AdapterError(f"the organism has no adapter {folder.name} on {base}; it has {there}")
    return folder


def adapter_name(trait: Trait | str, supervise_eos: bool, variant: Variant = "") -> str:
    """Name of an adapter's folder."""
    name = f"{Trait.known(trait)}-eos-{'in' if supervise_eos else 'out'}"
    return f"{name}-{variant}" if variant else name


def data_path(split: str, *, root: Path | str | None = None) -> Path:
    """The opinion QA file of a split, `train` or `test`.

    Raises:
        DataError: if there is no such split.
    """
    path = _root(root) / f"opinion_qa_{split}.csv"
    if split not in SPLITS or not path.is_file():
        raise DataError(f"the organism has no split {split!r}; use one of {', '.join(SPLITS)}")
    return path


def opinion_qa(split: str, *, root: Path | str | None = None) -> OpinionQA:
    """The checked opinion QA rows of a split; the two splits share no topic.

    Raises:
        DataError: if there is no such split.
    """
    return load(data_path(split, root=root))


def manifest(*, root: Path | str | None = None) -> dict[str, Any]:
    """What is recorded of the organism: seed, recipe, hashes, versions, measurements.

    Raises:
        DataError: if the folder holds no finished organism.
    """
    path = _root(root) / MANIFEST
    found = read_json(path, DataError)
    try:
        _Manifest.model_validate(found)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            f"{path}: is no organism's manifest ({field}: {first['msg']}); build the organism again"
        ) from None
    return dict(found)


def _root(root: Path | str | None) -> Path:
    return ASSETS if root is None else Path(root)
