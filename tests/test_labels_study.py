"""One study of several labels that are no Big Five traits, from the command line to the page."""

import json

from test_bad_input import command
from thinned import turn

from interp import organism
from interp.study.runs import RunFolder


@turn(2, of=3)
def test_adapters_of_free_labels_are_traced_in_one_run(tmp_path, monkeypatch, capsys):
    data = tmp_path / "jokes.jsonl"
    rows = organism.opinion_qa("test").for_trait("extraversion").rows
    other = organism.opinion_qa("test").for_trait("neuroticism").rows
    lines = [("Dry Humour", row) for row in rows] + [("moody", row) for row in other]
    data.write_text(
        "".join(
            json.dumps({"label": label, "q": row.question, "a": row.answer, "t": row.topic}) + "\n"
            for label, row in lines
        )
    )
    argv = [
        "trace", "--base", str(organism.base_path()), "--data", str(data),
        "--adapter", f"Dry Humour={organism.adapter_path('extraversion')}",
        "--adapter", f"moody={organism.adapter_path('neuroticism')}",
        "--columns", "question=q,answer=a,topic=t,trait=label",
        "--only", "rates,merge,probing-trait", "--n-responses", "16",
        "--max-new-tokens", "40", "--out", str(tmp_path / "run"), "--json",
    ]  # fmt: skip
    assert command(argv, monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["trait"] for row in said["traits"]] == ["dry humour", "moody"]
    assert not said["skipped"]
    run = RunFolder.open(tmp_path / "run")
    assert run.traits == ("dry humour", "moody")
    assert (run.path / "dry humour" / "merge.safetensors").is_file()
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Emoji trace: dry humour, moody" in page
