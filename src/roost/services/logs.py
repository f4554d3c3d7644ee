"""What the engines of an endpoint say: its replicas' output, once or as it comes. Called by the API.

It shows lines as runtimes kept them, which is by the rule that the engine declares (``ProcessSpec.output``).

Those who follow one endpoint share its looks: however many they are, the store and the replicas are asked once. What a
follower has shown is its own, so that a slow one holds up nobody, and nothing waits for it: it misses lines.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from roost.domain.endpoint import Endpoint
from roost.domain.errors import BadRequest, NotFound, TooManyRequests
from roost.domain.log import ReplicaLog
from roost.policy import logs as policy
from roost.services.access import Principal
from roost.services.endpoints import EndpointService, endpoint_missing
from roost.store.base import Store

MAX_TAIL = 10_000
WINDOW = 500
"""Lines of each replica that are looked at between two looks of ``follow``."""
POLL_S = 0.5
CHECK_EVERY = timedelta(seconds=3)
"""How long a follower that may not follow any more, because its key was revoked say, can go on."""
MAX_FOLLOWED = 16
"""Streams of ``follow`` that one key may have open at once."""
EVENTS = 50
"""Events of an endpoint among which its last failure is looked for."""

LogsOf = Callable[[str, int], Awaitable[Sequence[ReplicaLog]]]
"""For an endpoint's id and a number of lines: the last of each of its replicas, in the order in which they began."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What the replicas of an endpoint said last, as one look found it. Most followers have shown the same before, so
    what is new is told once for all of them. ``last``: the endpoint was deleted meanwhile."""

    logs: Sequence[ReplicaLog]
    last: bool
    _told: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = field(default_factory=dict)

    def fresh(self, log: ReplicaLog, shown: tuple[str, ...]) -> tuple[str, ...]:
        """The lines of ``log``, one of ``logs``, that come after those ``shown``."""
        key = (log.replica_id, shown)
        if key not in self._told:
            self._told[key] = tuple(policy.fresh(shown, log.lines))
        return self._told[key]


@dataclass(frozen=True, slots=True)
class LogService:
    """Use cases of engines' output. ``wait`` passes the time (seconds) between two looks."""

    endpoints: EndpointService
    store: Store
    logs_of: LogsOf
    now: Callable[[], datetime]
    wait: Callable[[float], Awaitable[None]]
    _looks: dict[str, asyncio.Task[_Look]] = field(default_factory=dict, init=False)
    """The look of each followed endpoint that is still to come."""
    _followed: Counter[str] = field(default_factory=Counter, init=False)
    """Open streams by key."""

    async def tail(
        self, principal: Principal, id_or_name: str, *, replica: str | None = None, tail: int = 200
    ) -> Sequence[ReplicaLog]:
        """The last ``tail`` lines of each replica that runs, of the last one that ended when none does, or of the
        one called ``replica``.

        Raises ``NotFound`` for an endpoint that the principal may not see or a replica of which nothing is kept,
        ``BadRequest`` for a ``tail`` that is out of bounds.
        """
        _check(tail)
        endpoint = await self.endpoints.get(principal, id_or_name)
        return _chosen(await self._all(endpoint, tail), replica, tail)

    async def follow(
        self, asks: Callable[[], Awaitable[Principal]], id_or_name: str, *, replica: str | None = None, tail: int = 200
    ) -> AsyncGenerator[Sequence[ReplicaLog]]:
        """What ``tail`` gives, then what is new every ``POLL_S`` seconds (often nothing), of replicas that come later,
        too. Goes on while the endpoint is stopped, ends when it is deleted.

        ``asks`` tells who asks, at first and every ``CHECK_EVERY``. The failures of ``tail`` are raised by the first
        step, and ``TooManyRequests`` for a key with ``MAX_FOLLOWED`` streams. Later ones raise what ``asks`` raises,
        and ``NotFound`` and ``PermissionDenied`` once the one who asks may not see the endpoint any more.
        """
        _check(tail)
        principal = await asks()
        endpoint = await self.endpoints.get(principal, id_or_name)
        with self._counted(principal.key_id):
            async for batch in self._lines(asks, endpoint, replica, tail):
                yield batch

    async def _lines(
        self, asks: Callable[[], Awaitable[Principal]], endpoint: Endpoint, replica: str | None, tail: int
    ) -> AsyncGenerator[Sequence[ReplicaLog]]:
        checked = self.now()
        found = await self._all(endpoint, max(tail, WINDOW))
        shown = {log.replica_id: log.lines for log in found}
        yield _chosen(found, replica, tail)
        last = not await self._exists(endpoint.id)
        while not last:
            look = await self._next_look(endpoint.id)
            last = look.last
            # However much is said. A clock that was set back must not put the check off.
            if abs(self.now() - checked) >= CHECK_EVERY:
                _admit(await asks(), endpoint)
                checked = self.now()
            news = []
            for log in look.logs:
                lines = look.fresh(log, shown.get(log.replica_id, ()))
                shown[log.replica_id] = log.lines or shown.get(log.replica_id, ())
                if lines and replica in (None, log.replica_id):
                    news.append(ReplicaLog(log.replica_id, lines, log.ended))
            yield news

    @contextmanager
    def _counted(self, key_id: str) -> Iterator[None]:
        """One more stream of the key while it is entered. Raises ``TooManyRequests``."""
        if self._followed[key_id] >= MAX_FOLLOWED:
            raise TooManyRequests(
                f"This key has {MAX_FOLLOWED} streams of logs open: end one of them, or follow with another key.",
                code="too_many_streams",
            )
        self._followed[key_id] += 1
        try:
            yield
        finally:
            self._followed[key_id] -= 1
            if not self._followed[key_id]:
                del self._followed[key_id]

    async def _next_look(self, endpoint_id: str) -> _Look:
        """The next look at what the endpoint's replicas say, ``POLL_S`` after the one before at the earliest."""
        task = self._looks.get(endpoint_id)
        if task is None:
            task = self._looks[endpoint_id] = asyncio.create_task(self._look(endpoint_id))
            # Its failure is for those who wait for it, who may all have gone.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # One that hangs up must not end the look of the others.
        return await asyncio.shield(task)

    async def _look(self, endpoint_id: str) -> _Look:
        try:
            await self.wait(POLL_S)
        finally:
            # Who comes from now on has to be told of what is said from now on.
            del self._looks[endpoint_id]
        logs = await self.logs_of(endpoint_id, WINDOW)
        return _Look(logs, last=not await self._exists(endpoint_id))

    async def _exists(self, endpoint_id: str) -> bool:
        found = await self.store.endpoint(endpoint_id)
        return found is not None and found.deleted_at is None

    async def _all(self, endpoint: Endpoint, tail: int) -> Sequence[ReplicaLog]:
        found = await self.logs_of(endpoint.id, tail)
        return found or await self._last_failure(endpoint, tail)

    async def _last_failure(self, endpoint: Endpoint, tail: int) -> list[ReplicaLog]:
        """The end of the output of the replica that failed last, as its event tells it: a server that was started anew
        knows no more."""
        events = await self.store.events(endpoint_id=endpoint.id, after=0, limit=EVENTS, newest_first=True)
        for event in events:
            lines = event.data.get("log_tail", "")
            if event.kind == "replica.failed" and event.replica_id is not None and lines:
                return [ReplicaLog(event.replica_id, tuple(lines.split("\n")[-tail:] if tail else ()), ended=True)]
        return []


def _admit(principal: Principal, endpoint: Endpoint) -> None:
    """Raises ``PermissionDenied`` and ``NotFound`` for a principal that may not see the endpoint."""
    principal.require_control()
    if not principal.may_use(endpoint.id, endpoint.owner):
        raise endpoint_missing(endpoint.id)


def _check(tail: int) -> None:
    if not 0 <= tail <= MAX_TAIL:
        raise BadRequest(f"tail must be 0 to {MAX_TAIL}.", param="tail")


def _chosen(found: Sequence[ReplicaLog], replica: str | None, tail: int) -> Sequence[ReplicaLog]:
    """The logs to show, each with its last ``tail`` lines. Raises ``NotFound``."""
    chosen = policy.chosen(found, replica)
    if replica is not None and not chosen:
        known = ", ".join(log.replica_id for log in found) or "none"
        raise NotFound(
            f"No output of the replica {replica[:300]} is kept. Kept are: {known}.",
            param="replica",
            code="replica_not_found",
        )
    return [replace(log, lines=log.lines[-tail:] if tail else ()) for log in chosen]
