"""The catalogue of traces: every result of a study is a row here, and no step is named elsewhere.

A row says which function makes the result (in `interp/study/traced`, a file of narrow imports each,
so that a step is made again only for code that it runs), which other rows that function is given,
which settings it reads, and which section of the report shows it. The steps, the collection of
results, the report, `interp trace --only` and `interp run status` read the rows.

To add a trace: a function in `interp/study/traced`, a section in `interp/report/sections`, a row
here. The order of the rows is the order of the report's sections. Functions and sections are named
and not imported: what only looks into the catalogue must not wait for torch.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_type_hints

from interp.base.errors import InputError

if TYPE_CHECKING:
    from interp.behaviour import Origin, Response
    from interp.models import MergeReport
    from interp.show.views import TokenView
    from interp.text.emoji.rates import EmojiRates
    from interp.traces.adapters import Directions, EffectsByMetric, PartEffects, RankReadings
    from interp.traces.attribution import Attribution
    from interp.traces.circuits import Circuit, CircuitScores, Faithfulness
    from interp.traces.decoding import Ablated, Amplification, Crossed
    from interp.traces.dictionaries import LatentDifference, LatentPatches
    from interp.traces.differences import ActivationDifference, TokenKL, TokenShifts
    from interp.traces.inputs import WordEffects
    from interp.traces.logit_lens import LensResult
    from interp.traces.patching import PatchingByMetric, ScreenResult
    from interp.traces.probing import ProbeResult, Pushed

_TRACED, _SECTIONS = "interp.study.traced.", "interp.report.sections."
R = TypeVar("R")


@dataclass(frozen=True)
class Row(Generic[R]):
    """One result of a study, per label (or shared by all, where `step` names no label).

    Attributes:
        name: unique in the catalogue; what `--only` takes.
        make: `file:function` in `interp/study/traced`. It gets the label's models, `options`, and
            each result of `needs`; what its annotation says it returns, is saved.
        options: further arguments of the function; a family's rows differ in them.
        needs: by parameter, the row whose result the function is given there.
        settings: what the function reads of the configuration (its fields), and `questions`,
            `switched`, `texts`: what is asked, asked without each module, and read.
        section: the file in `interp/report/sections` that shows it.
        family: a name for several rows; `--only` takes it, too.
        models: what the result depends on: the label's pair, its base alone, or no model.
        when: a field of the configuration that leaves the row out where it is 0 or empty.
        default: whether it is made where nothing is asked by name.
        essential: without it there is nothing to report: bad input ends the run. Made first.
        join: `file:function` that makes one result of a list; the row can be made in shards.
        facts: `file:function`, called as `make` is but without `options`: what the manifest notes.
        step, suffix: the step's name, which is its file's place, and the file's kind.
    """

    name: str
    make: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    section: str = ""
    family: str = ""
    models: Literal["pair", "base", "none"] = "pair"
    when: str = ""
    default: bool = True
    essential: bool = False
    join: str = ""
    facts: str = ""
    step: str = "{label}/{name}"
    suffix: Literal[".safetensors", ".json"] = ".safetensors"

    @property
    def function(self) -> Callable[..., R]:
        """What makes the result."""
        return _found(self.make)

    @property
    def joined(self) -> Callable[[list[R]], R]:
        """What makes one result of several shards."""
        return _found(self.join)

    @property
    def noted(self) -> Callable[..., dict[str, Any]]:
        """What the manifest is told of it."""
        return _found(self.facts)

    @property
    def kind(self) -> Any:
        """The type of the result."""
        return get_type_hints(self.function)["return"]

    def step_name(self, label: str, base: str) -> str:
        """The step's name for a label whose base stands as `base`: dense, or how quantised."""
        return self.step.format(label=label, name=self.name, base=base)


def section(name: str) -> Any:
    """The module that draws a section of the report."""
    return import_module(name if "." in name else _SECTIONS + name)


def _found(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(_TRACED + module), function)


CONTRASTS = (("model", "denoising"), ("model", "noising"), ("voice", "denoising"))
SITES = ("resid_pre", "attn_out", "mlp_out", "z")
_TUNED, _BASE = {"tuned": "responses"}, {"base": "responses-base"}
_BOTH = _BASE | _TUNED

