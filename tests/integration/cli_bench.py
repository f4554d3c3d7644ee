"""The command line before the real API, in one process: the API's app over a memory store, and no control plane.

A test plays control itself: what it puts on ``at_polls`` happens one by one, each time a command sleeps between polls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal
from typer.testing import CliRunner, Result

from roost.api.app import create_app
from roost.cli.main import app
from roost.cli.session import World
from roost.config import Settings
from roost.domain.endpoint import Endpoint, EndpointStatus
from roost.domain.event import Event
from roost.domain.hardware import Node, Resources
from roost.domain.key import Role
from roost.domain.lifecycle import State
from roost.domain.log import ReplicaLog
from roost.domain.replica import Replica
from roost.engines.base import Capabilities
from roost.models.catalog import Catalog
from roost.services import build_services
from roost.store.base import StatusChange
from roost.store.memory import MemoryStore
from roost.testing.builders import make_key, secret_of
from roost.testing.cache import MemoryCache
from roost.testing.clock import FakeClock, SeededUuids

URL = "http://127.0.0.1:8080/v1"
GIB = 1024**3
NODE = Node("local", "local", "cpu", Resources(2, 8 * GIB), Resources(2, 8 * GIB))
MODEL = "smollm2-135m"


class Bridge(httpx.BaseTransport):
    """Hands the requests of the synchronous client to the app; ``chat`` answers for the gateway, which is not here."""

    def __init__(self, portal: BlockingPortal, server: httpx.AsyncBaseTransport) -> None:
        self._portal = portal
        self._server = server
        self.requests: list[httpx.Request] = []
        self.chat: Callable[[Any], httpx.Response] | None = None
        self.failures: list[httpx.Response | httpx.TransportError] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        request.read()
        self.requests.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, httpx.Response):
                return failure
            raise failure
        if request.url.path.endswith("/chat/completions"):
            assert self.chat is not None
            return self.chat(json.loads(request.content))
        return self._portal.call(self._ask, request)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
        response = await self._server.handle_async_request(asked)
        body = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=body)


class Bench:
    """A server, a command line, and hands on both."""

    def __init__(self, portal: BlockingPortal, home: Path) -> None:
        self._portal = portal
        self._home = home
        self._seconds = 0.0
        self.store = MemoryStore()
        self.cache = MemoryCache(total_bytes=98_362_432)
        self.nodes: list[Node] = [NODE]
        self.at_polls: list[Callable[[], None]] = []
        self.output: list[ReplicaLog] = []
        """What the engines of every endpoint have said."""
        self.sleeps = 0
        self.transport = portal.call(self._serve)

    async def _serve(self) -> Bridge:
        await self.store.open()
        await self.store.insert_key(make_key(1), [])
        await self.store.insert_key(make_key(2, owner="other", role=Role.MEMBER), [])
        await self.store.insert_key(make_key(3, owner="other", role=Role.INFERENCE), [])
        clock, uuids = FakeClock(), SeededUuids()
        self._now = clock.now
        catalog = Catalog(self.store, now=clock.now, uuids=uuids)
        await catalog.load()

        async def capacity() -> Sequence[Node]:
            return self.nodes

        settings = Settings(home=self._home)
        services = build_services(
            store=self.store,
            catalog=catalog,
            cache=self.cache,
            capacity=capacity,
            settings=settings,
            now=clock.now,
            uuids=uuids,
            wake=lambda endpoint_id: None,
            wake_routes=lambda: None,
            capabilities=lambda model: Capabilities(managed=model.engine != "external"),
            logs_of=self._logs_of,
            wait=self._follow_once,
        )
        server = create_app(services, settings=settings, metrics=lambda: b"")
        return Bridge(self._portal, httpx.ASGITransport(app=server, raise_app_exceptions=False))

    def run(self, *arguments: str, input: str | None = None, key: int = 1) -> Result:
        """One command, as the holder of that test key."""
        runner = CliRunner(env=self.environment(key))
        return runner.invoke(app, list(arguments), input=input, obj=self.world(), prog_name="roost")

    def environment(self, key: int = 1) -> dict[str, str]:
        """The variables by which a command finds this server, as the holder of that test key."""
        return {"ROOST_BASE_URL": URL, "ROOST_API_KEY": secret_of(key), "ROOST_HOME": str(self._home)}

    def world(self) -> World:
        """What a command uses of the world."""
        return World(transport=self.transport, sleep=self._sleep, monotonic=lambda: self._seconds)

    def json(self, *arguments: str, key: int = 1) -> Any:
        """The JSON that a command prints with ``--json``; it must end well."""
        result = self.run(*arguments, "--json", key=key)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def create(self, *arguments: str) -> Any:
        """A new endpoint, as JSON."""
        return self.json("endpoints", "create", "--model", MODEL, "--hardware", "1x_cpu", *arguments)

    def endpoint(self, endpoint_id: str | None = None) -> Endpoint:
        """The stored endpoint; the newest one unless told."""
        if endpoint_id is None:
            return self._portal.call(self.store.endpoints)[0]
        found = self._portal.call(self.store.endpoint, endpoint_id)
        assert found is not None
        return found

    def becomes(self, state: str, *replicas: Replica, event: Event | None = None, **status: Any) -> None:
        """What control would write for the newest endpoint."""
        endpoint = self.endpoint()
        new: EndpointStatus = replace(
            endpoint.status, state=State(state), **{"reason": None, "progress": None, **status}
        )
        owned = tuple(replace(replica, endpoint_id=endpoint.id) for replica in replicas)
        events = () if event is None else (event,)
        change = StatusChange(endpoint.id, endpoint.status_version, new, upsert_replicas=owned, events=events)
        self._portal.call(self.store.apply, change)

    async def _logs_of(self, endpoint_id: str, tail: int) -> Sequence[ReplicaLog]:
        return self.output

    async def _follow_once(self, seconds: float) -> None:
        """A line comes, and the endpoint is deleted: who follows has come to the end."""
        self.output = [replace(log, lines=(*log.lines, "the end")) for log in self.output]
        await self.store.mark_deleted((await self.store.endpoints())[0].id, self._now(), [])

    def _sleep(self, seconds: float) -> None:
        self._seconds += seconds
        self.sleeps += 1
        assert self.sleeps < 1000, "a command polls for ever"
        if self.at_polls:
            self.at_polls.pop(0)()
