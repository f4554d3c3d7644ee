"""Heads of GGUF files made by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

Value = int | float | str | Sequence[int] | Sequence[str]

SMALL: dict[str, Value] = {
    "general.architecture": "llama",
    "general.tags": ["small", "tested"],
    "llama.block_count": 30,
    "llama.embedding_length": 576,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.rope.freq_base": 10000.0,
}
"""The numbers of a small model: 23,040 bytes of cache for a token."""


def text(value: str) -> bytes:
    """A string as GGUF has it."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, value: Value) -> bytes:
    """A key and its value."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if value and isinstance(value[0], str):
        return text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(str(each)) for each in value)
    return text(key) + struct.pack(f"<IIQ{len(value)}I", 9, 4, len(value), *value)


def head(entries: Mapping[str, Value], *, pairs: int | None = None) -> bytes:
    """A header without tensors; it may claim to hold more ``pairs`` than it does."""
    count = len(entries) if pairs is None else pairs
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, count) + b"".join(entry(*pair) for pair in entries.items())
