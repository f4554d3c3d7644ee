from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.models.sample_files import gguf_bytes, model_of, noise, sha256

from roost.domain.errors import InvalidSettings, ModelUnavailable
from roost.domain.model import Fetch, FetchState, Footprint, Model, Source
from roost.models import sources
from roost.models.base import Cache, ModelSource, TooSlow
from roost.models.cache import ModelCache, fingerprint, in_terms_of
from roost.testing.memory_source import MemorySource

T = TypeVar("T")
CONTENT = noise(10_000)
PINNED = Source("memory", "weights", sha256=sha256(CONTENT), size_bytes=len(CONTENT))
MODEL = model_of(PINNED)


async def soon(waited: Awaitable[T]) -> T:
    return await asyncio.wait_for(waited, 20)


class Place:
    """A cache folder, and caches opened on it as a server would after a restart."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory = MemorySource({"weights": CONTENT, "other": noise(5000, 9)})
        self.opened: list[ModelCache] = []

    def source_of(self, kind: str) -> ModelSource:
        return self.memory if kind == "memory" else sources.source(kind)

    async def open(self, free: int = 1 << 40) -> ModelCache:
        cache = ModelCache(self.root, self.source_of, retry_delays_s=(0, 0, 0), free=lambda _: free)
        self.opened.append(cache)
        await cache.start()
        return cache

    def blobs(self) -> list[str]:
        return sorted(path.name for path in (self.root / "blobs").iterdir())

    def partials(self) -> list[str]:
        return sorted(path.name for path in (self.root / "partial").rglob("*") if path.name != "source")


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path / "home" / "models")
    yield made
    for cache in made.opened:
        await cache.close()


async def test_weights_arrive_verified_and_by_their_digest(place: Place) -> None:
    cache: Cache = await place.open()
    assert cache.status(MODEL).state is FetchState.ABSENT
    fetch = await soon(cache.wait(MODEL))
    assert fetch == cache.status(MODEL)
    assert (fetch.state, fetch.percent) == (FetchState.READY, 100.0)
    assert fetch.path == str(place.root / "blobs" / f"sha256-{sha256(CONTENT)}")
    assert Path(fetch.path).read_bytes() == CONTENT
    assert list((place.root / "partial").iterdir()) == []


async def test_what_the_header_tells_is_known_from_the_arrival_on_and_after_a_restart(place: Place) -> None:
    shape = {"llama.block_count": 2, "llama.embedding_length": 64, "llama.attention.head_count": 4}
    content = gguf_bytes({"general.architecture": "llama", **shape})
    place.memory = MemorySource({"weights": content})
    model = model_of(Source("memory", "weights"))
    first = await place.open()
    assert first.status(model).footprint is None
    fetch = await soon(first.wait(model))
    assert fetch.footprint == Footprint(len(content), 2 * 4 * (16 + 16) * 2)
    second = await place.open()
    assert second.status(model) == fetch


async def test_weights_of_another_format_tell_their_size(place: Place) -> None:
    cache = await place.open()
    assert (await soon(cache.wait(MODEL))).footprint == Footprint(len(CONTENT), None)


async def test_a_model_without_a_source_is_ready(place: Place) -> None:
    cache = await place.open()
    external = Model("acme/elsewhere", "external", url="http://host/v1")
    cache.request(external)
    assert cache.status(external) == await cache.wait(external) == Fetch("acme/elsewhere", FetchState.READY)


async def test_a_restart_finds_what_is_there_without_fetching_or_reading_it(place: Place) -> None:
    path = Path((await soon((await place.open()).wait(MODEL))).path or "")
    untouched = path.stat()
    path.write_bytes(bytes(len(CONTENT)))  # reading it again would notice; its size and time say nothing
    os.utime(path, ns=(untouched.st_atime_ns, untouched.st_mtime_ns))
    cache = await place.open()
    assert cache.status(MODEL).state is FetchState.READY
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.fetches == 1


async def test_the_folder_can_be_moved(place: Place) -> None:
    await soon((await place.open()).wait(MODEL))
    moved = place.root.with_name("moved")
    place.root.rename(moved)
    place.root = moved
    fetch = (await place.open()).status(MODEL)
    assert fetch.path is not None
    assert Path(fetch.path).is_relative_to(moved)


async def test_a_touched_blob_is_read_again_and_kept_if_it_is_the_same(place: Place) -> None:
    path = (await soon((await place.open()).wait(MODEL))).path or ""
    os.utime(path, (1, 1))
    cache = await place.open()
    assert cache.status(MODEL).state is FetchState.ABSENT
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.fetches == 1
    assert (await place.open()).status(MODEL).state is FetchState.READY


@pytest.mark.parametrize("harm", ["damaged", "removed"])
async def test_a_blob_that_was_harmed_is_fetched_again(place: Place, harm: str) -> None:
    cache = await place.open()
    path = Path((await soon(cache.wait(MODEL))).path or "")
    if harm == "damaged":
        path.write_bytes(b"damaged")
    else:
        path.unlink()
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert path.read_bytes() == CONTENT
    assert place.memory.fetches == 2


async def test_one_download_for_many_waiters(place: Place) -> None:
    cache = await place.open()
    place.memory.gate.clear()
    waiters = [asyncio.create_task(cache.wait(MODEL)) for _ in range(20)]
    cache.request(MODEL)
    await asyncio.sleep(0)
    assert cache.status(MODEL).state is FetchState.FETCHING
    place.memory.gate.set()
    fetches = await soon(asyncio.gather(*waiters))
    assert {fetch.state for fetch in fetches} == {FetchState.READY}
    assert place.memory.fetches == 1


async def test_cancelling_a_waiter_leaves_the_download_alone(place: Place) -> None:
    cache = await place.open()
    place.memory.gate.clear()
    waiter = asyncio.create_task(cache.wait(MODEL))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    place.memory.gate.set()
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.fetches == 1


async def test_two_caches_on_one_folder_fetch_once(place: Place) -> None:
    one, other = await place.open(), await place.open()
    place.memory.gate.clear()
    waiters = [asyncio.create_task(cache.wait(MODEL)) for cache in (one, other)]
    await soon(place.memory.started.wait())
    place.memory.gate.set()
    assert [fetch.state for fetch in await soon(asyncio.gather(*waiters))] == [FetchState.READY] * 2
    assert place.memory.fetches == 1


async def test_two_models_of_the_same_weights_share_a_blob(place: Place) -> None:
    cache = await place.open()
    twin = replace(MODEL, id="acme/twin")
    unpinned = replace(MODEL, id="acme/unpinned", source=Source("memory", "weights"))
    for model in (MODEL, twin, unpinned):
        assert (await soon(cache.wait(model))).state is FetchState.READY
    assert len(place.blobs()) == 1
    assert place.memory.fetches == 2  # the digest of the unpinned one is known only once it is here
    again = await place.open()
    assert [again.status(model).state for model in (MODEL, twin, unpinned)] == [FetchState.READY] * 3


async def test_two_models_of_the_same_weights_fetch_them_once_though_both_are_asked_for_at_once(place: Place) -> None:
    cache = await place.open()
    place.memory.gate.clear()
    waiters = [asyncio.create_task(cache.wait(replace(MODEL, id=f"acme/{name}"))) for name in ("one", "two", "three")]
    await soon(place.memory.started.wait())
    place.memory.gate.set()
    assert {fetch.state for fetch in await soon(asyncio.gather(*waiters))} == {FetchState.READY}
    assert (place.memory.fetches, len(place.blobs())) == (1, 1)


async def test_closing_keeps_what_arrived_and_the_next_start_resumes(place: Place) -> None:
    cache = await place.open()
    reached = _pause_at(place.memory, 4096)
    waiter = asyncio.create_task(cache.wait(MODEL))
    await soon(reached.wait())
    await soon(cache.close())
    fetch = await soon(waiter)
    assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "interrupted", True)
    place.memory.before = lambda _: None
    place.memory.gate.set()
    assert (await soon((await place.open()).wait(MODEL))).state is FetchState.READY
    assert place.memory.starts[0] == 0
    assert place.memory.starts[1] >= 4096


async def test_left_overs_of_another_source_are_not_resumed(place: Place) -> None:
    cache = await place.open()
    place.memory.before = _fail_once_at(4096, OSError(errno.EIO, "broken"))
    assert (await soon(cache.wait(MODEL))).error_code == "disk_error"
    assert place.partials()[-1:] == ["weights"]
    changed = replace(MODEL, source=Source("memory", "weights"))
    assert (await soon(cache.wait(changed))).state is FetchState.READY
    assert place.memory.starts == [0, 0]


async def test_a_replaced_entry_ends_the_download_of_the_old_one(place: Place) -> None:
    cache = await place.open()
    place.memory.gate.clear()
    old = asyncio.create_task(cache.wait(MODEL))
    await soon(place.memory.started.wait())
    replaced = replace(MODEL, source=Source("memory", "other"))
    new = asyncio.create_task(cache.wait(replaced))
    await asyncio.sleep(0)
    assert (await soon(old)).error_code == "interrupted"
    place.memory.gate.set()
    fetch = await soon(new)
    assert fetch.state is FetchState.READY
    assert cache.status(replaced) == fetch
    assert cache.status(MODEL).state is FetchState.ABSENT


@pytest.mark.parametrize(
    "source",
    [replace(PINNED, sha256="0" * 64), replace(PINNED, size_bytes=9), Source("memory", "weights", size_bytes=9)],
    ids=["digest", "size and digest", "size alone"],
)
async def test_weights_that_are_not_what_was_promised_are_removed(place: Place, source: Source) -> None:
    cache = await place.open()
    fetch = await soon(cache.wait(model_of(source)))
    assert (fetch.state, fetch.error_code, fetch.retryable, fetch.path) == (
        FetchState.FAILED,
        "digest_mismatch",
        False,
        None,
    )
    assert "removed" in (fetch.error or "")
    assert (place.blobs(), place.partials()) == ([], [place.partials()[0]])


async def test_a_damaged_left_over_is_replaced_from_nothing(place: Place) -> None:
    cache = await place.open()
    place.memory.before = _fail_once_at(4096, OSError(errno.EIO, "broken"))
    assert (await soon(cache.wait(MODEL))).state is FetchState.FAILED
    (left,) = (place.root / "partial").glob("*/weights")
    left.write_bytes(b"#" * 4096)
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.starts == [0, 4096, 0]


def _pause_at(memory: MemorySource, position: int) -> asyncio.Event:
    """Let fetches pause before the step after ``position``; the event is set when one does."""
    reached = asyncio.Event()

    def before(done: int) -> None:
        if done >= position:
            memory.gate.clear()
            reached.set()

    memory.before = before
    return reached


def _fail_once_at(position: int, error: Exception) -> Callable[[int], None]:
    errors = [error]

    def before(done: int) -> None:
        if done >= position and errors:
            raise errors.pop()

    return before


async def test_a_full_disk_says_what_is_free_and_keeps_the_part(place: Place) -> None:
    cache = await place.open(free=123_000)
    place.memory.before = _fail_once_at(4096, OSError(errno.ENOSPC, "No space left on device"))
    fetch = await soon(cache.wait(MODEL))
    assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "disk_full", True)
    assert "123.0 kB are free" in (fetch.error or "")
    assert "5.9 kB more are needed" in (fetch.error or "")
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.starts == [0, 4096]


def unreachable() -> ModelUnavailable:
    return ModelUnavailable("The line is dead. Try later.", code="source_unreachable")


async def test_a_failing_connection_is_tried_three_times_more(place: Place) -> None:
    cache = await place.open()

    def dead(done: int) -> None:
        raise unreachable()

    place.memory.before = dead
    fetch = await soon(cache.wait(MODEL))
    assert (fetch.error_code, fetch.error, fetch.retryable) == (
        "source_unreachable",
        "The line is dead. Try later.",
        True,
    )
    assert place.memory.fetches == 4


async def test_attempts_that_bring_something_are_not_counted(place: Place) -> None:
    cache = await place.open()
    broken: set[int] = set()

    def stumble(done: int) -> None:
        if done and done not in broken:
            broken.add(done)
            raise unreachable()

    place.memory.before = stumble
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.fetches == len(broken) + 1 > 4


async def test_a_trickle_is_nothing_brought(place: Place) -> None:
    cache = await place.open()
    place.memory.step = 100

    def trickle(done: int) -> None:
        if done > place.memory.starts[-1]:
            raise TooSlow("A trickle. Try later.", code="source_unreachable")

    place.memory.before = trickle
    fetch = await soon(cache.wait(MODEL))
    assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "source_unreachable", True)
    assert place.memory.starts == [0, 100, 200, 300]


async def test_what_is_not_there_fails_at_once_for_good(place: Place) -> None:
    cache = await place.open()
    fetch = await soon(cache.wait(model_of(Source("memory", "nothing"))))
    assert (fetch.error_code, fetch.retryable) == ("source_missing", False)
    assert place.memory.fetches == 1


async def test_a_failed_model_is_tried_again_on_request(place: Place) -> None:
    cache = await place.open()
    del place.memory.files["weights"]
    assert (await soon(cache.wait(MODEL))).error_code == "source_missing"
    place.memory.files["weights"] = CONTENT
    cache.request(MODEL)
    assert cache.status(MODEL).state is FetchState.FETCHING
    assert cache.status(MODEL).error is None
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY


async def test_an_unknown_kind_of_source_is_a_failure(place: Place) -> None:
    fetch = await soon((await place.open()).wait(model_of(Source("carrier_pigeon", "x"))))
    assert (fetch.state, fetch.retryable) == (FetchState.FAILED, False)
    assert "carrier_pigeon" in (fetch.error or "")


async def test_a_bug_in_a_source_ends_as_a_failure_and_reaches_the_log(place: Place) -> None:
    cache = await place.open()
    logged: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["exception"]))
    bug = ZeroDivisionError("a bug")
    place.memory.before = _fail_once_at(0, bug)
    fetch = await soon(cache.wait(MODEL))
    assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "internal_error", False)
    assert cache.status(MODEL) == fetch
    assert logged == [bug]


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", gguf_bytes()[:200]], ids=["another format", "cut off"])
async def test_what_is_no_gguf_file_is_refused(place: Place, content: bytes) -> None:
    place.memory.files["tiny.gguf"] = content
    fetch = await soon((await place.open()).wait(model_of(Source("memory", "tiny.gguf"))))
    assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "wrong_format", False)
    assert place.blobs() == []


class TestFilesInPlace:
    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        path = tmp_path / "own.gguf"
        path.write_bytes(gguf_bytes())
        return path

    async def test_they_are_hashed_once_and_never_copied(self, place: Place, own: Path) -> None:
        model = model_of(Source("file", str(own)))
        fetch = await soon((await place.open()).wait(model))
        assert (fetch.state, fetch.path) == (FetchState.READY, str(own))
        assert place.blobs() == []
        assert (await place.open()).status(model).state is FetchState.READY

    async def test_a_vanished_file_is_a_failure(self, place: Place, own: Path) -> None:
        model = model_of(Source("file", str(own)))
        cache = await place.open()
        await soon(cache.wait(model))
        own.unlink()
        for opened in (cache, await place.open()):
            fetch = await soon(opened.wait(model))
            assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "source_missing", False)
            assert str(own) in (fetch.error or "")

    async def test_a_changed_file_is_a_failure_until_it_is_added_again(self, place: Place, own: Path) -> None:
        model = model_of(Source("file", str(own)))
        cache = await place.open()
        await soon(cache.wait(model))
        own.write_bytes(gguf_bytes(tensor=b"\2" * 96))
        for opened in (cache, cache, await place.open()):
            fetch = await soon(opened.wait(model))
            assert (fetch.state, fetch.error_code, fetch.retryable) == (FetchState.FAILED, "digest_mismatch", False)
            assert "changed since it was first used" in (fetch.error or "")
        assert own.exists()
        added_again = replace(model, created_at=datetime(2026, 11, 24, tzinfo=UTC))
        assert (await soon(cache.wait(added_again))).state is FetchState.READY

    async def test_a_file_that_was_put_back_is_ready_again(self, place: Place, own: Path) -> None:
        model = model_of(Source("file", str(own)))
        await soon((await place.open()).wait(model))
        os.utime(own, (1, 1))
        cache = await place.open()
        assert (await soon(cache.wait(model))).state is FetchState.READY

    async def test_one_that_cannot_be_reached_any_more_fails_alone(self, place: Place, own: Path) -> None:
        model = model_of(Source("file", str(own)), "acme/own")
        await soon((await place.open()).wait(model))
        own.unlink()
        own.symlink_to(own)  # every look at it is an error
        cache = await place.open()
        assert (await soon(cache.wait(MODEL))).state is FetchState.READY
        assert (await soon(cache.wait(model))).state is FetchState.FAILED

    async def test_a_wrong_digest_leaves_the_users_file_alone(self, place: Place, own: Path) -> None:
        model = model_of(Source("file", str(own), sha256="0" * 64))
        fetch = await soon((await place.open()).wait(model))
        assert fetch.error_code == "digest_mismatch"
        assert own.read_bytes() == gguf_bytes()


async def test_every_change_is_hinted_and_a_look_at_ready_weights_is_none(place: Place) -> None:
    cache = await place.open()
    seen: list[FetchState] = []
    cache.request(MODEL)
    while not seen or seen[-1] is not FetchState.READY:
        assert await soon(cache.changed()) == MODEL.id
        seen.append(cache.status(MODEL).state)
    assert seen[0] is FetchState.FETCHING
    await soon(cache.wait(MODEL))
    hint = asyncio.create_task(cache.changed())
    other = model_of(Source("memory", "other"), "acme/other")
    cache.request(other)
    assert await soon(hint) == "acme/other"


async def test_hints_are_merged(place: Place) -> None:
    cache = await place.open()
    await soon(cache.wait(MODEL))
    await soon(cache.wait(model_of(Source("memory", "other"), "acme/other")))
    assert {await soon(cache.changed()), await soon(cache.changed())} == {MODEL.id, "acme/other"}
    waiting = asyncio.create_task(cache.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_progress_is_shown(place: Place) -> None:
    cache = await place.open()
    reached = _pause_at(place.memory, 5000)
    cache.request(MODEL)
    await soon(reached.wait())
    fetch = cache.status(MODEL)
    assert fetch.done_bytes >= 5000
    assert fetch.total_bytes == len(CONTENT)
    assert 50 <= (fetch.percent or 0) < 100
    place.memory.gate.set()


async def test_progress_is_of_the_weights_however_they_are_packed(place: Place) -> None:
    cache = await place.open()
    reached = _pause_at(place.memory, 5000)
    # What arrives is half of what is promised, as an archive's bytes would be.
    model = model_of(replace(PINNED, size_bytes=2 * len(CONTENT)))
    cache.request(model)
    before = cache.status(model)
    await soon(reached.wait())
    fetch = cache.status(model)
    assert before.total_bytes == fetch.total_bytes == 2 * len(CONTENT)
    assert 50 <= (fetch.percent or 0) < 100
    place.memory.gate.set()


@given(st.none() | st.integers(1, 1000), st.integers(0, 1000), st.none() | st.integers(0, 1000))
def test_progress_never_exceeds_a_total_that_never_changes(size: int | None, done: int, total: int | None) -> None:
    shown, of = in_terms_of(size, done, total)
    if size is None:
        assert (shown, of) == (done, total)
    else:
        assert of == size
        assert 0 <= shown <= size
        assert shown == size or done < (total or size)


async def test_a_folder_that_cannot_be_used_is_a_setting_to_correct(place: Place) -> None:
    place.root.parent.mkdir(parents=True)
    place.root.write_text("a file where the folder should be")
    with pytest.raises(InvalidSettings, match=r"weights cache .* cannot be used"):
        await place.open()


async def test_a_damaged_index_costs_no_download_of_pinned_weights(place: Place) -> None:
    await soon((await place.open()).wait(MODEL))
    (place.root / "index.json").write_text('{"format": 1, "models": {"x": 3}}')
    cache = await place.open()
    assert cache.status(MODEL).state is FetchState.ABSENT
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.fetches == 1


async def test_an_index_of_a_newer_release_is_not_overwritten(place: Place) -> None:
    await place.open()
    newer = json.dumps({"format": 99, "models": []})
    (place.root / "index.json").write_text(newer)
    with pytest.raises(InvalidSettings, match="newer release"):
        await place.open()
    assert (place.root / "index.json").read_text() == newer


async def test_ids_that_look_alike_never_share_a_folder(place: Place) -> None:
    cache = await place.open()
    odd = [model_of(Source("memory", name), f"acme/a{mark}b") for name, mark in (("weights", "/"), ("other", "-"))]
    assert {(await soon(cache.wait(model))).state for model in odd} == {FetchState.READY}
    assert len(place.blobs()) == 2


async def test_weights_vanish_while_the_server_runs(place: Place) -> None:
    cache = await place.open()
    await soon(cache.wait(MODEL))
    shutil.rmtree(place.root / "blobs")
    (place.root / "blobs").mkdir()
    cache.request(MODEL)
    assert (await soon(cache.wait(MODEL))).state is FetchState.READY
    assert place.memory.fetches == 2


def test_a_fingerprint_tells_sources_apart_and_hides_passwords() -> None:
    sources_ = [
        Source("http", "http://me:secret@host/a"),
        Source("file", "http://me:secret@host/a"),
        Source("http", "http://host/a"),
        Source("http", "http://host/a", member="m"),
        Source("http", "http://host/a", sha256="ab" * 32),
    ]
    marks = [fingerprint(model_of(source)) for source in sources_]
    assert len(set(marks)) == len(marks)
    assert not any("secret" in mark for mark in marks)
    assert fingerprint(model_of(replace(sources_[4], sha256="AB" * 32))) == marks[4]
