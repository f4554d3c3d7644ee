"""The client's side of a connection: HTTP/1.1 with keep-alive and pipelining, HTTP/1.0, limits, refusals.

One ``Front`` per client connection, made by the event loop. It parses, classifies and admits; what answers (an
``Exchange``, a ``Relay``, the gateway itself) writes to ``transport`` and calls ``finished``. It must never let two
answers of one connection overtake each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from roost.gateway import counters, head_rules
from roost.gateway.answers import Refusal, response
from roost.gateway.bodies import FEW, SHORT
from roost.gateway.head_rules import MAX_HEAD, MAX_HEADERS
from roost.gateway.known_head import KnownHead, learn
from roost.gateway.pace import Pace
from roost.gateway.request import LAST_INFERENCE, RELAY, Request, sane_id

if TYPE_CHECKING:
    from roost.gateway.answering import Answering
    from roost.gateway.deliveries import Delivery
    from roost.gateway.gateway import Gateway

MAX_QUEUED = 64
"""Pipelined requests that wait; reading stops beyond."""
MAX_QUEUED_BYTES = 1 << 20
"""Bytes of their bodies; reading stops beyond."""
LINGER_S = 2.0
"""After an early refusal the client may finish sending for this long, so that it sees the answer."""
CHUNKING = 8
"""Bytes on the wire that each byte of a chunked body may take (6 in chunks of one byte), beyond ``MAX_HEAD``."""
MAX_LEARNT = 8
"""Heads that one connection gets to know between two sweeps: some clients never send the same twice."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Stopped(Exception):
    """Ends parsing from inside a parser's callback."""


