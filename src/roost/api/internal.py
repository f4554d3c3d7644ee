"""The internal app, on a socket of its own that is never relayed: gateways watch the routing table and report.

Made by the composition root through ``api.app``. It authenticates nobody: the socket's folder does (mode 0700).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import orjson
from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from roost.api import failures
from roost.api.answers import nothing
from roost.api.bodies import json_object
from roost.api.boundary import Boundary
from roost.domain.creation import Delivery
from roost.domain.errors import BadRequest
from roost.domain.routing import PROTOCOL, RoutingTable

HEARTBEAT_S = 2.0
MAX_REPORT_BYTES = 16 * 1024 * 1024


class Publisher(Protocol):
    """The source of routing tables."""

    async def wait_newer(self, version: int) -> RoutingTable:
        """Wait until the table's version is above ``version`` and return the table."""
        ...


class Gateways(Protocol):
    """Who keeps the books on gateways."""

    def connected(self, gateway_id: str, pid: int) -> None:
        """A gateway has opened its watch stream."""
        ...

    def disconnected(self, gateway_id: str) -> None:
        """Its watch stream has ended."""
        ...

    def report(self, report: Mapping[str, Any]) -> None:
        """Take in a report. Raises ``BadRequest``."""
        ...


class Deliveries(Protocol):
    """Who wants to know what became of answers."""

    async def told(self, answer: str, delivery: Delivery) -> None:
        """A gateway tells what became of an answer that it relayed; unknown ones are ignored."""
        ...


class Usages(Protocol):
    """Who sums up what was used."""

    async def take(self, report: Mapping[str, Any]) -> bool:
        """Add a gateway's report to the sums, unless it is in them. Raises ``BadRequest``."""
        ...


def create_internal_app(
    *,
    publisher: Publisher,
    gateways: Gateways,
    deliveries: Deliveries,
    usages: Usages,
    heartbeat_s: float = HEARTBEAT_S,
) -> FastAPI:
    """The app of the internal routes; ``heartbeat_s`` is the longest silence on a watch stream in seconds."""
    app = FastAPI(title="Roost internal", openapi_url=None, docs_url=None, redoc_url=None)
    failures.register(app)
    app.add_middleware(Boundary)

    @app.get("/internal/v1/routes/watch")
    async def watch(gateway: str, pid: int) -> Response:
        lines = _lines(publisher, gateways, gateway, pid, heartbeat_s)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    @app.post("/internal/v1/report")
    async def report(request: Request) -> Response:
        gateways.report(await json_object(request, MAX_REPORT_BYTES))
        return nothing()

    @app.post("/internal/v1/deliveries")
    async def told(request: Request) -> Response:
        for answer, delivery in _news(await json_object(request, MAX_REPORT_BYTES)):
            await deliveries.told(answer, delivery)
        return nothing()

    @app.post("/internal/v1/usage")
    async def used(request: Request) -> Response:
        await usages.take(await json_object(request, MAX_REPORT_BYTES))
        return nothing()

    return app


def _news(message: Mapping[str, Any]) -> list[tuple[str, Delivery]]:
    """Answers and what became of them, in order. Raises ``BadRequest``."""
    if message.get("protocol") != PROTOCOL:
        raise BadRequest(f"This control plane speaks protocol {PROTOCOL} with gateways.", param="protocol")
    try:
        return [(str(item["answer"]), Delivery(item["delivery"])) for item in message["deliveries"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest(f"The news of deliveries lacks or garbles a field: {error}.") from error


async def _lines(
    publisher: Publisher, gateways: Gateways, gateway: str, pid: int, heartbeat_s: float
) -> AsyncIterator[bytes]:
    """Snapshots, one at once and one per change, and heartbeats between; ends when the gateway hangs up."""
    gateways.connected(gateway, pid)
    try:
        version = 0
        while True:
            try:
                table = await asyncio.wait_for(publisher.wait_newer(version), heartbeat_s)
            except TimeoutError:
                yield _line("heartbeat")
            else:
                version = table.version
                yield _line("snapshot", table=table.to_dict())
    finally:
        gateways.disconnected(gateway)


def _line(kind: str, **fields: Any) -> bytes:
    return orjson.dumps({"protocol": PROTOCOL, "type": kind, **fields}) + b"\n"
