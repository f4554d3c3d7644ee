"""The stage: a real parent in a process, whose fake children the test directs. Nothing waits by the clock."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

RUNNER = str(Path(__file__).parent / "run_parent.py")
PATIENCE_S = 20.0


class Actor:
    """One fake child, as long as it lives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, born: dict[str, Any]) -> None:
        self._reader = reader
        self._writer = writer
        self.born = born
        self.pid: int = born["pid"]

    def order(self, **order: Any) -> None:
        self._writer.write(json.dumps(order).encode() + b"\n")

    def ready(self, **values: Any) -> None:
        self.order(tell={"ready": True, **values})

    async def event(self) -> str:
        """The next thing that happens to it; "gone" once the process has ended."""
        try:
            line = await asyncio.wait_for(self._reader.readline(), PATIENCE_S)
        except ConnectionError:
            return "gone"
        return str(json.loads(line)["event"]) if line else "gone"


class Server:
    """A parent process and what it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self, containing: str) -> str:
        """The next line that contains the text; fails when output ends without it."""
        assert self.process.stdout is not None
        seen = []
        while line := (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)).decode():
            seen.append(line)
            if containing in line:
                return line
        raise AssertionError(f"{containing!r} was never printed, but: {seen}")

    async def rest(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.read(), PATIENCE_S)).decode()

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Stage:
    """Where children report for direction."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._path = folder / "stage.sock"
        self._arrivals: dict[str, asyncio.Queue[Actor]] = {}
        self._actors: list[Actor] = []
        self._servers: list[Server] = []

    async def open(self) -> None:
        self._listening = await asyncio.start_unix_server(self._arrive, self._path)

    async def close(self) -> None:
        for server in self._servers:
            if server.process.returncode is None:
                server.process.kill()
                await server.process.wait()
        for actor in self._actors:
            actor.order(exit=0)
            while await actor.event() != "gone":
                pass
            actor._writer.close()
        self._listening.close()

    async def _arrive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        born = json.loads(await reader.readline())
        actor = Actor(reader, writer, born)
        self._actors.append(actor)
        self._arrivals.setdefault(born["name"], asyncio.Queue()).put_nowait(actor)

    async def child(self, name: str) -> Actor:
        """The next child of that name that is born."""
        queue = self._arrivals.setdefault(name, asyncio.Queue())
        return await asyncio.wait_for(queue.get(), PATIENCE_S)

    async def serve(self, **values: Any) -> Server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, RUNNER, str(self.home), str(self._path), json.dumps(values), stdout=asyncio.subprocess.PIPE
        )
        server = Server(process)
        self._servers.append(server)
        return server

    async def serving(self, **values: Any) -> tuple[Server, Actor, Actor]:
        """A server that has started: it, its control plane, its first gateway."""
        server = await self.serve(**values)
        control, gateway = await self.child("control"), await self.child("gateway-0")
        control.ready()
        gateway.ready()
        await server.line("Ctrl-C finishes")
        return server, control, gateway

    def run_file(self, name: str) -> Path:
        return self.home / "run" / name

    def port(self) -> int:
        return int(json.loads(self.run_file("settings.json").read_text())["port"])


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="rw"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def stage(short_folder: Path) -> AsyncIterator[Stage]:
    stage = Stage(short_folder)
    await stage.open()
    yield stage
    await stage.close()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return Path(f"/proc/{pid}").exists()
