"""Small GGUF files, wheels and index pages, made in memory."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Mapping, Sequence

from roost.domain.model import Model, Source

Value = str | int | bool | Sequence[str] | Sequence[int]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_string(str(item)) for item in value)
    return struct.pack("<IIQ", 9, 4, len(value)) + b"".join(struct.pack("<I", int(item)) for item in value)


LLAMA: Mapping[str, Value] = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "llama.context_length": 512,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.token_type": [1, 1, 1],
    "tokenizer.ggml.add_bos_token": False,
}


def gguf_bytes(facts: Mapping[str, Value] = LLAMA, tensor: bytes = b"\1" * 64, version: int = 3) -> bytes:
    """A GGUF file with one tensor."""
    head = b"GGUF" + struct.pack("<IQQ", version, 1, len(facts))
    for key, value in facts.items():
        head += _string(key) + _value(value)
    head += _string("output.weight") + struct.pack("<IQIQ", 1, len(tensor) // 4, 0, 0)
    return head + b"\0" * (-len(head) % 32) + tensor


def wheel_bytes(members: Mapping[str, bytes]) -> bytes:
    """A zip archive with these members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def json_page(name: str, files: Mapping[str, tuple[str, str | None]]) -> bytes:
    """A project page as PEP 691 describes it: file name -> (URL, SHA-256 of the file)."""
    listed = [{"filename": f, "url": url, "hashes": {"sha256": d} if d else {}} for f, (url, d) in files.items()]
    return json.dumps({"meta": {"api-version": "1.0"}, "name": name, "files": listed}).encode()


def html_page(files: Mapping[str, tuple[str, str | None]]) -> bytes:
    """A project page as PEP 503 describes it."""
    links = "".join(f'<a href="{url}{f"#sha256={d}" if d else ""}">{f}</a><br>' for f, (url, d) in files.items())
    return f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


def model_of(source: Source, model_id: str = "acme/tiny") -> Model:
    return Model(model_id, "llama_cpp", source)
