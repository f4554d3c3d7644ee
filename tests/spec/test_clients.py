"""Each call of the API through each published client that has it: the rows of the compatibility table."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.server import until
from tests.spec.conftest import Opened
from tests.spec.driven import Refused
from tests.spec.stage import Stage

FIELDS = ("id", "name", "model", "type", "owner", "state", "created_at")
"""What every client shows of an endpoint."""


def same(shown: dict[str, Any], told: dict[str, Any]) -> None:
    """Every client shows what the API tells; times are written in more than one way."""
    assert {field: shown[field] for field in FIELDS if field != "created_at"} == {
        field: told[field] for field in FIELDS if field != "created_at"
    }
    assert shown["created_at"]


@pytest.mark.feature("create")
def test_create(client: Any, stage: Stage) -> None:
    made = client.create(**stage.body(display_name="My Llama Endpoint"))
    (told,) = [endpoint for endpoint in stage.listed() if endpoint["id"] == made["id"]]
    same(made, told)
    assert (told["display_name"], told["state"]) == ("My Llama Endpoint", "STOPPED")


@pytest.mark.feature("create with every field")
def test_create_with_every_field(client: Any, stage: Stage) -> None:
    zone = stage.ask("GET", "/clusters/availability-zones").json()["avzones"][-1]
    body = stage.body(
        display_name="Everything",
        autoscaling={"min_replicas": 1, "max_replicas": 3},
        inactive_timeout=15,
        availability_zone=zone,
    )
    told = stage.server.endpoint(client.create(**body)["id"])
    assert {field: told[field] for field in body} == body


@pytest.mark.feature("retrieve")
def test_retrieve(client: Any, stopped: dict[str, Any]) -> None:
    same(client.retrieve(stopped["id"]), stopped)


@pytest.mark.feature("retrieve by name")
def test_retrieve_by_name(client: Any, stopped: dict[str, Any]) -> None:
    same(client.retrieve(stopped["name"]), stopped)


@pytest.mark.feature("list")
def test_list(client: Any, stage: Stage, stopped: dict[str, Any]) -> None:
    second = stage.made()
    ids = [endpoint["id"] for endpoint in client.listed()]
    assert ids[:2] == [second["id"], stopped["id"]]


@pytest.mark.feature("list with filters")
def test_list_with_filters(client: Any, stopped: dict[str, Any]) -> None:
    found = client.listed(type="dedicated", usage_type="on-demand", mine=True)
    assert stopped["id"] in [endpoint["id"] for endpoint in found]
    assert client.listed(usage_type="reserved") == []


@pytest.mark.feature("update")
def test_update(client: Any, stage: Stage, stopped: dict[str, Any]) -> None:
    client.update(
        stopped["id"],
        display_name="Updated Name",
        autoscaling={"min_replicas": 2, "max_replicas": 5},
        inactive_timeout=30,
    )
    told = stage.server.endpoint(stopped["id"])
    assert (told["display_name"], told["inactive_timeout"]) == ("Updated Name", 30)
    assert told["autoscaling"] == {"min_replicas": 2, "max_replicas": 5}


@pytest.mark.feature("start and stop")
def test_start_and_stop(client: Any, stage: Stage, stopped: dict[str, Any]) -> None:
    client.update(stopped["id"], state="STARTED")
    until("it is coming up", lambda: stage.server.endpoint(stopped["id"])["state"] != "STOPPED")
    client.update(stopped["id"], state="STOPPED")
    stage.server.wait_state(stopped["id"], "STOPPED")


@pytest.mark.feature("delete")
def test_delete(client: Any, stage: Stage, stopped: dict[str, Any]) -> None:
    assert client.delete(stopped["id"]) is None
    assert stage.gone(stopped["id"])


@pytest.mark.feature("hardware")
def test_hardware(client: Any, stage: Stage) -> None:
    listed = client.hardware()
    assert [item["id"] for item in listed] == [item["id"] for item in stage.ask("GET", "/hardware").json()["data"]]
    (ours,) = [item for item in listed if item["id"] == stage.hardware]
    assert ours["specs"]["gpu_count"] == stage.gpu[1]
    assert ours["pricing"]["cents_per_minute"] > 0


@pytest.mark.feature("hardware for a model")
def test_hardware_for_a_model(client: Any, stage: Stage) -> None:
    listed = client.hardware(model=stage.model)
    assert stage.hardware in [item["id"] for item in listed]
    assert {item["availability"]["status"] for item in listed} <= {"available", "unavailable", "insufficient"}


@pytest.mark.feature("availability zones")
def test_availability_zones(client: Any, stage: Stage) -> None:
    assert client.zones() == stage.ask("GET", "/clusters/availability-zones").json()["avzones"]


@pytest.mark.feature("create and wait")
def test_create_and_wait(client: Any, stage: Stage) -> None:
    made = client.create_wait(**stage.body(state="STARTED"))
    assert made["state"] == "STARTED"


@pytest.mark.feature("start and wait")
def test_start_and_wait(client: Any, stage: Stage, stopped: dict[str, Any]) -> None:
    client.start_wait(stopped["id"])
    assert stage.server.endpoint(stopped["id"])["state"] == "STARTED"


@pytest.mark.feature("stop and wait")
def test_stop_and_wait(client: Any, stage: Stage) -> None:
    endpoint = stage.made(state="STARTED")
    client.stop_wait(endpoint["id"])
    assert stage.server.endpoint(endpoint["id"])["state"] == "STOPPED"


@pytest.mark.feature("models")
def test_models(client: Any, stage: Stage) -> None:
    assert stage.model in [model["id"] for model in client.models()]


@pytest.mark.feature("who am I")
def test_who_am_i(client: Any) -> None:
    assert "roost" in str(client.whoami())


@pytest.mark.feature("chat")
def test_chat(client: Any, running: dict[str, Any]) -> None:
    assert client.chat(running["id"])["choices"][0]["message"]["content"].strip()


@pytest.mark.feature("chat by name")
def test_chat_by_name(client: Any, running: dict[str, Any]) -> None:
    assert client.chat(running["name"])["choices"][0]["message"]["content"].strip()


@pytest.mark.feature("chat, streamed")
def test_chat_streamed(client: Any, running: dict[str, Any]) -> None:
    chunks = client.stream(running["id"])
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]).strip()


@pytest.mark.feature("completions")
def test_completions(client: Any, running: dict[str, Any]) -> None:
    assert client.complete(running["id"])["choices"][0]["text"].strip()


@pytest.mark.feature("embeddings")
def test_embeddings(client: Any, embedding: dict[str, Any]) -> None:
    vector = client.embed(embedding["id"])["data"][0]["embedding"]
    assert len(vector) == 576
    assert any(vector)


@pytest.mark.feature("embeddings of a chat model, refused")
def test_embeddings_are_refused_by_an_engine_without_them(client: Any, running: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="embeddings"):
        client.embed(running["id"])


@pytest.mark.feature("adapters, refused")
def test_adapters_are_refused(client: Any, stopped: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="not offered"):
        client.adapters(stopped["id"])


@pytest.mark.feature("a wrong key, told")
def test_a_wrong_key_is_told(request: pytest.FixtureRequest, client: Any, opened: Opened) -> None:
    with pytest.raises(Refused, match=r"(?i)authentication|api key"):
        opened(type(client), "wrong").models()


@pytest.mark.feature("an unknown endpoint, told")
def test_an_unknown_endpoint_is_told(client: Any) -> None:
    with pytest.raises(Refused, match=r"(?i)not found|no endpoint"):
        client.retrieve("endpoint-none")


@pytest.mark.feature("unknown hardware, told")
def test_unknown_hardware_is_told(client: Any, stage: Stage) -> None:
    with pytest.raises(Refused, match=r"(?i)hardware"):
        client.create(**stage.body(hardware="9x_dream"))
    assert stage.ids() == [endpoint["id"] for endpoint in stage.listed() if endpoint["id"] in stage.kept]


@pytest.mark.feature("an unknown model in a chat, told")
def test_an_unknown_deployment_in_a_chat_is_told(client: Any) -> None:
    with pytest.raises(Refused, match="no-such"):
        client.chat("no-such")
