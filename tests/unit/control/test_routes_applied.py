"""When all connected gateways have applied a table: what answers to writes wait for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from roost.control.gateways import GatewayRegistry

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def registry() -> GatewayRegistry:
    return GatewayRegistry(lambda: NOW, alive=lambda pid: True)


def report(gateways: GatewayRegistry, gateway: str, term: int, version: int) -> None:
    gateways.report(
        {
            "protocol": 1,
            "gateway": gateway,
            "pid": 1,
            "term": term,
            "version": version,
            "in_flight": {},
            "held": {},
            "requests": {},
        }
    )


async def begin(gateways: GatewayRegistry, term: int, version: int) -> asyncio.Task[None]:
    waiting = asyncio.create_task(gateways.applied(term, version))
    await asyncio.sleep(0)
    return waiting


async def test_without_gateways_nothing_is_waited_for() -> None:
    await registry().applied(1, 99)


async def test_it_waits_for_the_last_connected_gateway() -> None:
    gateways = registry()
    for name in ("gateway-0-a", "gateway-1-b"):
        gateways.connected(name, 1)
    report(gateways, "gateway-0-a", 1, 5)
    waiting = await begin(gateways, 1, 5)
    report(gateways, "gateway-1-b", 1, 4)
    await asyncio.sleep(0)
    assert not waiting.done()
    report(gateways, "gateway-1-b", 1, 5)
    await waiting


async def test_a_gateway_that_disconnects_is_not_waited_for() -> None:
    gateways = registry()
    gateways.connected("gateway-0-a", 1)
    waiting = await begin(gateways, 1, 1)
    assert not waiting.done()
    gateways.disconnected("gateway-0-a")
    await waiting


async def test_a_later_term_counts_whatever_its_version() -> None:
    gateways = registry()
    gateways.connected("gateway-0-a", 1)
    report(gateways, "gateway-0-a", 2, 1)
    await gateways.applied(1, 50)
