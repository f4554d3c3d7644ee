"""Everything that is not inference, relayed to the control plane over its unix socket, both ways, as it comes.

Created by ``gateway`` for each such request. It must never send a request twice that may have been carried out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from roost.domain.creation import DELIVERY_HEADER
from roost.gateway import counters
from roost.gateway.answers import Refusal, connection_line
from roost.gateway.deliveries import Delivery
from roost.gateway.http1 import LAST_CHUNK, BrokenResponse, ResponseHead, chunk
from roost.gateway.request import Request
from roost.gateway.shaping import Reframed
from roost.gateway.upstream import Connection, Pool

if TYPE_CHECKING:
    from roost.gateway.front import Front
    from roost.gateway.gateway import Gateway

MAX_WAITING = 256 * 1024
"""Bytes of a request's body that wait for the control plane before reading from the client stops."""
RETRY_AFTER_S = 0.25
RETRY_AFTER_STEPS_S = (1, 2, 5, 10, 30)
"""What ``retry-after`` says while the control plane is away, the last at most: its longest pause between two starts."""
_LOST = Refusal(
    502, "The control plane is restarting: it went away before it answered.", "control_plane_lost", retry_after=1
)

_SAFE = (b"GET", b"HEAD", b"OPTIONS")
_DELIVERY = DELIVERY_HEADER.encode()
_OWN_HEADERS = frozenset(
    b"connection keep-alive proxy-connection upgrade te trailer transfer-encoding content-length expect x-request-id "
    b"http2-settings".split()
) | {_DELIVERY}


def unreachable(away_s: float) -> Refusal:
    """The refusal while the control plane has been away for ``away_s`` seconds: as long again, in steps. One that
    crashes again and again is started after longer and longer pauses."""
    retry_after = max(step for step in RETRY_AFTER_STEPS_S if step <= max(away_s, RETRY_AFTER_STEPS_S[0]))
    message = "The control plane is restarting. Try again in a moment."
    # Nothing of it was sent, so that anything may be repeated.
    return Refusal(503, message, "control_plane_restarting", retry_after=retry_after, should_retry=True)


