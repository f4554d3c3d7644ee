"""Connections to upstreams (replicas, the control plane) and the pool of idle ones per address.

Used by ``exchange`` and ``relay`` through ``Consumer``. A connection carries one response at a time; it must never be
put back when its response did not end cleanly.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ssl
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

from roost.gateway.http1 import (
    MAX_HEAD,
    Body,
    BrokenResponse,
    EofBody,
    LengthBody,
    ResponseHead,
    body_of,
    check_beginning,
    parse_head,
)

IDLE_S = 2.0
"""Idle connections are closed after this many seconds: some engines keep a thread for each."""
CONNECT_TIMEOUT_S = 5.0
MAX_INTERIM = 20
"""Interim responses (1xx) before the response itself."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an upstream listens: a unix socket ``path``, or ``host`` and ``port``; ``prefix`` stands before every
    request path."""

    path: str | None = None
    host: str = "localhost"
    port: int = 0
    prefix: str = ""
    tls: bool = False

    @property
    def authority(self) -> str:
        """The value of the ``host`` header."""
        if self.path is not None:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def target(self, path: str) -> str:
        """The request target for the API path ``path`` (without ``/v1``); a prefix may bring its own ``/v1``."""
        return f"{self.prefix}{path}" if self.prefix.endswith("/v1") else f"{self.prefix}/v1{path}"


def parse_address(text: str) -> Address:
    """Read ``unix:<path>`` or ``http(s)://host[:port][/prefix]``. Raises ``ValueError``."""
    if text.startswith("unix:"):
        if len(text) == len("unix:"):
            raise ValueError("a unix address needs a path")
        return Address(path=text[len("unix:") :])
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is neither unix:<path> nor http(s)://host:port")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    return Address(None, parts.hostname, port, parts.path.rstrip("/"), tls)


