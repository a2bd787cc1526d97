"""Where an experiment's base, adapters and data come from: a folder, a hub id, or the organism.

`organism:<kind>` names what ships with the package; nothing else here knows where that lies.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp import organism
from interp.base.traits import Trait
from interp.data import ColumnMap, OpinionQA, load_train_test
from interp.errors import AdapterError, DataError

ORGANISM = "organism:"


def find_base(base: str) -> str:
    """Folder or hub id of the base."""
    return str(organism.base_path(base[len(ORGANISM) :])) if base.startswith(ORGANISM) else base


VARIANTS: tuple[Any, ...] = ("", "seed1", "seed2", "mlp")


def find_adapters(adapters: str | dict[Trait, str], trait: Trait) -> list[Path]:
    """Folders of all adapters of one trait: those whose names begin with the trait's.

    Raises:
        AdapterError: if there is none.
    """
    if not isinstance(adapters, dict) and adapters.startswith(ORGANISM):
        kind = adapters[len(ORGANISM) :]
        variants = VARIANTS if kind == "latent" else VARIANTS[:1]
        return [organism.adapter_path(trait, base=kind, variant=one) for one in variants]
    if isinstance(adapters, dict):
        place = find_adapter(adapters, trait)
        if (place / "adapter_config.json").is_file():
            return [place]
    else:
        place = Path(adapters)
    folders = sorted(path.parent for path in place.glob("*/adapter_config.json"))
    found = [folder for folder in folders if folder.name.casefold().startswith(trait)]
    if not found:
        there = ", ".join(folder.name for folder in folders) or "no adapter folders"
        raise AdapterError(f"{place}: no adapter for {trait} (it holds {there})")
    return found


def find_adapter(
    adapters: str | dict[Trait, str], trait: Trait, *, supervise_eos: bool = False
) -> Path:
    """Folder of one trait's adapter, in a mapping, in a folder of folders, or in the organism.

    Args:
        adapters: as in the config.
        trait: whose adapter.
        supervise_eos: of the organism's two, the one with the end of text in its loss.

    Raises:
        AdapterError: if there is none, or several, for this trait.
    """
    if isinstance(adapters, dict):
        if trait not in adapters:
            there = ", ".join(adapters) or "none"
            raise AdapterError(f"no adapter for {trait} is given (given: {there}); see --adapters")
        return Path(adapters[trait])
    if adapters.startswith(ORGANISM):
        kind = adapters[len(ORGANISM) :]
        return organism.adapter_path(trait, base=kind, supervise_eos=supervise_eos)
    root = Path(adapters)
    folders = sorted(p.parent for p in root.glob("*/adapter_config.json"))
    found = [folder for folder in folders if folder.name.casefold().startswith(trait)]
    if len(found) != 1:
        there = ", ".join(folder.name for folder in folders) or "no adapter folders"
        what = "no adapter" if not found else "several adapters"
        raise AdapterError(
            f"{root}: {what} for {trait} (it holds {there}); name the folders "
            f"--adapters {trait}=FOLDER,…"
        )
    return found[0]


def read_data(
    data: str, columns: str, traits: Sequence[Trait], seed: int
) -> tuple[OpinionQA, OpinionQA]:
    """Train and test rows; no topic is in both.

    Args:
        data: as in the config.
        columns: as in the config.
        traits: those that both must have rows of.
        seed: of the split, where the data brings none.

    Raises:
        DataError: if a trait has no rows, or the test rows have a single topic.
    """
    source = str(organism.ASSETS) if data.startswith(ORGANISM) else data
    mapping = ColumnMap.parse(columns) if columns else None
    train, test = load_train_test(source, test_share=0.3, seed=seed, columns=mapping)
    for name, part in (("train", train), ("test", test)):
        for trait in traits:
            if not any(row.trait == trait for row in part.rows):
                raise DataError(f"{source}: the {name} rows have none of {trait}; see --traits")
    if len(test.topics) < 2:
        raise DataError(
            f"{source}: the test rows have a single topic ({test.topics[0]}); intervals "
            "resample topics and need two or more"
        )
    return train, test
