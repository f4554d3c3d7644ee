"""The echo engine's HTTP: connections, generations, counters. Used by ``echo_server``; asyncio and httptools only."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import httptools

from roost.engines import echo_reply, echo_vectors
from roost.engines.echo_reply import Ask, Unacceptable

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}
TOLD_TO_DIE = 86
"""Exit status of a server that died as told."""

GETS = ("/health", "/v1/models", "/metrics", "/debug/state")
POSTS = {"/v1/chat/completions": True, "/v1/completions": False}
VECTORS = {"/v1/embeddings": echo_vectors.embeddings, "/v1/rerank": echo_vectors.rerank}
"""What is computed at once, by path."""


class Echo:
    """One server: its dials and its counters. ``slots`` and ``tokens_per_second`` 0 mean no limit."""

    def __init__(
        self,
        *,
        model: str = "echo",
        tokens_per_second: float = 0.0,
        slots: int = 0,
        cancels_non_stream: bool = True,
        die_after_chunks: int = 0,
        child: int | None = None,
    ) -> None:
        self.model = model
        self.cancels_non_stream = cancels_non_stream
        self.connections = 0
        self._interval = 1 / tokens_per_second if tokens_per_second else 0.0
        self._slots = asyncio.Semaphore(slots) if slots else None
        self._die_after_chunks = die_after_chunks
        self._child = child
        self._started = 0
        self._counts = dict.fromkeys(("active", "waiting", "completed", "cancelled", "chunks"), 0)

    async def generate(self, ask: Ask, exchange: Exchange) -> None:
        """Answer one request. Cancelling it is what a client that left does to it."""
        try:
            if self._slots is not None:
                self._counts["waiting"] += 1
                try:
                    await self._slots.acquire()
                finally:
                    self._counts["waiting"] -= 1
            try:
                await self._work(ask, exchange)
            finally:
                if self._slots is not None:
                    self._slots.release()
        except asyncio.CancelledError:
            self._counts["cancelled"] += 1
            raise
        self._counts["completed"] += 1

    async def _work(self, ask: Ask, exchange: Exchange) -> None:
        self._counts["active"] += 1
        self._started += 1
        number, created, began = self._started, int(time.time()), time.monotonic()
        try:
            if not ask.stream:
                await asyncio.sleep(self._interval * ask.count)
                exchange.answer(200, echo_reply.answer(ask, number, created))
                return
            exchange.begin_stream()
            said = 0
            for event, is_token in echo_reply.events(ask, number, created):
                if is_token:
                    said += 1
                    await asyncio.sleep(max(0.0, began + said * self._interval - time.monotonic()))
                await exchange.send_chunk(event)
                if is_token:
                    self._count_chunk()
            exchange.end_stream()
        finally:
            self._counts["active"] -= 1

    def _count_chunk(self) -> None:
        self._counts["chunks"] += 1
        if self._counts["chunks"] == self._die_after_chunks:
            print("echo_server: told to die", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(TOLD_TO_DIE)

    def get(self, path: str) -> tuple[bytes, str]:
        """The body and the content type of one of ``GETS``."""
        if path == "/health":
            return b'{"status":"ok"}', "application/json"
        if path == "/v1/models":
            return echo_reply.models(self.model), "application/json"
        if path == "/metrics":
            return self._metrics().encode(), "text/plain; version=0.0.4"
        state = {**self._counts, "connections": self.connections, "pid": os.getpid(), "child": self._child}
        return json.dumps(state).encode(), "application/json"

    def _metrics(self) -> str:
        values = (
            ("requests_processing", "gauge", self._counts["active"]),
            ("requests_deferred", "gauge", self._counts["waiting"]),
            ("completed_total", "counter", self._counts["completed"]),
            ("cancelled_total", "counter", self._counts["cancelled"]),
            ("tokens_predicted_total", "counter", self._counts["chunks"]),
        )
        return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, kind, value in values)


class Exchange(asyncio.Protocol):
    """One connection: its requests, one after the other."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._waiting: list[tuple[str, str, bytes, bool]] = []
        self._task: asyncio.Task[None] | None = None
        self._cancellable = True
        self._keep_alive = True
        self._writable = asyncio.Event()
        self._writable.set()

    # -- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._echo.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._echo.connections -= 1
        self._transport = None
        self._writable.set()
        self._waiting.clear()
        if self._task is not None and self._cancellable:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._keep_alive = False
            self.answer(400, echo_reply.error(f"not HTTP: {error}", "request_error"))

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        """A piece of its address."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; only one matters here."""
        if name.lower() == b"expect" and value.lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """It is whole: answer it when those before it are answered."""
        path = self._url.decode("latin-1").partition("?")[0]
        method = self._parser.get_method().decode()
        self._waiting.append((method, path, b"".join(self._body), self._parser.should_keep_alive()))
        self._next()

    # -- answering

    def _next(self) -> None:
        while self._waiting and self._task is None:
            method, path, body, self._keep_alive = self._waiting.pop(0)
            if path in GETS and method in ("GET", "HEAD"):
                self.answer(200, *self._echo.get(path), head=method == "HEAD")
            elif path in POSTS and method == "POST":
                self._begin(body, chat=POSTS[path])
            elif path in VECTORS and method == "POST":
                self._compute(path, body)
            elif path in POSTS or path in VECTORS or path in GETS:
                self.answer(405, echo_reply.error(f"{method} is not for {path}", "request_error"))
            else:
                self.answer(404, echo_reply.error(f"nothing at {path}", "not_found_error"))

    def _compute(self, path: str, body: bytes) -> None:
        try:
            self.answer(200, VECTORS[path](body, model=self._echo.model))
        except Unacceptable as error:
            self.answer(400, echo_reply.error(str(error), "request_error", error.param))

    def _begin(self, body: bytes, *, chat: bool) -> None:
        try:
            ask = echo_reply.understand(body, chat=chat, model=self._echo.model)
        except Unacceptable as error:
            self.answer(400, echo_reply.error(str(error), "request_error", error.param))
            return
        self._cancellable = ask.stream or self._echo.cancels_non_stream
        self._task = asyncio.get_running_loop().create_task(self._echo.generate(ask, self))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()
        self._next()

    def answer(self, status: int, body: bytes, kind: str = "application/json", *, head: bool = False) -> None:
        """Send a whole answer; nothing when the client has left."""
        lines = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        self._write(f"{lines}{self._connection()}\r\n".encode() + (b"" if head else body))
        self._finish()

    def begin_stream(self) -> None:
        """Send the head of a streamed answer."""
        lines = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        self._write(f"{lines}{self._connection()}\r\n".encode())

    async def send_chunk(self, data: bytes) -> None:
        """Send one event, waiting while the client reads too slowly."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writable.wait()

    def end_stream(self) -> None:
        """Send the end of a streamed answer."""
        self._write(b"0\r\n\r\n")
        self._finish()

    def _connection(self) -> str:
        return "" if self._keep_alive else "connection: close\r\n"

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _finish(self) -> None:
        if not self._keep_alive and self._transport is not None:
            self._waiting.clear()
            self._transport.close()
