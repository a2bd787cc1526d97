"""Running a study: the same steps for every trait, in one run folder."""

import time
from pathlib import Path
from random import Random

from interp import data
from interp.data import ColumnMap, OpinionQA
from interp.runs import RunFolder
from interp.study.config import StudyConfig
from interp.study.steps import Progress, Study, TraitStudy


def run(config: StudyConfig, out: Path | str, progress: Progress | None = None) -> RunFolder:
    """Run a study, or go on with it, and leave its results in `out`.

    Raises:
        InputError: (a subclass says which) if a model, an adapter, the data or `out` is unusable.
    """
    began = time.monotonic()
    questions, texts = _questions(config)
    folder = RunFolder.create(out, config.model_dump(mode="json"))
    folder.note(n_questions=len(questions), n_topics=len({topic for _, topic in questions}))
    study = Study(config, folder, questions, texts, progress)
    traits = [TraitStudy(study, trait) for trait in config.adapters]
    study.begin(sum(len(trait.steps()) for trait in traits))
    for trait in traits:
        trait.run()
    folder.finish(time.monotonic() - began)
    return folder


def _questions(config: StudyConfig) -> tuple[list[tuple[str, str]], OpinionQA]:
    """The questions to ask, as many as asked for, and the held-out texts to probe.

    Every question is asked once, in an order drawn from the seed, then once more, and so on.
    """
    columns = ColumnMap.parse(config.columns) if config.columns else None
    source: str | Path = Path(config.data) if Path(config.data).exists() else config.data
    held_out = data.load_train_test(
        source,
        test_share=0.3,
        seed=config.seed,
        columns=columns,
        on_emoji="clean" if config.clean else "error",
        on_duplicate="drop" if config.drop_duplicates else "error",
    )[1]
    unique = sorted({(row.question, row.topic) for row in held_out.rows})
    Random(config.seed).shuffle(unique)
    times = -(-config.n_responses // len(unique))
    return (unique * times)[: config.n_responses], held_out
