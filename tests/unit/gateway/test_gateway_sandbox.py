"""Every response of a sandbox says that it is one; no other server's does."""

from __future__ import annotations

import pytest
from tests.unit.gateway.fakes import ENDPOINT, World, post

CLASSIC = {"user-agent": "Together/Python 2.42.0"}
STREAMED = {"model": ENDPOINT, "stream": True}
WHOLE = {"model": ENDPOINT, "stream": False}

REQUESTS = {
    "whole": post(WHOLE),
    "stream": post(STREAMED),
    "stream to HTTP/1.0": post(STREAMED, version="1.0"),
    "classic whole": post(WHOLE, headers=CLASSIC),
    "classic stream": post(STREAMED, headers=CLASSIC),
    "no key": post(WHOLE, key=None),
    "unknown": post({"model": "nothing"}),
    "not JSON": post(raw=b"{"),
    "relayed": b"GET /v1/endpoints HTTP/1.1\r\nHost: h\r\n\r\n",
    "relayed to HTTP/1.0": b"GET /v1/endpoints HTTP/1.0\r\n\r\n",
    "own page": b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
    "readiness": b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n",
    "metrics": b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
    "options": b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\r\n",
    "malformed": b"nonsense\r\n\r\n",
    "head too large": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000,
}


@pytest.mark.parametrize("name", list(REQUESTS))
@pytest.mark.parametrize("world", [{"sandbox": True}], indirect=True, ids=["sandbox"])
async def test_every_response_of_a_sandbox_says_so(world: World, name: str) -> None:
    client = await world.connect()
    answer = await client.ask(REQUESTS[name])
    assert answer.headers["x-roost-sandbox"] == "true"
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize("world", [{"sandbox": True}], indirect=True, ids=["sandbox"])
async def test_an_engine_that_fails_and_a_control_plane_that_is_away_are_told_with_the_header(world: World) -> None:
    await world.upstream.stop()
    await world.control.stop()
    world.route(world.replica(), accepting=False)
    client = await world.connect()
    for data in (post(WHOLE), b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"):
        answer = await client.ask(data)
        assert answer.status >= 400
        assert answer.headers["x-roost-sandbox"] == "true"


@pytest.mark.parametrize("name", ["whole", "classic stream", "relayed", "no key"])
async def test_other_servers_do_not(world: World, name: str) -> None:
    answer = await world.ask(REQUESTS[name])
    assert "x-roost-sandbox" not in answer.headers
