"""A whole self-test: a server in a home of its own, two endpoints, the load, the faults, the count.

Called by ``roost selftest`` and ``benchmarks.lossless``. It must never touch a server that it has not started.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx

from roost.client.asynchronous import AsyncRoost
from roost.selftest.faults import Faults
from roost.selftest.load import Clients
from roost.selftest.report import Report
from roost.selftest.work import TOPICS, Ask, Engine, Verdict, echo_ask, judge, model_ask
from roost.wiring.temporary import ServerFailed, TemporaryServer

ECHO, MODEL = "selftest/echo", "smollm2-135m"
START_S = 300.0
IDLE_S = 10.0
"""After the load, requests may stay in flight for this long."""
LOOK_S = 0.2
GAUGES = re.compile(r"^roost_gateway_(in_flight|held) (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Options:
    """``seconds`` of load, a fault each ``fault_every_s``; replicas and clients by engine (no replica: the engine is
    left out); ``echo_tokens_per_s`` is the speed of one echo stream."""

    seconds: float = 180.0
    seed: int = 1
    gateway_workers: int = 2
    echo_replicas: int = 3
    echo_clients: int = 6
    echo_tokens_per_s: int = 100
    model_replicas: int = 2
    model_clients: int = 4
    fault_every_s: float = 6.0


class SelfTest:
    """One run. ``tell`` is given a line for each thing that happens."""

    def __init__(self, options: Options, server: TemporaryServer, tell: Callable[[str], None]) -> None:
        self._options = options
        self._server = server
        self._tell = tell
        self._numbers = itertools.count()
        self._random = Random(options.seed)
        self.report = Report()

    @staticmethod
    def server(home: Path, options: Options) -> TemporaryServer:
        """The server that a run with ``options`` needs, in ``home``."""
        # More replicas than cores: what is tested is what happens when they die, not how fast they are.
        replicas = options.echo_replicas + options.model_replicas
        overcommit = max(1.0, (replicas + 1) / (os.cpu_count() or 1))
        return TemporaryServer(
            home,
            "--port",
            "0",
            "--gateway-workers",
            str(options.gateway_workers),
            settings={"cpu_overcommit": round(overcommit, 1)},
        )

    async def run(self) -> Report:
        """The run on the started server. Raises ``ClientError`` when the endpoints do not come up."""
        began = time.monotonic()
        async with AsyncRoost(home=self._server.home) as client:
            endpoints = await self._create(client)
            key = json.loads((self._server.home / "credentials.json").read_text())["api_key"]
            clients = Clients(client.base_url, key, endpoints, self.report.saw)
            try:
                await self._undisturbed(clients, endpoints)
                await self._under_faults(client, clients, endpoints)
                await self._idle(client.base_url)
            finally:
                await clients.close()
            for endpoint in endpoints.values():
                await client.endpoints.delete(endpoint)
        self.report.seconds = time.monotonic() - began
        return self.report

    def look_at_logs(self) -> None:
        """After the server's end: whether any request was completed twice."""
        counts = Counter(completed(self._server.home / "logs"))
        self.report.served_twice = sum(count > 1 for count in counts.values())

    async def _create(self, client: AsyncRoost) -> dict[Engine, str]:
        options, found = self._options, {}
        speed = {"tokens_per_second": str(options.echo_tokens_per_s)}
        await client.models.add({"id": ECHO, "engine": "echo", "options": speed})
        for engine, model, replicas in (
            (Engine.ECHO, ECHO, options.echo_replicas),
            (Engine.MODEL, MODEL, options.model_replicas),
        ):
            if not replicas:
                continue
            scale = {"min_replicas": replicas, "max_replicas": replicas}
            endpoint = await client.endpoints.create(model=model, hardware="1x_cpu", autoscaling=scale)
            found[engine] = endpoint.id
            self._tell(f"created {endpoint.name} with {replicas} replicas")
        for endpoint_id in found.values():
            await client.endpoints.wait(endpoint_id, timeout=START_S)
        return found

    async def _undisturbed(self, clients: Clients, endpoints: dict[Engine, str]) -> None:
        if Engine.MODEL not in endpoints:
            return
        reference = {}
        for _ in TOPICS:
            seen = await clients.ask(model_ask(next(self._numbers), Random(0)))
            verdict, why = judge(seen)
            if verdict is not Verdict.RIGHT:
                raise ServerFailed(f"The model's undisturbed answer was not right: {verdict.value}: {why}")
            reference[seen.ask.prompt] = seen.text
        self.report.reference = reference
        self._tell(f"{len(reference)} undisturbed answers of the model, to compare with")

    async def _under_faults(self, client: AsyncRoost, clients: Clients, endpoints: dict[Engine, str]) -> None:
        options = self._options
        replicas = {Engine.ECHO: options.echo_replicas, Engine.MODEL: options.model_replicas}
        faults = Faults(self._server.home, client, endpoints, replicas, self._random, self._tell)
        ends = time.monotonic() + options.seconds

        def stopped() -> bool:
            return time.monotonic() >= ends

        await faults.settled(stopped)
        loops = [clients.loop(self._echo, stopped) for _ in range(options.echo_clients if options.echo_replicas else 0)]
        loops += [
            clients.loop(self._model, stopped) for _ in range(options.model_clients if options.model_replicas else 0)
        ]
        await asyncio.gather(*loops, faults.run(options.fault_every_s, stopped))
        self.report.faulted(faults.injected, faults.trouble)

    def _echo(self) -> Ask:
        return echo_ask(next(self._numbers), self._random)

    def _model(self) -> Ask:
        return model_ask(next(self._numbers), self._random)

    async def _idle(self, base_url: str) -> None:
        deadline = time.monotonic() + IDLE_S
        async with httpx.AsyncClient(timeout=IDLE_S) as http:
            while True:
                try:
                    page = (await http.get(base_url.removesuffix("/v1") + "/metrics")).text
                    left = [f"{count} requests {name}" for name, count in GAUGES.findall(page) if count != "0"]
                except httpx.TransportError as error:
                    left = [f"/metrics does not answer: {type(error).__name__}"]
                if not left or time.monotonic() > deadline:
                    self.report.left_behind = left
                    return
                await asyncio.sleep(LOOK_S)


def completed(logs: Path) -> Iterator[str]:
    """The ids of the requests of the self-test that were answered in full, as the access logs tell."""
    for path in logs.glob("gateway-*.access.log*"):
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a worker was killed while it wrote
            if entry["request_id"].startswith("selftest-") and entry["outcome"] in ("completed", "continued"):
                yield entry["request_id"]
