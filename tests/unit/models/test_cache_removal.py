"""Weights of models that left the catalog do not stay."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from tests.unit.models.sample_files import model_of, noise, sha256

from roost.domain.errors import ModelUnavailable
from roost.domain.model import FetchState, Model, Source
from roost.models import sources
from roost.models.base import Cache, ModelSource
from roost.models.cache import ModelCache
from roost.testing.memory_source import MemorySource

T = TypeVar("T")
CONTENT = noise(10_000)
MODEL = model_of(Source("memory", "weights", sha256=sha256(CONTENT), size_bytes=len(CONTENT)))
TWIN = replace(MODEL, id="acme/twin")


async def soon(waited: Awaitable[T]) -> T:
    return await asyncio.wait_for(waited, 20)


class Shelf:
    """A cache on a folder, and what lies in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory = MemorySource({"weights": CONTENT})
        self.cache = ModelCache(root, self._source_of, retry_delays_s=())

    def _source_of(self, kind: str) -> ModelSource:
        return self.memory if kind == "memory" else sources.source(kind)

    def files(self) -> list[str]:
        """All weights, whole and in part."""
        names = {"index.json", "index.lock", "source"}
        return sorted(path.name for path in self.root.rglob("*") if path.is_file() and path.name not in names)

    async def state(self, model: Model) -> FetchState:
        """As a server would find it that starts now."""
        later = ModelCache(self.root, self._source_of)
        await later.start()
        return later.status(model).state


@pytest_asyncio.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    made = Shelf(tmp_path / "models")
    await made.cache.start()
    yield made
    await made.cache.close()


async def _begin(shelf: Shelf, model: Model = MODEL, at: int = 4096) -> None:
    """Fetch until ``at`` bytes are there, and stand still."""
    reached = asyncio.Event()

    def look(done: int) -> None:
        if done >= at:
            shelf.memory.gate.clear()
            reached.set()

    shelf.memory.before = look
    shelf.cache.request(model)
    await soon(reached.wait())


async def test_weights_go_with_their_model(shelf: Shelf) -> None:
    cache: Cache = shelf.cache
    await soon(cache.wait(MODEL))
    assert await soon(cache.remove(MODEL)) == len(CONTENT)
    assert shelf.files() == []
    assert cache.status(MODEL).state is FetchState.ABSENT
    assert await shelf.state(MODEL) is FetchState.ABSENT
    assert await soon(cache.remove(MODEL)) == 0


async def test_a_download_under_way_ends_and_leaves_nothing(shelf: Shelf) -> None:
    await _begin(shelf)
    freed = await soon(shelf.cache.remove(MODEL))
    assert 4096 <= freed < len(CONTENT)
    shelf.memory.gate.set()
    assert list((shelf.root / "partial").iterdir()) == []
    assert shelf.files() == []
    assert shelf.cache.status(MODEL).state is FetchState.ABSENT


async def test_what_an_interrupted_download_left_goes_too(shelf: Shelf) -> None:
    def fail(done: int) -> None:
        if done >= 4096:
            raise OSError(errno.EIO, "broken")

    shelf.memory.before = fail
    assert (await soon(shelf.cache.wait(MODEL))).state is FetchState.FAILED
    assert shelf.files() == ["weights"]
    assert await soon(shelf.cache.remove(MODEL)) >= 4096
    assert list((shelf.root / "partial").iterdir()) == []


async def test_weights_that_another_model_shares_stay(shelf: Shelf) -> None:
    for model in (MODEL, TWIN):
        await soon(shelf.cache.wait(model))
    assert await soon(shelf.cache.remove(MODEL)) == 0
    assert await shelf.state(TWIN) is FetchState.READY
    assert await soon(shelf.cache.remove(TWIN)) == len(CONTENT)
    assert shelf.files() == []


async def test_a_users_own_file_is_never_deleted(shelf: Shelf, tmp_path: Path) -> None:
    own = tmp_path / "own.bin"
    own.write_bytes(CONTENT)
    model = model_of(Source("file", str(own)))
    await soon(shelf.cache.wait(model))
    assert await soon(shelf.cache.remove(model)) == 0
    assert own.read_bytes() == CONTENT
    assert await shelf.state(model) is FetchState.ABSENT


async def test_a_users_own_file_is_safe_among_the_blobs(shelf: Shelf) -> None:
    own = shelf.root / "blobs" / "own.bin"
    own.write_bytes(CONTENT)
    model = model_of(Source("file", str(own)))
    await soon(shelf.cache.wait(model))
    assert await soon(shelf.cache.remove(model)) == 0
    assert own.exists()


async def test_a_model_added_again_while_the_old_one_goes_keeps_its_weights(shelf: Shelf) -> None:
    await _begin(shelf)
    removal = asyncio.create_task(shelf.cache.remove(MODEL))
    await asyncio.sleep(0)
    again = asyncio.create_task(shelf.cache.wait(MODEL))
    await asyncio.sleep(0)
    shelf.memory.before = lambda _: None
    shelf.memory.gate.set()
    assert await soon(removal) >= 4096
    fetch = await soon(again)
    assert fetch.state is FetchState.READY
    assert Path(fetch.path or "").read_bytes() == CONTENT
    assert await shelf.state(MODEL) is FetchState.READY


async def test_a_removal_is_hinted(shelf: Shelf) -> None:
    await soon(shelf.cache.wait(MODEL))
    await soon(shelf.cache.changed())
    await soon(shelf.cache.remove(MODEL))
    assert await soon(shelf.cache.changed()) == MODEL.id


async def test_a_file_system_that_refuses_is_a_failure_that_says_so(shelf: Shelf) -> None:
    await soon(shelf.cache.wait(MODEL))
    blob = next((shelf.root / "blobs").iterdir())
    blob.unlink()
    blob.mkdir()  # not even root can unlink a folder
    with pytest.raises(ModelUnavailable, match=blob.name) as caught:
        await soon(shelf.cache.remove(MODEL))
    assert caught.value.code in {"disk_error", "permission"}


async def test_only_left_overs_that_no_model_owns_are_swept(shelf: Shelf) -> None:
    folder = shelf.root / "partial"
    for model in (MODEL, TWIN):
        await _begin(shelf, model)
        await shelf.cache.close()
        shelf.memory.gate.set()
    assert len(list(folder.iterdir())) == 2
    later = ModelCache(shelf.root)
    await later.start()
    assert await soon(later.sweep([TWIN])) >= 4096
    assert [path.name.startswith("acme-twin") for path in folder.iterdir()] == [True]


async def test_a_download_under_way_is_not_swept(shelf: Shelf) -> None:
    await _begin(shelf)
    other = ModelCache(shelf.root)
    await other.start()
    assert await soon(other.sweep([])) == 0
    shelf.memory.before = lambda _: None
    shelf.memory.gate.set()
    assert (await soon(shelf.cache.wait(MODEL))).state is FetchState.READY
