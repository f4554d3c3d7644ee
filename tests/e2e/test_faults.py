"""Real SIGKILLs: what dies is replaced, what was acknowledged stays, what streams goes on."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import APIConnectionError, OpenAI
from tests.e2e.server import Server, until

from roost.testing.weights import smollm2_path

WORDS: list[Any] = [{"role": "user", "content": "one two three four five"}]


def engine_pids(server: Server) -> set[int]:
    return {r["engine_pid"] for r in server.replica_records().values() if psutil.pid_exists(r["engine_pid"] or 0)}


class Stream(threading.Thread):
    """A stream that is read in the background; ``begun`` is set at its first piece."""

    def __init__(self, server: Server, model: str, tokens: int) -> None:
        super().__init__()
        self.client = OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0)
        self.model, self.tokens = model, tokens
        self.begun = threading.Event()
        self.pieces: list[str] = []
        self.finish: str | None = None
        self.broken = False
        self.start()
        assert self.begun.wait(30)

    def run(self) -> None:
        try:
            self._read()
        except APIConnectionError:
            # Expected of a client that hung up only.
            self.broken = True

    def hang_up(self) -> None:
        """Close the connection in the middle."""
        self.client.close()

    def _read(self) -> None:
        stream = self.client.chat.completions.create(
            model=self.model, messages=WORDS, max_tokens=self.tokens, stream=True
        )
        for chunk in stream:
            if chunk.choices:
                self.pieces.append(chunk.choices[0].delta.content or "")
                self.finish = chunk.choices[0].finish_reason or self.finish
            self.begun.set()


def test_kill_the_control_plane(server: Server) -> None:
    created = server.create("test/echo")
    engines = engine_pids(server)
    before = server.pid("control")
    stream = Stream(server, created["id"], 100)
    os.kill(before, signal.SIGKILL)
    # While it is down (or coming up) new requests are answered from the gateway's own table.
    client = OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0)
    answer = client.chat.completions.create(model=created["name"], messages=WORDS, max_tokens=3)
    assert answer.choices[0].message.content
    stream.join(60)
    assert not stream.broken
    assert stream.finish in ("length", "stop")
    assert len([piece for piece in stream.pieces if piece]) == 100
    until(
        "a new control plane",
        lambda: (server.home / "run" / "control.pid").exists() and server.pid("control") != before,
    )
    until("the API answers again", lambda: _answers(server))
    assert server.wait_state(created["id"], "STARTED")["id"] == created["id"]
    assert engine_pids(server) == engines
    launches = [e for e in server.events(created["id"]) if e["kind"] == "replica.launching"]
    assert len(launches) == 1


def _answers(server: Server) -> bool:
    with server.http as http:
        return http.get("/endpoints").status_code == 200


def test_kill_an_engine(server: Server) -> None:
    created = server.create("test/echo")
    (engine,) = engine_pids(server)
    os.kill(engine, signal.SIGKILL)
    until("another engine", lambda: (pids := engine_pids(server)) and engine not in pids)
    server.wait_state(created["id"], "STARTED")
    failed = [e for e in server.events(created["id"]) if e["kind"] == "replica.failed"]
    assert len(failed) == 1
    assert "9" in failed[0]["reason"] or "KILL" in failed[0]["reason"]
    client = OpenAI(base_url=server.base_url, api_key=server.key)
    assert client.chat.completions.create(model=created["id"], messages=WORDS, max_tokens=3).choices


def test_a_stream_goes_on_when_its_engine_is_killed(server: Server) -> None:
    created = server.create("test/echo")
    (engine,) = engine_pids(server)
    stream = Stream(server, created["id"], 100)
    os.kill(engine, signal.SIGKILL)
    # It waits until there is another replica: the only one is gone.
    stream.join(60)
    assert not stream.broken
    assert stream.finish == "length"
    assert "".join(stream.pieces) == " ".join(WORDS[0]["content"].split() * 20)
    assert engine_pids(server) != {engine}


def test_kill_a_gateway_worker(server: Server) -> None:
    created = server.create("test/echo")
    before = server.pid("gateway-0")
    os.kill(before, signal.SIGKILL)
    client = OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0)
    # The parent holds the listening socket: a connection made now waits for the next worker.
    assert client.chat.completions.create(model=created["id"], messages=WORDS, max_tokens=3).choices
    assert server.pid("gateway-0") != before


def test_kill_the_parent_and_start_again(server: Server) -> None:
    created = server.create("test/echo")
    engines = engine_pids(server)
    assert server.process is not None
    server.process.kill()
    server.process.wait(10)
    server.start()
    server.wait_state(created["id"], "STARTED")
    assert engine_pids(server) == engines


def test_keep_replicas_leaves_engines_for_the_next_server(server: Server) -> None:
    created = server.create("test/echo")
    engines = engine_pids(server)
    server.cli("stop", "--keep-replicas")
    assert server.process is not None
    assert server.process.wait(30) == 0
    assert engine_pids(server) == engines
    server.start()
    server.wait_state(created["id"], "STARTED")
    assert engine_pids(server) == engines


def test_a_stop_waits_for_the_stream(server: Server) -> None:
    created = server.create("test/echo")
    stream = Stream(server, created["id"], 100)
    server.cli("endpoints", "stop", created["id"], "--wait")
    stream.join(30)
    assert len([piece for piece in stream.pieces if piece]) == 100
    assert server.endpoint(created["id"])["state"] == "STOPPED"
    assert engine_pids(server) == set()
    with server.http as http:
        refused = http.post("/chat/completions", json={"model": created["id"], "messages": WORDS})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "endpoint_stopped"


def test_a_hung_client_gives_its_slot_back(server: Server) -> None:
    created = server.create("test/echo")
    stream = Stream(server, created["id"], 10_000)
    (record,) = server.replica_records().values()
    stream.hang_up()
    until("the engine's generation was cancelled", lambda: _active(record["address"]) == 0)
    stream.join(10)


def _active(address: str) -> int:
    import httpx

    transport = httpx.HTTPTransport(uds=address.removeprefix("unix:"))
    with httpx.Client(transport=transport, base_url="http://engine") as http:
        return int(http.get("/debug/state").json()["active"])


def test_an_engine_that_fails_to_start_ends_in_error_with_its_cause(server: Server) -> None:
    server.cli("models", "add", "test/fails", "--engine", "echo", "--option", "fail_at_start=Out of cheese.")
    done = server.cli("endpoints", "create", "--model", "test/fails", "--hardware", "1x_cpu", "--wait", check=False)
    assert done.returncode == 5
    assert "Out of cheese." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kept", [200, 50_000_000])
def test_a_truncated_model_file_ends_in_error_that_says_so(
    server: Server, tmp_path: Path, weights: Path, kept: int
) -> None:
    cut = tmp_path / "cut.gguf"
    with smollm2_path(weights).open("rb") as whole:
        cut.write_bytes(whole.read(kept))
    added = server.cli("models", "add", "test/cut", "--file", str(cut), check=False)
    done = added
    if added.returncode == 0:
        done = server.cli("endpoints", "create", "--model", "test/cut", "--hardware", "1x_cpu", "--wait", check=False)
        assert done.returncode == 5
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert any(word in done.stderr.lower() for word in ("damaged", "cut short", "truncated", "corrupt")), done.stderr
