"""Keeping the weights on the disk within a quota. Called by the cache alone.

It counts what lies in the cache's folder, asks ``policy.eviction`` what has to make way, and deletes that. Files of the
user's own count for nothing and are never touched.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from roost.domain.errors import ModelUnavailable, RoostError
from roost.models import partial
from roost.models.base import Report
from roost.models.blocking import in_thread
from roost.models.index import Index
from roost.policy.eviction import EXCEEDED, Held, NoRoom, make_room


async def _nobody() -> Collection[str]:
    return ()


async def _untold(model_id: str, reason: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The limit, and what those who set it have to do with it.

    ``size`` is in bytes, None for no limit; ``in_use`` gives the ids of the models whose weights must stay;
    ``evicted`` is told of each model (its id, and why) whose weights went. Both may raise errors of the tree.
    """

    size: int | None = None
    in_use: Callable[[], Awaitable[Collection[str]]] = _nobody
    evicted: Callable[[str, str], Awaitable[None]] = _untold


class RoomNeeded(ModelUnavailable):
    """A download turned out to need more room than it was granted: it is taken up again once it has ``size`` bytes."""

    code = EXCEEDED

    def __init__(self, size: int) -> None:
        super().__init__(f"Room for {size} bytes is needed first.")
        self.size = size


class TurnNeeded(ModelUnavailable):
    """A download of unknown size has to wait for another one: it is taken up again when it is its turn."""

    code = EXCEEDED

    def __init__(self, message: str = "Another download of unknown size is under way, and has to end first.") -> None:
        super().__init__(message)


class NeverFits(ModelUnavailable):
    """The weights are larger than all weights together may be: trying again cannot help."""

    code = EXCEEDED


class Keeper:
    """Grants room to downloads, one after the other; all of them share the quota.

    ``forget`` is called with the id of a model whose weights went, ``busy`` gives the models that the cache is at work
    on, which must not lose theirs.
    """

    def __init__(
        self, root: Path, index: Index, quota: Quota, busy: Callable[[], Collection[str]], forget: Callable[[str], None]
    ) -> None:
        self._blobs, self._partial = root / "blobs", root / "partial"
        self._index = index
        self._quota = quota
        self._busy = busy
        self._forget = forget
        self._granted: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self._unmeasured: str | None = None
        self._unmeasured_guard = threading.Lock()
        self._released = asyncio.Event()

    def suffices(self, model_id: str, size: int) -> bool:
        """Whether ``size`` bytes may be written for the model without asking again. From any thread."""
        return self._quota.size is None or self._granted.get(model_id, 0) >= size

    def takes_turn(self, model_id: str) -> bool:
        """Whether the model's download, whose size nobody told, may go on now; it has its turn until ``release``.

        One at a time: two that grow would each take the room that the other needs, and both fail. From any thread.
        """
        if self._quota.size is None:
            return True
        with self._unmeasured_guard:
            if self._unmeasured is None:
                self._unmeasured = model_id
            return self._unmeasured == model_id

    async def turn(self, model_id: str) -> None:
        """Wait for the model's turn and take it; those who wait longest come first."""
        while not self.takes_turn(model_id):
            self._released.clear()
            await self._released.wait()

    async def grant(self, model_id: str, size: int, *, at_least: bool = False) -> None:
        """Let the model's weights take ``size`` bytes in all (``at_least``: so far), after others have made way for
        them if need be.

        Raises ``ModelUnavailable`` (``quota_exceeded``) when they cannot, ``NeverFits`` whatever is freed; ``OSError``.
        """
        if self._quota.size is None:
            return
        stuck: set[str] = set()
        while not self.suffices(model_id, size):
            async with self._turn:
                if await self._make_room(model_id, size, self._quota.size, stuck, at_least):
                    self._granted[model_id] = size

    def release(self, model_id: str) -> None:
        """The model's download is over: what it left counts as it lies on the disk."""
        self._granted.pop(model_id, None)
        with self._unmeasured_guard:
            if self._unmeasured == model_id:
                self._unmeasured = None
                self._released.set()

    async def _make_room(self, model_id: str, size: int, quota: int, stuck: set[str], at_least: bool) -> bool:
        """Whether there is room now; False when another process held on to what was to go: that is ``stuck`` then."""
        in_use = {*await self._quota.in_use(), *self._busy(), *self._granted}
        granted = dict(self._granted)
        held = await asyncio.to_thread(self._held, model_id, in_use, granted)
        held = [replace(each, in_use=each.in_use or each.path in stuck) for each in held]
        answer = make_room(model_id, size, held, quota, at_least=at_least)
        if isinstance(answer, NoRoom):
            raise ModelUnavailable(answer.reason, code=EXCEEDED) if answer.ever else NeverFits(answer.reason)
        for each in answer.evict:
            if not await self._evict(each, answer.reason):
                stuck.add(each.path)
        return stuck.isdisjoint(each.path for each in answer.evict)

    async def _evict(self, doomed: Held, reason: str) -> bool:
        """Delete it; False when it is still there, since another process is at work on it."""
        path = Path(doomed.path)
        models: tuple[str, ...] = ()
        if path.parent == self._partial:
            await in_thread(lambda _: partial.discard(path))
        else:
            models = await in_thread(lambda _: self._index.evict(path))
        for model_id in models:
            self._forget(model_id)
        if path.exists():
            return False
        structlog.get_logger(__name__).info("models.evicted", path=doomed.path, models=models, reason=reason)
        for model_id in models:
            await self._quota.evicted(model_id, reason)
        return True

    def _held(self, asking: str, in_use: set[str], granted: dict[str, int]) -> list[Held]:
        """Everything in the cache's folder but what is on its way for ``asking``. Blocks."""
        found: dict[str, Held] = {}
        for path in self._blobs.iterdir():
            with suppress(FileNotFoundError):  # another process removed it just now
                status = path.stat()
                found[str(path)] = Held(str(path), (), status.st_size, status.st_mtime)
        for model_id, entry in self._index.read().items():
            blob = found.get(entry.path)
            if blob is not None and not entry.in_place:
                used = max(blob.used_at if blob.models else 0.0, entry.used_at or blob.used_at)
                found[entry.path] = replace(blob, models=(*blob.models, model_id), used_at=used)
        held = [replace(each, in_use=not in_use.isdisjoint(each.models)) for each in found.values()]
        owners = {partial.folder_name(model_id): model_id for model_id in in_use}
        for folder in self._partial.iterdir():
            owner = owners.get(folder.name)
            if owner == asking:
                continue
            with suppress(FileNotFoundError):  # its download is complete just now
                size, used = partial.size_of(folder), folder.stat().st_mtime
                held.append(Held(str(folder), () if owner is None else (owner,), size, used, in_use=owner is not None))
        return [*held, *self._on_their_way(held, granted, asking)]

    def _on_their_way(self, held: Sequence[Held], granted: Mapping[str, int], asking: str) -> list[Held]:
        """What was granted and has not arrived yet."""
        folders = [each for each in held if Path(each.path).parent == self._partial]
        arrived = {each.models[0]: each.size for each in folders if each.models}
        return [
            Held(f"granted to {model_id}", (model_id,), size - arrived.get(model_id, 0), 0.0, in_use=True)
            for model_id, size in granted.items()
            if model_id != asking and size > arrived.get(model_id, 0)
        ]


