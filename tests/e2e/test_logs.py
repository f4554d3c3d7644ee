"""Engines' output at a real server: through the gateway, across replicas, with nothing of what was asked in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.server import Server, until


@pytest.fixture
def server(home: Path, weights: Path) -> Iterator[Server]:
    """A server whose engine says when it listens."""
    with Server(home, weights=weights) as it:
        yield it


def test_logs_are_followed_across_replicas_until_the_server_stops(server: Server) -> None:
    created = server.create("smollm2-135m")
    (first,) = server.replica_records()
    log = server.home / "follow.txt"
    command = [sys.executable, "-m", "roost", "endpoints", "logs", created["name"], "--follow", "--json"]
    with log.open("w") as file:
        following = subprocess.Popen(
            command, env=server.env | {"ROOST_HOME": str(server.home)}, stdout=file, stderr=subprocess.PIPE, text=True
        )
        until("the first line is told", lambda: first in log.read_text())
        with server.http as http:
            words = [{"role": "user", "content": "xylophone"}]
            secret = {"model": created["id"], "messages": words, "max_tokens": 2}
            assert http.post("/chat/completions", json=secret).status_code == 200
        os.kill(server.replica_records()[first]["engine_pid"], signal.SIGKILL)
        until("the next replica is followed", lambda: len(told(log)) == 2)
        second = next(iter(told(log) - {first}))
        listed = server.cli("endpoints", "logs", created["id"]).stdout
        assert listed
        assert server.cli("endpoints", "logs", created["id"], "--replica", first).stdout
        for text in (log.read_text(), listed, server.log_text()):
            assert "xylophone" not in text
            assert server.key not in text
        server.wait_state(created["id"], "STARTED")
        assert server.interrupt() == 0
        _, said = following.communicate(timeout=60)
    assert following.returncode == 1
    assert "shutting down" in said
    assert second != first
    assert "Traceback" not in server.log_text()


def told(log: Path) -> set[str]:
    """The replicas of which lines were followed."""
    return {line.split('"')[3] for line in log.read_text().splitlines()}
