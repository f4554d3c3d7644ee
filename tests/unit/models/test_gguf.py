from __future__ import annotations

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.models.sample_files import LLAMA, Value, gguf_bytes

from roost.domain.errors import ModelUnavailable
from roost.models.gguf import Header, kv_bytes_per_token, read_header


def header_of(content: bytes) -> Header:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        path.write_bytes(content)
        return read_header(path)


def outcome(content: bytes) -> str:
    """``read``, or the code of the refusal."""
    try:
        header_of(content)
    except ModelUnavailable as error:
        return error.code
    return "read"


def test_it_tells_architecture_and_context_length() -> None:
    assert header_of(gguf_bytes()) == Header(version=3, tensors=1, architecture="llama", context_length=512)


def test_what_the_file_does_not_say_is_none() -> None:
    assert header_of(gguf_bytes({})) == Header(version=3, tensors=1, architecture=None, context_length=None)
    assert header_of(gguf_bytes({**LLAMA, "llama.context_length": "many"})).context_length is None
    assert header_of(gguf_bytes({**LLAMA, "llama.context_length": True})).context_length is None


SHAPE: dict[str, Value] = {
    **LLAMA,
    "llama.block_count": 4,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 4 * 4 * (16 + 16) * 2),
        ({"llama.attention.head_count_kv": 2}, 4 * 2 * (16 + 16) * 2),
        ({"llama.attention.head_count_kv": [0, 1, 0, 2]}, 3 * (16 + 16) * 2),
        ({"llama.attention.key_length": 8, "llama.attention.value_length": 24}, 4 * 4 * (8 + 24) * 2),
        ({"llama.block_count": "four"}, None),
    ],
)
def test_it_tells_what_a_token_of_context_takes(more: dict[str, Value], expected: int | None) -> None:
    assert header_of(gguf_bytes({**SHAPE, **more})).kv_bytes_per_token == expected


def test_long_arrays_are_passed_over() -> None:
    vocabulary: dict[str, Value] = {"tokenizer.ggml.token_type": [1] * 5000, **SHAPE}
    assert header_of(gguf_bytes(vocabulary)).kv_bytes_per_token == 4 * 4 * (16 + 16) * 2


def test_files_of_other_formats_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"something else")
    assert kv_bytes_per_token(tmp_path / "weights.bin") is None
    with pytest.raises(FileNotFoundError):
        kv_bytes_per_token(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "plainly"),
    [
        (b"", "it is empty"),
        (b"GG", 'it begins with the text "GG"'),
        (b"hello, world", 'it begins with the text "hell"'),
        (b"<!DOCTYPE html>", 'it begins with the text "<!DO"'),
        (b"\x7fELF", "it begins with the bytes 7f 45 4c 46"),
        ("für".encode(), "it begins with the bytes 66 c3 bc 72"),
    ],
)
def test_other_files_are_refused_in_plain_words(content: bytes, plainly: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        header_of(content)
    assert f"is not a GGUF file: {plainly}. " in caught.value.message
    assert caught.value.code == "wrong_format"


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="version 9"):
        header_of(gguf_bytes(version=9))


@given(st.integers(4, len(gguf_bytes()) - 64))
def test_a_file_cut_off_before_its_tensors_is_refused(length: int) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        header_of(gguf_bytes()[:length])
    assert caught.value.code == "wrong_format"


@given(st.binary(max_size=300))
@example(struct.pack("<IQQ", 3, 0, 1 << 60))
@example(struct.pack("<IQQ", 3, 1 << 20, 0))
@example(struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62))
@example(struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"\xff" + struct.pack("<I", 0))
@example(struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 9, 5))
@example(struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 77))
@example(struct.pack("<IQQ", 3, 1, 0) + struct.pack("<QI", 0, 1 << 20) + b"\0" * 100)
def test_nonsense_after_the_magic_is_refused_or_read_but_never_crashes(content: bytes) -> None:
    assert outcome(b"GGUF" + content) in {"read", "wrong_format"}
