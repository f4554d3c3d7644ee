"""What the gateway talks to, in this process and on loopback: a scriptable upstream, a control plane, a raw client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roost.config import Settings
from roost.domain.key import digest_of
from roost.domain.routing import RouteEndpoint, RouteKey, RouteReplica, RoutingTable
from roost.gateway.front import Front
from roost.gateway.gateway import Gateway

PATIENCE_S = 5.0
KEY = "rk-test-member"
OTHER_KEY = "rk-test-other"
ADMIN_KEY = "rk-test-admin"
EXPIRED = "rk-test-expired"
LISTED_KEY = "rk-listed"
ELSEWHERE_KEY = "rk-elsewhere"
ENDPOINT = "endpoint-1"
NAME = "alice/tiny-1"


@dataclass
class Seen:
    """A request as the fake has read it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """A connection from the gateway. ``gone`` is set when the gateway has closed or aborted it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.gone = asyncio.Event()

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            # Let the gateway read this piece by itself.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


Handler = Callable[[Seen, Peer], Awaitable[None]]


class FakeServer:
    """Speaks raw HTTP on a unix socket; ``handler`` answers. ``seen`` keeps the requests, ``peers`` the connections."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self.handler = handler
        self.seen: list[Seen] = []
        self.peers: list[Peer] = []
        self.arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for peer in self.peers:
            peer.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def wait_for(self, count: int) -> None:
        """Until so many requests have come."""
        async with asyncio.timeout(PATIENCE_S), self.arrived:
            await self.arrived.wait_for(lambda: len(self.seen) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            while True:
                seen = await read_request(reader)
                self.seen.append(seen)
                async with self.arrived:
                    self.arrived.notify_all()
                answering = asyncio.ensure_future(self.handler(seen, peer))
                watching = asyncio.ensure_future(_until_gone(reader, peer))
                try:
                    await answering
                finally:
                    answering.cancel()
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            peer.gone.set()
            writer.close()
            self._tasks.discard(task)


async def _until_gone(reader: asyncio.StreamReader, peer: Peer) -> None:
    while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110 - a reader tells its end to readers only
        await asyncio.sleep(0.002)
    peer.gone.set()


async def read_request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head[:-4].split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in lines)}
    body = await _read_body(reader, headers)
    return Seen(method, target, headers, body)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(pieces)
    return await reader.readexactly(int(headers.get("content-length", "0")))


@dataclass
class Answer:
    """A response as the client has read it; ``complete`` is False when the connection ended too early."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        return error

    @property
    def events(self) -> list[str]:
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]


class Client:
    """A raw client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head_only: bool = False) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head[:-4].split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in lines)}
            status = int(line.split(" ")[1])
            assert line.startswith("HTTP/1.1 ")
            if status < 200:
                return Answer(status, headers, b"")
            assert headers["x-request-id"]
            if head_only or status in (204, 304):
                return Answer(status, headers, b"")
            try:
                if "content-length" not in headers and "transfer-encoding" not in headers:
                    return Answer(status, headers, await self.reader.read())
                return Answer(status, headers, await _read_body(self.reader, headers))
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                return Answer(status, headers, getattr(error, "partial", b""), complete=False)

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def closed(self) -> bool:
        """Whether the gateway closes the connection without another byte."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def hang_up(self) -> None:
        self.writer.transport.abort()


def post(
    body: Any = None,
    *,
    path: str = "/v1/chat/completions",
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
    raw: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """The bytes of an inference request."""
    payload = raw if raw is not None else json.dumps({"model": ENDPOINT} if body is None else body).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", f"Content-Length: {len(payload)}"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


def whole(body: bytes, status: str = "200 OK", headers: str = "content-type: application/json\r\n") -> bytes:
    """The bytes of a response with a length."""
    return f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


LAST = b"0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def event(value: Any) -> bytes:
    data = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"data: {data}\n\n".encode()


def delta(content: str | None = None, *, finish: str | None = None, index: int = 0, **extra: Any) -> dict[str, Any]:
    """A chat chunk as engines send it."""
    fields = {**({"content": content} if content is not None else {}), **extra}
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USAGE_CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE}
CHAT = [delta("", role="assistant"), delta("Hel"), delta("lo"), delta(finish="stop"), USAGE_CHUNK, "[DONE]"]


def stream(*events: Any) -> bytes:
    """A whole chunked stream, an event in each chunk."""
    return STREAM_HEAD + b"".join(chunked(event(e)) for e in events) + b"0\r\n\r\n"


async def echo(seen: Seen, peer: Peer) -> None:
    """A well-behaved engine: streams when asked to."""
    if seen.json.get("stream"):
        await peer.send(stream(*CHAT))
    else:
        await peer.send(whole(json.dumps({"id": "c1", "object": "chat.completion", "choices": []}).encode()))


async def silent(seen: Seen, peer: Peer) -> None:
    """Never answers."""
    await asyncio.Event().wait()


@contextlib.contextmanager
def no_files_left() -> Iterator[None]:
    """This process can open no further file meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class World:
    """A gateway on loopback, with upstreams and a relay target."""

    gateway: Gateway
    port: int
    upstream: FakeServer
    control: FakeServer
    folder: Path
    version: int = 0
    others: list[FakeServer] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        return await (await self.connect()).ask(data)

    async def another(self, handler: Handler) -> FakeServer:
        server = FakeServer(self.folder / f"u{len(self.others) + 2}.sock", handler)
        await server.start()
        self.others.append(server)
        return server

    def route(self, *replicas: RouteReplica, **changes: Any) -> None:
        """Apply a table with one endpoint of alice's."""
        self.version += 1
        self.gateway.apply(table(self.version, *replicas, **changes))

    def replica(self, number: int = 1, server: FakeServer | None = None, *, draining: bool = False) -> RouteReplica:
        return RouteReplica(f"replica-{number}", (server or self.upstream).address, draining)


