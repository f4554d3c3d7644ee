"""One try of a request on one replica: connect, send, take the answer's bytes and pass them on.

Created by ``exchange`` for each try; the consumer of the upstream connection. It must never decide what happens when it
is lost: that is the exchange's, which knows of the other tries.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from roost.config import secret
from roost.gateway import dispatch
from roost.gateway.answers import Refusal, connection_line, error_frame
from roost.gateway.books import ReplicaBook
from roost.gateway.continuation import Diverged, fit
from roost.gateway.emitted import KEPT_PIECES, MOST_SIZE, Emitted
from roost.gateway.http1 import LAST_CHUNK, BrokenResponse, ResponseHead, chunk
from roost.gateway.request import CHAT, COMPLETIONS
from roost.gateway.shaping import Collected, Reframed, is_event_stream, splice_of
from roost.gateway.tokens import WINDOW, Tokens, events_before_end, tokens_at_start, tokens_in
from roost.gateway.upstream import Connection
from roost.gateway.usage import Told, without_role
from roost.gateway.usage_chunk import RawWithout, WithoutProgress, WithoutUsage
from roost.policy.ejection import GOOD

if TYPE_CHECKING:
    from roost.gateway.exchange import Exchange

QUIET_S = 15.0
"""Comments that an engine sends before its first output are kept back for this long, so that an error has a status."""
NEVER = 1 << 60
"""More bytes than any answer has."""
MAX_JOINED = 16 * 1024
"""Bodies up to this many bytes are copied behind the head, so that one write sends both."""

_PINGS = re.compile(rb"(?:[0-9A-Fa-f]+\r\n(?::[^\r\n]*(?:\r\n|\n){1,2})+\r\n)+")


class Attempt:
    """A try. ``status`` is the answer's (0 before its head), ``stream`` tells whether its events go on as they come,
    ``sent_at`` is the loop time at which it was written, ``connection`` what it goes over (None before that)."""

    __slots__ = (
        "_before",
        "_boil_at",
        "_collected",
        "_emitted",
        "_exchange",
        "_first",
        "_fresh",
        "_keep",
        "_last",
        "_latest",
        "_passed",
        "_pending",
        "_plain",
        "_reframed",
        "_task",
        "_usual",
        "_without",
        "connection",
        "replica",
        "sent_at",
        "status",
        "stream",
    )

    def __init__(self, exchange: Exchange, replica: ReplicaBook) -> None:
        self._exchange = exchange
        self.replica = replica
        self.connection: Connection | None = None
        self.status = 0
        self.stream = False
        self.sent_at = 0.0
        self._pending = self._first = self._before = self._last = b""
        self._keep: Callable[[bytes], None]  # of a stream's pieces; set with its head
        self._passed = 0
        self._fresh = True  # nothing was passed on yet
        self._plain = False  # a stream whose beginning is out, and whose rest passes as it comes
        self._usual: (
            bytes | tuple[()]
        ) = ()  # what such a piece ends with that needs no second look; nothing does with ()
        self._boil_at = NEVER  # bytes sent after which the record is boiled down
        self._emitted: Emitted | None = None
        self._latest: deque[bytes] | list[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reframed: Reframed | None = None
        self._collected: Collected | None = None
        self._without: RawWithout | None = None

    # ---- the way there

    def begin(self) -> None:
        """Send the request over a kept connection, else over a new one."""
        connection = self.replica.pool.take()
        if connection is not None:
            self._write(connection)
        else:
            self.connect()

    def connect(self) -> None:
        """Send the request over a new connection."""
        self._task = self._exchange.gateway.loop.create_task(self._connect())

    async def _connect(self) -> None:
        exchange = self._exchange
        try:
            connection = await self.replica.pool.connect()
        except OSError as error:
            self._task = None
            if not exchange.done:
                exchange.not_reached(self, error)
            return
        self._task = None
        if exchange.done:
            self.replica.pool.put(connection)
        else:
            self._write(connection)

    def _write(self, connection: Connection) -> None:
        exchange = self._exchange
        self.connection = connection
        self.sent_at = exchange.gateway.now()
        payload, request = exchange.payload, exchange.request
        size = len(payload)
        start = self.replica.heads[request.kind]
        name = exchange.book.route.api_key_env
        if name is not None:
            start += _authorization(name)
        if size <= MAX_JOINED:
            head = b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (start, request.id, size, payload)
            connection.send(self, head)
        else:
            head = b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (start, request.id, size)
            connection.send(self, head)
            connection.write(payload)
        if exchange.front.full:
            connection.pause_reading()

    def abort(self) -> None:
        """Give it up: a connection that is at work on it is dropped, which stops the engine."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self.connection is not None:
            self.connection.abort()

    # ---- the answer: what the upstream connection calls

    def on_head(self, head: ResponseHead) -> bool:
        """The upstream's head: decide how its body goes on."""
        exchange = self._exchange
        request, adapted = exchange.request, exchange.adapted
        kind = request.kind
        self.status = status = head.status
        if self.replica.standing is not GOOD and status < 500 and status != 429:
            dispatch.came_through(exchange, self.replica)
        special = adapted.stream or adapted.aggregate or adapted.classic or status >= 300 or head.length < 0
        if not special and adapted.shape is None and adapted.vectors is None and not exchange.begun:
            # What would come out below, for most answers that are no streams.
            self._pending = self._head(head, framed=True)
            return True
        classic = adapted.classic and (kind is CHAT or kind is COMPLETIONS)
        shaped = classic or adapted.shape is not None or adapted.vectors is not None
        stream = adapted.stream and status < 300 and is_event_stream(head)
        if status >= 300 or adapted.aggregate or (not stream and (exchange.begun or (shaped and not adapted.stream))):
            self._collected = Collected(head, adapted, chat=kind is CHAT, classic=classic)
            return False
        self.stream = stream
        if stream:
            self._record(head)
            # The usage is in the last event but one or two, and each may come as a piece of its own.
            self._latest = deque(maxlen=KEPT_PIECES)
            self._keep = self._latest.append
        joined = exchange.joined
        asks = stream and (adapted.asks_usage or (adapted.asks_progress and joined is None))
        if asks and not shaped and joined is None and head.chunked and not request.http10:
            self._without = RawWithout(WithoutUsage() if adapted.asks_usage else WithoutProgress())
            asks = False
        splice = splice_of(adapted, joined) if stream and (shaped or asks or joined is not None) else None
        framed = head.length >= 0 or (head.chunked and not request.http10)
        if self._emitted is not None and splice is None and self._without is None and head.chunked and framed:
            # The record keeps the very pieces that pass, and the last of them as they are.
            self._latest = self._emitted.pieces
            self._keep = self._latest.append
        if exchange.begun:
            raw = head.chunked and framed and splice is None
            if not raw:
                self._reframed = Reframed(chunked=not request.http10, splice=splice)
            return raw
        if framed and splice is None:
            self._pending = self._head(head, framed=True)
            return True
        if request.http10:
            request.close = True
        self._reframed = Reframed(chunked=not request.http10, splice=splice)
        head_bytes = self._head(head, framed=False)
        self._pending = head_bytes if request.http10 else head_bytes[:-2] + b"transfer-encoding: chunked\r\n\r\n"
        return False

    def _record(self, head: ResponseHead) -> None:
        """Keep what the client gets where another replica can go on from it."""
        exchange = self._exchange
        request = exchange.request
        able = exchange.book.route.continues and head.length < 0 and not request.http10
        if able and exchange.emitted is None and fit(request.kind, exchange.adapted):
            exchange.emitted = Emitted(chat=request.kind is CHAT)
        self._emitted = exchange.emitted

    def _head(self, head: ResponseHead, *, framed: bool) -> bytes:
        exchange = self._exchange
        request, gateway = exchange.request, exchange.gateway
        close, http10 = request.close or gateway.draining, request.http10
        as_it_is = head.as_it_is if framed else None
        return b"HTTP/1.1%b\r\n%b%b%bx-request-id: %b\r\n\r\n" % (
            as_it_is if as_it_is is not None else head.relayed(framed=framed),
            exchange.mark,
            gateway.marks,
            connection_line(close, http10) if close or http10 else b"",
            request.id,
        )

    def on_body(self, data: bytes) -> None:
        """A part of the upstream's body."""
        if not data.endswith(self._usual):
            if self._collected is not None or self._reframed is not None:
                self._shape(data)
            elif self.stream:
                self._unusual(data)
            else:
                self._part(data)
            return
        # What a stream costs is this, for each of its events.
        exchange = self._exchange
        self._keep(data)
        exchange.sent = sent = exchange.sent + len(data)
        exchange.front.transport.write(data)
        if sent > self._boil_at:
            self._emitted.boil_down()  # type: ignore[union-attr]
            self._go_on_plain(self._emitted)

    def _go_on_plain(self, emitted: Emitted | None) -> None:
        if emitted is None:
            self._usual = b""
        else:
            self._usual = () if emitted.held else emitted.usual
            self._boil_at = self._exchange.sent + MOST_SIZE

    def _unusual(self, data: bytes) -> None:
        # The beginning of a stream, one that has to be changed, or a piece that is not just whole events.
        exchange = self._exchange
        emitted = self._emitted
        if emitted is not None:
            data = emitted.take(data)
            if not data:
                self._usual = ()
                return
        if self._without is not None:
            data = self._rid_of_events(data)
            if not data:
                return
        if self._fresh:
            if self._only_pings(data):
                return
            self._fresh = False
            self._begin_output()
            self._plain = self._without is None
            if exchange.owed:
                dispatch.settle(exchange, self.replica)
            data = self._pending + data
            self._pending = exchange.payload = b""
        if emitted is None or emitted.pieces is not self._latest:
            self._keep(data)
        exchange.sent += len(data)
        exchange.front.transport.write(data)
        if self._plain:
            self._go_on_plain(emitted)

    def _part(self, data: bytes) -> None:
        # Of an answer that is no stream.
        exchange = self._exchange
        if self._fresh:
            self._fresh = False
            if exchange.owed:
                dispatch.settle(exchange, self.replica)
            self._first = data
            data = self._pending + data
            self._pending = exchange.payload = b""
        self._before, self._last = self._last, data
        exchange.sent += len(data)
        exchange.front.transport.write(data)

    def _rid_of_events(self, data: bytes) -> bytes:
        try:
            return self._without.feed(data)  # type: ignore[union-attr]
        except BrokenResponse as error:
            if self.connection is not None:
                self.connection.abort()
            self.on_lost(str(error), stale=False)
            return b""

    def _begin_output(self) -> None:
        exchange = self._exchange
        if self.stream:
            exchange.begun = True
            if exchange.first is None:
                exchange.first = exchange.gateway.now()

    def _only_pings(self, data: bytes) -> bool:
        # Comments are no output: a replica that is lost after them gave none, and the first token is yet to come.
        if not data[:1].isalnum() or _PINGS.fullmatch(data) is None:
            return False
        exchange = self._exchange
        if exchange.begun or exchange.gateway.now() - self.sent_at >= QUIET_S:
            exchange.begun = True
            exchange.write(self._pending + data)
            self._pending = b""
        return True

    def _shape(self, data: bytes) -> None:
        exchange = self._exchange
        try:
            if self._collected is not None:
                self._collected.feed(data)
                if exchange.owed and self._collected.computed:
                    dispatch.settle(exchange, self.replica)
                return
            if self.stream:
                self._keep(data)
                self._passed += len(data)
            out = self._reframed.feed(data)  # type: ignore[union-attr]
        except BrokenResponse as error:
            connection = self.connection
            if connection is not None:
                connection.abort()
            if isinstance(error, Diverged):
                exchange.parted(self)
            else:
                self.on_lost(str(error), stale=False)
            return
        if out and self._emitted is not None:
            out = self._emitted.take(out)
        if out:
            if self._fresh:
                if self.stream and self._only_pings(out):
                    return
                self._fresh = False
                self._begin_output()
                if exchange.owed:
                    dispatch.settle(exchange, self.replica)
                out = self._pending + out
                self._pending = b""
            exchange.write(out)

    def on_end(self) -> None:
        """The upstream's answer is complete."""
        exchange = self._exchange
        if self._collected is not None:
            try:
                answer = self._collected.answer()
            except BrokenResponse as error:
                self.on_lost(str(error), stale=False)
                return
            exchange.answered(answer)
            return
        held = self._emitted.rest() if self._emitted is not None else b""
        if self._without is not None:
            held = (self._rid_of_events(held) if held else b"") + self._without.end()
        rest = self._pending + held + (self._reframed.end() if self._reframed is not None else b"")
        if rest:
            exchange.write(rest)
        exchange.completed(self.status)

    def on_lost(self, reason: str, *, stale: bool) -> None:
        """The upstream connection broke."""
        self._exchange.lost(self, reason, stale=stale)

    def last_words(self, refusal: Refusal) -> bytes | None:
        """What still goes to a client whose answer has begun and cannot go on: an error frame and the end of the
        framing; None where the connection can only be cut."""
        frame = error_frame(refusal)
        if self.stream and self._reframed is not None:
            return self._reframed.end(frame)
        if self.stream and self.connection is not None and self.connection.aligned:
            if not (self._latest and self._latest[-1].endswith((b"\n\n\r\n", b"\n\r\n\r\n"))):
                frame = b"\n\n" + frame
            return chunk(frame) + LAST_CHUNK
        return None

    # ---- what it took

    def told(self) -> Told:
        """What the answer has told of its tokens, at its end, or is about to tell who looks through it later."""
        if self._latest is None and self._collected is None and not self._before and len(self._last) <= WINDOW:
            return self._last
        tokens = self._tokens()
        return tokens if tokens is not None else self.generated()

    def _tokens(self) -> Tokens | None:
        if self._collected is not None:
            return self._collected.tokens
        if self._latest is not None:
            if self._without is not None and self._without.tokens is not None:
                return self._without.tokens
            told = self._reframed.tokens() if self._reframed is not None else None
            return told or tokens_in(b"".join(self._latest))
        if self._before:
            return tokens_in(self._before[-WINDOW:] + self._last) or tokens_at_start(self._first)
        return tokens_in(self._last) or tokens_at_start(self._last)

    def generated(self) -> int:
        """About how many tokens have come so far, where nobody tells: one for each event with output."""
        exchange = self._exchange
        kind = exchange.request.kind
        if self._collected is not None:
            return without_role(self._collected.events, kind)
        if exchange.emitted is not None:
            said = exchange.emitted.said()
            if said is not None:
                return max(0, said.tokens - exchange.carried)
        if not self._latest:
            return 0
        return without_role(events_before_end(self._passed or exchange.sent, b"".join(self._latest)), kind)

    def on_upstream_full(self) -> None:
        """The whole request is written at once: nothing to hold back."""

    def on_upstream_drained(self) -> None:
        """See ``on_upstream_full``."""

    # ---- the client's side

    def on_client_full(self) -> None:
        """The client reads slowly: stop reading from the upstream."""
        if self.connection is not None:
            self.connection.pause_reading()

    def on_client_drained(self) -> None:
        """The client has caught up."""
        if self.connection is not None:
            self.connection.resume_reading()


def _authorization(variable: str) -> bytes:
    key = secret(variable)
    return b"authorization: Bearer %b\r\n" % key.encode() if key is not None else b""
