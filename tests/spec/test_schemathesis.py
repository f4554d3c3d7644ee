"""The server against its own description: thousands of requests made from it, right ones and wrong ones.

Through the gateway of a real server. Every answer must have a documented status, content type, headers and shape, none
may be a failure of the server, what breaks the description must be refused, and what needs a key must refuse to go
without. Seeded: each run sends the same requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from tests.e2e.server import Server

from roost.api.app import described_app
from roost.api.openapi_operations import OPERATIONS

SEED = 20261124
EXAMPLES = 90
MODEL = "test/echo"
HARDWARE = "1x_cpu"

DOCUMENT: dict[str, Any] = described_app().openapi()
CONFIG = schemathesis.Config.from_dict(
    {
        "seed": SEED,
        "generation": {
            # Unknown parameters are welcome, as unknown fields are: clients of several years send some.
            "allow-extra-parameters": False,
            # The test's own key would replace what is made up; `ignored_auth` asks without one.
            "with-security-parameters": False,
        },
        "checks": {
            # Which models, hardware, zones and endpoints there are is not in the description.
            "positive_data_acceptance": {"enabled": False},
        },
        "operations": [
            {
                "include-operation-id": ["list_adapters", "add_adapter", "remove_adapter"],
                # 501 is what they are described to answer.
                "checks": {"not_a_server_error": {"enabled": False}},
            },
            {
                "include-operation-id": ["pull_model"],
                # The id of a model may end with "/pull", so that GET and DELETE are for that model.
                "checks": {"allow_header_conformance": {"enabled": False}},
            },
        ],
    }
)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)
ANSWERED: Counter[tuple[str, int]] = Counter()
"""Requests by operation and status; 0 stands for those with another method."""
NEVER_DONE = {"list_adapters", "add_adapter", "remove_adapter"}
"""Operations that are described as not offered."""


class World:
    """A server with models that need no weights: endpoints that run, by what they are for, and one that does not."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.origin = server.origin
        self.session = requests.Session()
        # Proxies of the environment are not asked.
        self.session.trust_env = False
        self.headers = {"Authorization": f"Bearer {server.key}"}
        self.running = {
            operation: server.create(model)["id"]
            for operation, model in {
                "create_chat_completion": MODEL,
                "create_embeddings": "test/embedding",
                "rerank": "test/rerank",
            }.items()
        }
        self.running["create_completion"] = self.running["create_chat_completion"]
        self.stopped = self.made()

    def made(self) -> str:
        """A new endpoint that does not run."""
        body: dict[str, Any] = {
            "model": MODEL,
            "hardware": HARDWARE,
            "autoscaling": {"min_replicas": 1, "max_replicas": 1},
            "state": "STOPPED",
        }
        answer = self.session.post(f"{self.origin}/v1/endpoints", json=body, headers=self.headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def model(self) -> str:
        """A new entry of the catalog."""
        body = {"id": f"test/{uuid4()}", "engine": "echo"}
        answer = self.session.post(f"{self.origin}/v1/models", json=body, headers=self.headers, timeout=60)
        return str(answer.json()["id"])

    def key(self) -> str:
        """A new key's id."""
        answer = self.session.post(f"{self.origin}/v1/keys", json={}, headers=self.headers, timeout=60)
        return str(answer.json()["id"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home: Path = tmp_path_factory.mktemp("described") / "home"
    with Server(home, env={"ROOST_CPU_OVERCOMMIT": "8"}) as server:
        server.cli("models", "add", MODEL, "--engine", "echo")
        for type in ("embedding", "rerank"):
            server.cli("models", "add", f"test/{type}", "--engine", "echo", "--type", type)
        yield World(server)


def steer(case: Any, world: World) -> None:
    """Let every other right request be about something that is there, and keep the consequences small.

    Which ones depends on the request alone, so that it can be repeated.
    """
    operation, body, path = case.operation.definition.raw, case.body, case.path_parameters or {}
    name = operation["operationId"]
    there = case.meta.generation.mode.is_positive and crc32(repr((body, path, case.query)).encode()) % 2 == 0
    if there and "endpoint" in path:
        path["endpoint"] = world.made() if name == "delete_endpoint" else world.stopped
    if there and "model" in path:
        path["model"] = world.model() if name == "remove_model" else MODEL
    if there and name in ("revoke_key", "get_key", "update_key"):
        path["key_id"] = world.key()
    if there and isinstance(body, dict) and name == "create_endpoint":
        body |= {"model": MODEL, "hardware": HARDWARE}
    if there and isinstance(body, dict) and operation["tags"] == ["inference"]:
        body |= {"model": world.running[name]}
    # Hundreds of replicas would say nothing more.
    starts = {"create_endpoint": ("STARTED", None), "update_endpoint": ("STARTED",)}
    if isinstance(body, dict) and name in starts and body.get("state") in starts[name]:
        body["state"] = "STOPPED"
    if name == "list_endpoint_logs" and case.query:
        # A stream that is followed has no end while the endpoint is there.
        case.query.pop("follow", None)


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_it_does_what_its_description_says(case: Any, world: World) -> None:
    steer(case, world)
    answer = case.call(base_url=world.origin, session=world.session, headers=world.headers)
    asked = answer.request.method.lower() == case.operation.method
    ANSWERED[case.operation.definition.raw["operationId"], answer.status_code if asked else 0] += 1
    case.validate_response(answer, headers=world.headers, transport_kwargs={"session": world.session})


def test_it_was_asked_enough_and_about_what_is_there(request: pytest.FixtureRequest) -> None:
    """After the others: requests that are all refused, or never made, would show nothing."""
    if len([item for item in request.session.items if item.path == request.path]) <= len(OPERATIONS):
        pytest.skip("only some of the operations were selected")
    # The tests of all operations have one id between them, of which pytest-xdist would run one.
    assert len({name for name, _ in ANSWERED}) == len(OPERATIONS), "run this file without -n"
    assert sum(ANSWERED.values()) >= 2000
    done = {name for name, status in ANSWERED if 200 <= status < 300}
    assert {about.id for about in OPERATIONS.values()} - done == NEVER_DONE
