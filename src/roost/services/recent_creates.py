"""Creates that a client may ask for again because it did not get the answer. Called by the API.

Kept in memory, and in the store for the next control plane. ``policy.creates`` decides which create is meant; this
gathers what is known of the answers, waits for news, and makes no endpoint itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import structlog

from roost.domain.creation import Creation, Delivery, Wish
from roost.domain.errors import BadRequest, NotReady
from roost.policy.creates import NEWS, WINDOW, Make, Means, Wait, meant
from roost.store.base import Store

MAX_IDEMPOTENCY_KEY = 255

log = structlog.get_logger(__name__)

Gone = Callable[[], Awaitable[bool]]
"""Tells whether the client that asked has hung up."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish with its connection: ``gone`` holds until the answer was written. ``tracked``: a gateway stands between,
    and tells later what became of the answer."""

    wish: Wish
    gone: Gone
    tracked: bool = False


@dataclass(slots=True, eq=False)
class _Entry:
    """A creation; ``task`` makes it (None: another process did), ``gone`` is None once the last answer was written."""

    creation: Creation
    task: asyncio.Task[str] | None = None
    gone: Gone | None = None


@dataclass(slots=True)
class RecentCreates:
    """The creates of the last ten minutes whose answers may not have arrived, and those with an ``Idempotency-Key``.

    ``news`` is how long a retry waits for news of an answer.
    """

    store: Store
    now: Callable[[], datetime]
    news: timedelta = NEWS
    _latest: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)
    _entries: list[_Entry] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def load(self) -> None:
        """Take over what the control plane before this one knew. Its gateways may still tell of its answers."""
        now = self._time()
        for creation in await self.store.creations(now - WINDOW):
            if creation.delivery is not Delivery.DELIVERED or creation.wish.idempotency_key is not None:
                self._entries.append(_Entry(replace(creation, told_at=now)))

    async def once(self, ask: Ask, create: Callable[[], Coroutine[Any, Any, str]]) -> tuple[str, bool]:
        """The id of the endpoint that ``ask`` means, and whether it is a new one; see ``policy.creates.meant``.

        ``create`` makes a new one, and goes on when the client hangs up. Raises what it raises, and ``BadRequest`` for
        an ``Idempotency-Key`` that is too long or came with another body before.
        """
        asked_at = self._time()
        self._check(ask.wish)
        earlier = await self._earlier(ask, asked_at)
        if earlier is None:
            task = asyncio.create_task(create())
            entry = _Entry(Creation(None, ask.wish, asked_at, self._time()), task, ask.gone)
            self._entries.append(entry)
            task.add_done_callback(partial(self._ended, entry))
            return await asyncio.shield(task), True
        if earlier.task is not None:
            await asyncio.shield(earlier.task)
        await self._remember(earlier)
        assert earlier.creation.endpoint_id is not None
        return earlier.creation.endpoint_id, False

    async def answered(self, ask: Ask) -> None:
        """The answer to ``ask`` has been written to its last byte. Without a gateway between, that is all there is to
        know: unless the client has hung up, or a retry has taken over, no retry will ask for it."""
        is_gone = await ask.gone()
        entry = self._answer(ask.wish.answer)
        if entry is None:
            return
        entry.gone = None
        delivery = entry.creation.delivery
        if not ask.tracked:
            delivery = Delivery.LOST if is_gone else Delivery.DELIVERED
        elif is_gone and delivery is Delivery.UNDER_WAY:
            delivery = Delivery.LOST
        # A gateway that has told of the answer knows better than the connection to it.
        await self._learn(entry, delivery)

    async def told(self, answer: str, delivery: Delivery) -> None:
        """A gateway tells what became of an answer, in the order in which it learnt it. An answer that nothing is known
        of, or that no longer counts, is ignored."""
        entry = self._answer(answer)
        if entry is not None and entry.creation.delivery is not delivery:
            await self._learn(entry, delivery)

    def forget(self, endpoint_id: str) -> None:
        """The endpoint was deleted: no later request means it."""
        self._keep(lambda entry: entry.creation.endpoint_id != endpoint_id)

    async def _earlier(self, ask: Ask, asked_at: datetime) -> _Entry | None:
        """The creation that ``ask`` means, taken over by it; None when it is a wish of its own."""
        # Attempts count up, which tells something only if they are judged in the order in which they came.
        turn = self._turns.setdefault((ask.wish.key_id, ask.wish.fingerprint), asyncio.Lock())
        if not ask.wish.attempt or ask.wish.idempotency_key is not None:
            return await self._decided(ask, asked_at)
        async with turn:
            return await self._decided(ask, asked_at)

    async def _decided(self, ask: Ask, asked_at: datetime) -> _Entry | None:
        now = asked_at
        while True:
            await self._ask_clients(ask.wish)
            self._changed.clear()
            by_answer = {entry.creation.wish.answer: entry for entry in self._entries}
            creations = [entry.creation for entry in self._entries]
            decision = meant(ask.wish, creations, asked_at, max(now, self._time()), self.news)
            if isinstance(decision, Means):
                entry = by_answer[decision.creation.wish.answer]
                if entry.creation.wish.fingerprint != ask.wish.fingerprint:
                    raise BadRequest(
                        "This Idempotency-Key was used for another request: choose a new one.",
                        param="Idempotency-Key",
                        code="idempotency_key_reused",
                    )
                log.info("a create was asked for again", endpoint=decision.creation.endpoint_id, reason=decision.reason)
                self._take(entry, ask)
                return entry
            if isinstance(decision, Make):
                return None
            now = await self._news_until(decision)

    def _take(self, entry: _Entry, ask: Ask) -> None:
        entry.creation = replace(entry.creation, wish=ask.wish, delivery=Delivery.UNDER_WAY, told_at=self._time())
        entry.gone = ask.gone

    async def _news_until(self, waiting: Wait) -> datetime:
        """Wait for any news, or for the time; what the time is then at least."""
        now = self._time()
        left = None if waiting.until is None else max(0.0, (waiting.until - now).total_seconds())
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            return now if waiting.until is None else waiting.until
        return now

    async def _ask_clients(self, wish: Wish) -> None:
        """See which clients that may have asked for the same have hung up. A hang-up is noticed late otherwise."""
        for entry in list(self._entries):
            before, gone = entry.creation, entry.gone
            same = (before.wish.key_id, before.wish.fingerprint) == (wish.key_id, wish.fingerprint)
            # Looked at again after the wait: it may have been answered, or taken by another retry, meanwhile.
            if same and gone is not None and await gone() and entry.gone is gone and entry in self._entries:
                known = entry.creation.delivery
                lost = Delivery.LOST if known is Delivery.UNDER_WAY else known
                entry.creation = replace(entry.creation, delivery=lost)

    async def _learn(self, entry: _Entry, delivery: Delivery) -> None:
        entry.creation = replace(entry.creation, delivery=delivery, told_at=self._time())
        if delivery is Delivery.DELIVERED and entry.creation.wish.idempotency_key is None:
            self._keep(lambda other: other is not entry)
        self._changed.set()
        await self._remember(entry)

    async def _remember(self, entry: _Entry) -> None:
        if entry.creation.endpoint_id is None:
            return
        try:
            await self.store.update_creation(entry.creation)
        except NotReady as error:
            # What it is for, the next control plane, is the smaller part: this one knows.
            log.warning("what became of a create could not be kept", reason=error.message)

    def _time(self) -> datetime:
        """The time, which stands still while the clock is set back: what was asked for before has to stay before."""
        self._latest = max(self.now(), self._latest)
        return self._latest

    def _answer(self, answer: str) -> _Entry | None:
        return next((entry for entry in self._entries if entry.creation.wish.answer == answer), None)

    def _check(self, wish: Wish) -> None:
        if wish.idempotency_key is not None and len(wish.idempotency_key) > MAX_IDEMPOTENCY_KEY:
            raise BadRequest(
                f"An Idempotency-Key has at most {MAX_IDEMPOTENCY_KEY} characters.", param="Idempotency-Key"
            )
        since = self._time() - WINDOW
        self._keep(lambda entry: entry.creation.at >= since)

    def _keep(self, wanted: Callable[[_Entry], bool]) -> None:
        kept = [entry for entry in self._entries if wanted(entry)]
        if len(kept) < len(self._entries):
            self._entries = kept
            self._changed.set()

    def _ended(self, entry: _Entry, task: asyncio.Task[str]) -> None:
        if task.cancelled() or task.exception() is not None:
            # Nothing was made: the next request, retry or not, tries anew.
            self._keep(lambda other: other is not entry)
        else:
            entry.creation = replace(entry.creation, endpoint_id=task.result(), told_at=self._time())
            self._changed.set()
