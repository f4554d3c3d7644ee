"""Weights stay within the quota: those used longest ago make way, those in use never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest_asyncio
from tests.unit.models.sample_files import model_of, noise, sha256
from tests.unit.models.weights_server import Document, WeightsServer

from roost.domain.errors import NotReady
from roost.domain.model import Fetch, FetchState, Model, Source
from roost.models import sources
from roost.models.base import ModelSource
from roost.models.cache import ModelCache
from roost.models.partial import held
from roost.models.quota import Quota
from roost.testing.memory_source import MemorySource

T = TypeVar("T")
SIZE = 10_000
MB = 10**6
NAMES = ("a", "b", "c", "d")
CONTENTS = {name: noise(SIZE, seed) for seed, name in enumerate(NAMES)}
A, B, C, D = (model_of(Source("memory", name, size_bytes=SIZE), f"acme/{name}") for name in NAMES)


async def soon(waited: Awaitable[T]) -> T:
    return await asyncio.wait_for(waited, 20)


class Shelf:
    """A cache with room for two and a half weights; its clock goes on by one with each look."""

    def __init__(self, root: Path, size: int = 25_000) -> None:
        self.root = root
        self.size = size
        self.memory = MemorySource(CONTENTS)
        self.in_use: set[str] = set()
        self.broken = False
        self.events: list[tuple[str, str]] = []
        # Later than all that a test writes, whatever the time of the machine is.
        self.clock = 1e11
        self.cache = self.make()

    def make(self) -> ModelCache:
        quota = Quota(self.size, self._in_use, self._evicted)
        return ModelCache(self.root, self._source_of, retry_delays_s=(), quota=quota, now=self._now)

    def blobs(self) -> int:
        return sum(path.stat().st_size for path in (self.root / "blobs").iterdir())

    def states(self) -> str:
        """The models whose weights are there."""
        return "".join(
            name for name, model in zip(NAMES, (A, B, C, D), strict=True)
            if self.cache.status(model).state is FetchState.READY
        )  # fmt: skip

    async def fetch(self, model: Model) -> Fetch:
        return await soon(self.cache.wait(model))

    async def ready(self, *models: Model) -> None:
        for model in models:
            fetch = await self.fetch(model)
            assert fetch.state is FetchState.READY, fetch.error

    def _now(self) -> float:
        self.clock += 1
        return self.clock

    def _source_of(self, kind: str) -> ModelSource:
        return self.memory if kind == "memory" else sources.source(kind)

    async def _in_use(self) -> Collection[str]:
        if self.broken:
            raise NotReady("The database cannot be used.", code="store_unavailable")
        return self.in_use

    async def _evicted(self, model_id: str, reason: str) -> None:
        self.events.append((model_id, reason))


@pytest_asyncio.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    made = Shelf(tmp_path / "models")
    await made.cache.start()
    yield made
    await made.cache.close()


async def test_the_least_recently_fetched_makes_way(shelf: Shelf) -> None:
    await shelf.ready(A, B, C)

    assert shelf.states() == "bc"
    assert shelf.blobs() == 2 * SIZE
    assert shelf.cache.status(A).state is FetchState.ABSENT
    ((model, reason),) = shelf.events
    assert (model, "acme/c" in reason, "models_quota_gb" in reason) == ("acme/a", True, True)


async def test_what_made_way_is_fetched_again(shelf: Shelf) -> None:
    await shelf.ready(A, B, C, A)
    assert shelf.states() == "ac"
    assert [model for model, _ in shelf.events] == ["acme/a", "acme/b"]


async def test_a_launch_counts_as_use_also_after_a_restart(shelf: Shelf) -> None:
    await shelf.ready(A, B)
    await shelf.cache.used(A)
    await shelf.cache.close()
    shelf.cache = shelf.make()
    await shelf.cache.start()

    await shelf.ready(C)

    assert shelf.states() == "ac"


async def test_weights_in_use_stay_and_a_refusal_names_them(shelf: Shelf) -> None:
    await shelf.ready(A, B)
    shelf.in_use = {A.id, B.id}

    fetch = await shelf.fetch(C)

    assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "quota_exceeded", True)
    assert "acme/a, acme/b" in (fetch.error or "")
    assert shelf.states() == "ab"
    assert shelf.events == []
    shelf.in_use = {A.id}
    await shelf.ready(C)
    assert shelf.states() == "ac"


async def test_weights_larger_than_the_quota_evict_nothing(shelf: Shelf) -> None:
    shelf.memory = MemorySource({**CONTENTS, "big": noise(30_000)})
    await shelf.ready(A, B)

    for size in (30_000, None):
        fetch = await shelf.fetch(model_of(Source("memory", "big", size_bytes=size), f"acme/big{size}"))
        assert (fetch.error_code, fetch.retryable) == ("quota_exceeded", False)
        assert "raise models_quota_gb" in (fetch.error or "")

    assert shelf.states() == "ab"


async def test_downloads_that_run_at_once_share_the_quota(shelf: Shelf) -> None:
    shelf.memory.gate.clear()
    waiting = [asyncio.create_task(shelf.fetch(model)) for model in (A, B, C, D)]
    done, _ = await asyncio.wait(waiting, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    shelf.memory.gate.set()

    fetches = await soon(asyncio.gather(*waiting))

    assert {task.result().error_code for task in done} == {"quota_exceeded"}
    assert shelf.blobs() <= 2 * SIZE
    assert len(shelf.states()) == 2
    assert len([fetch for fetch in fetches if fetch.state is FetchState.READY]) >= 2


async def test_a_size_that_only_the_server_knows_counts(shelf: Shelf, server: WeightsServer) -> None:
    server.documents["/m"] = Document(CONTENTS["d"])
    await shelf.ready(A, B)

    await shelf.ready(model_of(Source("http", server.url("/m")), "acme/d"))

    assert shelf.states() == "b"
    assert shelf.blobs() == 2 * SIZE


async def test_a_size_that_nobody_knows_makes_room_while_it_comes(shelf: Shelf, server: WeightsServer) -> None:
    server.documents["/m"] = Document(CONTENTS["d"], lengthless=True)
    await shelf.ready(A, B)

    await shelf.ready(model_of(Source("http", server.url("/m")), "acme/d"))

    assert shelf.states() == "b"
    assert shelf.blobs() == 2 * SIZE


class Growing:
    """Room for 10 MB, weights of 6 MB, and two downloads of 8 MB whose size nobody tells; both pause half-way."""

    def __init__(self, shelf: Shelf, server: WeightsServer) -> None:
        shelf.cache = ModelCache(
            shelf.root,
            lambda kind: MemorySource({"six": noise(6 * MB)}, step=MB) if kind == "memory" else sources.source(kind),
            retry_delays_s=(),
            quota=Quota(10 * MB, shelf._in_use, shelf._evicted),
            now=shelf._now,
        )
        self.shelf, self.server = shelf, server
        server.documents["/1"] = Document(noise(8 * MB, 1), lengthless=True, hold_at=4 * MB)
        server.documents["/2"] = Document(noise(8 * MB, 2), lengthless=True, hold_at=4 * MB)
        self.first, self.second = (model_of(Source("http", server.url(f"/{n}")), f"acme/{n}") for n in (1, 2))

    async def fetch(self) -> tuple[Fetch, Fetch]:
        """Both, the second from the moment on at which the first is half-way."""
        await self.shelf.ready(model_of(Source("memory", "six", size_bytes=6 * MB), "acme/six"))
        older = asyncio.create_task(self.shelf.fetch(self.first))
        assert await asyncio.to_thread(self.server.documents["/1"].held.wait, 20)
        younger = asyncio.create_task(self.shelf.fetch(self.second))
        assert await asyncio.to_thread(self.server.documents["/2"].asked.wait, 20)
        self.server.documents["/1"].release.set()
        first = await older
        self.server.documents["/2"].release.set()
        return first, await younger


async def test_of_downloads_whose_size_nobody_knows_the_younger_waits(shelf: Shelf, server: WeightsServer) -> None:
    growing = Growing(shelf, server)
    await growing.shelf.cache.start()

    older, younger = await growing.fetch()

    assert (older.state, younger.state) == (FetchState.READY, FetchState.READY), (older.error, younger.error)
    assert [model for model, _ in shelf.events] == ["acme/six", "acme/1"]
    assert shelf.blobs() == 8 * MB


async def test_a_younger_one_for_which_there_is_no_room_fails_alone(shelf: Shelf, server: WeightsServer) -> None:
    growing = Growing(shelf, server)
    await growing.shelf.cache.start()
    shelf.in_use = {"acme/1"}

    older, younger = await growing.fetch()

    assert (older.state, younger.error_code, younger.retryable) == (FetchState.READY, "quota_exceeded", True)
    assert "at least" in (younger.error or "")
    assert [model for model, _ in shelf.events] == ["acme/six"]
    assert shelf.blobs() == 8 * MB


async def test_a_declared_size_waits_for_no_turn(shelf: Shelf, server: WeightsServer) -> None:
    server.documents["/1"] = Document(CONTENTS["a"], lengthless=True, hold_at=5_000)
    server.documents["/2"] = Document(CONTENTS["b"], lengthless=True)
    held_up = asyncio.create_task(shelf.fetch(model_of(Source("http", server.url("/1")), "acme/1")))
    assert await asyncio.to_thread(server.documents["/1"].held.wait, 20)

    await shelf.ready(model_of(Source("http", server.url("/2"), size_bytes=SIZE), "acme/2"))

    assert not held_up.done()
    server.documents["/1"].release.set()
    assert (await held_up).state is FetchState.READY


async def test_weights_that_turn_out_too_large_leave_nothing_behind(shelf: Shelf, server: WeightsServer) -> None:
    server.documents["/m"] = Document(noise(30_000), lengthless=True)
    await shelf.ready(A)

    fetch = await shelf.fetch(model_of(Source("http", server.url("/m")), "acme/d"))

    assert fetch.error_code == "quota_exceeded"
    assert shelf.states() == "a"
    left = [path for path in (shelf.root / "partial").rglob("*") if path.is_file() and path.name != "source"]
    assert left == []


async def test_what_an_unfinished_download_left_makes_way(shelf: Shelf) -> None:
    def fail(done: int) -> None:
        if done >= 8192:
            shelf.memory.before = lambda _: None
            raise OSError(5, "broken")

    shelf.memory.before = fail
    assert (await shelf.fetch(A)).state is FetchState.FAILED
    assert any(path.stat().st_size >= 8192 for path in (shelf.root / "partial").rglob("*") if path.is_file())

    await shelf.ready(B, C)

    assert list((shelf.root / "partial").iterdir()) == []
    assert shelf.events == []


async def test_another_process_at_work_keeps_its_folder(shelf: Shelf) -> None:
    folder = shelf.root / "partial" / "others-000000000000"
    async with held(folder, "mark"):
        (folder / "weights").write_bytes(noise(SIZE))
        await shelf.ready(A, B)
    assert (folder / "weights").exists()
    assert shelf.states() == "b"


async def test_weights_that_models_share_count_once_and_go_together(shelf: Shelf) -> None:
    pinned = replace(A, source=replace(A.source or Source("", ""), sha256=sha256(CONTENTS["a"])))
    twin = replace(pinned, id="acme/twin")
    await shelf.ready(pinned, twin, B)
    assert shelf.blobs() == 2 * SIZE

    shelf.in_use = {twin.id}
    await shelf.ready(C)
    assert shelf.cache.status(pinned).state is FetchState.READY

    shelf.in_use = {C.id}
    await shelf.ready(B)
    assert {shelf.cache.status(model).state for model in (pinned, twin)} == {FetchState.ABSENT}
    assert sorted(model for model, _ in shelf.events) == ["acme/a", "acme/b", "acme/twin"]


async def test_files_of_the_users_own_are_not_counted_and_stay(shelf: Shelf, tmp_path: Path) -> None:
    own = tmp_path / "own.bin"
    own.write_bytes(noise(40_000))
    mine = model_of(Source("file", str(own)), "acme/mine")

    await shelf.ready(A, B, mine, C)

    assert own.exists()
    assert shelf.cache.status(mine).state is FetchState.READY
    assert shelf.states() == "bc"


async def test_a_blob_that_no_entry_names_goes_first(shelf: Shelf) -> None:
    await shelf.ready(A, B)
    (shelf.root / "index.json").write_text("damaged")

    await shelf.ready(C)

    assert shelf.blobs() == 2 * SIZE


async def test_without_an_answer_who_uses_what_nothing_is_evicted(shelf: Shelf) -> None:
    await shelf.ready(A, B)
    shelf.broken = True

    fetch = await shelf.fetch(C)

    assert (fetch.error_code, fetch.retryable) == ("store_unavailable", True)
    assert shelf.states() == "ab"


async def test_no_quota_is_no_limit(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    shelf.cache = ModelCache(shelf.root, lambda _: shelf.memory)
    await shelf.cache.start()
    await shelf.ready(A, B, C, D)
    assert shelf.states() == "abcd"
    await shelf.cache.close()
