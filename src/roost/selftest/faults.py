"""The faults that the self-test injects into its own server: real signals to real processes, real changes.

Called by ``run``. It must only ever touch processes of the home it was given: each is opened, and checked by its
command line, before it is signalled.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from roost.client.asynchronous import AsyncRoost
from roost.client.errors import ClientError
from roost.selftest.work import Engine
from roost.wiring.pids import open_process, read_pid

HUNG_S = 6.0
GATEWAY_KILLED = "gateway worker killed"
SETTLED_S = 45.0
"""Longest time that an endpoint may take to have all its replicas again before the next fault."""
LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault: seconds since the beginning (and on the loop's clock), what was done, to what."""

    at_s: float
    at: float
    kind: str
    detail: str


class Faults:
    """Injects one fault after the other. ``endpoints`` are ids by engine, ``replicas`` how many each has."""

    def __init__(
        self,
        home: Path,
        client: AsyncRoost,
        endpoints: Mapping[Engine, str],
        replicas: Mapping[Engine, int],
        random: Random,
        tell: Callable[[str], None],
    ) -> None:
        self._home = home
        self._client = client
        self._endpoints = endpoints
        self._replicas = replicas
        self._random = random
        self._tell = tell
        self._began = time.monotonic()
        self.injected: list[Injected] = []
        self.trouble: list[str] = []
        """What did not go as it should: faults that could not be injected, endpoints that did not settle."""

    def kinds(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """One round of faults."""
        found: list[Callable[[], Awaitable[None]]] = [partial(self.kill_replica, engine) for engine in self._endpoints]
        found += [
            partial(self.drain, Engine.ECHO),
            self.kill_control_plane,
            partial(self.add, Engine.ECHO),
            self.kill_gateway,
            partial(self.hang_replica, Engine.ECHO),
            self.replace_gateways,
            self.restart,
        ]
        if Engine.MODEL in self._endpoints:
            found += [partial(self.drain, Engine.MODEL), partial(self.add, Engine.MODEL)]
        return tuple(found)

    async def run(self, every_s: float, stopped: Callable[[], bool]) -> None:
        """Fault after fault, one each ``every_s`` seconds, each once the one before has been got over."""
        faults: Iterator[Callable[[], Awaitable[None]]] = cycle(self.kinds())
        due = time.monotonic() + every_s
        while not stopped():
            if time.monotonic() < due:
                await asyncio.sleep(LOOK_S)
                continue
            await next(faults)()
            await self.settled(stopped)
            due = max(due + every_s, time.monotonic())

    async def kill_replica(self, engine: Engine) -> None:
        """SIGKILL one replica's engine."""
        self._signal_replica(engine, signal.SIGKILL, "replica killed")

    async def hang_replica(self, engine: Engine) -> None:
        """SIGSTOP one replica's engine for ``HUNG_S``, then let it go on."""
        pid = self._signal_replica(engine, signal.SIGSTOP, "replica hung")
        if pid is None:
            return
        await asyncio.sleep(HUNG_S)
        process = open_process(pid, str(self._home))
        if process is not None:
            with process:
                process.send(signal.SIGCONT)

    async def drain(self, engine: Engine) -> None:
        """One replica less than there were."""
        await self._scale(engine, self._replicas[engine] - 1, "replica drained")

    async def add(self, engine: Engine) -> None:
        """All the replicas again."""
        await self._scale(engine, self._replicas[engine], "replica added")

    async def kill_control_plane(self) -> None:
        """SIGKILL the control plane."""
        self._signal(self._home / "run" / "control.pid", signal.SIGKILL, "control plane killed")

    async def kill_gateway(self) -> None:
        """SIGKILL one gateway worker: its connections break, all others go on."""
        self._signal(self._gateway_pid(), signal.SIGKILL, GATEWAY_KILLED)

    async def replace_gateways(self) -> None:
        """Replace the gateway workers one by one, in order: each finishes what it has."""
        await self._restart("gateway workers replaced", "--gateways")

    async def restart(self) -> None:
        """Restart the whole server in place, as an upgrade does."""
        await self._restart("server restarted in place")

    async def _restart(self, kind: str, *flags: str) -> None:
        self._note(kind, " ".join(("roost restart", *flags)))
        command = (sys.executable, "-m", "roost", "restart", "--home", str(self._home), *flags)
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
        said, _ = await process.communicate()
        if process.returncode:
            self.trouble.append(f"{kind}: {said.decode(errors='replace').strip()}")

    async def settled(self, stopped: Callable[[], bool]) -> None:
        """Wait until every endpoint has as many ready replicas as it should."""
        deadline = time.monotonic() + SETTLED_S
        while not stopped():
            short = [engine.value for engine in self._endpoints if not await self._complete(engine)]
            if not short:
                return
            if time.monotonic() > deadline:
                self.trouble.append(f"{', '.join(short)}: not all replicas are back {SETTLED_S:g} s after the fault")
                return
            await asyncio.sleep(LOOK_S)

    async def _complete(self, engine: Engine) -> bool:
        try:
            endpoint = await self._client.endpoints.retrieve(self._endpoints[engine])
        except ClientError:
            return False
        states = [replica.state for replica in endpoint.replicas or ()]
        wanted = endpoint.autoscaling.min_replicas
        return states.count("READY") == wanted == len(states)

    async def _scale(self, engine: Engine, count: int, kind: str) -> None:
        scale = {"min_replicas": count, "max_replicas": count}
        try:
            await self._client.endpoints.update(self._endpoints[engine], autoscaling=scale)
        except ClientError as error:
            self.trouble.append(f"{kind}: {error.message}")
            return
        self._note(kind, f"{engine.value}: {count} replicas wanted")

    def _signal_replica(self, engine: Engine, number: int, kind: str) -> int | None:
        records = sorted(self._records(self._endpoints[engine]), key=lambda record: str(record["replica_id"]))
        if not records:
            self.trouble.append(f"{kind}: {engine.value} has no replica to do it to")
            return None
        record = self._random.choice(records)
        pid = int(record["engine_pid"])
        process = open_process(pid, str(self._home))
        if process is None:
            self.trouble.append(f"{kind}: {record['replica_id']} was gone already")
            return None
        with process:
            process.send(number)
        self._note(kind, f"{engine.value}: {record['replica_id']} (pid {pid})")
        return pid

    def _records(self, endpoint_id: str) -> Iterator[dict[str, Any]]:
        for path in (self._home / "run" / "replicas").glob("replica-*.json"):
            try:
                record = json.loads(path.read_text())
            except (FileNotFoundError, ValueError):
                continue  # it is being written, or gone
            if record.get("endpoint_id") == endpoint_id and record.get("state") == "READY" and record["engine_pid"]:
                yield record

    def _gateway_pid(self) -> Path:
        return self._random.choice(sorted((self._home / "run").glob("gateway-*.pid")))

    def _signal(self, path: Path, number: int, kind: str) -> None:
        process = open_process(read_pid(path), str(self._home))
        if process is None:
            self.trouble.append(f"{kind}: {path.stem} does not run")
            return
        with process:
            process.send(number)
            self._note(kind, f"{path.stem} (pid {process.pid})")

    def _note(self, kind: str, detail: str) -> None:
        self.injected.append(Injected(round(time.monotonic() - self._began, 1), time.monotonic(), kind, detail))
        self._tell(f"{kind}: {detail}")
