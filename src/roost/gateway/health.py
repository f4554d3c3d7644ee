"""The gateway's own pages: readiness, and the metrics of all workers followed by those of the control plane.

Called by ``gateway``. It must never show to anybody but an admin which endpoints there are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from roost._version import __version__
from roost.domain.key import Role
from roost.gateway import counters, meters
from roost.gateway.admission import NO_KEY
from roost.gateway.answers import Refusal
from roost.gateway.http1 import ResponseHead
from roost.gateway.request import Request
from roost.gateway.upstream import Connection

if TYPE_CHECKING:
    from roost.gateway.front import Front
    from roost.gateway.gateway import Gateway

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def ready(gateway: Gateway, front: Front, request: Request) -> None:
    """Answer /readyz: 200 with a table that is fresh enough, else 503 and why; 503 too while it or the server goes."""
    table, link = gateway.books.table, gateway.link
    age = max(0.0, gateway.wall() - gateway.confirmed_at) if gateway.confirmed_at is not None else None
    reason = None
    if gateway.draining:
        reason = "draining"
    elif table is None:
        reason = "no routing table yet"
    elif table.shutting_down:
        reason = "the server is shutting down"
    elif age is None or age > gateway.settings.max_staleness_s:
        reason = "the routing table is stale: the control plane has been away too long"
    body = {
        "status": "ok" if reason is None else "unavailable",
        "reason": reason,
        "version": __version__,
        "control_connected": link is not None and link.connected,
        "table": None
        if table is None
        else {
            "installation": table.installation,
            "term": table.term,
            "version": table.version,
            "age_seconds": round(age, 3) if age is not None else None,
        },
    }
    front.reply(request, 200 if reason is None else 503, orjson.dumps(body), outcome=reason or "completed")


class MetricsPage:
    """Answers /metrics: fetches the control plane's part, goes without it when that cannot be reached or takes more
    than ``Gateway.metrics_patience_s``. Numbers by endpoint are for an admin's key; anybody else gets their sums."""

    __slots__ = (
        "_by_endpoint",
        "_connection",
        "_done",
        "_front",
        "_gateway",
        "_pieces",
        "_request",
        "_status",
        "_task",
        "_timer",
        "sent",
    )

    def __init__(self, gateway: Gateway, front: Front, request: Request) -> None:
        self._gateway = gateway
        self._front = front
        self._request = request
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []
        self._status = 0
        self._done = False
        self._by_endpoint = False
        self.sent = 0

    def begin(self) -> None:
        """Look who asks, then ask the control plane."""
        key = self._gateway.authenticate(self._request.headers.get(b"authorization"))
        if isinstance(key, Refusal) and key is not NO_KEY:
            # Less than the key once gave would be read as "nothing happens".
            self._done = True
            self._front.answer(self._request, key)
            return
        self._by_endpoint = not isinstance(key, Refusal) and key.role == Role.ADMIN
        self._task = self._gateway.loop.create_task(self._connect())
        self._timer = self._gateway.loop.call_later(self._gateway.metrics_patience_s, self._too_slow)

    def _too_slow(self) -> None:
        # Its socket takes connections while it is being started anew, or is stuck.
        self._status = 0
        self._let_go()
        self._answer()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def _connect(self) -> None:
        try:
            connection = await self._gateway.control_pool.connect()
        except OSError:
            self._answer()
            return
        if self._done:
            connection.abort()
            return
        self._connection = connection
        authorization = self._request.headers.get(b"authorization")
        key = b"authorization: %b\r\n" % authorization if authorization is not None else b""
        connection.send(
            self,
            b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n%bx-request-id: %b\r\n\r\n"
            % (key, self._request.id),
        )

    def _answer(self) -> None:
        if self._done:
            return
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
        self._gateway.publish()
        page = counters.render(counters.read_all(self._gateway.settings.run_dir))
        page += meters.render(meters.read_all(self._gateway.settings.run_dir), by_endpoint=self._by_endpoint)
        if self._status == 200:
            page += b"".join(self._pieces)
        self._front.reply(self._request, 200, page, content_type=METRICS_TYPE)

    def on_head(self, head: ResponseHead) -> bool:
        """The control plane answers."""
        self._status = head.status
        return False

    def on_body(self, data: bytes) -> None:
        """A part of its metrics."""
        self._pieces.append(data)

    def on_end(self) -> None:
        """All of its metrics."""
        self._answer()

    def on_lost(self, reason: str, *, stale: bool) -> None:
        """It went away: half a page is worse than none."""
        self._status = 0
        self._answer()

    def on_upstream_full(self) -> None:
        """The request is tiny."""

    def on_upstream_drained(self) -> None:
        """See ``on_upstream_full``."""

    def on_client_full(self) -> None:
        """The page is written at once."""

    def on_client_drained(self) -> None:
        """See ``on_client_full``."""

    def on_request_body(self) -> None:
        """A body is ignored."""

    def abort(self) -> None:
        """The client is gone."""
        self._done = True
        self._let_go()
        self._gateway.account(self._request, 499, 0, "client_hung_up")
