"""The internal routes: watching the routing table, reporting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.unit.api.front import check_failure

from roost.api.app import create_internal_app
from roost.domain.creation import Delivery
from roost.domain.errors import BadRequest
from roost.domain.routing import RouteKey, RoutingTable


class News:
    """News of answers that are written down."""

    def __init__(self) -> None:
        self.told_of: list[tuple[str, Delivery]] = []

    async def told(self, answer: str, delivery: Delivery) -> None:
        self.told_of.append((answer, delivery))


class Usages:
    """Reports of usage that are written down."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    async def take(self, report: Mapping[str, Any]) -> bool:
        self.reports.append(dict(report))
        return True


LONG_S = 30.0
"""Longer than any test: no heartbeat in it."""


class Tables:
    """A publisher whose table the test replaces."""

    def __init__(self) -> None:
        self.table = RoutingTable("here", 1, 0)
        self.newer = asyncio.Condition()

    async def publish(self, version: int) -> RoutingTable:
        async with self.newer:
            self.table = RoutingTable("here", 1, version, keys=(RouteKey("d", "key-1", "roost", "admin"),))
            self.newer.notify_all()
            return self.table

    async def wait_newer(self, version: int) -> RoutingTable:
        async with self.newer:
            await self.newer.wait_for(lambda: self.table.version > version)
            return self.table


class Books:
    """Gateways that are written down; ``changed`` is set by each change."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.left = asyncio.Event()

    def connected(self, gateway_id: str, pid: int) -> None:
        self.calls.append((gateway_id, pid))

    def disconnected(self, gateway_id: str) -> None:
        self.calls.append((gateway_id, None))
        self.left.set()

    def report(self, report: Mapping[str, Any]) -> None:
        if "gateway" not in report:
            raise BadRequest("no gateway", param="gateway")
        self.calls.append((report["gateway"], report["version"]))


class Watch:
    """A gateway's watch stream, spoken in ASGI so that it can be read while it goes on."""

    def __init__(self, app: FastAPI, query: bytes = b"gateway=gateway-0-1&pid=42") -> None:
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._hung_up = asyncio.Event()
        self._asked = False
        self.task = asyncio.create_task(self._serve(app, query))

    async def _serve(self, app: FastAPI, query: bytes) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "path": "/internal/v1/routes/watch",
            "raw_path": b"/internal/v1/routes/watch",
            "query_string": query,
            "headers": [],
        }
        await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        elif message["body"]:
            assert message["body"].endswith(b"\n")
            self.lines.put_nowait(json.loads(message["body"]))

    async def line(self) -> dict[str, Any]:
        """The next line."""
        return await asyncio.wait_for(self.lines.get(), 10)

    async def hang_up(self) -> None:
        """Close the connection and wait until the app has let go."""
        self._hung_up.set()
        await asyncio.wait_for(self.task, 10)


async def test_a_snapshot_at_once_and_one_per_change() -> None:
    tables, books = Tables(), Books()
    first = await tables.publish(1)
    others: dict[str, Any] = {"deliveries": News(), "usages": Usages()}
    watch = Watch(create_internal_app(publisher=tables, gateways=books, **others, heartbeat_s=LONG_S))

    assert await watch.line() == {"protocol": 1, "type": "snapshot", "table": first.to_dict()}
    assert (watch.status, watch.headers[b"content-type"]) == (200, b"application/x-ndjson")
    assert books.calls == [("gateway-0-1", 42)]
    second = await tables.publish(2)
    line = await watch.line()
    assert RoutingTable.from_dict(line["table"]) == second

    await watch.hang_up()
    assert books.calls == [("gateway-0-1", 42), ("gateway-0-1", None)]


async def test_silence_is_broken_by_heartbeats_and_no_table_is_sent_before_there_is_one() -> None:
    tables, books = Tables(), Books()
    others: dict[str, Any] = {"deliveries": News(), "usages": Usages()}
    watch = Watch(create_internal_app(publisher=tables, gateways=books, **others, heartbeat_s=0.01))

    assert await watch.line() == {"protocol": 1, "type": "heartbeat"}
    await tables.publish(5)
    kinds = [(await watch.line())["type"]]
    while kinds[-1] != "snapshot":
        kinds.append((await watch.line())["type"])
    assert (await watch.line())["type"] == "heartbeat"
    await watch.hang_up()


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
async def internal(books: Books) -> Any:
    app = create_internal_app(publisher=Tables(), gateways=books, deliveries=News(), usages=Usages())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://internal") as client:
        yield client


async def test_a_report_is_taken_in(internal: httpx.AsyncClient, books: Books) -> None:
    response = await internal.post("/internal/v1/report", json={"gateway": "g", "version": 3})

    assert (response.status_code, response.content) == (204, b"")
    assert books.calls == [("g", 3)]


async def test_nonsense_is_refused(internal: httpx.AsyncClient, books: Books) -> None:
    assert check_failure(await internal.post("/internal/v1/report", json={}), 400)["param"] == "gateway"
    check_failure(await internal.post("/internal/v1/report", content=b"{"), 400)
    assert check_failure(await internal.get("/internal/v1/routes/watch"), 400)["param"] == "gateway"
    assert check_failure(await internal.get("/internal/v1/routes/watch?gateway=g&pid=x"), 400)["param"] == "pid"
    check_failure(await internal.get("/v1/endpoints"), 404)
    assert books.calls == []


async def test_news_of_answers_is_passed_on_in_order() -> None:
    news = News()
    app = create_internal_app(publisher=Tables(), gateways=Books(), deliveries=news, usages=Usages())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://internal") as http:

        async def post(message: object) -> httpx.Response:
            return await http.post("/internal/v1/deliveries", json=message)

        items = [{"answer": "a", "delivery": "acknowledged"}, {"answer": "a", "delivery": "lost"}]
        assert (await post({"protocol": 1, "deliveries": items})).status_code == 204
        for wrong in (
            {"protocol": 2, "deliveries": items},
            {"protocol": 1},
            {"protocol": 1, "deliveries": [{"answer": "a", "delivery": "eaten"}]},
            {"protocol": 1, "deliveries": ["a"]},
        ):
            check_failure(await post(wrong), 400)
    assert news.told_of == [("a", Delivery.ACKNOWLEDGED), ("a", Delivery.LOST)]


async def test_usage_is_passed_on() -> None:
    usages = Usages()
    app = create_internal_app(publisher=Tables(), gateways=Books(), deliveries=News(), usages=usages)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://internal") as http:
        assert (await http.post("/internal/v1/usage", json={"gateway": "g"})).status_code == 204
        check_failure(await http.post("/internal/v1/usage", content=b"["), 400)
    assert usages.reports == [{"gateway": "g"}]