class Front(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_advancing",
        "_awaits",
        "_earlier",
        "_fed",
        "_gateway",
        "_head_seen",
        "_headers",
        "_in_head",
        "_known",
        "_learning",
        "_line_at",
        "_linger_until",
        "_pace",
        "_parser",
        "_paused",
        "_queue",
        "_refusal",
        "_repeated",
        "_request",
        "_skip",
        "_wire",
        "active",
        "answered",
        "delivery",
        "full",
        "seen_at",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._request: Request | None = None
        self._headers: dict[bytes, bytes] = {}
        self._in_head = True
        self._head_seen = 0
        self._fed = b""  # what the parser is reading
        self._earlier = b""  # what it read before of a head that is not complete
        self._line_at = 0  # in these two: the last request line looked at, or where the first may begin
        self._skip = -1  # length of the body behind that line's head; -1 when it was not looked at yet
        self._repeated = 0  # header lines whose name had been there before
        self._wire = 0  # bytes that the body in work has taken, if it is chunked
        self._awaits: Request | None = None  # its client sends the body once told to continue
        self._known: KnownHead | None = None
        self._learning = MAX_LEARNT
        self._refusal: Refusal | None = None  # ends the connection once the requests before it are answered
        self._linger_until = 0.0
        self._paused = False
        self._advancing = False
        self.active: Answering | None = None
        self.delivery: Delivery | None = None
        """Of the last answer, while it matters whether the client got it."""
        self.full = False
        self.answered = False
        """Whether an answer ended since the last sweep."""
        self.seen_at = 0.0

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast(asyncio.Transport, transport)
        gateway = self._gateway
        self.seen_at = now = gateway.now()
        self._pace = Pace(now)
        crowd = len(gateway.fronts) - gateway.max_clients
        gateway.fronts.add(self)
        if gateway.leaving:
            self.hand_over()
        gateway.cells[counters.CONNECTIONS] += 1
        if crowd >= gateway.max_told:
            self.transport.abort()
        elif crowd >= 0:
            self._end_with(head_rules.CROWDED)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        gateway = self._gateway
        gateway.cells[counters.CONNECTIONS] -= 1
        if self.delivery is not None:
            self.delivery.connection_lost(reset=exc is not None)
        self._hang_up()
        gateway.left(self)

    def eof_received(self) -> None:
        """The client has closed its side: it is taken as gone, like every proxy does."""
        if self.delivery is not None:
            self.delivery.client_closed()
        if not self._linger_until:
            self._hang_up()

    def _hang_up(self) -> None:
        self._drop_queue()
        if self._request is not None:
            self._drop(self._request)
        active, self.active = self.active, None
        if active is not None:
            active.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.delivery is not None:
            self.delivery.client_went_on()
            self.delivery = None
        if self._linger_until or self._refusal is not None:
            return
        self.seen_at = self._gateway.now()
        known = self._known
        if known is not None and self._request is None:
            request = self._recognised(known, data)
            if request is not None:
                if self.active is None and not self._queue and not self.full:
                    self._gateway.infer(self, request)
                    return
                self._queue.append(request)
                data = b""
        if data:
            self._parse(data)
        if self.active is None:
            self._next()
        queue = self._queue
        if queue and (len(queue) > MAX_QUEUED or sum([r.received for r in queue]) > MAX_QUEUED_BYTES):
            self._pause()

    def _recognised(self, known: KnownHead, data: bytes) -> Request | None:
        # The whole request in `data`, admitted; None when the parser has to look at it.
        request = known.request(data, self.seen_at)
        gateway = self._gateway
        if request is None or request.length > gateway.max_body_bytes:
            return None
        key = gateway.authenticate(known.authorization)
        if isinstance(key, Refusal):
            return None
        request.key = key
        request.id = gateway.next_id()
        return request

    def _parse(self, data: bytes) -> None:
        rest = self._feed(data)
        while rest:
            rest = self._feed(rest)

    def _feed(self, data: bytes) -> bytes:
        # Returns what has to be fed again.
        before, request, rest = self._in_head, self._request, b""
        self._fed = data
        if request is None:
            self._line_at, self._skip = 0, -1
        elif not before:
            self._earlier = b""
            self._line_at, self._skip = 0 if request.chunked else max(0, request.length - request.received), -1
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = self._no_upgrade() + data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Stopped):
                raise
        except httptools.HttpParserError:
            self._refuse_rest(head_rules.MALFORMED)
        self._fed = b""
        now = self._request
        if now is None:
            self._earlier = b""
            if request is None and self._queue and self._learning and not rest:
                self._learning -= 1
                self._known = learn(self._queue[-1], data)
        elif self._in_head:
            self._head_so_far(data, begun=now is request)
        elif now is request and now.chunked and not before:
            self._wire += len(data)
            if self._wire > MAX_HEAD + CHUNKING * now.received:
                self._refuse_rest(head_rules.FRAMING)
        return rest

    def _head_so_far(self, data: bytes, *, begun: bool) -> None:
        data_so_far = self._earlier + data
        if not begun:
            self._earlier = data_so_far[self._next_line(data_so_far) :]
            self._line_at, self._skip = 0, -1
            self._head_seen = len(self._earlier)
        else:
            self._earlier = data_so_far
            self._head_seen += len(data)
        if self._head_seen > MAX_HEAD:
            self._refuse_rest(head_rules.HEAD_TOO_LARGE)

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self.full = True
        if self.active is not None:
            self.active.on_client_full()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.full = False
        self._pace.moved()
        if self.active is not None:
            self.active.on_client_drained()
        else:
            self._next()

    # ---- called by the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        self._request = request = Request(self.seen_at)
        self._headers = request.headers

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        request = self._request
        assert request is not None
        request.target = request.target + url if request.target else url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after the body."""
        if not self._in_head:
            return
        headers = self._headers
        name = name.lower()
        if name in headers:
            self._repeated += 1
            if self._repeated > MAX_HEADERS:
                self._stop(head_rules.TOO_MANY_HEADERS)
            value = headers[name] + (b"; " if name == b"cookie" else b", ") + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        """The head is complete: classify, authenticate, refuse early."""
        request, parser = self._request, self._parser
        assert request is not None
        self._in_head = False
        headers = request.headers
        request.method = parser.get_method()
        given = headers.get(b"x-request-id")
        request.id = (sane_id(given) if given is not None else None) or self._gateway.next_id()
        version = None  # only HTTP/1.1 keeps a connection without a word
        if not parser.should_keep_alive() or b"connection" in headers:
            version = parser.get_http_version()
            request.close = not parser.should_keep_alive()
        refusal = None
        protocol_at = self._line_at + len(request.method) + len(request.target) + 1
        if self._earlier or self._skip >= 0 or not self._fed.startswith(b" HTTP/", protocol_at):
            refusal = self._speaks_another(request)
        refusal = refusal or head_rules.flaw(request, version, len(headers) + self._repeated) or self._oversize(request)
        if refusal is not None:
            request.refusal = refusal
            self._stop(refusal)
        self._head_seen = self._repeated = self._wire = 0
        self._skip = request.length
        if request.kind <= LAST_INFERENCE:
            request.refusal = self._gateway.admit(request, is_next=self.active is None and not self._queue)
        elif request.method not in head_rules.METHODS:
            request.refusal = head_rules.METHOD
        if b"expect" in headers and not request.http10:
            self._expect(request)
        if request.kind is RELAY and request.refusal is None:
            self._queue.append(request)

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body."""
        request = self._request
        assert request is not None
        request.received += len(body)
        if self._awaits is not None:
            self._awaits = None  # it did not wait
        if request.received > self._gateway.max_body_bytes:
            self._stop(self._gateway.too_large)
        if request.refusal is not None:
            return
        request.body.append(body)
        if request.kind is RELAY:
            self._relay_body()
        elif request.received > SHORT or len(request.body) > FEW:
            full = self._gateway.bodies.hold(request)
            if full is not None:
                self._stop(full)

    def on_message_complete(self) -> None:
        """The request is complete."""
        request = self._request
        assert request is not None
        self._request = None
        self._in_head = True
        request.complete = True
        if request.kind is RELAY and request.refusal is None:
            self._relay_body()
        else:
            self._queue.append(request)

    # ---- parsing's exceptions

    def _stop(self, refusal: Refusal) -> None:
        # Nothing is read behind this.
        self._refuse_rest(refusal)
        raise _Stopped

    def _speaks_another(self, request: Request) -> Refusal | None:
        # The parser takes RTSP and ICE for HTTP, and does not tell which it was, nor where the line is.
        data = self._earlier + self._fed
        line = b"%b %b " % (request.method, request.target)
        # It may come behind empty lines or a chunked body.
        self._line_at = at = data.find(line, self._next_line(data))
        return None if data.startswith(b"HTTP/", at + len(line)) else head_rules.VERSION

    def _next_line(self, data: bytes) -> int:
        # Behind the request that was looked at last, or behind its head if it is chunked.
        at = self._line_at
        return at if self._skip < 0 else data.find(b"\r\n\r\n", at) + 4 + self._skip

    def _oversize(self, request: Request) -> Refusal | None:
        if request.length > self._gateway.max_body_bytes:
            return self._gateway.too_large
        long = self._head_seen + len(self._fed) > MAX_HEAD and head_rules.too_large(request.headers)
        return head_rules.HEAD_TOO_LARGE if long else None

    def _expect(self, request: Request) -> None:
        if request.headers[b"expect"].lower() != b"100-continue":
            request.refusal = request.refusal or head_rules.EXPECTATION
        if request.refusal is not None:
            self._stop(request.refusal)
        if request.length or request.chunked:
            self._awaits = request
            if self.active is None and not self._queue:
                self._tell_to_continue()

    def _tell_to_continue(self) -> None:
        self._awaits = None
        self.transport.write(_CONTINUE)

    def _no_upgrade(self) -> bytes:
        # The offer to change the protocol is ignored, as RFC 9110 allows. The parser takes what follows for the other
        # protocol; if it is a body, the new parser is told the request again, without the offer.
        self._parser = httptools.HttpRequestParser(self)
        request = self._queue[-1]
        if not request.length and not request.chunked:
            return b""
        self._drop(self._queue.pop())
        if self._awaits is request:
            self._awaits = None
        else:
            request.headers.pop(b"expect", None)
        return head_rules.without_upgrade(request)

    def _refuse_rest(self, refusal: Refusal) -> None:
        if self._refusal is not None:
            return
        self._refusal = refusal
        request = self._request
        if request is None or self._in_head or request.kind is not RELAY or request.refusal is not None:
            if request is not None:
                self._drop(request)
            return
        # The relay waits for this request's turn, or is at work on its beginning already.
        if request in self._queue:
            self._queue.remove(request)
        elif self.active is not None:
            active, self.active = self.active, None
            if active.sent:
                self.transport.abort()
            else:
                request.refusal = refusal
            active.abort()

    def _relay_body(self) -> None:
        if self.active is not None and not self._queue:
            self.active.on_request_body()

    # ---- answering

    def _next(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        while self.active is None and self._queue and not self.full and not self.transport.is_closing():
            request = self._queue.popleft()
            if self._paused and len(self._queue) < MAX_QUEUED:
                self._resume()
            if request is self._awaits:
                self._tell_to_continue()
            self._start(request)
        self._advancing = False
        if self.active is not None or self._queue or self.transport.is_closing():
            return
        if self._refusal is not None and not self._linger_until:
            self._end_with(self._refusal)
        elif self._awaits is not None and self._awaits is self._request:
            self._tell_to_continue()

    def _start(self, request: Request) -> None:
        if self._gateway.leaving and not self._queue and self._request in (None, request):
            request.close = True
        if request.refusal is not None:
            self.answer(request, request.refusal)
        elif request.kind <= LAST_INFERENCE:
            self._gateway.infer(self, request)
        else:
            self._gateway.serve(self, request)

    def answer(self, request: Request, refusal: Refusal) -> None:
        """Answer the current request with an error."""
        self._gateway.cells[counters.REFUSED] += 1
        self.reply(request, refusal.status, refusal.body(), headers=refusal.headers(), outcome=refusal.code)

    def reply(
        self,
        request: Request,
        status: int,
        body: bytes,
        *,
        headers: bytes = b"",
        content_type: bytes = b"application/json",
        outcome: str | None = None,
    ) -> None:
        """Answer the current request."""
        data = response(
            status,
            body,
            request.id,
            headers=headers + self._gateway.marks,
            content_type=content_type,
            close=request.close or self._gateway.draining or not request.complete,
            http10=request.http10,
            head_only=request.method == b"HEAD",
        )
        self.transport.write(data)
        self._gateway.account(request, status, len(data), outcome or "completed")
        self.finished(request)

    def finished(self, request: Request) -> None:
        """The answer to ``request`` is written: close, or go on with the next."""
        self.active = None
        self.answered = True
        if not request.complete and request.kind is RELAY:
            self._linger()
        elif request.close or self._gateway.draining:
            self._drop_queue()
            if self.delivery is None:
                self.transport.close()
            else:
                # Once it is closed here, nobody sees how the client ends it.
                self._linger()
        elif self._queue or self._refusal is not None or self._awaits is not None:
            self._next()

    def _end_with(self, refusal: Refusal) -> None:
        if self.transport.is_closing():
            return
        request = self._request or Request(self.seen_at)
        request.id = request.id or self._gateway.next_id()
        body = b"" if request.method == b"HEAD" else refusal.body()
        headers = refusal.headers() + self._gateway.marks
        data = response(refusal.status, body, request.id, headers=headers, close=True)
        self.transport.write(data)
        self._gateway.cells[counters.REFUSED] += 1
        self._gateway.account(request, refusal.status, len(data), refusal.code or "refused")
        self._linger()

    def _linger(self) -> None:
        # Closing with unread data resets the connection, and the client may never see the answer.
        self._linger_until = self._gateway.now() + LINGER_S
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._resume()

    def _drop_queue(self) -> None:
        for request in self._queue:
            self._drop(request)
        self._queue.clear()

    def _drop(self, request: Request) -> None:
        request.body.clear()
        self._gateway.bodies.release(request)

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def hold_body(self) -> None:
        """The relay cannot pass on the request's body as fast as it comes: stop reading."""
        self._pause()

    def release_body(self) -> None:
        """The relay can take more."""
        self._resume()

    # ---- called by the gateway

    def sweep(self, now: float) -> None:
        """Close what lingers, idles or stalls."""
        self._learning = 0 if self._gateway.leaving else MAX_LEARNT
        pace, limits = self._pace, self._gateway.pace
        if self._linger_until:
            if now >= self._linger_until and self.transport.can_write_eof():
                self.transport.abort()
            elif now >= self._linger_until:
                # Over TLS this is the first the client sees of the end.
                self.transport.close()
        elif self.full or self.transport.is_closing():
            if pace.stuck(now, limits):
                self.transport.abort()
        elif self.answered or (self.active is not None and not self._relay_waits()):
            # Counted from here, which spares each answer a look at the clock.
            self.answered = False
            pace.answered(now)
        elif self.active is not None or not self._queue:
            self._hurry(now)

    def _hurry(self, now: float) -> None:
        # The next step is the client's.
        request, pace, limits = self._request, self._pace, self._gateway.pace
        if request is None:
            if pace.idles(now):
                self.transport.close()
        elif (
            pace.slow_head(now, request.started, limits)
            if self._in_head
            else pace.slow_body(now, request, request.received, limits)
        ):
            self._refuse_rest(head_rules.STALLED)
            self._next()

    def _relay_waits(self) -> bool:
        # Whether the relay at work waits for the rest of its request's body.
        request = self._request
        at_work = request is not None and request.kind is RELAY and not self._queue
        return at_work and not self._in_head and not self._paused

    def hand_over(self) -> None:
        """A successor takes the new connections: the next request is the last one here, and its answer says so. Without
        one, the connection ends as it would have: a client may be writing on it right now."""
        # Requests that are recognised by their head would pass the place that makes them the last.
        self._known = None
        self._learning = 0

    def drain(self) -> None:
        """The worker is going down: an idle connection ends now, a busy one after its current answer."""
        if self.active is None and not self._queue and self._request is None:
            self.transport.close()
