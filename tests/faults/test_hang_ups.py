"""Whoever hangs up frees its slot, in whatever phase its request is: the next one is served, by echo and by llama.cpp.

Each endpoint has one replica of one slot, and what is hung up on would take minutes.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.e2e.server import Server, until

from roost.testing.weights import smollm2_path

LONG: list[Any] = [{"role": "user", "content": " ".join(f"w{n} again" for n in range(250))}]
"""About 1,500 tokens, and more than two kilobytes."""
SHORT: list[Any] = [{"role": "user", "content": "Tell me a very long story."}]
MOST = 6000
"""Tokens of the answers: minutes of work, while the next request gets an answer within ``PATIENCE_S``."""
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("hang") / "home") as server:
        echo = ("--engine", "echo", "--slots", "1", "--option", "tokens_per_second=50")
        server.cli("models", "add", "test/echo", *echo)
        llama = ("--file", str(smollm2_path(weights)), "--context-length", "8192", "--slots", "1")
        server.cli("models", "add", "test/llama", *llama)
        yield server


@pytest.fixture(scope="module", params=["test/echo", "test/llama"])
def model(served: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    created = served.create(request.param)
    yield created["id"]
    served.cli("endpoints", "delete", created["id"])


class Caller:
    """A client of its own that has sent its request."""

    def __init__(self, server: Server, model: str, messages: list[Any], **more: Any) -> None:
        url = urlsplit(server.origin)
        body = json.dumps(
            {"model": model, "messages": messages, "max_tokens": MOST, "ignore_eos": True, **more}
        ).encode()
        self._socket = socket.create_connection((url.hostname or "", url.port or 0), timeout=PATIENCE_S)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def until_output(self) -> None:
        got = b""
        while b'"content":"' not in got.replace(b" ", b"") or got.count(b"data:") < 3:
            piece = self._socket.recv(65536)
            assert piece, got
            got += piece

    def hang_up(self) -> None:
        self._socket.close()


def gauge(server: Server, name: str) -> float:
    with httpx.Client(timeout=PATIENCE_S) as http:
        page = http.get(f"{server.origin}/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name} "))


def busy(server: Server) -> bool:
    return gauge(server, "roost_gateway_in_flight") == 1


def assert_next_is_served(server: Server, model: str) -> None:
    with httpx.Client(base_url=server.base_url, timeout=PATIENCE_S) as http:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        answer = http.post("/chat/completions", json=body, headers={"authorization": f"Bearer {server.key}"})
    assert answer.status_code == 200, answer.text
    until("nothing is in flight", lambda: gauge(server, "roost_gateway_in_flight") == 0)


def test_in_a_stream(served: Server, model: str) -> None:
    caller = Caller(served, model, SHORT, stream=True)
    caller.until_output()
    caller.hang_up()
    assert_next_is_served(served, model)


def test_in_a_whole_answer(served: Server, model: str) -> None:
    caller = Caller(served, model, SHORT)
    until("it is at work", lambda: busy(served))
    caller.hang_up()
    assert_next_is_served(served, model)


@pytest.mark.parametrize("stream", [True, False])
def test_before_the_first_token(served: Server, model: str, stream: bool) -> None:
    caller = Caller(served, model, LONG, stream=stream)
    until("it is at work", lambda: busy(served))
    caller.hang_up()
    assert_next_is_served(served, model)


def test_in_the_queue(served: Server, model: str) -> None:
    first = Caller(served, model, SHORT, stream=True)
    first.until_output()
    second = Caller(served, model, SHORT, stream=True)
    until("it waits", lambda: gauge(served, "roost_gateway_held") == 1)
    second.hang_up()
    until("it waits no longer", lambda: gauge(served, "roost_gateway_held") == 0)
    first.hang_up()
    assert_next_is_served(served, model)
