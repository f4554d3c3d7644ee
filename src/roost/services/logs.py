"""What the engines of an endpoint say: its replicas' output, once or as it comes. Called by the API.

It shows lines as the engine wrote them. Engines are started so that they write neither prompts nor keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from roost.domain.endpoint import Endpoint
from roost.domain.errors import BadRequest, NotFound
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
EVENTS = 50
"""Events of an endpoint among which its last failure is looked for."""

LogsOf = Callable[[str, int], Awaitable[Sequence[ReplicaLog]]]
"""For an endpoint's id and a number of lines: the last of each of its replicas, in the order in which they began."""


@dataclass(frozen=True, slots=True)
class LogService:
    """Use cases of engines' output. ``wait`` passes the time (seconds) between two looks."""

    endpoints: EndpointService
    store: Store
    logs_of: LogsOf
    now: Callable[[], datetime]
    wait: Callable[[float], Awaitable[None]]

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
    ) -> AsyncIterator[Sequence[ReplicaLog]]:
        """What ``tail`` gives, then what is new every ``POLL_S`` seconds (often nothing), of replicas that come later,
        too. Goes on while the endpoint is stopped, ends when it is deleted.

        ``asks`` tells who asks, at first and every ``CHECK_EVERY``. The failures of ``tail`` are raised by the first
        step; later ones raise what ``asks`` raises, and ``NotFound`` and ``PermissionDenied`` as soon as the one who
        asks may not see the endpoint any more.
        """
        _check(tail)
        endpoint = await self.endpoints.get(await asks(), id_or_name)
        checked = self.now()
        found = await self._all(endpoint, max(tail, WINDOW))
        shown = {log.replica_id: log.lines for log in found}
        yield _chosen(found, replica, tail)
        while await self._exists(endpoint):
            await self.wait(POLL_S)
            # However much is said. A clock that was set back must not put the check off.
            if abs(self.now() - checked) >= CHECK_EVERY:
                _admit(await asks(), endpoint)
                checked = self.now()
            news = []
            for log in await self.logs_of(endpoint.id, WINDOW):
                lines = tuple(policy.fresh(shown.get(log.replica_id, ()), log.lines))
                shown[log.replica_id] = log.lines or shown.get(log.replica_id, ())
                if lines and replica in (None, log.replica_id):
                    news.append(ReplicaLog(log.replica_id, lines, log.ended))
            yield news

    async def _exists(self, endpoint: Endpoint) -> bool:
        found = await self.store.endpoint(endpoint.id)
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
