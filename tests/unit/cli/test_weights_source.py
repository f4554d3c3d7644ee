"""Where weights come from, as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cli.failure import CommandFailed
from roost.cli.weights_source import id_of, is_source, source_of

HERE = str(Path.cwd())


@pytest.mark.parametrize(
    ("text", "source", "id"),
    [
        ("hf:acme/tiny", {"kind": "hf", "location": "acme/tiny"}, "acme/tiny"),
        ("hf:acme/tiny@v1:q/m.gguf", {"kind": "hf", "location": "acme/tiny@v1", "member": "q/m.gguf"}, "acme/tiny"),
        ("pypi:tiny==1.0:tiny/m.gguf", {"kind": "pypi", "location": "tiny==1.0", "member": "tiny/m.gguf"}, "tiny"),
        ("https://host:8443/a/m.gguf?t=1", {"kind": "http", "location": "https://host:8443/a/m.gguf?t=1"}, "m"),
        ("file:/srv/my model.gguf", {"kind": "file", "location": "/srv/my model.gguf"}, "my-model"),
        ("file:///srv/m.gguf", {"kind": "file", "location": "file:///srv/m.gguf"}, "m"),
        ("file:m.gguf", {"kind": "file", "location": f"{HERE}/m.gguf"}, "m"),
        ("s3:bucket:key", {"kind": "s3", "location": "bucket:key"}, "bucket-key"),
    ],
)
def test_a_source_and_the_id_that_it_suggests(text: str, source: dict[str, str], id: str) -> None:
    assert is_source(text)
    assert source_of(None, text, None, None) == source
    assert id_of(source) == id


@pytest.mark.parametrize("text", ["nonsense", "hf:", ":x", "hf::m.gguf", "hf:acme/tiny:", "pypi:"])
def test_what_is_no_source_is_told_with_the_forms(text: str) -> None:
    with pytest.raises(CommandFailed, match=r"hf:owner/repo"):
        source_of(None, text, None, None)


def test_a_file_named_twice_is_told() -> None:
    with pytest.raises(CommandFailed, match="named twice"):
        source_of(None, "hf:acme/tiny:a.gguf", "b.gguf", None)
    found = source_of(None, "hf:acme/tiny", "b.gguf", "00")
    assert found == {"kind": "hf", "location": "acme/tiny", "member": "b.gguf", "sha256": "00"}


def test_a_source_that_suggests_no_id_asks_for_one() -> None:
    with pytest.raises(CommandFailed, match="--id"):
        id_of({"kind": "file", "location": "/"})


@given(st.text(max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        source = source_of(None, text, None, None)
        assert source is not None
        assert source["location"]
        assert ":" not in id_of(source)
    except CommandFailed:
        pass
