"""The weights of models on this machine: fetched once, verified when they arrive, content-addressed by SHA-256.

Called by control (to have weights before a launch) and services (to show progress). Layout: ``blobs/sha256-<hex>``,
``partial/<model>/``, ``index.json``. It never blocks the event loop, never launches anything, and tells every failure
as a ``Fetch``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from roost.domain.errors import InvalidSettings, ModelUnavailable, RoostError
from roost.domain.model import Fetch, FetchState, Footprint, Model, Source
from roost.models import disk, partial, sources, verify
from roost.models.base import ModelSource, Report, TooSlow
from roost.models.blocking import in_thread
from roost.models.index import Entry, Index
from roost.models.quota import Keeper, NeverFits, Quota, RoomNeeded, TurnNeeded, Watch
from roost.models.source_file import FileSource
from roost.policy.eviction import EXCEEDED

RETRYABLE = frozenset({"source_unreachable", "disk_full", "disk_error", "interrupted", EXCEEDED, "store_unavailable"})
RETRY_DELAYS_S = (0.5, 1.0, 2.0)
NO_QUOTA = Quota()
HINT_INTERVAL_S = 0.25
"""Progress is hinted at most this often."""


@dataclass(slots=True)
class _Known:
    """What is known of one model: ``source`` is the fingerprint that ``fetch`` is about."""

    source: str
    fetch: Fetch
    entry: Entry | None = None
    task: asyncio.Task[Fetch] | None = None


class ModelCache:
    """Implements ``models.base.Cache`` in the folder ``root``. Several processes may share one folder.

    ``source_of`` gives the source of a kind; ``retry_delays_s`` are the pauses before attempts that follow a failed
    connection; ``free`` tells the free space of a folder; ``quota`` limits what the weights may take of it. ``now`` is
    in seconds since the epoch.
    """

    def __init__(
        self,
        root: Path,
        sources: Callable[[str], ModelSource] = sources.source,
        *,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
        free: disk.FreeBytes = disk.free_bytes,
        quota: Quota = NO_QUOTA,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._root = root = root.absolute()
        self._blobs = root / "blobs"
        self._partial = root / "partial"
        self._index = Index(root)
        self._source_of = sources
        self._retry_delays_s = tuple(retry_delays_s)
        self._free = free
        self._known: dict[str, _Known] = {}
        self._tasks: dict[asyncio.Task[Fetch], str] = {}
        self._now = now
        self._keeper = Keeper(root, self._index, quota, lambda: tuple(self._tasks.values()), self._forget)
        self._removing = asyncio.Lock()
        self._turns: dict[str, asyncio.Lock] = {}
        self._hints: dict[str, None] = {}
        self._hinted = asyncio.Event()
        self._moved: set[str] = set()
        self._moved_timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Create the folders and read what is there. Raises ``InvalidSettings`` when they cannot be used."""
        try:
            entries = await asyncio.to_thread(self._open)
        except OSError as error:
            raise self._unusable(error) from error
        for model_id, (entry, intact) in entries.items():
            if intact:
                self._known[model_id] = _Known(entry.source, _ready(model_id, entry), entry)

    def _unusable(self, error: OSError) -> InvalidSettings:
        return InvalidSettings(
            f"The weights cache {self._root} cannot be used: {error.strerror or error}. "
            "Let the user that runs the server write there, or choose another ROOST_HOME."
        )

    def _open(self) -> dict[str, tuple[Entry, bool]]:
        for folder in (self._root, self._blobs, self._partial):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / "index.lock").touch()
        return {model_id: (entry, entry.intact()) for model_id, entry in self._index.read().items()}

    async def close(self) -> None:
        """Cancel downloads; what has arrived is kept for resuming."""
        await _cancel(list(self._tasks))
        if self._moved_timer is not None:
            self._moved_timer.cancel()

    def status(self, model: Model) -> Fetch:
        """How far the model's weights are, from memory."""
        if model.source is None:
            return Fetch(model.id, FetchState.READY)
        known = self._known.get(model.id)
        if known is None or known.source != fingerprint(model):
            return Fetch(model.id, FetchState.ABSENT, total_bytes=model.source.size_bytes)
        return known.fetch

    def request(self, model: Model) -> None:
        """Begin fetching in the background unless under way; where READY, look whether the file is still there."""
        if model.source is not None:
            self._task_of(model, model.source)

    async def wait(self, model: Model) -> Fetch:
        """Request, then wait until READY or FAILED. Cancelling the waiter leaves the download alone."""
        if model.source is None:
            return self.status(model)
        task = self._task_of(model, model.source)
        await asyncio.wait([task])
        return _outcome(model.id, task)

    async def remove(self, model: Model) -> int:
        """Forget a model that left the catalog: end its download, delete what nobody shares; the bytes freed."""
        if model.source is None:
            return 0
        # At once, so that a model of the same id that is added meanwhile begins anew (and waits, in ``_run``).
        self._known.pop(model.id, None)
        doomed = [task for task, model_id in self._tasks.items() if model_id == model.id]
        async with self._removing:
            await _cancel(doomed)
            folder = self._partial / partial.folder_name(model.id)
            try:
                freed = await in_thread(lambda _: partial.discard(folder) + self._index.drop(model.id))
            except OSError as error:
                raise disk.failure(error, self._root, None, self._free) from error
        self._hint(model.id)
        return freed

    async def used(self, model: Model) -> None:
        """Note that the model's weights are of use now: those used longest ago make way first."""
        if model.source is None:
            return
        try:
            await in_thread(lambda _: self._index.touch(model.id, self._now()))
        except OSError as error:
            # No reason to fail a launch: they may make way somewhat earlier than they should.
            structlog.get_logger(__name__).warning("models.use_not_noted", model=model.id, error=str(error))

    async def sweep(self, models: Iterable[Model]) -> int:
        """Remove what interrupted downloads of others than ``models`` (the whole catalog) left; the bytes freed.

        Called once at start, by the one server whose cache this is: it knows of no other's catalog. Raises
        ``InvalidSettings`` when the folders cannot be used.
        """
        owned = {partial.folder_name(model.id) for model in models}
        try:
            return await in_thread(lambda _: self._sweep(owned))
        except OSError as error:
            raise self._unusable(error) from error

    def _sweep(self, owned: set[str]) -> int:
        folders = [path for path in self._partial.iterdir() if path.name not in owned]
        return sum(partial.discard(folder) for folder in folders)

    async def changed(self) -> str:
        """Wait for the next change of any model's status and return the model's id."""
        while not self._hints:
            self._hinted.clear()
            await self._hinted.wait()
        model_id = next(iter(self._hints))
        del self._hints[model_id]
        return model_id

    def _task_of(self, model: Model, source: Source) -> asyncio.Task[Fetch]:
        mark = fingerprint(model)
        known = self._known.get(model.id)
        if known is not None and known.source != mark:
            if known.task is not None:
                known.task.cancel()
            known = None
        if known is None:
            known = self._known[model.id] = _Known(mark, Fetch(model.id, FetchState.ABSENT))
        if known.task is None:
            known.task = asyncio.create_task(self._run(model.id, source, known), name=f"weights of {model.id}")
            self._tasks[known.task] = model.id
            known.task.add_done_callback(lambda task: self._ended(model.id, known, task))
            if known.fetch.state is not FetchState.READY:
                self._set(known, Fetch(model.id, FetchState.FETCHING, 0, source.size_bytes))
        return known.task

    def _ended(self, model_id: str, known: _Known, task: asyncio.Task[Fetch]) -> None:
        self._tasks.pop(task, None)
        known.task = None
        self._set(known, _outcome(model_id, task))
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": f"fetching {model_id} failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    async def _run(self, model_id: str, source: Source, known: _Known) -> Fetch:
        async with self._removing:
            pass  # the model of this id that is being removed must not take this one's weights along
        try:
            if known.fetch.state is FetchState.READY and known.entry is not None:
                if await asyncio.to_thread(known.entry.intact):
                    return known.fetch
                self._set(known, Fetch(model_id, FetchState.FETCHING, 0, source.size_bytes))
            known.entry = await self._obtain(model_id, source, known)
            return _ready(model_id, known.entry)
        except RoostError as error:
            return self._failed(known, error)
        except OSError as error:
            total, done = known.fetch.total_bytes, known.fetch.done_bytes
            needed = total - done if total is not None else None
            return self._failed(known, disk.failure(error, self._root, needed, self._free))

    def _failed(self, known: _Known, error: RoostError) -> Fetch:
        return replace(
            known.fetch,
            state=FetchState.FAILED,
            path=None,
            error_code=error.code,
            error=error.message,
            retryable=error.code in RETRYABLE and not isinstance(error, NeverFits),
        )

    async def _obtain(self, model_id: str, source: Source, known: _Known) -> Entry:
        report = self._reporter(known, source.size_bytes)
        folder = self._partial / partial.folder_name(model_id)
        async with self._turn(source), partial.held(folder, known.source):
            # Another process may have fetched it meanwhile, or another model may have the same weights.
            entry = await self._reuse(model_id, source, known.source, report)
            try:
                if entry is None:
                    entry = await self._bring(model_id, source, known.source, folder, report)
                arrived = replace(entry, used_at=self._now())
                entry = await in_thread(lambda _: self._keep(model_id, arrived, folder))
            finally:
                self._keeper.release(model_id)
            await in_thread(lambda _: partial.remove(folder))
        return entry

    def _turn(self, source: Source) -> AbstractAsyncContextManager[None]:
        """One download at a time of the same weights: for the models that come second, they are here then."""
        if source.sha256 is None:
            return nullcontext()
        return self._turns.setdefault(source.sha256.lower(), asyncio.Lock())

    def _keep(self, model_id: str, entry: Entry, folder: Path) -> Entry:
        """Both in one step, which is never left half-way: a blob that no entry names would stay for ever."""
        if Path(entry.path).is_relative_to(folder):
            entry = verify.keep(entry, self._blobs)
        self._index.put(model_id, entry)
        return entry

    async def _bring(self, model_id: str, source: Source, mark: str, folder: Path, report: Report) -> Entry:
        resumed = await asyncio.to_thread(partial.resumable, folder)
        try:
            return await self._fetch(model_id, source, mark, folder, report)
        except ModelUnavailable as error:
            if error.code != "digest_mismatch" or not resumed:
                raise
        # What an earlier attempt had left was damaged: once more, from nothing.
        await in_thread(lambda _: partial.empty(folder))
        return await self._fetch(model_id, source, mark, folder, report)

    async def _reuse(self, model_id: str, source: Source, mark: str, report: Report) -> Entry | None:
        entries = await asyncio.to_thread(self._index.read)
        entry = entries.get(model_id)
        if entry is not None and entry.source == mark:
            if await asyncio.to_thread(entry.intact):
                return entry
            if entry.in_place:
                return await verify.unchanged(entry, report)
            return await verify.blob(Path(entry.path), entry.digest, mark, report)
        if source.sha256 is not None:
            digest = source.sha256.lower()
            return await verify.blob(self._blobs / f"sha256-{digest}", digest, mark, report)
        return None

    async def _fetch(self, model_id: str, source: Source, mark: str, folder: Path, report: Report) -> Entry:
        """The weights file, verified, with room for it."""
        in_place = source.kind == FileSource.kind
        if source.size_bytes is not None and not in_place:
            await self._keeper.grant(model_id, source.size_bytes)
        watch = Watch(self._keeper, model_id, report, unlimited=in_place)
        try:
            path = await self._attempts(model_id, source, folder, watch)
            entry = await self._accept(mark, source, path, folder, report)
            if not entry.in_place:
                await self._keeper.grant(model_id, entry.size)
        except ModelUnavailable as error:
            # Of weights that turned out to be too large, nothing is worth the room.
            if error.code == EXCEEDED and watch.unmeasured:
                await in_thread(lambda _: partial.empty(folder))
            raise
        finally:
            await watch.close()
        return entry

    async def _attempts(self, model_id: str, source: Source, folder: Path, watch: Watch) -> Path:
        """The file, after as many attempts as it takes; those that bring nothing new are limited."""
        best, failures = 0, 0
        # In a thread, since the first use of a source imports its libraries.
        chosen = await asyncio.to_thread(self._source_of, source.kind)
        while True:
            try:
                return await chosen.fetch(source, folder, watch)
            except RoomNeeded as needed:
                await self._keeper.grant(model_id, needed.size)
                continue
            except TurnNeeded:
                await self._keeper.turn(model_id)
                continue
            except ModelUnavailable as error:
                failures = 1 if watch.arrived > best and not isinstance(error, TooSlow) else failures + 1
                best = watch.arrived
                if error.code != "source_unreachable" or failures > len(self._retry_delays_s):
                    raise
            await asyncio.sleep(self._retry_delays_s[failures - 1])

    async def _accept(self, mark: str, source: Source, path: Path, folder: Path, report: Report) -> Entry:
        in_place = not path.is_relative_to(folder)
        try:
            return await verify.arrival(path, source, mark, in_place, report)
        except ModelUnavailable:
            await in_thread(lambda _: partial.empty(folder))
            raise

    def _reporter(self, known: _Known, size: int | None) -> Report:
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int | None) -> None:
            if known.fetch.state is not FetchState.FETCHING:
                return
            done, total = in_terms_of(size, done, total)
            known.fetch = replace(known.fetch, done_bytes=done, total_bytes=total)
            self._moved.add(known.fetch.model_id)
            if self._moved_timer is None:
                self._moved_timer = loop.call_later(HINT_INTERVAL_S, self._hint_moved)

        def report(done: int, total: int | None) -> None:
            loop.call_soon_threadsafe(progress, done, total)

        return report

    def _set(self, known: _Known, fetch: Fetch) -> None:
        if known.fetch == fetch:
            return
        known.fetch = fetch
        if self._known.get(fetch.model_id) is known:
            self._hint(fetch.model_id)

    def _forget(self, model_id: str) -> None:
        """Its weights are gone; the next request fetches them again."""
        self._known.pop(model_id, None)
        self._hint(model_id)

    def _hint_moved(self) -> None:
        self._moved_timer = None
        for model_id in self._moved:
            self._hint(model_id)
        self._moved.clear()

    def _hint(self, model_id: str) -> None:
        self._hints[model_id] = None
        self._hinted.set()


