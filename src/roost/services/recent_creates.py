"""Creates that a client may ask for again because it did not get the answer. Called by the API.

In memory, for ``WINDOW``: a restart of the control plane forgets them. It decides which create is meant; it makes no
endpoint itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from roost.domain.errors import BadRequest

WINDOW = timedelta(minutes=10)

Gone = Callable[[], Awaitable[bool]]
"""Tells whether the client that asked has hung up."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to create. ``fingerprint`` stands for the body; ``attempt`` is the client's own word how often it
    asked before; ``idempotency_key`` the client's name for the wish, if it has one."""

    key_id: str
    fingerprint: str
    attempt: int
    idempotency_key: str | None
    gone: Gone


@dataclass(slots=True, eq=False)
class _Create:
    """``ask`` is the latest request that means it: the one whose answer counts."""

    ask: Ask
    at: datetime
    task: asyncio.Task[str]


@dataclass(slots=True)
class RecentCreates:
    """The creates of the last ten minutes whose answers may not have arrived, and those with an ``Idempotency-Key``."""

    now: Callable[[], datetime]
    _creates: list[_Create] = field(default_factory=list)

    async def once(self, ask: Ask, create: Callable[[], Coroutine[Any, Any, str]]) -> tuple[str, bool]:
        """The id of the endpoint that ``ask`` means, and whether it is a new one.

        A repeated ``Idempotency-Key`` means the first one's endpoint. Without it, a retry means a create of the same
        key and body whose answer has not arrived: its client has hung up, or this is a later attempt (a hang-up is
        noticed late). Of several, each retry gets its own. Otherwise ``create`` makes a new one, and goes on when the
        client hangs up. Raises what ``create`` raises, and ``BadRequest`` for an ``Idempotency-Key`` that came with
        another body before.
        """
        since = self.now() - WINDOW
        self._creates = [entry for entry in self._creates if entry.at >= since]
        earlier = await self._earlier(ask)
        if earlier is not None:
            return await asyncio.shield(earlier.task), False
        task = asyncio.create_task(create())
        entry = _Create(ask, self.now(), task)
        self._creates.append(entry)
        task.add_done_callback(partial(self._ended, entry))
        return await asyncio.shield(task), True

    async def answered(self, ask: Ask, endpoint_id: str) -> None:
        """The answer to ``ask`` has been written to its last byte: unless the client has hung up, or a retry has taken
        over, no retry will ask for it."""
        if not await ask.gone():
            self._creates = [
                e for e in self._creates if e.ask.idempotency_key or e.ask is not ask or not _made(e, endpoint_id)
            ]

    def forget(self, endpoint_id: str) -> None:
        """The endpoint was deleted: no later request means it."""
        self._creates = [entry for entry in self._creates if not _made(entry, endpoint_id)]

    async def _earlier(self, ask: Ask) -> _Create | None:
        mine = [entry for entry in self._creates if entry.ask.key_id == ask.key_id]
        if ask.idempotency_key is not None:
            named = next((e for e in mine if e.ask.idempotency_key == ask.idempotency_key), None)
            if named is not None and named.ask.fingerprint != ask.fingerprint:
                raise BadRequest(
                    "This Idempotency-Key was used for another request: choose a new one.",
                    param="Idempotency-Key",
                    code="idempotency_key_reused",
                )
            return named
        if ask.attempt == 0:
            return None
        same = [e for e in mine if e.ask.fingerprint == ask.fingerprint and e.ask.idempotency_key is None]
        for entry in same:
            last = entry.ask
            # Looked at again after the wait: it may have been answered, or taken by another retry, meanwhile.
            if await last.gone() and entry.ask is last and entry in self._creates:
                entry.ask = ask
                return entry
        # None is known to be lost. Attempts count up, so one that is not later repeats something else.
        taken = next((e for e in same if e.ask.attempt < ask.attempt and e in self._creates), None)
        if taken is not None:
            taken.ask = ask
        return taken

    def _ended(self, entry: _Create, task: asyncio.Task[str]) -> None:
        # Nothing was made: the next request, retry or not, tries anew.
        if task.cancelled() or task.exception() is not None:
            self._creates = [other for other in self._creates if other is not entry]


def _made(entry: _Create, endpoint_id: str) -> bool:
    done = entry.task.done() and not entry.task.cancelled() and entry.task.exception() is None
    return done and entry.task.result() == endpoint_id
