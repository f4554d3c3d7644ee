"""Restarts in place under load: nothing is refused, reset or lost, and the server's numbers never fall."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from tests.e2e.server import PAUSE, Server, until

TOKENS = 30
SENT = re.compile(r"^roost_gateway_sent_bytes_total (\d+)$", re.MULTILINE)


class Load:
    """A closed loop of clients that never repeat a request. ``broken``: what went wrong, ``done``: what went well."""

    def __init__(self, server: Server, model: str) -> None:
        self.address = urlsplit(server.origin).netloc
        self.headers = {"authorization": f"Bearer {server.key}", "content-type": "application/json"}
        self.model = model
        self.over = threading.Event()
        self.broken: list[str] = []
        self.done: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Clients of each kind, at work while in the context."""
        kinds: list[Callable[[http.client.HTTPConnection], None]] = [
            *(self.stream, self.stream, self.stream),
            *(self.kept, self.kept, self.rare, self.fresh, self.fresh),
        ]
        threads = [threading.Thread(target=self.repeat, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.over.set()
            for thread in threads:
                thread.join(60)

    def repeat(self, kind: Callable[[http.client.HTTPConnection], None]) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        while not self.over.is_set():
            try:
                kind(connection)
                self.done[kind.__name__] += 1
            except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
                self.broken.append(f"{kind.__name__}: {error!r}")
                connection.close()
        connection.close()

    def went_on_since(self, before: Mapping[str, int]) -> bool:
        """Whether clients of every kind got something since."""
        return all(self.done[kind] > before.get(kind, 0) for kind in KINDS)

    def ask(self, connection: http.client.HTTPConnection, *, stream: bool, tokens: int) -> bytes:
        body = {"model": self.model, "max_tokens": tokens, "stream": stream, "messages": [WORD]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), self.headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return text

    def stream(self, connection: http.client.HTTPConnection) -> None:
        """A stream of some seconds' length, read to its end, on a connection that stays."""
        text = self.ask(connection, stream=True, tokens=TOKENS)
        assert text.endswith(b"data: [DONE]\n\n"), text[-200:]
        said = [json.loads(line[6:]) for line in text.split(b"\n\n") if line.startswith(b"data: {")]
        pieces = [c["choices"][0]["delta"].get("content") for c in said if c["choices"]]
        assert len([piece for piece in pieces if piece]) == TOKENS

    def kept(self, connection: http.client.HTTPConnection) -> None:
        """A short request on a connection that stays."""
        assert json.loads(self.ask(connection, stream=False, tokens=1))["choices"]

    def rare(self, connection: http.client.HTTPConnection) -> None:
        """The same, now and then: its connection idles while workers hand over."""
        self.kept(connection)
        self.over.wait(0.7)

    def fresh(self, connection: http.client.HTTPConnection) -> None:
        """A short request on a connection of its own."""
        self.kept(connection)
        connection.close()


WORD = {"role": "user", "content": "one two three"}


def sent(server: Server) -> int:
    with server.http as client:
        found = SENT.search(client.get(f"{server.origin}/metrics").text)
    assert found is not None
    return int(found.group(1))


def test_restarts_under_load_lose_nothing(server: Server) -> None:
    created = server.create("test/echo")
    parent = server.process.pid if server.process is not None else 0
    engines = {record["engine_pid"] for record in server.replica_records().values()}
    workers, totals = {server.pid("gateway-0")}, [sent(server)]
    with Load(server, created["id"]).running() as load:
        for number in range(7):
            before = dict(load.done)
            server.cli("restart", *(("--gateways",) if number not in (2, 5) else ()))
            workers.add(server.pid("gateway-0"))
            totals.append(sent(server))
            until("each kind of client goes on", partial(load.went_on_since, before))
    assert load.broken == []
    assert len(workers) == 8
    assert totals == sorted(totals)
    assert server.pid("serve") == parent
    assert {record["engine_pid"] for record in server.replica_records().values()} == engines
    until("the first worker is gone", lambda: sum(psutil.pid_exists(pid) for pid in workers) <= 7)


KINDS = ("stream", "kept", "rare", "fresh")


def test_a_program_that_does_not_start_leaves_the_old_one_serving(server: Server) -> None:
    created = server.create("test/echo")
    pids = [server.pid(name) for name in ("serve", "control", "gateway-0")]
    (server.home / "config.toml").write_text("hold_limit = -5\n")
    with Load(server, created["id"]).running() as load:
        done = server.cli("restart", check=False)
        assert done.returncode == 1
        assert "Not restarted: hold_limit must be between" in done.stderr
        assert "Traceback" not in done.stderr
        (server.home / "config.toml").write_text("hold_limit = 7\n")
        server.cli("restart")
        until("requests go on", lambda: load.done["kept"] > 5)
    assert load.broken == []
    assert json.loads((server.home / "run" / "settings.json").read_text())["hold_limit"] == 7
    assert server.pid("serve") == pids[0]
    assert server.pid("control") != pids[1]
    assert server.pid("gateway-0") != pids[2]


def test_hang_up_is_a_wish_to_restart_where_no_terminal_is_lost(server: Server) -> None:
    before = server.pid("control")
    os.kill(server.pid("serve"), signal.SIGHUP)
    until("another control plane", lambda: (told := _told(server)) and told["number"] == 1 and told["state"] == "done")
    assert server.pid("control") != before


def _told(server: Server) -> dict[str, object]:
    told: dict[str, object] = json.loads((server.home / "run" / "restart.json").read_text())
    return told


def test_a_worker_killed_beside_another_breaks_its_own_connections_only(home: Path) -> None:
    with Server(home, "--gateway-workers", "2") as server:
        server.cli("models", "add", "test/echo", "--engine", "echo", "--option", "tokens_per_second=50")
        created = server.create("test/echo")
        victim, other = server.pid("gateway-0"), server.pid("gateway-1")
        kept = [http.client.HTTPConnection(urlsplit(server.origin).netloc, timeout=30) for _ in range(12)]
        owners = [_owner(connection, (victim, other)) for connection in kept]
        os.kill(victim, signal.SIGKILL)
        until("another worker", lambda: _pid(server, "gateway-0") not in (None, victim))
        for connection, owner in zip(kept, owners, strict=True):
            if owner == other:
                connection.request("GET", "/healthz")
                assert connection.getresponse().read()
        until("connections of the dead worker count no more", lambda: _connections(server) <= owners.count(other) + 3)
        with Load(server, created["id"]).running() as load:
            until("requests go on", lambda: load.done["fresh"] > 5)
        assert load.broken == []
        for connection in kept:
            connection.close()


def _pid(server: Server, name: str) -> int | None:
    try:
        return server.pid(name)
    except FileNotFoundError:
        return None


def _owner(connection: http.client.HTTPConnection, pids: tuple[int, ...]) -> int:
    """The worker that holds the connection."""
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    port = connection.sock.getsockname()[1]
    for pid in pids:
        if any(c.raddr and c.raddr.port == port for c in psutil.Process(pid).net_connections("tcp")):
            return pid
    raise AssertionError("no worker holds the connection")


def _connections(server: Server) -> int:
    with server.http as client:
        text = client.get(f"{server.origin}/metrics").text
    found = re.search(r"^roost_gateway_connections (\d+)$", text, re.MULTILINE)
    assert found is not None
    PAUSE.wait(0.1)
    return int(found.group(1))