def fingerprint(model: Model) -> str:
    """What tells one source of a model from another: everything that decides which bytes are meant.

    A model that was removed and added again is another: its user vouches for the file that is there now.
    """
    source = model.source
    if source is None:
        return ""
    added = int(model.created_at.timestamp()) if model.created_at is not None else None
    parts = [source.kind, source.location, source.member, (source.sha256 or "").lower(), added]
    # A digest, because a location may hold a password.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def in_terms_of(size: int | None, done: int, total: int | None) -> tuple[int, int | None]:
    """Progress as bytes of the weights file of ``size`` (None: unknown), which may arrive packed in another ``total``:
    one and the same total from the first report to the last."""
    if size is None:
        return done, total
    return min(size, done * size // total if total else done), size


def _ready(model_id: str, entry: Entry) -> Fetch:
    footprint = Footprint(entry.size, entry.kv_bytes_per_token)
    return Fetch(model_id, FetchState.READY, entry.size, entry.size, entry.path, footprint=footprint)


async def _cancel(tasks: Sequence[asyncio.Task[Fetch]]) -> None:
    """Cancel, and wait until nothing runs any more."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _outcome(model_id: str, task: asyncio.Task[Fetch]) -> Fetch:
    """What a finished task comes to."""
    if task.cancelled():
        text = "Fetching the weights was interrupted; what has arrived is kept. Start again to go on."
        return Fetch(model_id, FetchState.FAILED, error_code="interrupted", error=text)
    error = task.exception()
    if error is not None:
        text = f"Fetching the weights failed in a way nobody foresaw ({error!r}). The server's log says more."
        return Fetch(model_id, FetchState.FAILED, error_code="internal_error", error=text, retryable=False)
    return task.result()