MERGE: "Row[MergeReport]" = Row(
    "merge", "merge:report", facts="merge:hashes", section="merge", essential=True
)
RESPONSES_BASE: "Row[list[Response]]" = Row(
    "responses-base", "answers:sample", {"who": "base"}, settings=("questions",), models="base",
    section="samples", step="base/responses-{base}", essential=True, join="answers:joined",
    suffix=".json",
)  # fmt: skip
RESPONSES: "Row[list[Response]]" = Row(
    "responses", "answers:sample", {"who": "tuned"}, settings=("questions",), section="samples",
    essential=True, join="answers:joined", suffix=".json",
)  # fmt: skip
RATES_BASE: "Row[EmojiRates]" = Row(
    "rates-base", "rates:rates", needs={"answers": "responses-base"}, settings=("outcome",),
    models="none", section="rates", family="rates", essential=True,
)  # fmt: skip
RATES: "Row[EmojiRates]" = Row(
    "rates-tuned", "rates:rates", needs={"answers": "responses"}, settings=("outcome",),
    models="none", section="rates", family="rates", essential=True,
)  # fmt: skip
TOKEN_VIEWS: "tuple[Row[TokenView], ...]" = tuple(
    Row(f"token-view-{place + 1}" if place else "token-view", "tokens:view", {"place": place},
        _TUNED, ("outcome",), section="tokens", family="token-views")
    for place in range(3)
)  # fmt: skip
ORIGIN: "Row[Origin]" = Row(
    "origin", "origin:origin", {}, _BOTH,
    ("seed", "outcome", "temperature", "top_p", "max_new_tokens"), "origin",
)  # fmt: skip
LENS: "Row[LensResult]" = Row(
    "lens", "lens:lens", {}, _TUNED, ("n_trace", "n_positions", "outcome"), "lens"
)
JACOBIAN: "Row[LensResult]" = Row(
    "jacobian-lens",
    "lens:jacobian",
    {},
    _BOTH,
    ("n_trace", "seed", "outcome"),
    "jacobian",
    default=False,
)
PATCHING: "tuple[Row[PatchingByMetric], ...]" = tuple(
    Row(f"patching-{contrast}-{direction}-{site}", f"patching:{contrast}",
        {"direction": direction, "site": site}, _TUNED if contrast == "model" else _BOTH,
        ("n_trace", "n_positions", "outcome"), "patching", "patching", join="patching:joined",
        facts="" if contrast == "model" else "patching:pair_counts")
    for contrast, direction in CONTRASTS
    for site in SITES
)  # fmt: skip


@dataclass(frozen=True)
class CircuitRows:
    """The rows of the circuit of one contrast, in one factor.

    Scores, the circuit, how it fares, and circuits of all sizes; these of the log-odds alone. Of
    two models on one text the factors and all sizes are made where they are asked for by name.
    """

    edges: "Row[CircuitScores]"
    circuit: "Row[Circuit]"
    judged: "Row[Faithfulness]"
    curve: "Row[Faithfulness] | None"

    @classmethod
    def of(cls, contrast: str, factor: str, needs: Mapping[str, str]) -> "CircuitRows":
        whole = factor == "log_odds"
        stem = "circuit" if contrast == "voice" else f"circuit-{contrast}"
        stem += "" if whole else f"-{factor.replace('_', '-')}"

        def row(name: str, make: str, section: str = "circuit", **more: str) -> "Row[Any]":
            return Row(
                f"{stem}{name}", f"circuit:{make}", {"contrast": contrast, "factor": factor},
                {**needs, **more}, ("n_trace", "seed", "outcome"), section, "circuits",
                default=contrast == "voice" or (whole and name != "-curve"),
            )  # fmt: skip

        scores = {"scores": f"{stem}-edges"}
        return cls(
            row("-edges", "edges", ""), row("", "circuit", **scores),
            row("-judged", "judged", **scores, found=stem),
            row("-curve", "curve", **scores) if whole else None,
        )  # fmt: skip

    @property
    def all(self) -> "tuple[Row[Any], ...]":
        made = self.edges, self.circuit, self.judged, self.curve
        return tuple(row for row in made if row is not None)


