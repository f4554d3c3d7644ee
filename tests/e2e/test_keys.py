"""Keys at a real server with two gateways: revocation and expiry reach both, lists hold, streams in flight go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.server import Server, until

CHAT = {"messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    """A server with two gateway workers."""
    with Server(home, "--gateway-workers", "2") as it:
        it.cli("models", "add", "test/echo", "--engine", "echo", "--option", "tokens_per_second=50")
        yield it


def issue(server: Server, *flags: str) -> dict[str, Any]:
    key: dict[str, Any] = json.loads(server.cli("keys", "create", "--json", *flags).stdout)
    return key


def holder(server: Server, key: dict[str, Any]) -> httpx.Client:
    """A client with one connection, which it keeps."""
    limits = httpx.Limits(max_connections=1)
    headers = {"authorization": f"Bearer {key['key']}"}
    return httpx.Client(base_url=server.base_url, headers=headers, timeout=60, limits=limits)


def code(client: httpx.Client, model: str = "none") -> str | None:
    """The error code of a chat; None when it was answered."""
    answer = client.post("/chat/completions", json={**CHAT, "model": model, "max_tokens": 3})
    return None if answer.status_code == 200 else str(answer.json()["error"]["code"])


def refused(client: httpx.Client, why: str) -> None:
    """Wait until the client's connection is refused, by its gateway and by the control plane."""
    until("refused", lambda: code(client) == why)
    assert client.get("/whoami").status_code == 401


def one_at_each_gateway(server: Server, key: dict[str, Any], stack: ExitStack) -> list[httpx.Client]:
    """Two clients whose connections are at different workers, as the ids of their requests tell."""
    found: dict[str, httpx.Client] = {}

    def both() -> bool:
        client = stack.enter_context(holder(server, key))
        index = client.get("/whoami").headers["x-request-id"][len("req-")]
        if found.setdefault(index, client) is not client:
            client.close()
        return len(found) == 2

    until("a connection at each gateway", both)
    return list(found.values())


def test_a_revoked_key_is_refused_at_every_gateway_on_open_connections(server: Server) -> None:
    key = issue(server, "--role", "inference")
    with ExitStack() as stack:
        clients = one_at_each_gateway(server, key, stack)
        assert [code(client) for client in clients] == ["model_not_found"] * 2
        server.cli("keys", "revoke", key["id"])
        for client in clients:
            refused(client, "unknown_api_key")


def test_an_expired_key_is_refused_at_every_gateway(server: Server) -> None:
    key = issue(server, "--expires", (datetime.now(UTC) + timedelta(seconds=4)).isoformat())
    with ExitStack() as stack:
        clients = one_at_each_gateway(server, key, stack)
        for client in clients:
            refused(client, "expired_api_key")
    listed = json.loads(server.cli("keys", "list", "--json").stdout)["data"]
    assert [item["state"] for item in listed if item["id"] == key["id"]] == ["expired"]


def test_a_listed_key_reaches_its_endpoint_and_a_stream_outlives_it(server: Server) -> None:
    one = server.create("test/echo")
    other = server.create("test/echo")
    key = issue(server, "--endpoint", one["name"], "--role", "inference")
    with holder(server, key) as client:
        assert [code(client, name) for name in (one["id"], one["name"])] == [None, None]
        assert [code(client, name) for name in (other["id"], other["name"])] == ["model_not_found"] * 2
        assert client.get("/endpoints").status_code == 403
        body = {**CHAT, "model": one["id"], "max_tokens": 100, "stream": True}
        with client.stream("POST", "/chat/completions", json=body) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: ")
            server.cli("keys", "revoke", key["id"])
            with holder(server, key) as again:
                until("refused", lambda: code(again, one["id"]) == "unknown_api_key")
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert code(client, one["id"]) == "unknown_api_key"
