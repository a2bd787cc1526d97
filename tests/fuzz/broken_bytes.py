"""Contents that are wrong whatever the file: not JSON, not safetensors, not a file at all."""

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from corpus import put
from safetensors.torch import load_file, save


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../config.json", "{}")
    return buffer.getvalue()


def _twice(good: str) -> str:
    """The first field of the first object once more at its end."""
    start = good.index("{")
    name, value = next(iter(json.JSONDecoder().raw_decode(good, start)[0].items()))
    return f"{good[: start + 1]}{json.dumps(name)}: {json.dumps(value)}, {good[start + 1 :]}"


def _number(good: str, number: str) -> str:
    start = good.index("{")
    return f'{good[: start + 1]}"extra": {number}, {good[start + 1 :]}'


NOT_JSON: dict[str, Callable[[str], bytes | str]] = {
    "empty": lambda _: "",
    "blank": lambda _: " \n\t\n",
    "half": lambda good: good[: len(good) // 2],
    "last-brace-lost": lambda good: good.rstrip()[:-1],
    "comma-too-many": lambda good: good.rstrip()[:-1] + "," + good.rstrip()[-1],
    "two-documents": lambda good: good + good,
    "single-quotes": lambda good: good.replace('"', "'"),
    "comment": lambda good: "// made by hand\n" + good,
    "yaml": lambda _: "format: x\nfields: [1, 2]\n",
    "python": lambda _: "{'a': True, 'b': None}",
    "utf-16": lambda good: good.encode("utf-16"),
    "utf-32": lambda good: good.encode("utf-32"),
    "latin-1": lambda good: good.replace("{", '{"é": 1, ', 1).encode("latin-1", "replace"),
    "nul-bytes": lambda good: good.replace(" ", "\0").replace(",", ",\0"),
    "byte-order-mark-twice": lambda good: "\ufeff\ufeff" + good,
    "control-in-string": lambda good: good.replace("{", '{"a": "\x1b[31m", ', 1),
    "field-twice": _twice,
    "nan": lambda good: _number(good, "NaN"),
    "infinity": lambda good: _number(good, "-Infinity"),
    "overflow": lambda good: _number(good, "1e999"),
    "huge-integer": lambda good: _number(good, "9" * 5000),
    "lone-surrogate": lambda good: _number(good, r'"\ud83d alone"'),
    "deep-lists": lambda _: "[" * 200_000,
    "deep-objects": lambda _: '{"a":' * 100_000,
    "deep-whole": lambda _: "[" * 50_000 + "]" * 50_000,
    "string": lambda _: '"just a text"',
    "number": lambda _: "7",
    "null": lambda _: "null",
    "true": lambda _: "true",
    "ten-megabytes-in-a-line": lambda _: '["' + "x" * 10_000_000 + '"',
    "millions-of-lists": lambda _: "[" + "[],[]," * 3_000_000 + "0]",
    "larger-than-is-read": lambda good: good + " " * (65 * 2**20),
    "pickle": lambda _: pickle.dumps({"a": os.getcwd}),
    "gzip": lambda good: gzip.compress(good.encode()),
    "zip": lambda _: _zip(),
    "random": lambda _: bytes((i * 7919 + 13) % 256 for i in range(999)),
}
"""From the good text to a broken one; none of them is JSON that any loader takes."""


# Safetensors --------------------------------------------------------------------------------


def pack(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file from its header (JSON text or a value) and data."""
    text = header if isinstance(header, str) else json.dumps(header)
    encoded = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded + data


def unpack(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _header(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    header, data = unpack(content)
    change(header)
    return pack(header, data)


def _first(header: dict[str, Any]) -> str:
    return next(name for name in header if name != "__metadata__")


def _set(field: str, value: Any) -> Callable[[bytes], bytes]:
    def broken(content: bytes) -> bytes:
        return _header(content, lambda header: header[_first(header)].update({field: value}))

    return broken


def _tensor_twice(content: bytes) -> bytes:
    header, data = unpack(content)
    name = _first(header)
    text = json.dumps(header)
    return pack(f"{text[:-1]}, {json.dumps(name)}: {json.dumps(header[name])}}}", data)


def _endless_empty(content: bytes) -> bytes:
    header, data = unpack(content)
    end = len(data)
    header["zz"] = {"dtype": "F32", "shape": [0, 10**14], "data_offsets": [end, end]}
    return pack(header, data)


NOT_SAFETENSORS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "seven-bytes": lambda good: good[:7],
    "header-only-length": lambda good: good[:8],
    "header-cut": lambda good: good[:40],
    "half": lambda good: good[: len(good) // 2],
    "last-byte-lost": lambda good: good[:-1],
    "one-byte-more": lambda good: good + b"\0",
    "length-2-62": lambda good: struct.pack("<Q", 2**62) + good[8:],
    "length-99-million": lambda good: struct.pack("<Q", 99_000_000) + good[8:],
    "length-minus-one": lambda good: b"\xff" * 8 + good[8:],
    "length-zero": lambda good: struct.pack("<Q", 0) + good[8:],
    "wrong-magic": lambda good: b"GGUF" + good[4:],
    "pickle": lambda _: pickle.dumps({"w": [1.0]}),
    "torch-zip": lambda _: _torch(),
    "gzip": lambda good: gzip.compress(good[:100_000]),
    "text": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "header-no-json": lambda _: pack("{not json"),
    "header-list": lambda _: pack("[]"),
    "header-deep": lambda _: pack("[" * 100_000),
    "header-surrogate": lambda _: pack(r'{"\ud800": 1}'),
    "header-without-data": lambda good: good[: 8 + struct.unpack("<Q", good[:8])[0]],
    "tensor-twice": _tensor_twice,
    "endless-empty-tensor": _endless_empty,
    "huge-shape": _set("shape", [2**40]),
    "shape-overflow": _set("shape", [2**32, 2**32, 2**32]),
    "negative-shape": _set("shape", [-4]),
    "shape-text": _set("shape", "4"),
    "offsets-past-the-end": _set("data_offsets", [0, 2**50]),
    "offsets-backwards": _set("data_offsets", [8, 0]),
    "offsets-shared": lambda good: _header(good, _share),
    "type-unknown": _set("dtype", "F31"),
    "type-number": _set("dtype", 4),
    "type-of-other-size": _set("dtype", "F64"),
}


def _share(header: dict[str, Any]) -> None:
    first = header[_first(header)]
    header["zz.weight"] = dict(first)


def _torch() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(3)}, buffer)
    return buffer.getvalue()


def with_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    """Write a safetensors file again with its tensors changed in place."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    return put(path, save({name: one.contiguous() for name, one in tensors.items()}, metadata))


# Not files ----------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    path.mkdir()


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


NOT_FILES: dict[str, Callable[[Path], None]] = {
    "folder-in-place": _folder,
    "link-to-itself": _circle,
    "dangling-link": _dangling,
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "absent": lambda _: None,
}