def table(version: int, *replicas: RouteReplica, term: int = 1, **changes: Any) -> RoutingTable:
    """A table with one endpoint of alice's and keys for everybody."""
    fields: dict[str, Any] = {
        "id": ENDPOINT,
        "name": NAME,
        "owner": "alice",
        "state": "STARTED",
        "accepting": True,
        "engine": "echo",
        "replicas": replicas,
        **changes,
    }
    keys = (
        RouteKey(digest_of(KEY), "key-1", "alice", "member"),
        RouteKey(digest_of(OTHER_KEY), "key-2", "bob", "inference"),
        RouteKey(digest_of(ADMIN_KEY), "key-3", "root", "admin"),
        RouteKey(digest_of(EXPIRED), "key-4", "alice", "member", expires_at=1.0),
        RouteKey(digest_of(LISTED_KEY), "key-5", "alice", "inference", endpoints=("endpoint-other", ENDPOINT)),
        RouteKey(digest_of(ELSEWHERE_KEY), "key-6", "alice", "inference", endpoints=("endpoint-other",)),
    )
    return RoutingTable("test", term, version, (RouteEndpoint(**fields),), keys)


async def page(seen: Seen, peer: Peer) -> None:
    """A control plane that tells what it was asked."""
    told = {"method": seen.method, "target": seen.target, "headers": seen.headers, "size": len(seen.body)}
    body = b"" if seen.method == "HEAD" else json.dumps(told).encode()
    await peer.send(whole(body, headers="content-type: application/json\r\nx-request-id: own\r\n"))


@asynccontextmanager
async def world(folder: Path, **settings: Any) -> AsyncIterator[World]:
    """A running gateway whose one endpoint has one replica, and its surroundings; everything ends with the context."""
    configuration = Settings(home=folder, **settings)
    configuration.run_dir.mkdir(mode=0o700)
    configuration.logs_dir.mkdir()
    loop = asyncio.get_running_loop()
    gateway = Gateway(configuration, 0, loop)
    upstream = FakeServer(folder / "u1.sock", echo)
    control = FakeServer(configuration.control_socket, page)
    await upstream.start()
    await control.start()
    server = await loop.create_server(lambda: Front(gateway), "127.0.0.1", 0)
    made = World(gateway, server.sockets[0].getsockname()[1], upstream, control, folder)
    made.route(made.replica())
    try:
        yield made
    finally:
        server.close()
        for client in made.clients:
            with contextlib.suppress(ConnectionError):
                client.hang_up()
        await gateway.close()
        for fake in (upstream, control, *made.others):
            await fake.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has become true; bounded."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition is in another object's state
            await asyncio.sleep(0.002)
