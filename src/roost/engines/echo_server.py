"""The process of the ``echo`` engine: ``python -m roost.engines.echo_server --listen unix:/path [dials]``.

Standard library only, so that it starts at once. Text is the last message's words, again and again, up to
``max_tokens`` (16 by default); one word is one token. ``/debug/state`` tells what is active, completed and cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from roost.engines.echo_text import answer, chunks, pieces_of

MAX_BODY = 64 * 1024 * 1024


@dataclass(slots=True)
class State:
    """The dials and what the server has done so far."""

    dials: argparse.Namespace
    active: int = 0
    completed: int = 0
    cancelled: int = 0
    sent_chunks: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    body: bytes
    keep_alive: bool


class Reader(asyncio.StreamReader):
    """A stream reader that says when its client has hung up."""

    def __init__(self) -> None:
        super().__init__(limit=1 << 20)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc: BaseException) -> None:
        super().set_exception(exc)  # type: ignore[arg-type]
        self.gone.set()


async def read_call(reader: asyncio.StreamReader) -> Call | None:
    """The next request; None at the end of the connection. Raises ``ValueError`` for what is not HTTP."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunked(reader)
    elif "content-length" in headers:
        body = await reader.readexactly(min(int(headers["content-length"]), MAX_BODY))
    return Call(method, target.split("?")[0], body, headers.get("connection", "").lower() != "close")


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


class Connection:
    """One client connection: requests one after another, each ended early when the client hangs up."""

    def __init__(self, state: State, reader: Reader, writer: asyncio.StreamWriter) -> None:
        self.state = state
        self.reader = reader
        self.writer = writer

    async def run(self) -> None:
        """Serve until the client is gone."""
        try:
            while (call := await read_call(self.reader)) is not None:
                await self.serve(call)
                if not call.keep_alive:
                    break
        except (ConnectionError, ValueError, asyncio.IncompleteReadError):
            # Gone, or not HTTP: nobody is there to be told.
            pass
        finally:
            self.writer.close()

    async def serve(self, call: Call) -> None:
        """Answer one request."""
        if call.path in ("/v1/chat/completions", "/v1/completions") and call.method == "POST":
            await self.generate(call)
        elif call.path == "/health":
            self.reply({"status": "ok"})
        elif call.path == "/v1/models":
            self.reply({"object": "list", "data": [{"id": "echo", "object": "model"}]})
        elif call.path == "/debug/state":
            s = self.state
            self.reply({"active": s.active, "completed": s.completed, "cancelled": s.cancelled})
        elif call.path == "/metrics":
            text = f"requests_processing {self.state.active}\ncancelled_total {self.state.cancelled}\n"
            self.write(200, "text/plain", text.encode())
        else:
            self.reply({"error": {"message": f"no {call.path} here", "type": "not_found_error"}}, 404)
        await self.writer.drain()

    def reply(self, value: Any, status: int = 200) -> None:
        """Send JSON."""
        self.write(status, "application/json", json.dumps(value).encode())

    def write(self, status: int, kind: str, body: bytes) -> None:
        """Send a whole response."""
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    async def generate(self, call: Call) -> None:
        """Answer a generation, in one piece or as a stream."""
        try:
            request = json.loads(call.body)
            pieces = pieces_of(request)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self.reply({"error": {"message": f"cannot read the request: {error}", "type": "request_error"}}, 400)
            return
        self.state.active += 1
        work = asyncio.ensure_future(
            self.stream(call, request, pieces) if request.get("stream") else self.whole(call, request, pieces)
        )
        watch = asyncio.ensure_future(self.reader.gone.wait())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and (request.get("stream") or not self.state.dials.no_cancel):
                work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if work.cancelled() or self.writer.is_closing():
                self.state.cancelled += 1
            else:
                work.result()
                self.state.completed += 1
        finally:
            watch.cancel()
            self.state.active -= 1

    async def whole(self, call: Call, request: dict[str, Any], pieces: list[str]) -> None:
        """A non-stream answer."""
        async for _ in self.paced(pieces):
            pass
        self.reply(answer(call.path, request, pieces))

    async def stream(self, call: Call, request: dict[str, Any], pieces: list[str]) -> None:
        """A stream of events, each a chunk of its own."""
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.writer.write(head.encode())
        events = chunks(call.path, request, pieces)
        async for _ in self.paced(pieces):
            self.event(next(events))
            await self.writer.drain()
        for event in events:
            self.event(event)
        self.frame(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")

    def event(self, value: Any) -> None:
        """Send one event; die when the dial says so."""
        self.frame(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.state.sent_chunks += 1
        limit = self.state.dials.die_after_chunks
        if limit is not None and self.state.sent_chunks >= limit:
            os.kill(os.getpid(), signal.SIGKILL)

    def frame(self, data: bytes) -> None:
        """Send one HTTP chunk."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def paced(self, pieces: list[str]) -> AsyncIterator[str]:
        """The pieces at the dialled speed."""
        rate = self.state.dials.tokens_per_second
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, piece in enumerate(pieces):
            if rate > 0:
                await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            yield piece


async def serve(state: State) -> None:
    """Load for as long as dialled, listen, serve until told to stop."""
    loop = asyncio.get_running_loop()
    if not state.dials.ignore_term:
        loop.add_signal_handler(signal.SIGTERM, state.stop.set)
    if state.dials.hang:
        await state.stop.wait()
        return
    try:
        async with asyncio.timeout(state.dials.load_time):
            await state.stop.wait()
        return
    except TimeoutError:
        pass
    server = await listen(state)
    async with server:
        await state.stop.wait()


async def listen(state: State) -> asyncio.Server:
    """Listen on ``unix:<path>`` or ``<host>:<port>``."""

    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    def protocol() -> asyncio.StreamReaderProtocol:
        reader = Reader()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = loop.create_task(Connection(state, reader, writer).run())
            connections.add(task)
            task.add_done_callback(connections.discard)

        return asyncio.StreamReaderProtocol(reader, accepted)

    where: str = state.dials.listen
    if where.startswith("unix:"):
        path = where.removeprefix("unix:")
        if os.path.exists(path):
            os.unlink(path)
        return await loop.create_unix_server(protocol, path, backlog=1024)
    host, _, port = where.rpartition(":")
    return await loop.create_server(protocol, host, int(port), backlog=1024)


def main() -> int:
    """Run the server; its exit code."""
    parser = argparse.ArgumentParser(prog="echo_server", description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--load-time", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=0.0)
    parser.add_argument("--fail-at-start")
    parser.add_argument("--die-after-chunks", type=int)
    for flag in ("--hang", "--ignore-term", "--spawn-child", "--no-cancel"):
        parser.add_argument(flag, action="store_true")
    dials = parser.parse_args()
    if dials.fail_at_start:
        sys.stderr.write(f"echo: failed at start: {dials.fail_at_start}\n")
        return 1
    if dials.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    if dials.spawn_child:
        # A grandchild of the supervisor, to prove that whole trees are ended.
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])

    async def run() -> None:
        await serve(State(dials))

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    # Connections of clients that are still there must not hold up the end.
    code = main()
    sys.stdout.flush()
    os._exit(code)
