"""A real model on the hardware of this machine, used through the clients that people have."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.server import Server
from together import Together

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
QUESTION: list[Any] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[tuple[Server, dict[str, Any]]]:
    with Server(tmp_path_factory.mktemp("light") / "home", weights=weights) as server:
        yield server, server.create("smollm2-135m", "2x_cpu", "--display-name", "First light")


def test_it_is_started_with_a_ready_replica(served: tuple[Server, dict[str, Any]]) -> None:
    server, created = served
    shown = server.endpoint(created["id"])
    assert (shown["state"], shown["model"], shown["hardware"]) == ("STARTED", SMOLLM2, "2x_cpu")
    assert shown["display_name"] == "First light"
    assert [replica["state"] for replica in shown["replicas"]] == ["READY"]
    states = [e["data"]["to"] for e in server.events(created["id"]) if e["kind"] == "endpoint.state"]
    assert states == ["STARTING", "STARTED"]


def test_the_vendors_python_client_as_its_reference_prints_it(served: tuple[Server, dict[str, Any]]) -> None:
    server, _ = served
    client = Together(base_url=server.base_url, api_key=server.key)
    endpoint = client.endpoints.create(
        model=SMOLLM2,
        hardware="2x_cpu",
        display_name="My Endpoint",
        autoscaling={"min_replicas": 1, "max_replicas": 3},
        inactive_timeout=60,
        state="STOPPED",
    )
    assert client.endpoints.retrieve(endpoint.id).state == "STOPPED"
    assert endpoint.id in [ep.id for ep in client.endpoints.list().data]
    updated = client.endpoints.update(
        endpoint.id, autoscaling={"min_replicas": 2, "max_replicas": 5}, display_name="Updated Name"
    )
    assert (updated.display_name, updated.autoscaling.max_replicas) == ("Updated Name", 5)
    client.endpoints.update(endpoint.id, state="STARTED")
    client.endpoints.update(endpoint.id, state="STOPPED")
    assert "2x_cpu" in [hw.id for hw in client.endpoints.list_hardware().data]
    client.endpoints.delete(endpoint.id)
    assert endpoint.id not in [ep.id for ep in client.endpoints.list().data]


@pytest.mark.parametrize("by", ["id", "name"])
def test_the_vendors_client_chats(served: tuple[Server, dict[str, Any]], by: str) -> None:
    server, created = served
    client = Together(base_url=server.base_url, api_key=server.key)
    answer = client.chat.completions.create(model=created[by], messages=QUESTION, temperature=0, max_tokens=32)
    assert answer.choices[0].message is not None
    assert "Paris" in str(answer.choices[0].message.content)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    chunks = list(
        client.chat.completions.create(model=created[by], messages=QUESTION, temperature=0, max_tokens=32, stream=True)
    )
    assert "Paris" in "".join(str(c.choices[0].delta.content or "") for c in chunks if c.choices)


@pytest.mark.parametrize("by", ["id", "name"])
def test_openai_streams(served: tuple[Server, dict[str, Any]], by: str) -> None:
    server, created = served
    client = OpenAI(base_url=server.base_url, api_key=server.key)
    stream = client.chat.completions.create(
        model=created[by],
        messages=QUESTION,
        temperature=0,
        max_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "Paris" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert len([c for c in chunks if c.choices]) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_many_clients_at_once(served: tuple[Server, dict[str, Any]]) -> None:
    server, created = served
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.key) as client:

        async def ask() -> str:
            answer = await client.chat.completions.create(
                model=created["id"], messages=QUESTION, temperature=0, max_tokens=16
            )
            return answer.choices[0].message.content or ""

        answers = await asyncio.gather(*(ask() for _ in range(12)))
    assert all("Paris" in answer for answer in answers)


def test_the_command_line_chats(served: tuple[Server, dict[str, Any]]) -> None:
    server, created = served
    done = server.cli(
        "chat", created["name"], "What is the capital of France?", "--temperature", "0", "--max-tokens", "32"
    )
    assert "Paris" in done.stdout
    assert "tokens/s" in done.stderr


def test_the_metrics_count_what_was_served(served: tuple[Server, dict[str, Any]]) -> None:
    server, created = served

    def chats() -> float:
        with server.http as http:
            text = http.get(f"{server.origin}/metrics").text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert "roost_endpoints" in families
        requests = families["roost_gateway_requests"].samples
        return sum(s.value for s in requests if s.labels["kind"] == "chat" and s.labels["status"] == "2xx")

    before = chats()
    with server.http as http:
        http.post("/chat/completions", json={"model": created["id"], "messages": QUESTION, "max_tokens": 1})
    assert chats() == before + 1


def test_ctrl_c_stops_everything_and_the_next_start_brings_it_back(home: Path, weights: Path) -> None:
    with Server(home, weights=weights) as server:
        created = server.create("smollm2-135m", "1x_cpu")
        engine = next(iter(server.replica_records().values()))["engine_pid"]
        assert server.interrupt(signal.SIGINT) == 0
        assert server.processes() == []
        server.start()
        server.wait_state(created["id"], "STARTED")
        assert next(iter(server.replica_records().values()))["engine_pid"] != engine
