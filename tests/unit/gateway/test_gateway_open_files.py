"""A worker process that may have few files open, under more connections than that."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.gateway.fakes import PATIENCE_S, Client, table

from roost.config import Settings
from roost.gateway.control_link import RoutesFile

FILES = 200
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; "
RUN = "from roost.wiring.gateway import main; raise SystemExit(main({arguments!r}))"


@pytest.fixture(params=["", WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
async def port(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """Of a worker that serves."""
    settings = Settings(home=folder)
    settings.run_dir.mkdir(mode=0o700)
    (settings.run_dir / "settings.json").write_text(settings.dump())
    RoutesFile(settings.run_dir / "routes-0.json").save(table(1))
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        arguments = [str(settings.run_dir / "settings.json"), "--index", "0", "--fd", str(listening.fileno())]
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            request.param + RUN.format(arguments=arguments),
            pass_fds=[listening.fileno()],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES // 2, FILES)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        yield listening.getsockname()[1]
    worker.send_signal(signal.SIGTERM)
    said, _ = await asyncio.wait_for(worker.communicate(), PATIENCE_S)
    assert worker.returncode == 0, said
    assert b"fewer connections than allowed" in said
    assert said.count(b"no file is left") <= 2


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def served(client: Client) -> bool:
    """Whether it is; a connection that is refused or dropped is not."""
    try:
        return (await client.ask(GET)).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_it_serves_some_and_all_once_there_are_fewer(port: int) -> None:
    first = await connect(port)
    assert await served(first)
    clients = [await connect(port) for _ in range(2 * FILES)]
    kept = [client for client in clients if await served(client)]
    assert 40 <= len(kept) < FILES // 2
    assert await served(first)
    for client in clients:
        client.hang_up()
    async with asyncio.timeout(PATIENCE_S):
        while not await served(again := await connect(port)):
            again.hang_up()
    assert await served(first)
    assert json.loads((await first.ask(GET)).body) == {"status": "ok"}
    for client in (first, again):
        client.hang_up()
