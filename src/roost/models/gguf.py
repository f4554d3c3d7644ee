"""The header of a GGUF file: is it one, is it whole, and what does it say of the model.

Called by the cache, in a thread. It reads the header only, never a tensor, and trusts no number in it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from roost.domain.errors import ModelUnavailable
from roost.policy import sizing

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
INTEGERS = frozenset("BbHhIiQq")
MAX_LAYERS = 4096
"""Longer arrays of integers belong to the vocabulary."""
ALIGNMENT = 32
"""Tensors begin at multiples of this many bytes where the header names no other number."""
MAX_COUNT = 1 << 24
"""More entries than any real header has."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself; None where it does not. ``context_length`` is what the model was trained for,
    in tokens; ``kv_bytes_per_token`` what one of them takes in an engine's key-value cache."""

    version: int
    tensors: int
    architecture: str | None
    context_length: int | None
    kv_bytes_per_token: int | None = None


class _Damaged(Exception):
    """The header contradicts itself or the file's size."""


def read_header(path: Path) -> Header:
    """The header of ``path``.

    Raises ``ModelUnavailable`` (``wrong_format``) when it is no GGUF file or is cut off, and ``OSError``.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        if magic != MAGIC:
            raise ModelUnavailable(
                f"{path} is not a GGUF file: {_plainly(magic)}. Check the location of the weights.", code="wrong_format"
            )
        try:
            return _Reader(file, size).header()
        except (_Damaged, struct.error, UnicodeDecodeError) as error:
            raise ModelUnavailable(
                f"{path} is a damaged or incomplete GGUF file ({error}). Fetch the weights anew.", code="wrong_format"
            ) from error


def kv_bytes_per_token(path: Path) -> int | None:
    """What one token of context takes by the header of ``path``; None where it does not say or is no GGUF file's.
    Raises ``OSError``."""
    try:
        return read_header(path).kv_bytes_per_token
    except ModelUnavailable:
        # Weights of another format, which other engines read; the cache has refused damaged ones before.
        return None


def _plainly(magic: bytes) -> str:
    """What a file is that begins otherwise than it should."""
    if not magic:
        return "it is empty"
    if magic.isascii() and magic.decode().isprintable():
        return f'it begins with the text "{magic.decode()}"'
    return f"it begins with the bytes {magic.hex(' ')}"


class _Reader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def header(self) -> Header:
        version = self._number("I")
        if version not in VERSIONS:
            raise _Damaged(f"version {version}, known are {VERSIONS}")
        tensors, pairs = self._count("Q"), self._count("Q")
        facts = {}
        for _ in range(pairs):
            key = self._string()
            facts[key] = self._value(self._number("I"))
        farthest = max((self._tensor() for _ in range(tensors)), default=0)
        alignment = facts.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise _Damaged(f"an alignment of {alignment!r}")
        data = -(-self._file.tell() // alignment) * alignment
        if tensors and data + farthest >= self._size:
            raise _Damaged(f"its tensors reach beyond its {self._size} bytes")
        architecture = facts.get("general.architecture")
        length = facts.get(f"{architecture}.context_length")
        return Header(
            version=version,
            tensors=tensors,
            architecture=architecture if isinstance(architecture, str) else None,
            context_length=length if isinstance(length, int) and not isinstance(length, bool) and length > 0 else None,
            kv_bytes_per_token=sizing.kv_bytes_per_token(facts),
        )

    def _tensor(self) -> int:
        """Read one tensor's description; where its data begins, counted from the end of the header."""
        self._skip(self._count("Q"))
        dimensions = self._count("I")
        if dimensions > 8:
            raise _Damaged(f"a tensor of {dimensions} dimensions")
        self._skip(8 * dimensions + 4)
        return self._number("Q")

    def _value(self, kind: int) -> str | int | float | bool | list[int] | None:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        if kind not in SCALARS:
            raise _Damaged(f"a value of unknown type {kind}")
        value: int | float | bool = struct.unpack("<" + SCALARS[kind], self._bytes(struct.calcsize(SCALARS[kind])))[0]
        return value

    def _array(self) -> list[int] | None:
        """The numbers of a short array of integers (one for each layer); any other is skipped."""
        kind, length = self._number("I"), self._count("Q")
        if SCALARS.get(kind, "") in INTEGERS and length <= MAX_LAYERS:
            code = f"<{length}{SCALARS[kind]}"
            return list(struct.unpack(code, self._bytes(struct.calcsize(code))))
        if kind == STRING:
            for _ in range(length):
                self._skip(self._count("Q"))
        elif kind in SCALARS:
            self._skip(length * struct.calcsize(SCALARS[kind]))
        else:
            raise _Damaged(f"an array of unknown type {kind}")
        return None

    def _string(self) -> str:
        return self._bytes(self._count("Q")).decode()

    def _number(self, code: str) -> int:
        value: int = struct.unpack("<" + code, self._bytes(struct.calcsize("<" + code)))[0]
        return value

    def _count(self, code: str) -> int:
        value = self._number(code)
        if value > MAX_COUNT:
            raise _Damaged(f"a length of {value}")
        return value

    def _bytes(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise _Damaged("it ends within its header")
        return data

    def _skip(self, length: int) -> None:
        if self._file.tell() + length > self._size:
            raise _Damaged("it ends within its header")
        self._file.seek(length, 1)