FACTORS = ("log_odds", "go_on", "given_go_on")
CIRCUITS = {
    (contrast, factor): CircuitRows.of(contrast, factor, needs)
    for contrast, needs in (("voice", _BOTH), ("model", _TUNED))
    for factor in FACTORS
}
"""By contrast and factor."""
NECESSITY: "Row[PartEffects]" = Row(
    "adapter-necessity", "adapter:necessity", settings=("switched", "outcome"), section="adapter",
    family="adapter", when="n_switched",
)  # fmt: skip
EXACT: "Row[EffectsByMetric]" = Row(
    "adapter-exact", "adapter:exact", {}, _TUNED, ("n_trace", "seed", "outcome"), "adapter",
    "adapter", when="n_switched",
)  # fmt: skip
PROBE_EMOJI: "Row[ProbeResult]" = Row(
    "probing-emoji", "probing:emoji", {}, _TUNED, ("seed", "outcome"), "probing", "probing"
)
PROBE_TRAIT: "Row[ProbeResult]" = Row(
    "probing-trait", "probing:trait", {}, {}, ("seed", "texts"), "probing", "probing"
)
PUSH: "Row[Pushed]" = Row(
    "probing-push", "probing:push", {}, _BOTH, ("n_trace", "seed", "outcome"), "probing", "probing"
)
WORDS: "Row[WordEffects]" = Row(
    "words", "inputs:words", {}, _BOTH, ("n_trace", "seed", "outcome"), "inputs", default=False
)
_ASKED: dict[str, Any] = {"section": "differences", "family": "differences", "default": False}
KL: "Row[TokenKL]" = Row("token-kl", "differences:kl", {}, _BOTH, ("n_trace", "seed"), **_ASKED)
SHIFTS: "Row[TokenShifts]" = Row(
    "token-shifts", "differences:shifts", {}, _TUNED, ("n_trace", "seed", "outcome"), **_ASKED
)
ACTIVATIONS: "Row[ActivationDifference]" = Row(
    "activation-difference", "differences:activations", {}, _BASE, ("n_trace", "seed", "outcome"),
    **_ASKED,
)  # fmt: skip
_DICTIONARY: dict[str, Any] = {
    "needs": _TUNED, "settings": ("n_trace", "seed", "outcome", "dictionary"),
    "section": "dictionaries", "family": "dictionaries", "when": "dictionary", "default": False,
}  # fmt: skip
LATENTS: "Row[LatentDifference]" = Row("latents", "dictionaries:latents", **_DICTIONARY)
LATENT_PATCHES: "Row[LatentPatches]" = Row("latent-patches", "dictionaries:patches", **_DICTIONARY)
_DECODED: dict[str, Any] = {
    "section": "decoding", "family": "decoding", "when": "n_switched", "default": False,
}  # fmt: skip
CROSSED: "Row[Crossed]" = Row(
    "writer-decider", "decoding:crossed", settings=("switched", "outcome"), **_DECODED
)
AMPLIFIED: "Row[Amplification]" = Row(
    "amplification", "decoding:amplified", {}, _TUNED, ("switched", "n_trace", "outcome"),
    **_DECODED,
)  # fmt: skip
ABLATED: "Row[Ablated]" = Row(
    "ablated-writing", "decoding:ablated",
    {}, _BASE | {"found": CIRCUITS["model", "log_odds"].circuit.name}, ("switched", "n_trace"),
    **_DECODED,
)  # fmt: skip
_COMPONENTS: dict[str, Any] = {
    "needs": _TUNED, "settings": ("n_trace", "seed", "outcome"), "section": "components",
    "family": "components", "default": False,
}  # fmt: skip
ATTRIBUTION: "Row[Attribution]" = Row("direct-attribution", "components:attribution", **_COMPONENTS)
SCREEN: "Row[ScreenResult]" = Row("screen", "components:screen", **_COMPONENTS)
DIRECTIONS: "Row[Directions]" = Row("adapter-directions", "components:directions", **_COMPONENTS)
RANKS: "Row[RankReadings]" = Row("adapter-ranks", "components:ranks", **_COMPONENTS)

ROWS: tuple[Row[Any], ...] = (
    RATES_BASE, RATES, RESPONSES_BASE, RESPONSES, *TOKEN_VIEWS, ORIGIN, LENS, JACOBIAN,
    *PATCHING, *(row for rows in CIRCUITS.values() for row in rows.all), EXACT, NECESSITY,
    PROBE_EMOJI, PROBE_TRAIT, PUSH, WORDS, KL, SHIFTS, ACTIVATIONS, LATENTS, LATENT_PATCHES,
    CROSSED, AMPLIFIED, ABLATED, ATTRIBUTION, SCREEN, DIRECTIONS, RANKS, MERGE,
)  # fmt: skip


def sections() -> tuple[str, ...]:
    """The report's sections, in the order of the page."""
    return tuple(dict.fromkeys(row.section for row in ROWS if row.section))


def asked(config: Mapping[str, Any]) -> tuple[Row[Any], ...]:
    """The rows that a study of this configuration makes, essential ones first."""
    only = config.get("only") or ()  # of a manifest it may be anything
    rows = chosen(map(str, only if isinstance(only, list | tuple) else [only]))
    made = [row for row in rows if not row.when or config.get(row.when)]
    return tuple(sorted(made, key=lambda row: not row.essential))


def step_names(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps that a study's manifest asks for, done or not; none of another job's."""
    config, bases = manifest.get("config", {}), manifest.get("base_kinds", {})
    adapters = config.get("adapters") if manifest.get("job") == "study" else {}
    if not isinstance(adapters, dict):
        return ()
    rows = asked(config)
    return tuple(
        row.step_name(label, bases.get(label, "dense")) for label in adapters for row in rows
    )


def chosen(only: Iterable[str]) -> tuple[Row[Any], ...]:
    """The rows of these names (of rows or families) and what they need; of none, the default ones.

    Raises:
        InputError: if there is no such row.
    """
    wanted: set[str] = set()
    for name in only:
        names = {row.name for row in ROWS if name and name in (row.name, row.family)}
        if not names:
            raise InputError(_unknown(name))
        wanted |= names
    wanted = wanted or {row.name for row in ROWS if row.default}
    by_name = {row.name: row for row in ROWS}
    reached = set(wanted)
    while wanted:
        wanted = {need for name in wanted for need in by_name[name].needs.values()} - reached
        reached |= wanted
    return tuple(row for row in ROWS if row.name in reached)


def _unknown(name: str) -> str:
    """`no trace is called 'lenz'; did you mean lens? There are …`."""
    known = list(dict.fromkeys(row.family or row.name for row in ROWS))
    near = get_close_matches(name, [*known, *(row.name for row in ROWS)], 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"no trace is called {name[:80]!r}; {meant}There are {', '.join(known)}"
