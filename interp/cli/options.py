"""Options that several commands share, with one meaning and one help text each."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
Run = Annotated[str, typer.Argument(help="Folder or URL that demo or trace wrote.")]
RunOut = Annotated[
    str, typer.Option("--out", help="Folder to write to, or a URL (s3://…, gs://…, …).")
]
Executor = Annotated[
    Literal["inline", "ray"],
    typer.Option("--executor", help="Who does the steps: inline (this process) or ray."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="On Ray; left out: one per GPU, else 2."),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="A running cluster's; left out: one is started here."),
]
StepLimit = Annotated[
    float | None,
    typer.Option("--step-limit", help="Seconds a step may take on Ray; left out: 21600."),
]
TrustRemoteCode = Annotated[
    str | None,
    typer.Option("--trust-remote-code", help="The base's ORG/NAME again: its code may run."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Base = Annotated[str, typer.Option("--base", help="Base model: a folder, or a hub id.")]
Data = Annotated[str, typer.Option("--data", help="Opinion QA: file, folder or hub id.")]
Columns = Annotated[
    str,
    typer.Option("--columns", help="Which column holds which field: question=…,answer=…,topic=…"),
]
Clean = Annotated[bool, typer.Option("--clean", help="Remove emojis from answers, and count.")]
Drop = Annotated[bool, typer.Option("--drop-duplicates", help="Keep one of equal rows, and count.")]
TestShare = Annotated[
    float, typer.Option("--test-share", help="Share of topics held out, where one file holds all.")
]
