"""A sandbox: a fleet that is only declared, engines that really run, and no doubt about which is which."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.e2e.server import Server, until
from together import Together

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
HARDWARE = "4x_nvidia_h100_80gb_sxm"
ONE = "1x_nvidia_h200_140gb_sxm"
MESSAGES: list[Any] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("sandbox") / "home"
    with Server(home, "--sandbox", "--keep-replicas", weights=weights) as server:
        yield server


@pytest.fixture(scope="module")
def created(sandbox: Server) -> dict[str, Any]:
    """An endpoint as the reference creates it, STARTED."""
    client = Together(base_url=sandbox.base_url, api_key=sandbox.key)
    endpoint = client.endpoints.create(
        model=MODEL,
        hardware=HARDWARE,
        display_name="My Llama Endpoint",
        autoscaling={"min_replicas": 1, "max_replicas": 3},
        inactive_timeout=60,
    )
    return sandbox.wait_state(endpoint.id, "STARTED")


def delete(http: httpx.Client, endpoint_id: str) -> None:
    """Delete an endpoint, and wait until its engine has ended, too."""
    assert http.delete(f"/endpoints/{endpoint_id}").status_code == 204
    until("it is gone", lambda: http.get(f"/endpoints/{endpoint_id}").status_code == 404)


def test_the_banner_says_that_it_is_one(sandbox: Server) -> None:
    assert sandbox.process is not None
    assert sandbox.process.stdout is not None
    lines = [sandbox.process.stdout.readline() for _ in range(3)]
    assert "THIS IS A SANDBOX" in "".join(lines)


def test_an_endpoint_on_declared_hardware_starts_on_one_thread(sandbox: Server, created: dict[str, Any]) -> None:
    (replica,) = created["replicas"]
    assert replica["node"].startswith("h100-")
    assert replica["zone"] in {"us-central-1a", "us-east-1a", "eu-west-1a"}
    (record,) = sandbox.replica_records().values()
    assert record["resources"]["accelerators"] == 4
    command = psutil.Process(record["engine_pid"]).cmdline()
    assert command[command.index("--threads") + 1] == "1"


def test_hardware_and_zones_are_those_of_the_fleet(sandbox: Server, created: dict[str, Any]) -> None:
    with sandbox.http as http:
        offered = {item["id"]: item for item in http.get("/hardware", params={"model": MODEL}).json()["data"]}
        zones = http.get("/clusters/availability-zones").json()["avzones"]
    assert offered[HARDWARE]["availability"]["status"] == "available"
    assert offered[HARDWARE]["pricing"]["cents_per_minute"] > 0
    assert set(zones) == {"us-central-1a", "us-east-1a", "eu-west-1a"}


def test_it_chats_and_every_kind_of_response_has_the_header(sandbox: Server, created: dict[str, Any]) -> None:
    body = {"model": created["name"], "messages": MESSAGES, "max_tokens": 24, "temperature": 0}
    with sandbox.http as http:
        answers = [
            chat := http.post("/chat/completions", json=body),
            http.post("/chat/completions", json={**body, "stream": True}),
            http.get("/endpoints"),
            http.get("/models"),
            http.get("/nothing/here"),
            http.post("/endpoints", json={}),
            http.post("/chat/completions", json={**body, "model": "nothing"}),
            http.get(f"{sandbox.origin}/healthz"),
            http.get(f"{sandbox.origin}/metrics"),
            http.get("/endpoints", headers={"authorization": "Bearer nobody"}),
        ]
    assert "Paris" in chat.json()["choices"][0]["message"]["content"]
    assert [answer.headers.get("x-roost-sandbox") for answer in answers] == ["true"] * len(answers)


def test_the_seventh_endpoint_waits_with_the_reason_and_starts_when_one_stops(
    sandbox: Server, created: dict[str, Any]
) -> None:
    body = {"model": MODEL, "hardware": ONE, "autoscaling": {"min_replicas": 1, "max_replicas": 1}}
    with sandbox.http as http:
        ids = [http.post("/endpoints", json=body).json()["id"] for _ in range(5)]
        for one in ids:
            sandbox.wait_state(one, "STARTED")
        seventh = http.post("/endpoints", json=body).json()["id"]
        reason = until(
            "the seventh says why it waits",
            lambda: (e := sandbox.endpoint(seventh))["state"] == "PENDING" and e["state_reason"]["message"],
        )
        assert "The sandbox runs at most 6 engines at once" in reason
        status = {item["id"]: item["availability"]["status"] for item in http.get("/hardware").json()["data"]}
        assert set(status.values()) == {"unavailable"}
        http.patch(f"/endpoints/{ids[0]}", json={"state": "STOPPED"})
        sandbox.wait_state(seventh, "STARTED")
        for one in (*ids, seventh):
            delete(http, one)


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        ("BAAI/bge-large-en-v1.5", "/embeddings", {"input": ["one", "two"]}),
        ("BAAI/bge-reranker-v2-m3", "/rerank", {"query": "one", "documents": ["one", "two"]}),
    ],
)
def test_models_that_do_not_chat_answer_in_their_own_way(
    sandbox: Server, created: dict[str, Any], model: str, path: str, body: dict[str, Any]
) -> None:
    endpoint = {"model": model, "hardware": "1x_nvidia_l40s_48gb_pcie", "autoscaling": created["autoscaling"]}
    with sandbox.http as http:
        made = http.post("/endpoints", json=endpoint).json()
        sandbox.wait_state(made["id"], "STARTED")
        answer = http.post(path, json={"model": made["id"], **body})
        assert (answer.status_code, answer.headers.get("x-roost-sandbox")) == (200, "true"), answer.text
        assert len(answer.json().get("data") or answer.json()["results"]) == 2
        delete(http, made["id"])


def test_a_restart_adopts_what_runs_with_its_declared_node(sandbox: Server, created: dict[str, Any]) -> None:
    until("one is left", lambda: len(sandbox.replica_records()) == 1)
    ((replica_id, before),) = sandbox.replica_records().items()
    assert sandbox.interrupt(signal.SIGTERM) == 0
    sandbox.start()
    after = sandbox.wait_state(created["id"], "STARTED")
    assert [(r["id"], r["node"]) for r in after["replicas"]] == [(replica_id, before["node_id"])]
    assert sandbox.replica_records()[replica_id]["engine_pid"] == before["engine_pid"]
    answer = httpx.post(
        f"{sandbox.base_url}/chat/completions",
        headers={"authorization": f"Bearer {sandbox.key}"},
        json={"model": created["id"], "messages": MESSAGES, "max_tokens": 1},
        timeout=60,
    )
    assert answer.status_code == 200


def test_its_home_is_refused_to_a_server_that_is_none(sandbox: Server, created: dict[str, Any]) -> None:
    assert sandbox.interrupt(signal.SIGTERM) == 0
    done = subprocess.run(
        [sys.executable, "-m", "roost", "serve", "--home", str(sandbox.home), "--port", "0"],
        env=sandbox.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "is a sandbox's" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(sandbox.replica_records()) == 1, "the sandbox's own replica was touched"
