"""Runs an experiment from its command: config and options in, table, figures and verdict out.

It ends in `results.csv`, `figures/` and `verdict.md` of at most ten lines, beside the parts that
the experiment has kept (see `experiment`).
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_origin

import yaml
from experiment import C, Experiment, Finding

from interp.base import console
from interp.base.files import write_csv, write_text
from interp.base.progress import Progress
from interp.base.traits import Trait
from interp.base.yaml_files import read_config
from interp.errors import InputError
from interp.show.plots.style import save as save_figure
from interp.study.runs import RunFolder, logged

CONFIGS = Path(__file__).with_name("configs")
Function = Callable[[Experiment[C]], Finding]


def conduct(
    function: Function[C], config: C, out: Path, progress: Progress | None = None
) -> Finding:
    """Run an experiment, or go on with it, and write its files to `out`.

    Raises:
        InputError: (a subclass says which) if a model, an adapter, the data or `out` is unusable.
    """
    began = time.monotonic()
    asked = {"experiment": Path(function.__code__.co_filename).stem} | config.model_dump(
        mode="json"
    )
    with RunFolder(out).lock():
        folder = RunFolder.create(out, asked, job="experiment", change=True)
        with logged(folder):
            finding = function(Experiment(config, folder, progress, function))
        _write(finding, out, config.on_organism)
        folder.finish(time.monotonic() - began)
    return finding


def _write(finding: Finding, out: Path, on_organism: bool) -> None:
    """The table, the verdict, and the figures with their captions."""
    write_csv(out / "results.csv", finding.table)
    lines = list(finding.verdict)
    if on_organism:
        lines.append(
            "Measured on the shipped organism, which was built to show the effect: the numbers "
            "say that the method works, not how a 7B model behaves."
        )
    write_text(out / "verdict.md", "\n".join(lines) + "\n")
    for stem, figure in finding.figures.items():
        save_figure(figure, out / "figures" / stem)
    captions = [f"**{stem}.** {figure.caption}\n" for stem, figure in finding.figures.items()]
    write_text(out / "figures" / "captions.md", "\n".join(captions))


def main(function: Function[C], kind: type[C], argv: Sequence[str] | None = None) -> int:
    """The command line of one experiment: 0 done, 2 bad input, 1 anything else."""
    return console.guarded(lambda: _command(function, kind, argv))


def _command(function: Function[C], kind: type[C], argv: Sequence[str] | None) -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # advice on an optional kernel
    name = Path(function.__code__.co_filename).stem
    about = function.__globals__.get("__doc__") or ""
    given = vars(parser(name, about, kind).parse_args(argv))
    out = Path(given.pop("out") or f"runs/experiments/{name}")
    as_json, path = given.pop("json"), Path(given.pop("config") or CONFIGS / f"{name}.yaml")
    config = read_config(kind, path, _changes(kind, given))
    with console.progress(not as_json) as progress:
        finding = conduct(function, config, out, progress)
    verdict = (out / "verdict.md").read_text(encoding="utf-8").splitlines()
    if as_json:
        table = finding.table.astype(object).where(finding.table.notna(), None)
        files = sorted(str(path) for path in out.glob("figures/*"))
        results = table.to_dict(orient="records")
        console.emit_json({"results": results, "verdict": verdict, "figures": files})
        return
    shown = finding.table if finding.shown is None else finding.shown
    console.table(name, list(shown.columns), shown.values.tolist())
    for line in verdict:
        console.say(line)
    console.say(f"files: {out}")


def _changes(kind: type[C], given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as values of the config: lists are written with commas.

    Raises:
        InputError: for a list that cannot be read, a trait that does not exist or has two adapters.
    """
    changes = {key: value for key, value in given.items() if value is not None}
    for key in changes:
        if get_origin(kind.model_fields[key].annotation) is tuple:
            try:
                changes[key] = yaml.safe_load(f"[{changes[key]}]")
            except yaml.YAMLError:
                raise InputError(
                    f"{key}: write it as one,two (names with commas in quotes)"
                ) from None
    if "traits" in changes:
        changes["traits"] = [Trait.parse(str(one)) for one in changes["traits"]]
    if "=" in changes.get("adapters", ""):
        pairs = [item.partition("=") for item in changes["adapters"].split(",")]
        changes["adapters"] = {Trait.parse(trait): folder for trait, _, folder in pairs}
        if len(changes["adapters"]) < len(pairs):
            raise InputError("adapters: a trait stands twice; give each trait one folder")
    return changes


def parser(name: str, about: str, kind: type[C]) -> argparse.ArgumentParser:
    """The options of an experiment: the fields of its config, and where it all goes."""
    made = argparse.ArgumentParser(
        prog=f"experiments/{name}.py",
        description=about.strip().split("\n")[0],
        epilog="Unset options keep the config's values.",
    )
    made.add_argument("--config", help=f"YAML file; default experiments/configs/{name}.yaml")
    made.add_argument("--out", help=f"output folder; default runs/experiments/{name}")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    for field, one in kind.model_fields.items():
        if get_origin(one.annotation) is dict:
            continue  # stands in the file
        says = (one.description or "").replace("%", "%%")
        made.add_argument(f"--{field.replace('_', '-')}", metavar="VALUE", help=says)
    return made
