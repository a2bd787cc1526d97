"""The steps of a study: every result with what it is made from.

`steps` is also what a worker calls in a process of its own: the same configuration gives the same
steps, so a step can be handed over by its name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from interp.base import memory
from interp.base.progress import Progress
from interp.base.results import Result
from interp.base.traits import Trait
from interp.behaviour import Response, read_responses, save_responses
from interp.study.config import parse_config
from interp.study.runs import RunFolder, Step
from interp.study.study import Study
from interp.study.traces import MIN_GAP, N_VIEWED, TraitModels
from interp.traces import circuits
from interp.traces.patching import PatchingResult
from interp.traces.patching.result import concatenated

SITES = ("resid_pre", "attn_out", "mlp_out", "z")
CONTRASTS = (("model", "denoising"), ("model", "noising"), ("prompt", "denoising"))
_ESSENTIAL = ("merge", "rates-base", "rates-tuned")  # without these there is nothing to report


def steps(
    config: Mapping[str, Any], folder: RunFolder, progress: Progress | None = None
) -> list[Step]:
    """Every step of the study of `config` in `folder`, in order.

    Raises:
        InputError: (a subclass says which) if a model, an adapter or the data is unusable.
    """
    study = Study(parse_config(dict(config)), folder, progress)
    folder.note(
        n_questions=len(study.questions), n_topics=len({topic for _, topic in study.questions})
    )
    for trait in study.config.adapters:
        study.adapter_facts(trait)  # before the base, which may be on the hub
    found: dict[str, Step] = {}
    for trait in study.config.adapters:
        for step in _TraitSteps(study, trait).all():
            found.setdefault(step.name, step)  # the base's answers are shared
    return list(found.values())


@dataclass(frozen=True)
class _TraitSteps:
    """The steps for one trait."""

    study: Study
    trait: Trait

    def all(self) -> Iterator[Step]:
        yield self._result("merge", lambda models: models.pair.merge_report, facts=self._hashes)
        yield from self._answers("base")
        yield from self._answers("tuned")
        base, tuned = self._base, self._name("responses")
        yield self._result("rates-base", lambda m: m.rates("base"), (base,), model=False)
        yield self._result("rates-tuned", lambda m: m.rates("tuned"), (tuned,), model=False)
        yield self._result("origin", TraitModels.origin, (base, tuned), self._config("seed"))
        yield self._result("lens", TraitModels.lens, (tuned,), self._config("n_trace"))
        for place in range(N_VIEWED):
            name = f"token-view-{place + 1}" if place else "token-view"
            yield self._result(name, partial(TraitModels.token_view, place=place), (tuned,))
        for contrast, direction in CONTRASTS:
            for site in SITES:
                yield from self._sweep(contrast, direction, site)
        yield from self._circuit((base, tuned))
        if self.study.config.n_switched:
            asked = self.study.asked(self.study.config.n_switched)
            yield self._result("adapter-necessity", TraitModels.necessity, settings=asked)
        seed = self._config("seed")
        yield self._result("probing-emoji", TraitModels.probe_emoji, (tuned,), seed)
        texts = {"texts": self.study.texts.sha256}
        yield self._result("probing-trait", TraitModels.probe_trait, settings=seed | texts)

    def _name(self, what: str) -> str:
        return f"{self.trait}/{what}"

    @property
    def _base(self) -> str:
        return f"base/responses-{self.study.kind(self.trait)}"

    def _config(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self.study.config, name) for name in names}

    @property
    def _model(self) -> dict[str, Any]:
        return {"base": self.study.base_facts, "adapter": self.study.adapter_facts(self.trait)}

    def _hashes(self, models: TraitModels) -> dict[str, Any]:
        pair = models.pair
        tuned = pair.adapter.sha256 if pair.adapter else pair.tuned_identity
        hashes = {"base": pair.identity, "data": self.study.texts.sha256, str(self.trait): tuned}
        return {
            "hashes": hashes,
            "base_kinds": {str(self.trait): self.study.kind(self.trait)},
            "template": {str(self.trait): pair.format.told},
        }

    def _result(
        self,
        name: str,
        make: Callable[[TraitModels], Result],
        needs: tuple[str, ...] = (),
        settings: Mapping[str, Any] | None = None,
        *,
        model: bool = True,
        facts: Callable[[TraitModels], dict[str, Any]] | None = None,
        code: tuple[Callable[..., Any], ...] = (TraitModels,),
    ) -> Step:
        study, full = self.study, self._name(name)

        def write(path: Path) -> dict[str, Any] | None:
            study.say(f"{self.trait}: {name}", 0, 1)
            with memory.limit(study.config.max_memory):
                models = study.trait(self.trait)
                make(models).save(path)
                return facts(models) if facts else None

        return Step(
            name=full,
            file=f"{full}.safetensors",
            write=write,
            settings={**(settings or {}), **(self._model if model else {})},
            needs=needs,
            group=str(self.trait),
            essential=name in _ESSENTIAL,
            code=code,
        )

    def _answers(self, who: str) -> Iterator[Step]:
        """Answers of one model, in shards where asked for; every shard has its own questions."""
        study, shards = self.study, self.study.config.shards
        name = self._base if who == "base" else self._name("responses")
        # The base's answers are the same for every trait whose base is quantised alike.
        facts = {"base": study.base_facts, "kind": study.kind(self.trait)}
        settings = (facts if who == "base" else self._model) | study.asked()

        def sample(shard: int, of: int) -> Callable[[Path], None]:
            def write(path: Path) -> None:
                with memory.limit(study.config.max_memory):
                    save_responses(study.trait(self.trait).sample(who, shard, of), path)

            return write

        whole = Step(
            name, f"{name}.json", sample(0, 1), settings, group=str(self.trait), essential=True,
            code=(TraitModels, save_responses),
        )  # fmt: skip
        if shards == 1:
            yield whole
            return
        parts = [
            Step(
                f"{name}.{shard}of{shards}", f"shards/{name}.{shard}of{shards}.json",
                sample(shard, shards), settings, group=str(self.trait), essential=True,
                code=whole.code,
            )
            for shard in range(shards)
        ]  # fmt: skip
        yield from parts

        def join(path: Path) -> None:
            pieces = [read_responses(study.folder.file(part.file)) for part in parts]
            answers: list[Response] = [pieces[0][0]] * len(study.questions)
            for shard, piece in enumerate(pieces):
                answers[shard::shards] = piece
            save_responses(answers, path)

        names = tuple(part.name for part in parts)
        yield Step(
            name, whole.file, join, needs=names, group=str(self.trait), essential=True,
            code=(read_responses, save_responses),
        )  # fmt: skip

    def _sweep(self, contrast: str, direction: str, site: str) -> Iterator[Step]:
        """One patching map, in shards where asked for; every shard has its own prompts."""
        shards, name = self.study.config.shards, f"patching-{contrast}-{direction}-{site}"
        needs = (self._name("responses"),) + ((self._base,) if contrast == "prompt" else ())
        settings = self._config("n_trace", "n_positions")
        counts = self._pair_counts if contrast == "prompt" else None
        if shards == 1:
            yield self._result(
                name, lambda m: m.patch(contrast, direction, site), needs, settings, facts=counts
            )
            return
        parts = []
        for shard in range(shards):
            made = self._result(
                f"{name}.{shard}of{shards}",
                partial(
                    TraitModels.patch, contrast=contrast, direction=direction, site=site,
                    shard=shard, shards=shards,
                ),
                needs, settings, facts=counts,
            )  # fmt: skip
            parts.append(made)
            yield made

        def join(_: TraitModels) -> Result:
            files = [self.study.folder.file(part.file) for part in parts]
            return concatenated([PatchingResult.load(file) for file in files], MIN_GAP)

        names = tuple(part.name for part in parts)
        yield self._result(
            name,
            join,
            names,
            {"min_gap": MIN_GAP},
            model=False,
            code=(concatenated, PatchingResult),
        )

    def _pair_counts(self, models: TraitModels) -> dict[str, Any]:
        return {"prompt_pairs": {str(self.trait): models.pair_counts()}}

    def _circuit(self, answers: tuple[str, ...]) -> Iterator[Step]:
        """Edge scores, and what is read from them."""
        settings = self._config("n_trace")
        edges = self._result("circuit-edges", TraitModels.edges, answers, settings)
        yield edges
        path = self.study.folder.file(edges.file)

        def scores() -> circuits.CircuitScores:
            return circuits.CircuitScores.load(path)

        needs = (*answers, edges.name)
        for name, make in (
            ("circuit-curve", lambda m: m.circuit_curve(scores())),
            ("circuit", lambda m: m.circuit(scores())),
        ):
            yield self._result(name, make, needs, settings)