class Watch:
    """The reports of one download, held against the room that it was granted.

    A size that is known is granted before the bytes come: the download is broken off by ``RoomNeeded`` and taken up
    again. Where it is unknown, room is made while they come, for one download at a time: others are broken off by
    ``TurnNeeded`` before their first byte. A refusal ends the download.
    """

    def __init__(self, keeper: Keeper, model_id: str, report: Report, *, unlimited: bool) -> None:
        self._keeper = keeper
        self._unlimited = unlimited
        self._model_id = model_id
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        self._refusal: Exception | None = None
        self.arrived = 0
        """Bytes that have arrived, at most, in all attempts."""
        self.unmeasured = False
        """Whether bytes came of a size that nobody told."""

    def __call__(self, done: int, total: int | None) -> None:
        """Pass a report on (from any thread). Raises ``RoomNeeded``, ``TurnNeeded``, and a refusal of room."""
        self.arrived = max(self.arrived, done)
        if self._refusal is not None:
            raise self._refusal
        if self._unlimited:
            self._report(done, total)
            return
        if total is not None and not self._keeper.suffices(self._model_id, total):
            raise RoomNeeded(total)
        granted = self._keeper.suffices(self._model_id, max(1, done))
        if total is None and not granted and not self._keeper.takes_turn(self._model_id):
            raise TurnNeeded
        if total is None and not self._keeper.suffices(self._model_id, done):
            self.unmeasured = True
            self._loop.call_soon_threadsafe(self._ask, done)
        self._report(done, total)

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _ask(self, size: int) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._grant(size))

    async def _grant(self, size: int) -> None:
        try:
            await self._keeper.grant(self._model_id, size, at_least=True)
        except (RoostError, OSError) as error:
            self._refusal = error