def lacks_files(error: OSError) -> bool:
    """Whether a connection was not made since this process, or the machine, has too many files open: that says nothing
    of the other side."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


class Consumer(Protocol):
    """Who waits for a response."""

    def on_head(self, head: ResponseHead) -> bool:
        """The head has arrived; the answer says whether the body is wanted with its framing untouched."""
        ...

    def on_body(self, data: bytes) -> None:
        """A part of the body (raw or payload, as chosen)."""
        ...

    def on_end(self) -> None:
        """The response has ended cleanly; the connection is already back in its pool."""
        ...

    def on_lost(self, reason: str, *, stale: bool) -> None:
        """The connection broke. ``stale``: it had served before and broke before the first byte of this response."""
        ...

    def on_upstream_full(self) -> None:
        """Stop writing to the connection."""
        ...

    def on_upstream_drained(self) -> None:
        """Writing may go on."""
        ...


_COMPLETE: Body = LengthBody(0)


class Connection(asyncio.Protocol):
    """One connection to an upstream."""

    __slots__ = (
        "_body",
        "_interim",
        "_last",
        "_long",
        "_no_body",
        "_paused",
        "_pending",
        "consumer",
        "idle_since",
        "pool",
        "served",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.consumer: Consumer | None = None
        self.idle_since = 0.0
        self.served = 0
        self._body: Body | None = None
        self._pending = b""
        self._no_body = False
        self._interim = 0
        self._last = False
        self._long = False
        self._paused = False

    def send(self, consumer: Consumer, data: bytes, *, no_body: bool = False) -> None:
        """Send a request (or the beginning of one) whose response goes to ``consumer``; ``no_body`` for HEAD."""
        self.consumer = consumer
        self._no_body = no_body
        self._body = None
        self.transport.write(data)  # type: ignore[union-attr]

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        if self.transport is not None:
            self._long = True
            self.transport.write(data)

    def abort(self) -> None:
        """Drop the connection at once, without a word to the consumer: this is what cancels a generation."""
        self.consumer = None
        if self.transport is not None:
            self.transport.abort()

    def pause_reading(self) -> None:
        """Stop reading: whoever takes the response is slow."""
        if not self._paused and self.usable:
            self._paused = True
            self.transport.pause_reading()  # type: ignore[union-attr]

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self.usable:
                self.transport.resume_reading()  # type: ignore[union-attr]

    @property
    def usable(self) -> bool:
        """Whether it can still be written to."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def aligned(self) -> bool:
        """Whether the relayed bytes end where another chunk may be put."""
        return self._body is not None and self._body.aligned

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        consumer = self.consumer
        if consumer is None:
            self._drop()
            return
        self.pool.heard = True
        body = self._body
        try:
            if body is None:
                self._head(consumer, data)
                return
            out = body.feed(data)
        except BrokenResponse as error:
            self._broken(str(error))
            return
        if out:
            consumer.on_body(out)
        if body.done and self.consumer is consumer:
            self._finish(consumer, body)

    def _head(self, consumer: Consumer, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
            self._pending = b""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > MAX_HEAD:
                check_beginning(data)
                self._pending = data
                return
            head = parse_head(data[:end])
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                raise BrokenResponse("it switched protocols unasked")
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BrokenResponse("it sends interim responses without end")
        if self._interim:
            self._interim = 0
        raw = consumer.on_head(head)
        if self.consumer is consumer:
            self._first_body(consumer, head, data, raw)

    def _first_body(self, consumer: Consumer, head: ResponseHead, data: bytes, raw: bool) -> None:
        if not head.keep_alive:
            self._last = True
        if len(data) == head.length > 0 and not self._no_body and head.status not in (204, 304):
            # The whole body came with the head, as most answers do.
            out, body = data, _COMPLETE
        else:
            body = self._body = body_of(head, no_body=self._no_body, raw=raw)
            out = body.feed(data) if data else b""
        if out:
            consumer.on_body(out)
        if body.done and self.consumer is consumer:
            self._finish(consumer, body)

    def _finish(self, consumer: Consumer, body: Body) -> None:
        self.consumer = None
        self._body = None
        if body.excess or self._last or (self._long and self._unsent()):
            self._drop()
        else:
            self.served += 1
            if self._paused:
                self.resume_reading()
            self.pool.put(self)  # which looks at it again before the next request
        consumer.on_end()

    def _unsent(self) -> bool:
        # Whether it answered before it had the whole request: what it makes of the rest is anybody's guess.
        self._long = False
        return self.transport is None or self.transport.get_write_buffer_size() > 0

    def _broken(self, reason: str) -> None:
        consumer = self.consumer
        self.abort()
        if consumer is not None:
            consumer.on_lost(reason, stale=False)

    def _drop(self) -> None:
        self.consumer = None
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        consumer, body = self.consumer, self._body
        self.pool.forget(self)
        self.consumer = None
        self.transport = None
        if consumer is None:
            return
        if isinstance(body, EofBody) and exc is None:
            self._body = None
            consumer.on_end()
            return
        reason = str(exc) if exc is not None else "it closed the connection"
        consumer.on_lost(reason, stale=self.served > 0 and body is None and not self._pending)

    def pause_writing(self) -> None:
        """Called by the event loop."""
        if self.consumer is not None:
            self.consumer.on_upstream_full()

    def resume_writing(self) -> None:
        """Called by the event loop."""
        if self.consumer is not None:
            self.consumer.on_upstream_drained()


@functools.cache
def default_tls() -> ssl.SSLContext:
    """How upstreams behind TLS are verified. Made once per process: reading the system's certificates takes tens of
    milliseconds, in which nothing else would be served."""
    return ssl.create_default_context()


class Pool:
    """The connections to one address. Idle ones are used last in, first out, so that few stay open. ``heard``: bytes
    have come from there since somebody (``probes``) made it False."""

    __slots__ = ("_all", "_closed", "_idle", "_loop", "address", "heard")

    def __init__(self, address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self._loop = loop
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._closed = False
        self.heard = False

    def take(self) -> Connection | None:
        """An idle connection, None when there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                return connection
        return None

    def put(self, connection: Connection) -> None:
        """Give back a connection whose response has ended."""
        if self._closed:
            connection.abort()
            return
        connection.idle_since = 0.0  # set by the next sweep, which spares each answer a look at the clock
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def connect(self) -> Connection:
        """A new connection. Raises ``OSError`` (``TimeoutError`` after ``CONNECT_TIMEOUT_S``)."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await self._connected()
        except ValueError as error:
            # What is no name of a host, for one, cannot be put into the form in which it would be asked for.
            raise OSError(f"it cannot be connected to: {error}") from error
        except OSError as error:
            if lacks_files(error):
                # The worker's handler says so every few seconds, and not for each.
                loop = self._loop
                loop.call_exception_handler({"message": "no file is left for a connection", "exception": error})
            raise
        self._all.add(connection)
        return connection

    async def _connected(self) -> Connection:
        address, loop = self.address, self._loop
        if address.path is not None:
            _, connection = await loop.create_unix_connection(lambda: Connection(self), address.path)
        else:
            context = default_tls() if address.tls else None
            _, connection = await loop.create_connection(
                lambda: Connection(self), address.host, address.port, ssl=context
            )
        return connection

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for ``IDLE_S``."""
        for connection in list(self._idle):
            if not connection.idle_since:
                connection.idle_since = now
                continue
            if now - connection.idle_since < IDLE_S:
                continue
            self._idle.remove(connection)
            if connection.transport is not None:
                connection.transport.close()

    def close(self) -> None:
        """Close idle connections now and busy ones when their response has ended."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            if connection.transport is not None:
                connection.transport.close()

    def abort(self) -> None:
        """Drop every connection."""
        self.close()
        for connection in list(self._all):
            connection.abort()
