"""Engines that hang (SIGSTOP): requests go elsewhere, and who hangs for too long is replaced."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
from openai import OpenAI
from tests.e2e.server import Server, until

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]


def engines(server: Server) -> dict[str, int]:
    records = server.replica_records().items()
    return {name: r["engine_pid"] for name, r in records if r["engine_pid"] and psutil.pid_exists(r["engine_pid"])}


def kinds(server: Server, endpoint_id: str) -> list[str]:
    return [event["kind"] for event in server.events(endpoint_id)]


def ask(server: Server, model: str) -> str:
    client = OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=60)
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=3)
    return str(answer.choices[0].message.content)


def test_an_engine_that_hangs_for_too_long_is_killed_and_replaced(home: Path) -> None:
    with Server(home, env={"ROOST_UNRESPONSIVE_DEADLINE_S": "6"}) as server:
        server.cli("models", "add", "test/echo", "--engine", "echo")
        created = server.create("test/echo")
        ((_, hung),) = engines(server).items()
        os.kill(hung, signal.SIGSTOP)
        until("it is told of", lambda: "replica.unresponsive" in kinds(server, created["id"]))
        assert "has not answered its health check" in server.endpoint(created["id"])["state_reason"]["message"]
        # Held while nobody answers; served by the new replica.
        assert ask(server, created["id"])
        assert server.wait_state(created["id"], "STARTED")
        assert not psutil.pid_exists(hung)
        failed = [e for e in server.events(created["id"]) if e["kind"] == "replica.failed"]
        assert "has not answered its health check" in failed[0]["reason"]


def test_requests_avoid_an_engine_that_hangs_and_it_just_goes_on_when_it_does(server: Server) -> None:
    created = server.create("test/echo", "1x_cpu", "--min-replicas", "2", "--max-replicas", "2")
    both = until("two replicas", lambda: (e := engines(server)) and len(e) == 2 and e)
    hung = min(both.values())
    os.kill(hung, signal.SIGSTOP)
    until("it is told of", lambda: "replica.unresponsive" in kinds(server, created["id"]))
    for _ in range(6):
        assert ask(server, created["id"])
    os.kill(hung, signal.SIGCONT)
    until("it answers again", lambda: "replica.responsive" in kinds(server, created["id"]))
    assert engines(server) == both
    assert "replica.failed" not in kinds(server, created["id"])
