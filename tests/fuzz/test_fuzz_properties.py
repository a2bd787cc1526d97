"""What holds for any input: read as it was written, or refused in one line that says why."""

import csv
import io
import json
import math
import unicodedata
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from broken_bytes import pack, unpack
from broken_data import NAMES
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from made_results import merge_report, patching
from refusals import is_safe

from interp.base.files import parse_json, write_json
from interp.base.traits import TRAITS
from interp.data import load
from interp.errors import DataError, InputError, InterpError, one_line
from interp.models import MergeReport
from interp.patching import PatchingResult

quick = settings(
    max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=9)
plain = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def attempt(load):
    """What a loader gives, or the safe message of its error."""
    try:
        return load(), ""
    except InputError as problem:
        said = str(problem)
    assert is_safe(said)
    return None, said


@quick
@given(st.text(alphabet=st.characters(), max_size=80))
def test_a_message_is_one_safe_line(text):
    shown = one_line(text)
    assert not shown or is_safe(shown)
    assert str(InterpError(text)) == shown
    assert one_line(shown) == shown
    visible = [c for c in text if unicodedata.category(c)[0] in "LNPS"]
    assert all(c in shown for c in visible)


def test_long_messages_lose_their_middle_and_emojis_stay_whole():
    shown = one_line("start " + "x" * 10_000_000 + " end")
    assert len(shown) < 2100
    assert shown.startswith("start ")
    assert shown.endswith(" end")
    for emoji in ("👩‍🚀", "👍🏽", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "1️⃣"):
        assert one_line(f"found {emoji}") == f"found {emoji}"
    assert one_line("a\x1b[31mb\u202ec\ud800") == "a\\x1b[31mb\\u202ec\\ud800"


@quick
@given(plain)
def test_strict_json_reads_what_json_writes(value):
    text = json.dumps(value)
    assert parse_json(text, "x") == value
    assert parse_json(json.dumps(value, ensure_ascii=False), "x") == value


@quick
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_strict_json_never_takes_what_json_does_not(text):
    found, said = attempt(lambda: parse_json(text, "the file"))
    assert said.startswith("the file: ") if said else json.loads(text) == found


SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
cell = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
rows = st.lists(st.tuples(st.sampled_from([str(t) for t in TRAITS]), cell, cell, cell), max_size=5)


@quick
@given(rows=rows, suffix=st.sampled_from(SUFFIXES[:-1]))
def test_data_are_read_as_they_were_written_or_refused(rows, suffix, tmp_path):
    path = tmp_path / f"answers{suffix}"
    records = [dict(zip(NAMES, row, strict=True)) for row in rows]
    if suffix in (".csv", ".tsv"):
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, delimiter="," if suffix == ".csv" else "\t")
        writer.writerows([NAMES, *rows])
        path.write_bytes(buffer.getvalue().encode())
    elif suffix == ".json":
        path.write_text(json.dumps(records))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    data, said = attempt(lambda: load(path))
    if said:
        parts = [part for row in rows for part in row]
        fine = all(part.strip() and part.isascii() and part.isprintable() for part in parts)
        assert str(path) in said
        assert not (rows and fine and len({tuple(map(str.strip, r)) for r in rows}) == len(rows))
    else:
        wanted = [tuple(part.strip() for part in row) for row in rows]
        assert [(str(r.trait), r.topic, r.question, r.answer) for r in data.rows] == wanted


@quick
@given(content=st.binary(max_size=300), suffix=st.sampled_from(SUFFIXES))
def test_no_bytes_get_past_the_data_loader(content, suffix, tmp_path):
    path = tmp_path / f"answers{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(path)
    assert is_safe(str(caught.value))


@quick
@given(
    field=st.sampled_from([field.name for field in fields(MergeReport)]),
    value=plain | st.just(math.nan) | st.just(-math.inf),
)
def test_a_result_never_holds_a_field_of_another_type(field, value, tmp_path):
    path = merge_report().save(tmp_path / "merge.safetensors")
    header, data = unpack(path.read_bytes())
    facts = json.loads(header["__metadata__"]["interp"])
    facts["fields"][field] = value
    header["__metadata__"]["interp"] = json.dumps(facts)
    path.write_bytes(pack(header, data))
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    types = {
        "quantization": value is None or isinstance(value, str),
        "dtype": isinstance(value, str),
    }
    whole = isinstance(value, int) and numbers
    fits = types.get(field, whole if field.startswith("n_") else numbers and math.isfinite(value))
    if fits:
        assert getattr(MergeReport.load(path), field) == value
    else:
        with pytest.raises(InputError, match=f"{field}: ") as caught:
            MergeReport.load(path)
        assert is_safe(str(caught.value))


@quick
@given(at=st.integers(0, 2000), byte=st.integers(0, 255))
def test_a_flipped_byte_in_a_header_is_refused_or_changes_values_only(at, byte, tmp_path):
    path = patching().save(tmp_path / "patching.safetensors")
    content = bytearray(path.read_bytes())
    assume(content[at] != byte)
    content[at] = byte
    path.write_bytes(content)
    found, said = attempt(lambda: PatchingResult.load(path))
    if not said:
        good = patching()
        for name in ("values", "clean", "present", "metric_positions"):
            mine, own = getattr(found, name), getattr(good, name)
            assert (mine.dtype, mine.shape) == (own.dtype, own.shape)
        assert isinstance(found.site, str)


def test_what_could_not_be_read_back_is_not_saved(tmp_path):
    with pytest.raises(InterpError, match=r"merge report: mean_kl: NaN or infinite; not saved"):
        replace(merge_report(), mean_kl=math.nan).save(tmp_path / "merge.safetensors")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="JSON"):
        write_json(Path(tmp_path / "x.json"), {"a": math.inf})
    values = patching()
    values.clean[0] = torch.nan  # a tensor may hold NaN where the room says what it means
    path = values.save(tmp_path / "patching.safetensors")
    assert PatchingResult.load(path).clean[0].isnan()
