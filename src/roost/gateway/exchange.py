"""One inference request on its way: pick a replica or hold, send, relay the answer, try again, account.

Created by ``front`` for each admitted request. It must never retry once model output has reached the client, and never
leave an upstream connection working for a client that is gone.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from roost.config import secret
from roost.gateway import admission, counters
from roost.gateway.answers import Refusal, connection_line, error_frame, response
from roost.gateway.body import encode
from roost.gateway.books import EndpointBook, ReplicaBook
from roost.gateway.classic import Adapted
from roost.gateway.http1 import LAST_CHUNK, BrokenResponse, ResponseHead, chunk
from roost.gateway.request import CHAT, COMPLETIONS, Request
from roost.gateway.shaping import Collected, Reframed, is_event_stream, splice_of
from roost.gateway.upstream import Connection
from roost.policy.balance import least_in_flight

if TYPE_CHECKING:
    from roost.gateway.front import Front
    from roost.gateway.gateway import Gateway

SUSPECT_S = 1.0
"""A replica that failed to answer gets no new requests for this long."""
STALE_S = 0.1
"""A reused connection that breaks this soon had been closed by the other side before the request came."""
QUIET_S = 15.0
"""Comments that an engine sends before its first output are kept back for this long, so that a retry stays possible."""
MAX_CRASHES = 2
"""A request present at this many crashes is not tried again: it may be what causes them."""

MAX_JOINED = 16 * 1024
"""Bodies up to this many bytes are copied behind the head, so that one write sends both."""

_PINGS = re.compile(rb"(?:[0-9A-Fa-f]+\r\n(?::[^\r\n]*(?:\r\n|\n){1,2})+\r\n)+")


class Exchange:
    """A request, its place in the queue or on a replica, and its answer so far."""

    __slots__ = (
        "_adapted",
        "_collected",
        "_connection",
        "_crashes",
        "_first",
        "_front",
        "_gateway",
        "_last",
        "_payload",
        "_pending",
        "_reframed",
        "_replica",
        "_sent_at",
        "_status",
        "_stream",
        "_task",
        "_where",
        "book",
        "deadline",
        "done",
        "request",
        "sent",
    )

    def __init__(self, gateway: Gateway, front: Front, request: Request, book: EndpointBook, adapted: Adapted) -> None:
        self._gateway = gateway
        self._front = front
        self.request = request
        self.book = book
        self._adapted = adapted
        self.deadline = self._sent_at = 0.0
        self.sent = self._status = self._crashes = 0
        self.done = self._stream = False
        self._payload = self._pending = self._last = b""
        self._replica: ReplicaBook | None = None
        self._where: str | None = None
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._first: float | None = None
        self._reframed: Reframed | None = None
        self._collected: Collected | None = None

    # ---- the way to a replica

    def begin(self, raw: bytes) -> None:
        """Send the request (``raw`` is the body as the client sent it), or hold it."""
        book, gateway = self.book, self._gateway
        book.last_at = gateway.wall()
        payload = raw if not self._adapted.changed else encode(self._adapted.body)
        if isinstance(payload, Refusal):
            self.refuse(payload)
            return
        self._payload = payload
        replica = None if book.held else self._pick()
        if replica is not None:
            self._send_to(replica)
            return
        settings = gateway.settings
        if len(book.held) >= settings.hold_limit:
            self.refuse(admission.hold_is_full(book.route, settings.hold_limit))
            return
        book.held.append(self)
        self._hold()

    def _hold(self) -> None:
        request, cells = self.request, self._gateway.cells
        seconds = admission.hold_seconds(request.announced_timeout(), self._gateway.settings.hold_timeout_s)
        self.deadline = request.started + seconds
        cells[counters.HELD] += 1

    def resume(self) -> bool:
        """Send a held request if a replica takes it now; True when it did (it is then out of the queue)."""
        replica = self._pick()
        if replica is None:
            return False
        self.book.held.popleft()
        self._send_to(replica)
        return True

    def _pick(self) -> ReplicaBook | None:
        book = self.book
        ready = book.ready
        if len(ready) == 1:
            only = ready[0]
            return only if not only.suspect_until or only.suspect_until <= self._gateway.now() else None
        now = self._gateway.now()
        able = [replica for replica in ready if replica.suspect_until <= now]
        if not able:
            return None
        book.turn += 1
        return able[least_in_flight([replica.in_flight for replica in able], book.turn)]

    def _send_to(self, replica: ReplicaBook) -> None:
        self._replica = replica
        replica.in_flight += 1
        self._gateway.cells[counters.IN_FLIGHT] += 1
        connection = replica.pool.take()
        if connection is not None:
            self._write(replica, connection)
        else:
            self._task = self._gateway.loop.create_task(self._connect(replica))

    async def _connect(self, replica: ReplicaBook) -> None:
        try:
            connection = await replica.pool.connect()
        except OSError:
            self._task = None
            if not self.done:
                self._not_reached()
            return
        self._task = None
        if self.done:
            replica.pool.put(connection)
        else:
            self._write(replica, connection)

    def _write(self, replica: ReplicaBook, connection: Connection) -> None:
        self._connection = connection
        self._where = replica.id
        self._sent_at = self._gateway.now()
        payload = self._payload
        size = len(payload)
        start = replica.heads[self.request.kind]
        name = self.book.route.api_key_env
        if name is not None:
            start += _authorization(name)
        if size <= MAX_JOINED:
            head = b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (start, self.request.id, size, payload)
            connection.send(self, head)
        else:
            head = b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (start, self.request.id, size)
            connection.send(self, head)
            connection.write(payload)
        if self._front.full:
            connection.pause_reading()

    def _not_reached(self) -> None:
        # Nothing was sent, so this counts as no crash.
        cells = self._gateway.cells
        cells[counters.FAILURES] += 1
        replica = self._leave()
        if replica is not None:
            replica.suspect_until = self._gateway.now() + SUSPECT_S
        self._again()

    def _again(self) -> None:
        refusal = self._gateway.refusal(self.book)
        if refusal is not None:
            # The endpoint has gone or stopped meanwhile, or the server stops: it would wait in the queue in vain.
            self.refuse(refusal)
            return
        self._gateway.cells[counters.RETRIES] += 1
        self._pending, self._last, self._stream = b"", b"", False
        self._reframed = self._collected = None
        replica = self._pick()
        if replica is not None:
            self._send_to(replica)
            return
        # It has waited longer than those behind it: back to the front of the queue.
        self.book.held.appendleft(self)
        self._hold()

    def _leave(self) -> ReplicaBook | None:
        replica, self._replica, self._connection = self._replica, None, None
        if replica is not None:
            replica.in_flight -= 1
            self._gateway.cells[counters.IN_FLIGHT] -= 1
            if replica.draining and replica.in_flight == 0:
                self._gateway.drained(replica)
        return replica

    # ---- the answer: what the upstream connection calls

    def on_head(self, head: ResponseHead) -> bool:
        """The upstream's head: decide how its body goes on."""
        request, adapted = self.request, self._adapted
        kind = request.kind
        self._status = status = head.status
        classic = adapted.classic and (kind is CHAT or kind is COMPLETIONS)
        shaped = classic or adapted.shape is not None or adapted.vectors is not None
        if status >= 300 or adapted.aggregate or (shaped and not adapted.stream):
            self._collected = Collected(head, adapted, chat=kind is CHAT, classic=classic)
            return False
        stream = self._stream = adapted.stream and is_event_stream(head)
        splice = splice_of(adapted) if stream and shaped else None
        framed = head.length >= 0 or (head.chunked and not request.http10)
        if framed and splice is None:
            self._pending = self._head(head, framed=True)
            return True
        if request.http10:
            request.close = True
        self._reframed = Reframed(chunked=not request.http10, splice=splice)
        head_bytes = self._head(head, framed=False)
        self._pending = head_bytes if request.http10 else head_bytes[:-2] + b"transfer-encoding: chunked\r\n\r\n"
        return False

    def _head(self, head: ResponseHead, *, framed: bool) -> bytes:
        request = self.request
        return b"HTTP/1.1%b\r\n%b%bx-request-id: %b\r\n\r\n" % (
            head.relayed(framed=framed),
            self._gateway.marks,
            b"connection: close\r\n" if request.close else connection_line(self._gateway.draining, request.http10),
            request.id,
        )

    def on_body(self, data: bytes) -> None:
        """A part of the upstream's body."""
        if self._collected is not None or self._reframed is not None:
            self._shape(data)
            return
        if self._pending:
            if self._stream:
                if self._only_pings(data):
                    return
                self._first = self._gateway.now()
            data = self._pending + data
            self._pending = self._payload = b""
        self._last = data
        self.sent += len(data)
        self._front.transport.write(data)

    def _only_pings(self, data: bytes) -> bool:
        if data[:1].isalnum() and _PINGS.fullmatch(data):
            return self._gateway.now() - self._sent_at < QUIET_S
        return False

    def _shape(self, data: bytes) -> None:
        try:
            if self._collected is not None:
                self._collected.feed(data)
                return
            out = self._reframed.feed(data)  # type: ignore[union-attr]
        except BrokenResponse as error:
            connection = self._connection
            if connection is not None:
                connection.abort()
            self.on_lost(str(error), stale=False)
            return
        if out:
            if self._pending:
                self._first = self._gateway.now()
                out = self._pending + out
                self._pending = b""
            self.sent += len(out)
            self._front.transport.write(out)

    def on_end(self) -> None:
        """The upstream's answer is complete."""
        if self._collected is not None:
            try:
                answer = self._collected.answer()
            except BrokenResponse as error:
                self.on_lost(str(error), stale=False)
                return
            self._leave()
            self._answer(answer)
            return
        self._leave()
        rest = self._pending + (self._reframed.end() if self._reframed is not None else b"")
        if rest:
            self.sent += len(rest)
            self._front.transport.write(rest)
        self._finish(self._status, "completed")

    def on_lost(self, reason: str, *, stale: bool) -> None:
        """The upstream connection broke."""
        gateway = self._gateway
        aligned = self._connection is not None and self._connection.aligned
        replica = self._leave()
        if stale and gateway.now() - self._sent_at < STALE_S and replica is not None and not replica.draining:
            gateway.cells[counters.RETRIES] += 1
            self._reconnect(replica)
            return
        gateway.cells[counters.FAILURES] += 1
        if self.sent:
            self._break_off(aligned)
            return
        if replica is not None:
            replica.suspect_until = gateway.now() + SUSPECT_S
        self._crashes += 1
        if self._crashes < MAX_CRASHES:
            self._again()
            return
        message = f"The engine failed while it worked on this request ({reason}); it was tried {self._crashes} times."
        self.refuse(Refusal(502, message, "engine_failed", should_retry=False))

    def _reconnect(self, replica: ReplicaBook) -> None:
        self._replica = replica
        replica.in_flight += 1
        self._gateway.cells[counters.IN_FLIGHT] += 1
        self._task = self._gateway.loop.create_task(self._connect(replica))

    def _break_off(self, aligned: bool) -> None:
        frame = error_frame(Refusal(502, "The engine failed before the end of the answer.", "engine_failed"))
        if self._stream and self._reframed is not None:
            self._front.transport.write(self._reframed.end(frame))
        elif self._stream and aligned:
            if not self._last.endswith((b"\n\n\r\n", b"\n\r\n\r\n")):
                frame = b"\n\n" + frame
            self._front.transport.write(chunk(frame) + LAST_CHUNK)
        else:
            self._front.transport.abort()
        self._finish(self._status, "broken_off")

    def on_upstream_full(self) -> None:
        """The whole request is written at once: nothing to hold back."""

    def on_upstream_drained(self) -> None:
        """See ``on_upstream_full``."""

    # ---- the client's side: what the front calls

    def on_client_full(self) -> None:
        """The client reads slowly: stop reading from the upstream."""
        if self._connection is not None:
            self._connection.pause_reading()

    def on_client_drained(self) -> None:
        """The client has caught up."""
        if self._connection is not None:
            self._connection.resume_reading()

    def abort(self) -> None:
        """The client is gone: stop everything at once."""
        if self.done:
            return
        self.done = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._connection is not None:
            self._connection.abort()
        elif self in self.book.held:
            self.book.held.remove(self)
        self._gateway.cells[counters.ABORTS] += 1
        self._leave()
        self._account(499, "client_hung_up")

    def refuse(self, refusal: Refusal) -> None:
        """Answer with an error; nothing was sent before."""
        self._answer(refusal)

    def _answer(self, answer: tuple[int, bytes] | Refusal) -> None:
        request = self.request
        if isinstance(answer, Refusal):
            status, body, headers, outcome = answer.status, answer.body(), answer.headers(), answer.code or "failed"
        else:
            status, body = answer
            headers, outcome = b"", "completed"
        close = request.close or self._gateway.draining
        headers += self._gateway.marks
        data = response(status, body, request.id, headers=headers, close=close, http10=request.http10)
        self.sent += len(data)
        self._front.transport.write(data)
        self._finish(status, outcome)

    def _finish(self, status: int, outcome: str) -> None:
        self.done = True
        book = self.book
        if status < 500 and outcome != "broken_off":
            book.completed += 1
        else:
            book.failed += 1
        self._account(status, outcome)
        self._front.finished(self.request)

    def _account(self, status: int, outcome: str) -> None:
        gateway, request = self._gateway, self.request
        now = gateway.now()
        self.book.last_at = wall = gateway.wall()
        started = request.started
        first = self._first - started if self._first is not None else None
        cells = gateway.cells
        cells[counters.SENT] += self.sent
        gateway.counters.request(request.kind, 6 if status == 499 else status // 100, now - started)
        if first is not None and self._stream:
            gateway.counters.first_byte(first)
        gateway.log.add(
            (
                wall,
                request.id,
                request.method,
                request.path,
                status,
                self.book.route.id,
                self._where,
                request.key.id if request.key is not None else None,
                now - started,
                first,
                self.sent,
                outcome,
            )
        )

    def on_request_body(self) -> None:
        """The request was complete from the start."""


def _authorization(variable: str) -> bytes:
    key = secret(variable)
    return b"authorization: Bearer %b\r\n" % key.encode() if key is not None else b""
