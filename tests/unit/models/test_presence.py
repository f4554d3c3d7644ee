"""What can be told of a new entry by looking at this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.unit.models.sample_files import gguf_bytes, model_of

from roost.domain.errors import BadRequest
from roost.domain.model import Footprint, Model, Source
from roost.models import presence


def _no_secret(name: str) -> str | None:
    return None


def _check(path: Path, engine: str = "llama_cpp") -> Footprint | None:
    return presence.check(Model("acme/tiny", engine, Source("file", str(path))), _no_secret)


def _lay(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("hello, world")
    elif kind == "cut":
        path.write_bytes(gguf_bytes()[:-64])


@pytest.mark.parametrize("name", ["w.gguf", "w.bin"])
@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("nothing", "source_missing", "There is no file"),
        ("folder", "wrong_format", "is not a regular file"),
        ("pipe", "wrong_format", "is not a regular file"),
        ("text", "wrong_format", "is not a GGUF file"),
        ("cut", "wrong_format", "damaged or incomplete"),
    ],
)
def test_a_file_that_cannot_be_weights_is_refused(tmp_path: Path, name: str, kind: str, code: str, words: str) -> None:
    path = tmp_path / name
    _lay(path, kind)
    with pytest.raises(BadRequest, match=words) as caught:
        _check(path)
    assert (caught.value.param, caught.value.code) == ("source.location", code)
    assert str(path) in caught.value.message
    assert caught.value.message.startswith("source.location ")


def test_weights_pass(tmp_path: Path) -> None:
    path = tmp_path / "my weights"
    path.write_bytes(gguf_bytes())
    assert _check(path) == Footprint(path.stat().st_size, None)
    presence.check(model_of(Source("file", path.as_uri())), _no_secret)


def test_the_header_of_a_file_that_is_there_tells_its_footprint(tmp_path: Path) -> None:
    shape = {"llama.block_count": 2, "llama.embedding_length": 64, "llama.attention.head_count": 4}
    path = tmp_path / "w.gguf"
    path.write_bytes(gguf_bytes({"general.architecture": "llama", **shape}))
    assert _check(path) == Footprint(path.stat().st_size, 2 * 4 * (16 + 16) * 2)


def test_engines_of_other_formats_take_other_files(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"other")
    assert _check(path, engine="other") is None


@contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything, so root becomes somebody else for a moment."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_without_permission_is_refused() -> None:
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "w.gguf"
        path.write_bytes(gguf_bytes())
        path.chmod(0)
        with nobody(), pytest.raises(BadRequest, match="No permission"):
            _check(path)


def test_sources_elsewhere_are_not_looked_at() -> None:
    presence.check(model_of(Source("http", "http://127.0.0.1:9/w.gguf")), _no_secret)
