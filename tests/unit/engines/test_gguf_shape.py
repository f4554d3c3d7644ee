"""The memory that a model's context takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.engines.gguf_files import SMALL, Value, head

from roost.engines.gguf_shape import facts, kv_bytes_per_token
from roost.policy.sizing import kv_bytes_per_token as cache_of


def test_layers_times_heads_times_their_width() -> None:
    assert cache_of(facts(head(SMALL))) == 30 * 3 * (64 + 64) * 2


def test_heads_of_a_width_of_their_own() -> None:
    wide: dict[str, Value] = {**SMALL, "llama.attention.key_length": 192, "llama.attention.value_length": 128}
    assert cache_of(facts(head(wide))) == 30 * 3 * (192 + 128) * 2


def test_without_a_number_of_their_own_keys_have_the_heads_of_queries() -> None:
    plain = {name: value for name, value in SMALL.items() if not name.endswith("_kv")}
    assert cache_of(facts(head(plain))) == 30 * 9 * (64 + 64) * 2


def test_layers_may_differ() -> None:
    mixed: dict[str, Value] = {**SMALL, "llama.attention.head_count_kv": [0, 4, 0, 4]}
    assert cache_of(facts(head(mixed))) == 8 * (64 + 64) * 2


@pytest.mark.parametrize("name", ["general.architecture", "llama.block_count", "llama.embedding_length"])
def test_a_header_that_does_not_say_gives_none(name: str) -> None:
    assert cache_of(facts(head({key: value for key, value in SMALL.items() if key != name}))) is None


@pytest.mark.parametrize("name", ["llama.block_count", "llama.attention.head_count", "llama.attention.head_count_kv"])
@pytest.mark.parametrize("value", [0, 1 << 31, "many"])
def test_a_header_that_talks_nonsense_gives_none(name: str, value: Value) -> None:
    assert cache_of(facts(head({**SMALL, name: value}))) is None


def test_the_vocabulary_is_not_read() -> None:
    long: dict[str, Value] = {**SMALL, "tokenizer.ggml.tokens": ["a"], "llama.attention.key_length": 1000}
    assert cache_of(facts(head(long))) == 30 * 3 * (64 + 64) * 2


def test_what_follows_the_head_is_not_needed() -> None:
    assert cache_of(facts(head(SMALL, pairs=1000))) == 30 * 3 * (64 + 64) * 2


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(head(SMALL) + b"\0" * 100)
    (tmp_path / "other").write_bytes(b"not GGUF at all, though long enough to be a header")
    assert kv_bytes_per_token(tmp_path / "small.gguf") == 23040
    assert kv_bytes_per_token(tmp_path / "other") is None
    with pytest.raises(FileNotFoundError):
        kv_bytes_per_token(tmp_path / "missing")


@given(st.binary(max_size=300), st.integers(0, 400))
@example(b"\xff" * 40, 24)
def test_no_header_harms(noise: bytes, at: int) -> None:
    whole = head(SMALL)
    damaged = whole[:at] + noise
    found = facts(damaged)
    assert isinstance(found, dict)
    size = cache_of(found)
    assert size is None or size > 0
