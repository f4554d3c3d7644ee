"""Engine processes without a runtime: start the first process of a launch spec on a unix socket, talk to it, end it.

For contract suites, tests and benchmarks. It keeps no promise that a runtime keeps: no reservation, no re-adoption.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import httpx
import psutil

from roost.config import engine_environment
from roost.domain.launch import LISTEN, LaunchSpec
from roost.domain.replica import ExitInfo

POLL_S = 0.005
LOG_BYTES = 256 * 1024
"""As much of the end of an engine's output is kept as its last lines."""


class EngineEnded(Exception):
    """The engine ended before it accepted a connection; ``exit`` says how."""

    def __init__(self, exit: ExitInfo) -> None:
        super().__init__(f"the engine ended: {exit}")
        self.exit = exit


class EngineProcess:
    """A started engine. ``address`` is ``unix:<path>``."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path, output: BinaryIO) -> None:
        self.process = process
        self.socket = socket
        self.address = f"unix:{socket}"
        # A file, not a pipe: a child that outlives the engine would hold a pipe open, and the wait with it.
        self._output = output

    @property
    def pid(self) -> int:
        """The engine's pid."""
        return self.process.pid

    def log(self) -> tuple[str, ...]:
        """The last lines of its output."""
        size = os.fstat(self._output.fileno()).st_size
        data = os.pread(self._output.fileno(), LOG_BYTES, max(0, size - LOG_BYTES))
        return tuple(data.decode(errors="replace").splitlines())

    def client(self, timeout_s: float = 60.0) -> httpx.AsyncClient:
        """A client of the engine; the caller closes it."""
        limits = httpx.Limits(max_connections=None)
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket), limits=limits)
        return httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=timeout_s)

    async def ready(self, timeout_s: float) -> None:
        """Wait until it accepts a connection. Raises ``EngineEnded`` or ``TimeoutError``."""
        async with asyncio.timeout(timeout_s):
            while not await self._accepts():
                if self.process.returncode is not None:
                    raise EngineEnded(await self.exit())
                await asyncio.sleep(POLL_S)

    async def exit(self) -> ExitInfo:
        """Wait for its end; how it ended, with its last lines."""
        status = await self.process.wait()
        if status < 0:
            return ExitInfo(signal=-status, log_tail=self.log())
        return ExitInfo(code=status, log_tail=self.log())

    async def stop(self, grace_s: float = 10.0) -> ExitInfo:
        """TERM, wait ``grace_s``, KILL; then KILL whatever it had started. Idempotent."""
        children = self.children()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), grace_s)
            except TimeoutError:
                self.process.kill()
        await self.process.wait()
        for child in children:
            # psutil compares start times, so a pid that was given away meanwhile is safe.
            if child.is_running():
                child.kill()
        psutil.wait_procs(children, timeout=5)
        return await self.exit()

    def children(self) -> list[psutil.Process]:
        """All that descends from the engine now."""
        if self.process.returncode is not None:
            return []
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        writer.close()
        return True


async def spawn_engine(spec: LaunchSpec, socket: Path) -> EngineProcess:
    """Start the first process of ``spec`` on ``socket`` without waiting for anything. The caller stops it."""
    first = spec.processes[0]
    address = f"unix:{socket}"
    environment = {
        name: value.replace(LISTEN, address)
        for name, value in {**engine_environment(), **first.env, **first.secrets}.items()
    }
    output = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the engine)
    process = await asyncio.create_subprocess_exec(
        *(part.replace(LISTEN, address) for part in first.argv),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    return EngineProcess(process, socket, output)


async def start_engine(spec: LaunchSpec, socket: Path, timeout_s: float = 60.0) -> EngineProcess:
    """Start the first process of ``spec`` on ``socket`` and wait until it accepts a connection. The caller stops it.

    Raises ``EngineEnded``, or ``TimeoutError`` when it takes too long; nothing is left running then.
    """
    engine = await spawn_engine(spec, socket)
    try:
        await engine.ready(timeout_s)
    except BaseException:
        await engine.stop(grace_s=0)
        raise
    return engine


@asynccontextmanager
async def running_engine(spec: LaunchSpec, socket: Path, timeout_s: float = 60.0) -> AsyncIterator[EngineProcess]:
    """``start_engine``, and ``stop`` at the end of the block."""
    engine = await start_engine(spec, socket, timeout_s)
    try:
        yield engine
    finally:
        await engine.stop()
