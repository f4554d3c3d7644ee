"""Answers to writes wait for the gateways, all others do not."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from roost.wiring.applied_writes import AppliedWrites


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    status = int(scope["path"].removeprefix("/"))
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


class Gateways:
    """``applied`` returns when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.followed = asyncio.Event()

    async def applied(self) -> None:
        self.asked.set()
        await self.followed.wait()


def client(gateways: Gateways, patience_s: float = 60) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(AppliedWrites(app, gateways.applied, patience_s))
    return httpx.AsyncClient(transport=transport, base_url="http://control")


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_a_write_is_answered_when_the_gateways_have_followed(method: str) -> None:
    gateways = Gateways()
    async with client(gateways) as http:
        answering = asyncio.create_task(http.request(method, "/200"))
        await gateways.asked.wait()
        assert not answering.done()
        gateways.followed.set()
        assert (await answering).text == "done"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 400), ("DELETE", 404)])
async def test_reads_and_refusals_wait_for_nobody(method: str, status: int) -> None:
    gateways = Gateways()
    async with client(gateways) as http:
        assert (await http.request(method, f"/{status}")).status_code == status
    assert not gateways.asked.is_set()


async def test_a_gateway_that_does_not_follow_holds_no_answer_for_long() -> None:
    gateways = Gateways()
    async with client(gateways, patience_s=0.01) as http:
        assert (await http.post("/201")).status_code == 201
    assert gateways.asked.is_set()
