"""What a run folder holds: the results of each trait, and what is missing with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour import Origin, Response
from interp.models.merge import MergeReport
from interp.show.views import TokenView
from interp.study.runs import RunFolder
from interp.text.emoji.rates import EmojiRates
from interp.traces.adapters import PartEffects
from interp.traces.circuits import Circuit, Faithfulness
from interp.traces.logit_lens import LensResult
from interp.traces.patching import PatchingResult
from interp.traces.probing import ProbeResult

CONTRASTS = (("model", "denoising"), ("model", "noising"), ("prompt", "denoising"))
POSITION_SITES = ("resid_pre", "attn_out", "mlp_out")
PROBES = ("emoji", "trait")
VIEWS = ("token-view", "token-view-2", "token-view-3")
R = TypeVar("R", bound=Result)


@dataclass
class TraitResults:
    """One trait's results; `None` or an absent key where a step is missing.

    Attributes:
        patching: by contrast, direction and site.
        probing: by task, `emoji` or `trait`.
        token_views: answers token by token, in the order of their steps.
        missing: step and reason.
    """

    trait: Trait
    merge: MergeReport | None = None
    rates_base: EmojiRates | None = None
    rates_tuned: EmojiRates | None = None
    origin: Origin | None = None
    lens: LensResult | None = None
    patching: dict[tuple[str, str, str], PatchingResult] = field(default_factory=dict)
    probing: dict[str, ProbeResult] = field(default_factory=dict)
    answers_base: list[Response] | None = None
    answers_tuned: list[Response] | None = None
    necessity: PartEffects | None = None
    circuit: Circuit | None = None
    circuit_curve: Faithfulness | None = None
    token_views: list[TokenView] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """A run: its manifest and the results of its traits, in the order asked."""

    folder: RunFolder
    manifest: dict[str, Any]
    traits: tuple[TraitResults, ...]

    def having(self, name: str) -> dict[Trait, Any]:
        """The traits that have the result `name`, and it."""
        pairs = ((one.trait, getattr(one, name)) for one in self.traits)
        return {trait: value for trait, value in pairs if value}

    @property
    def missing(self) -> Iterator[tuple[Trait, str, str]]:
        """Trait, step and reason of everything that is not there."""
        for one in self.traits:
            for step, reason in one.missing.items():
                yield one.trait, step, reason


def collect(folder: RunFolder) -> Contents:
    """Read a run, finished or not. A damaged file counts as missing, with the reason.

    Raises:
        RunError: if the manifest cannot be read.
    """
    manifest = folder.manifest
    return Contents(folder, manifest, tuple(_trait(folder, manifest, t) for t in folder.traits))


def _trait(folder: RunFolder, manifest: dict[str, Any], trait: Trait) -> TraitResults:
    found = TraitResults(trait)
    reader = _Reader(folder, manifest, found)
    found.merge = reader.result(MergeReport, "merge")
    found.rates_base = reader.result(EmojiRates, "rates-base")
    found.rates_tuned = reader.result(EmojiRates, "rates-tuned")
    found.origin = reader.result(Origin, "origin")
    found.lens = reader.result(LensResult, "lens")
    for contrast, direction in CONTRASTS:
        for site in (*POSITION_SITES, "z"):
            sweep = reader.result(PatchingResult, f"patching-{contrast}-{direction}-{site}")
            if sweep is not None:
                found.patching[contrast, direction, site] = sweep
    for task in PROBES:
        probe = reader.result(ProbeResult, f"probing-{task}")
        if probe is not None:
            found.probing[task] = probe
    found.circuit_curve = reader.result(Faithfulness, "circuit-curve")
    found.circuit = reader.result(Circuit, "circuit")
    if manifest.get("config", {}).get("n_switched"):
        found.necessity = reader.result(PartEffects, "adapter-necessity")
    for step in VIEWS:
        view = reader.result(TokenView, step, optional=step != VIEWS[0])
        found.token_views += [view] if view is not None else []
    kind = manifest.get("base_kinds", {}).get(str(trait), "dense")
    found.answers_base = reader.answers("base", f"responses-{kind}.json")
    found.answers_tuned = reader.answers(trait, "responses.json")
    return found


_NOT_SHOWN = {
    "stale": "made with other settings, inputs or code",
    "failed": "failed",
    "stopped": "stopped",
    "running": "not done yet",
}


@dataclass(frozen=True)
class _Reader:
    folder: RunFolder
    manifest: dict[str, Any]
    into: TraitResults

    def result(self, kind: type[R], step: str, *, optional: bool = False) -> R | None:
        """The result of a step; what is `optional` and nowhere recorded, is not missed."""
        name = f"{self.into.trait}/{step}"
        found = None
        if self._may_show(step, name):
            try:
                found = self.folder.result(kind, self.into.trait, f"{step}.safetensors")
            except InputError as problem:
                self.into.missing[step] = str(problem)
                return None
        if found is None and step not in self.into.missing:
            why = self.manifest.get("skipped", {}).get(name)
            if why is not None or not optional:
                self.into.missing[step] = why or "not done yet"
        return found

    def answers(self, *parts: str) -> list[Response] | None:
        found, file = None, "/".join(parts)
        if self._may_show(file, file.removesuffix(".json")):
            try:
                found = self.folder.responses(*parts)
            except InputError as problem:
                self.into.missing[file] = str(problem)
                return None
        if found is None and file not in self.into.missing:
            self.into.missing[file] = "not done yet"
        return found

    def _may_show(self, step: str, name: str) -> bool:
        """Whether what lies there is of the run as it is asked now; if not, notes why."""
        record = self.manifest.get("steps", {}).get(name)
        record = record if isinstance(record, dict) else {}  # older versions kept seconds only
        why = _NOT_SHOWN.get(record.get("state", ""))
        if why is not None:
            reason = record.get("reason")
            self.into.missing[step] = f"{why}: {reason}" if reason else why
        return why is None
