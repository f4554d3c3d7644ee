"""The watch and the reports, and a whole worker as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.fakes import (
    ENDPOINT,
    Client,
    FakeServer,
    Peer,
    Seen,
    World,
    chunked,
    echo,
    post,
    silent,
    table,
    until,
    whole,
)

from roost.config import Settings
from roost.domain.creation import Delivery
from roost.domain.routing import RouteKey, RouteReplica, RoutingTable
from roost.gateway.control_link import Link, RoutesFile


class FakeControl:
    """The internal routes: ``tell`` sends lines to every watch, ``reports`` keeps what was posted."""

    def __init__(self, path: Path) -> None:
        self.server = FakeServer(path, self._answer)
        self.first: list[bytes] = []
        self.watches: list[Peer] = []
        self.reports: list[dict[str, Any]] = []
        self.news: list[dict[str, str]] = []
        self.identity = ""

    async def _answer(self, seen: Seen, peer: Peer) -> None:
        if seen.method == "POST":
            if seen.target == "/internal/v1/deliveries":
                self.news += seen.json["deliveries"]
            else:
                assert seen.target == "/internal/v1/report"
                self.reports.append(seen.json)
            await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        self.identity = seen.target.partition("gateway=")[2].partition("&")[0]
        assert seen.target == f"/internal/v1/routes/watch?gateway={self.identity}&pid={seen.target.rpartition('=')[2]}"
        await peer.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n",
            *(chunked(line) for line in self.first),
        )
        self.watches.append(peer)
        await peer.gone.wait()

    async def tell(self, *lines: bytes) -> None:
        for peer in self.watches:
            if not peer.gone.is_set():
                await peer.send(*(chunked(line) for line in lines))

    async def reported(self, version: int) -> dict[str, Any]:
        """The first report of that table version; waits for it."""
        await until(lambda: any(report["version"] == version for report in self.reports))
        return next(report for report in self.reports if report["version"] == version)


def snapshot(found: RoutingTable, protocol: int = 1) -> bytes:
    return json.dumps({"protocol": protocol, "type": "snapshot", "table": found.to_dict()}).encode() + b"\n"


HEARTBEAT = b'{"protocol":1,"type":"heartbeat"}\n'


@asynccontextmanager
async def linked(world: World) -> AsyncIterator[tuple[FakeControl, Link]]:
    control = FakeControl(world.gateway.settings.internal_socket)
    await control.server.start()
    link = Link(world.gateway, "gateway-0-00000000", RoutesFile(world.folder / "run" / "routes-0.json"))
    world.gateway.link = link
    task = asyncio.ensure_future(link.run())
    try:
        yield control, link
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        world.gateway.link = None
        await control.server.stop()


def version_of(world: World) -> int:
    current = world.gateway.books.table
    assert current is not None
    return current.version


async def test_tables_are_applied_reported_and_kept(world: World) -> None:
    async with linked(world) as (control, link):
        await until(lambda: bool(control.watches) and link.connected)
        line = snapshot(table(5, world.replica()))
        await control.tell(line[:50], line[50:])
        report = await control.reported(5)
        assert report["protocol"] == 1
        assert report["gateway"] == control.identity == "gateway-0-00000000"
        assert (report["pid"], report["term"]) == (os.getpid(), 1)
        assert report["in_flight"] == {"replica-1": 0}
        assert report["held"] == {ENDPOINT: 0}
        assert report["requests"] == {}
        assert (await world.ask(post())).status == 200
        link.report_soon()
        await until(lambda: bool(control.reports[-1]["requests"]))
        counts = control.reports[-1]["requests"][ENDPOINT]
        assert (counts["completed"], counts["failed"]) == (1, 0)
        assert counts["last_at"] == pytest.approx(world.gateway.wall(), abs=60)
    path = world.folder / "run" / "routes-0.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = RoutesFile(path).load()
    assert found is not None
    assert found[0] == table(5, world.replica())


def test_the_table_on_disk_has_limited_keys_where_a_gateway_without_limits_does_not_look(folder: Path) -> None:
    limited = RouteKey("digest", "key-1", "ada", "member", endpoints=("endpoint-1",))
    known = replace(table(1), keys=(limited,))
    file = RoutesFile(folder / "routes")
    file.save(known)
    assert json.loads(file.path.read_bytes())["table"]["keys"] == []
    found = file.load()
    assert found is not None
    assert found[0] == known


async def test_news_of_answers_is_told_in_order_also_after_the_control_plane_was_away(world: World) -> None:
    async with linked(world) as (control, link):
        link.tell("a", Delivery.ACKNOWLEDGED)
        await until(lambda: len(control.news) == 1)
        await control.server.stop()
        link.tell("a", Delivery.LOST)
        await until(lambda: not link.connected)
        link.tell("b", Delivery.DELIVERED)
        await control.server.start()
        await until(lambda: len(control.news) >= 3)
        told = [(item["answer"], item["delivery"]) for item in control.news]
        assert told == [("a", "acknowledged"), ("a", "lost"), ("b", "delivered")]


async def test_only_newer_tables_replace_and_unknown_messages_are_kept_away(world: World) -> None:
    async with linked(world) as (control, link):
        await until(lambda: bool(control.watches))
        await control.tell(snapshot(table(9, world.replica())))
        await until(lambda: version_of(world) == 9)
        assert not world.gateway.apply(table(8))
        assert version_of(world) == 9
        odd = [
            snapshot(table(8)),
            snapshot(table(99), protocol=2),
            b'{"protocol":1,"type":"snapshot","table":{}}\n',
            b"not json\n",
            b"[]\n",
            b'{"protocol":1,"type":"news"}\n',
        ]
        await control.tell(*odd, HEARTBEAT, snapshot(table(1, world.replica(), term=2)))
        await until(lambda: version_of(world) == 1)
        assert link.connected
        assert (await world.ask(post())).status == 200


async def test_the_table_outlives_the_control_plane(world: World) -> None:
    async with linked(world) as (control, link):
        control.first = [snapshot(table(3, world.replica()))]
        await until(lambda: version_of(world) == 3)
        await control.server.stop()
        await until(lambda: not link.connected)
        assert (await world.ask(post())).status == 200
        control.first = [snapshot(table(4, world.replica()))]
        await control.server.start()
        await until(lambda: version_of(world) == 4)
        await control.reported(4)


async def test_a_drain_is_reported_when_the_last_request_has_ended(world: World) -> None:
    finish = asyncio.Event()

    async def waits(seen: Seen, peer: Peer) -> None:
        await finish.wait()
        await peer.send(whole(b"{}"))

    async with linked(world) as (control, _):
        world.upstream.handler = waits
        client = await world.connect()
        await client.send(post())
        await world.upstream.wait_for(1)
        await until(lambda: bool(control.watches))
        await control.tell(snapshot(table(2, world.replica(draining=True))))
        assert (await control.reported(2))["in_flight"] == {"replica-1": 1}
        finish.set()
        await client.answer()
        await until(lambda: control.reports[-1]["in_flight"] == {"replica-1": 0})


BAD_FILES = {
    "absent": None,
    "empty": b"",
    "not json": b"{",
    "list": b"[]",
    "no table": b'{"protocol":1}',
    "another protocol": b'{"protocol":2,"table":{}}',
    "half a table": b'{"protocol":1,"table":{"installation":"a"}}',
}


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_file_that_is_no_table_is_none(folder: Path, name: str) -> None:
    content = BAD_FILES[name]
    if content is not None:
        (folder / "routes").write_bytes(content)
    assert RoutesFile(folder / "routes").load() is None


WORKER = (
    "import sys; from pathlib import Path; from roost.config import Settings; from roost.gateway.worker import run\n"
    "sys.exit(run(Settings(home=Path(sys.argv[1]), drain_deadline_s=float(sys.argv[3])), 0, int(sys.argv[2])))"
)


class Worker:
    """A gateway worker as a child process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def worker(folder: Path, upstream: FakeServer, drain_deadline_s: float) -> AsyncIterator[Worker]:
    settings = Settings(home=folder)
    settings.run_dir.mkdir(mode=0o700)
    RoutesFile(settings.run_dir / "routes-0.json").save(table(1, RouteReplica("replica-1", upstream.address)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, str(folder), str(listener.fileno()), str(drain_deadline_s)),
            pass_fds=(listener.fileno(),),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        made = Worker(process, listener.getsockname()[1])
        try:
            async with asyncio.timeout(20):  # the socket listens already: this waits for the worker's first answer
                client = await made.connect()
                await client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                await client.reader.read()
            yield made
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("case", ["finishes", "deadline", "second signal"])
async def test_a_worker_drains_on_term(folder: Path, case: str) -> None:
    finish = asyncio.Event()

    async def waits(seen: Seen, peer: Peer) -> None:
        await finish.wait()
        await echo(seen, peer)

    upstream = FakeServer(folder / "u.sock", waits if case == "finishes" else silent)
    await upstream.start()
    async with worker(folder, upstream, 0.2 if case == "deadline" else 60.0) as made:
        idle, busy = await made.connect(), await made.connect()
        await idle.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await busy.send(post())
        await upstream.wait_for(1)
        made.process.send_signal(signal.SIGTERM)
        assert await idle.closed()
        if case == "finishes":
            finish.set()
            answer = await busy.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        elif case == "second signal":
            made.process.send_signal(signal.SIGTERM)
        assert await busy.closed()
        assert await made.ended() == 0
    await upstream.stop()
    lines = (folder / "logs" / "gateway-0.access.log").read_text().splitlines()
    statuses = [json.loads(line)["status"] for line in lines]
    assert statuses[-1] == (200 if case == "finishes" else 499)
