"""Clients that hang up around the answer and ask again: one endpoint for each wish, whichever gateway they reach."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.server import Server, until

WISHES = 60
AT_ONCE = 12
PATIENT_S = 60.0
MAX_LOST = 3
"""Attempts that one client gives up before it waits to the end."""


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    """A server with two gateway workers; the kernel gives each connection to either."""
    with Server(home, "--gateway-workers", "2") as it:
        it.cli("models", "add", "test/echo", "--engine", "echo")
        yield it


class Asker:
    """A client of its own kind of patience, without a library that would read ahead."""

    def __init__(self, server: Server, body: dict[str, Any], chance: random.Random) -> None:
        self.port = urlsplit(server.origin).port
        self.key = server.key
        self.body = json.dumps(body).encode()
        self.chance = chance
        self.attempts = 0

    def wish(self, longest_s: float, lost: int | None = None) -> str:
        """Ask until there is an answer, giving up after random times at first; the endpoint's id."""
        lost = self.chance.randint(1, MAX_LOST) if lost is None else lost
        while True:
            patience = self.chance.uniform(0, longest_s) if self.attempts < lost else PATIENT_S
            answer = self._attempt(patience)
            if answer is not None and answer[0] == 200:
                return str(json.loads(answer[1])["id"])

    def send(self) -> socket.socket:
        """A connection on which one more attempt was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENT_S)
        head = (
            f"POST /v1/endpoints HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Length: {len(self.body)}\r\nx-stainless-retry-count: {self.attempts}\r\n"
            f"Connection: {self.chance.choice(['keep-alive', 'close'])}\r\n\r\n"
        )
        connection.sendall(head.encode() + self.body)
        self.attempts += 1
        return connection

    def _attempt(self, patience_s: float) -> tuple[int, bytes] | None:
        try:
            with self.send() as connection:
                connection.settimeout(max(patience_s, 0.0001))
                return _answer(connection)
        except (TimeoutError, ConnectionError):
            return None


def _answer(connection: socket.socket) -> tuple[int, bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            return None
        body += piece
    return int(head[9:12]), body


def stopped(**over: Any) -> dict[str, Any]:
    """The body of a create that starts nothing."""
    scale = {"min_replicas": 1, "max_replicas": 1}
    return {"model": "test/echo", "hardware": "1x_cpu", "autoscaling": scale, "state": "STOPPED", **over}


def existing(server: Server) -> list[str]:
    with server.http as http:
        return sorted(item["id"] for item in http.get("/endpoints").json()["data"])


@pytest.mark.parametrize("alike", [True, False], ids=["same body", "own body"])
def test_every_wish_gets_one_endpoint(server: Server, alike: bool) -> None:
    chance = random.Random(int(os.environ.get("ROOST_TEST_SEED", "7")))
    askers = [
        Asker(server, stopped() if alike else stopped(display_name=str(number)), random.Random(chance.random()))
        for number in range(WISHES)
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda asker: asker.wish(0.06), askers))
    assert len(set(made)) == WISHES, "no endpoint is given to two"
    assert existing(server) == sorted(made), "none is left over"


def test_a_create_outlives_the_control_plane_that_made_it(server: Server) -> None:
    asker = Asker(server, stopped(), random.Random(1))
    before = server.pid("control")
    with asker.send():
        until("the create is done", lambda: existing(server))
        os.kill(before, signal.SIGKILL)
    pid_file = server.home / "run" / "control.pid"
    until("a new control plane", lambda: pid_file.exists() and server.pid("control") != before)

    assert [asker.wish(0, lost=1)] == existing(server)
    assert asker.attempts > 1
