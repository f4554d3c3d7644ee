"""A home of the local runtime and all processes in it, for tests: nothing outlives the harness."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from roost.config import engine_environment
from roost.domain.hardware import Resources
from roost.domain.launch import LaunchSpec
from roost.domain.replica import RuntimeState
from roost.runtimes.base import Runtime, RuntimeSettings
from roost.runtimes.local import LocalRuntime
from roost.runtimes.memory import GIB
from roost.runtimes.supervision import process
from roost.testing.runtime_contract import GONE, PATIENCE_S, THREADS, ZONE, RuntimeHarness, reach

CONTROL_PLANE = Path(__file__).parent / "dying_control_plane.py"
WORLD = "TEST_WORLD"


class LocalWorld(RuntimeHarness):
    """Every process in this world inherits an environment variable that names it, so that none can hide."""

    def __init__(self, home: Path, installation: str = "installation-1") -> None:
        self.home = home
        self.settings = RuntimeSettings(home, installation, ZONE)
        self.resources = Resources(threads=THREADS, memory_bytes=GIB)
        self.mark = secrets.token_hex(8)
        self.environment = {**engine_environment(), WORLD: self.mark}
        self.stop_margin = timedelta(seconds=10)
        self.runtimes: list[LocalRuntime] = []
        self.factory: Callable[..., LocalRuntime] = LocalRuntime
        """What makes a runtime; it can be pickled."""

    async def open(self) -> LocalRuntime:
        runtime = self.factory(
            self.settings, resources=self.resources, environment=self.environment, stop_margin=self.stop_margin
        )
        self.runtimes.append(runtime)
        await runtime.start()
        return runtime

    async def close(self) -> None:
        for runtime in self.runtimes:
            await runtime.close()
        last = await self.open()
        try:
            async with asyncio.timeout(PATIENCE_S):
                # A supervisor that was only just started when its runtime closed shows up a moment later, and one
                # that was adopted is not a child of ours: both may need another look.
                while self.alive() or await last.list():
                    ours = await last.list()
                    await asyncio.gather(*(last.stop(one.replica_id, timedelta(0)) for one in ours))
                    await asyncio.gather(*(last.forget(one.replica_id) for one in ours))
                    await asyncio.sleep(0.01)
        finally:
            await last.close()
            left = self.alive()
            for one in left:
                process.kill(one)
        assert not left, f"left behind: {[one.pid for one in left]}"
        assert not await asyncio.to_thread(lambda: list((self.home / "run" / "replicas").glob("*.json")))

    async def unfold(self, runtime: Runtime, replica_id: str) -> None:
        pass

    async def answer(self, address: str) -> Mapping[str, Any]:
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        answer: Mapping[str, Any] = json.loads(await reader.readline())
        writer.close()
        return answer

    async def kill_engine(self, runtime: Runtime, replica_id: str) -> None:
        os.kill(self.record(replica_id)["engine_pid"], signal.SIGKILL)

    async def kill_supervisor(self, runtime: Runtime, replica_id: str) -> None:
        os.kill(self.record(replica_id)["supervisor_pid"], signal.SIGKILL)

    async def launch_and_die(self, spec: LaunchSpec, replica_id: str) -> None:
        job = pickle.dumps((self.factory, self.settings, self.resources, self.environment, spec, replica_id))
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(CONTROL_PLANE), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(job)
        child.stdin.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            assert await child.stdout.readline() == b"READY\n"
            child.kill()
            assert await child.wait() == -signal.SIGKILL

    async def processes(self, replica_id: str) -> int:
        supervisor = self.record(replica_id)["supervisor_pid"] if self.has_record(replica_id) else None
        marker = f"{replica_id}/"
        count = 0
        for one in self.alive():
            if one.pid != supervisor and marker in _environment(one.pid).get(process.MARKER, ""):
                count += 1
        return count

    def has_record(self, replica_id: str) -> bool:
        return (self.home / "run" / "replicas" / f"{replica_id}.json").exists()

    def record(self, replica_id: str) -> dict[str, Any]:
        """The replica's record as it is on disk."""
        record: dict[str, Any] = json.loads((self.home / "run" / "replicas" / f"{replica_id}.json").read_text())
        return record

    def alive(self) -> list[process.Stat]:
        """All live processes of this world."""
        return [one for one in process.snapshot() if one.alive and _environment(one.pid).get(WORLD) == self.mark]


def _environment(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    pairs = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, _, value in pairs}


async def gone(world: LocalWorld, runtime: LocalRuntime, replica_id: str) -> Any:
    """Wait for the end; the exit."""
    status = await reach(world, runtime, replica_id, GONE)
    assert status.state is RuntimeState.EXITED
    assert status.exit is not None
    return status.exit
