"""The memory runtime passes the runtime contract."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from roost.domain.hardware import Node, Resources
from roost.domain.launch import LaunchSpec
from roost.domain.replica import ExitInfo, RuntimeState
from roost.runtimes.base import Runtime, RuntimeSettings
from roost.runtimes.memory import GIB, MemoryRuntime
from roost.testing.runtime_contract import THREADS, ZONE, RuntimeContract, RuntimeHarness

RUNNING = (RuntimeState.STARTING, RuntimeState.READY, RuntimeState.STOPPING)


class MemoryHarness(RuntimeHarness):
    """Plays the part of ``replica_program``: reads a spec's arguments and does by hand what the program would do."""

    def __init__(self) -> None:
        total = Resources(threads=THREADS, memory_bytes=GIB)
        settings = RuntimeSettings(Path("/nonexistent"), "installation-1", ZONE)
        self.runtime = MemoryRuntime(settings, nodes=(Node("node-1", ZONE, "cpu", total, total),))

    async def open(self) -> Runtime:
        await self.runtime.start()
        return self.runtime

    async def close(self) -> None:
        self.runtime.check_books()
        await self.runtime.close()

    async def unfold(self, runtime: Runtime, replica_id: str) -> None:
        status = await self.runtime.status(replica_id)
        if status is None or status.state is not RuntimeState.STARTING:
            return
        argv = self.runtime.spec(replica_id).processes[0].argv
        if not os.path.exists(argv[0]):
            self.runtime.crash(replica_id, ExitInfo(cause=f"cannot execute {argv[0]}"))
            return
        self.runtime.write_log(replica_id, *_after("--say", argv))
        if "--exit" in argv:
            self.runtime.crash(replica_id, ExitInfo(code=int(_after("--exit", argv)[0])))
        elif "--hang" not in argv:
            self.runtime.make_ready(replica_id, pids=(1000 + len(replica_id),))

    async def answer(self, address: str) -> Mapping[str, Any]:
        (status,) = [one for one in await self.runtime.list() if one.address == address]
        argv = self.runtime.spec(status.replica_id).processes[0].argv
        return {"pid": status.pids[0], "name": "".join(_after("--name", argv)), "child": None}

    async def kill_engine(self, runtime: Runtime, replica_id: str) -> None:
        self.runtime.crash(replica_id, ExitInfo(signal=9))

    async def kill_supervisor(self, runtime: Runtime, replica_id: str) -> None:
        self.runtime.crash(replica_id, ExitInfo(cause="its supervisor died"))

    async def launch_and_die(self, spec: LaunchSpec, replica_id: str) -> None:
        await self.runtime.launch(spec, replica_id)
        await self.unfold(self.runtime, replica_id)

    async def processes(self, replica_id: str) -> int:
        status = await self.runtime.status(replica_id)
        return 1 if status is not None and status.state in RUNNING else 0


def _after(name: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(argv[i + 1] for i, argument in enumerate(argv[:-1]) if argument == name)


class TestMemoryRuntime(RuntimeContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[RuntimeHarness]:
        harness = MemoryHarness()
        yield harness
        await harness.close()