class Relay:
    """One relayed request."""

    __slots__ = (
        "_connection",
        "_delivery",
        "_done",
        "_ended",
        "_front",
        "_full",
        "_gateway",
        "_key_id",
        "_pool",
        "_reframed",
        "_request",
        "_status",
        "_task",
        "_tries",
        "sent",
    )

    def __init__(self, gateway: Gateway, front: Front, request: Request) -> None:
        self._gateway = gateway
        self._front = front
        self._request = request
        self._pool: Pool = gateway.control_pool
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._reframed: Reframed | None = None
        self._delivery: Delivery | None = None
        self._key_id: str | None = None
        self._tries = 0
        self.sent = 0
        self._status = 0
        self._full = False
        self._done = False
        self._ended = False

    def begin(self) -> None:
        """Send the request, or what there is of it, if there is room for one more."""
        key = self._gateway.authenticate(self._request.headers.get(b"authorization"))
        key_id = ""
        if not isinstance(key, Refusal):
            self._request.key, key_id = key, key.id  # for the log; whether it may is the control plane's to say
        crowded = self._gateway.relay_room.enter(key_id)
        if crowded is not None:
            self._refuse(crowded)
            return
        self._key_id = key_id
        # A kept connection may be closing at this moment, and only harmless requests can be repeated.
        connection = self._pool.take() if self._repeatable() else None
        if connection is not None:
            self._write_head(connection)
        else:
            self._task = self._gateway.loop.create_task(self._connect())

    def _repeatable(self) -> bool:
        request = self._request
        return request.method in _SAFE and not request.length and not request.chunked

    async def _connect(self) -> None:
        while True:
            self._tries += 1
            try:
                connection = await self._pool.connect()
                break
            except OSError:
                if self._done:
                    return
                if self._tries > 1 or not self._repeatable():
                    gateway = self._gateway
                    # A table on disk may be of yesterday's server; today's control plane is only just starting.
                    last_word = max(gateway.began_at, gateway.confirmed_at or 0.0)
                    self._refuse(unreachable(gateway.wall() - last_word))
                    return
            await asyncio.sleep(RETRY_AFTER_S)
        self._task = None
        if self._done:
            self._pool.put(connection)
        else:
            self._write_head(connection)

    def _write_head(self, connection: Connection) -> None:
        self._connection = connection
        request = self._request
        lines = [b"%b %b HTTP/1.1\r\n" % (request.method, request.target)]
        unwanted: frozenset[bytes] | set[bytes] = _OWN_HEADERS
        connection_header = request.headers.get(b"connection")
        if connection_header is not None:
            unwanted = _OWN_HEADERS | {token.strip().lower() for token in connection_header.split(b",")}
        lines += [b"%b: %b\r\n" % item for item in request.headers.items() if item[0] not in unwanted]
        lines.append(b"x-request-id: %b\r\n" % request.id)
        if request.method == b"POST":
            # Repeated, it would do its work twice: the control plane is told whether the client got the answer.
            name = self._gateway.next_id()
            self._delivery = Delivery(self._gateway, self._front.transport, name.decode())
            lines.append(b"%b: %b\r\n" % (_DELIVERY, name))
        if request.chunked:
            lines.append(b"transfer-encoding: chunked\r\n\r\n")
        elif b"content-length" in request.headers:
            lines.append(b"content-length: %d\r\n\r\n" % request.length)
        else:
            lines.append(b"\r\n")
        connection.send(self, b"".join(lines), no_body=request.method == b"HEAD")
        if self._front.full:
            connection.pause_reading()
        self.on_request_body()

    def on_request_body(self) -> None:
        """More of the request's body is there, or its end."""
        request, connection = self._request, self._connection
        if connection is None or self._full:
            if sum(map(len, request.body)) > MAX_WAITING:
                self._front.hold_body()
            return
        data = b"".join(request.body)
        request.body.clear()
        if data:
            connection.write(chunk(data) if request.chunked else data)
        if request.complete and request.chunked and not self._ended:
            self._ended = True
            connection.write(LAST_CHUNK)
        self._front.release_body()

    def on_upstream_full(self) -> None:
        """The control plane reads slowly."""
        self._full = True

    def on_upstream_drained(self) -> None:
        """It has caught up."""
        self._full = False
        self.on_request_body()

    def on_head(self, head: ResponseHead) -> bool:
        """The control plane's head."""
        request = self._request
        self._status = head.status
        close = request.close or self._gateway.draining or not request.complete
        framed = head.length >= 0 or (head.chunked and not request.http10) or head.status in (204, 304)
        raw = framed or request.method == b"HEAD"
        ending = b""
        if not raw:
            self._reframed = Reframed(chunked=not request.http10)
            close = request.close = request.close or request.http10
            ending = b"" if request.http10 else b"transfer-encoding: chunked\r\n"
        self._write(
            b"HTTP/1.1%b\r\n%b%b%bx-request-id: %b\r\n\r\n"
            % (
                head.relayed(framed=raw),
                ending,
                self._gateway.marks,
                connection_line(close, request.http10),
                request.id,
            )
        )
        return raw

    def _write(self, data: bytes) -> None:
        self.sent += len(data)
        self._front.transport.write(data)

    def on_body(self, data: bytes) -> None:
        """A part of the control plane's body."""
        if self._reframed is not None:
            try:
                data = self._reframed.feed(data)
            except BrokenResponse as error:
                self.on_lost(str(error), stale=False)
                return
        self._write(data)

    def on_end(self) -> None:
        """The answer is complete."""
        if self._reframed is not None:
            self._write(self._reframed.end())
        if not self._request.complete and self._connection is not None:
            # Answered before the request's end: the rest must not be taken for another request.
            self._connection.abort()
        if self._delivery is not None:
            if self._status < 300 and self._request.complete:
                self._front.delivery = self._delivery
                self._delivery.written()
            else:
                self._delivery.lost()
        self._finish(self._status, "completed")

    def on_lost(self, reason: str, *, stale: bool) -> None:
        """The connection broke."""
        self._connection = None
        self._gateway.cells[counters.FAILURES] += 1
        if self._delivery is not None:
            self._delivery.lost()
        if self.sent:
            self._front.transport.abort()
            self._finish(self._status, "broken_off")
        elif self._repeatable() and self._tries <= 1:
            self._gateway.cells[counters.RETRIES] += 1
            self._task = self._gateway.loop.create_task(self._connect())
        else:
            self._refuse(_LOST)

    def _over(self) -> None:
        self._done = True
        if self._key_id is not None:
            self._gateway.relay_room.leave(self._key_id)
            self._key_id = None

    def _refuse(self, refusal: Refusal) -> None:
        self._over()
        self._task = None
        self._front.answer(self._request, refusal)

    def _finish(self, status: int, outcome: str) -> None:
        self._over()
        self._gateway.account(self._request, status, self.sent, outcome)
        self._front.finished(self._request)

    def on_client_full(self) -> None:
        """The client reads slowly."""
        if self._connection is not None:
            self._connection.pause_reading()

    def on_client_drained(self) -> None:
        """The client has caught up."""
        if self._connection is not None:
            self._connection.resume_reading()

    def abort(self) -> None:
        """The client is gone, or is refused in the middle of its body: then the refusal is what is logged."""
        if self._done:
            return
        self._over()
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.abort()
        if self._delivery is not None:
            self._delivery.lost()
        if self._request.refusal is None:
            self._gateway.cells[counters.ABORTS] += 1
            self._gateway.account(self._request, 499, self.sent, "client_hung_up")
