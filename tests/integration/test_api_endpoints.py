"""The endpoints API over HTTP: what the wire contract says, and a table of what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message
from tests.unit.api.front import CREATE, app_of, check_failure, client_of
from tests.unit.services.office import Office, make_node

from roost.domain.lifecycle import State
from roost.store.base import StatusChange
from roost.testing.builders import secret_of
from roost.wiring.applied_writes import AppliedWrites


@pytest.fixture
async def office() -> Office:
    """Services over an empty store with three keys, on two zones."""
    office = await Office().open()
    office.nodes = [make_node("n1", "local"), make_node("n2", "east", 2)]
    return office


@pytest.fixture
def app(office: Office) -> FastAPI:
    """The public app."""
    return app_of(office)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the admin's key."""
    async with client_of(app) as client:
        yield client


async def create(http: httpx.AsyncClient, **over: Any) -> dict[str, Any]:
    response = await http.post("/endpoints", json={**CREATE, **over})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_create_answers_with_the_whole_object(http: httpx.AsyncClient) -> None:
    made = await create(http, display_name="Mine", inactive_timeout=5, availability_zone="east")

    assert made["id"].startswith("endpoint-")
    hex_digits = made["id"].removeprefix("endpoint-")[:8]
    assert made == {
        "object": "endpoint",
        "id": made["id"],
        "name": f"roost/test/model-{hex_digits}",
        "display_name": "Mine",
        "model": "test/model",
        "hardware": "1x_cpu",
        "type": "dedicated",
        "owner": "roost",
        "state": "PENDING",
        "autoscaling": {"min_replicas": 1, "max_replicas": 2},
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "inactive_timeout": 5,
        "availability_zone": "east",
        "zone_required": False,
        "disable_speculative_decoding": False,
        "state_reason": None,
        "progress": None,
        "replicas": [],
    }
    assert (await http.get(f"/endpoints/{made['id']}")).json() == made


async def test_what_old_clients_send_is_taken(http: httpx.AsyncClient) -> None:
    made = await create(http, disable_prompt_cache=True, state="STARTED", inactive_timeout=None, display_name=None)

    assert (made["inactive_timeout"], made["display_name"]) == (None, "test/model")


@pytest.mark.parametrize(
    ("query", "body", "zone"),
    [
        ("east", {}, "east"),
        ("", {"availability_zone": "east"}, "east"),
        ("east", {"availability_zone": "east"}, "east"),
    ],
)
async def test_the_zone_comes_in_the_query_or_the_body(
    http: httpx.AsyncClient, query: str, body: dict[str, Any], zone: str
) -> None:
    response = await http.post(f"/endpoints?availability_zone={query}", json={**CREATE, **body})

    assert response.json()["availability_zone"] == zone


async def test_two_zones_that_differ_are_refused(office: Office, http: httpx.AsyncClient) -> None:
    body = {**CREATE, "availability_zone": "local"}
    error = check_failure(await http.post("/endpoints?availability_zone=east", json=body), 400)

    assert error["param"] == "availability_zone"
    assert await office.store.endpoints() == []


def scaled(low: Any, high: Any) -> dict[str, Any]:
    return {"autoscaling": {"min_replicas": low, "max_replicas": high}}


BAD_CREATES: list[tuple[str, dict[str, Any], int, str]] = [
    ("no model", {"model": None}, 400, "model"),
    ("empty model", {"model": ""}, 400, "model"),
    ("model is a number", {"model": 7}, 400, "model"),
    ("unknown model", {"model": "no/such"}, 404, "model"),
    ("unknown model and no hardware", {"model": "no/such", "hardware": ""}, 404, "model"),
    ("no hardware", {"hardware": None}, 400, "hardware"),
    ("empty hardware, as one CLI sends", {"hardware": ""}, 400, "hardware"),
    ("unknown hardware", {"hardware": "8x_nvidia_b200"}, 400, "hardware"),
    ("hardware larger than any node", {"hardware": "5x_cpu"}, 400, "hardware"),
    (
        "hardware larger than the zone",
        {"hardware": "4x_cpu", "availability_zone": "east", "zone_required": True},
        400,
        "hardware",
    ),
    ("no autoscaling", {"autoscaling": None}, 400, "autoscaling"),
    ("autoscaling is a list", {"autoscaling": [1, 2]}, 400, "autoscaling"),
    ("autoscaling is empty", {"autoscaling": {}}, 400, "autoscaling.min_replicas"),
    ("no maximum", {"autoscaling": {"min_replicas": 1}}, 400, "autoscaling.max_replicas"),
    ("negative minimum", scaled(-1, 1), 400, "autoscaling.min_replicas"),
    ("minimum above maximum", scaled(3, 2), 400, "autoscaling.min_replicas"),
    ("maximum of zero", scaled(0, 0), 400, "autoscaling.max_replicas"),
    ("maximum too large", scaled(1, 1001), 400, "autoscaling.max_replicas"),
    ("maximum beyond 64 bits", scaled(1, 1 << 80), 400, "autoscaling.max_replicas"),
    ("maximum of 64 bits", scaled(1, (1 << 64) - 1), 400, "autoscaling.max_replicas"),
    ("minimum is a bool", scaled(True, 1), 400, "autoscaling.min_replicas"),
    ("minimum is a string", scaled("1", 1), 400, "autoscaling.min_replicas"),
    ("minimum is a fraction", scaled(0.5, 1), 400, "autoscaling.min_replicas"),
    ("negative timeout", {"inactive_timeout": -1}, 400, "inactive_timeout"),
    ("timeout is a string", {"inactive_timeout": "60"}, 400, "inactive_timeout"),
    ("timeout is a fraction", {"inactive_timeout": 1.5}, 400, "inactive_timeout"),
    ("timeout is a bool", {"inactive_timeout": True}, 400, "inactive_timeout"),
    ("timeout beyond a duration", {"inactive_timeout": 1 << 62}, 400, "inactive_timeout"),
    ("unknown state", {"state": "RUNNING"}, 400, "state"),
    ("state of the wire that cannot be asked for", {"state": "PENDING"}, 400, "state"),
    ("lower-case state", {"state": "started"}, 400, "state"),
    ("state is a bool", {"state": True}, 400, "state"),
    ("name too long", {"display_name": "x" * 257}, 400, "display_name"),
    ("name with an escape sequence", {"display_name": "\x1b[31m"}, 400, "display_name"),
    ("name with NUL", {"display_name": "a\0b"}, 400, "display_name"),
    ("name is a number", {"display_name": 1}, 400, "display_name"),
    ("unknown zone", {"availability_zone": "mars"}, 400, "availability_zone"),
    ("zone is a list", {"availability_zone": ["east"]}, 400, "availability_zone"),
    ("zone_required is a string", {"zone_required": "yes"}, 400, "zone_required"),
    ("speculative decoding is a string", {"disable_speculative_decoding": "no"}, 400, "disable_speculative_decoding"),
]


@pytest.mark.parametrize(("over", "status", "param"), [pytest.param(*row[1:], id=row[0]) for row in BAD_CREATES])
async def test_bad_creates_store_nothing(
    office: Office, http: httpx.AsyncClient, over: dict[str, Any], status: int, param: str
) -> None:
    body = {**CREATE, **over}
    if any(value is None for value in over.values()):
        without = {name: value for name, value in body.items() if value is not None}
        assert check_failure(await http.post("/endpoints", json=without), status)["param"] == param
    error = check_failure(await http.post("/endpoints", json=body), status)

    assert error["param"] == param
    assert await office.store.endpoints() == []
    assert await office.events() == []
    assert office.wakes == []


async def test_words_that_the_classic_command_line_looks_for(http: httpx.AsyncClient) -> None:
    async def message(**over: Any) -> str:
        return str((await http.post("/endpoints", json={**CREATE, **over})).json()["error"]["message"])

    assert "hardware is required" in await message(hardware="")
    unknown = await message(hardware="nope")
    assert "Invalid hardware provided" in unknown
    assert "check the hardware API" in unknown
    assert "1x_cpu, 2x_cpu, 3x_cpu, 4x_cpu" in unknown
    assert "was not found" in await message(model="no/such")
    assert "endpoint" not in (await message(model="no/such")).lower()
    assert "Known zones: east, local" in await message(availability_zone="mars")


BAD_UPDATES: list[tuple[str, dict[str, Any], str]] = [
    ("another model", {"model": "far"}, "model"),
    ("the same model", {"model": "test/model"}, "model"),
    ("other hardware", {"hardware": "2x_cpu"}, "hardware"),
    ("another zone", {"availability_zone": "east"}, "availability_zone"),
    ("unknown state", {"state": "PAUSED"}, "state"),
    ("empty state", {"state": ""}, "state"),
    ("null state", {"state": None}, "state"),
    ("null name", {"display_name": None}, "display_name"),
    ("null autoscaling", {"autoscaling": None}, "autoscaling"),
    ("minimum above the stored maximum", {"autoscaling": {"min_replicas": 3}}, "autoscaling.min_replicas"),
    ("maximum below the stored minimum", {"autoscaling": {"max_replicas": 0}}, "autoscaling.max_replicas"),
    ("one good and one bad field", {"display_name": "Good", "inactive_timeout": -1}, "inactive_timeout"),
    ("timeout is a bool", {"inactive_timeout": False}, "inactive_timeout"),
    ("name too long", {"display_name": "x" * 257}, "display_name"),
]


@pytest.mark.parametrize(("body", "param"), [pytest.param(*row[1:], id=row[0]) for row in BAD_UPDATES])
async def test_bad_updates_change_nothing(
    office: Office, http: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    made = await create(http)
    office.wakes.clear()

    error = check_failure(await http.patch(f"/endpoints/{made['id']}", json=body), 400)

    assert error["param"] == param
    assert (await http.get(f"/endpoints/{made['id']}")).json() == made
    assert len(await office.events()) == 1
    assert office.wakes == []


async def test_updates_of_any_subset(office: Office, http: httpx.AsyncClient) -> None:
    made = await create(http)
    url = f"/endpoints/{made['id']}"
    office.clock.advance(timedelta(seconds=1))

    assert (await http.patch(url, json={})).json() == made
    changed = await http.patch(url, json={"autoscaling": {"max_replicas": 5}, "inactive_timeout": 0})
    assert changed.status_code == 200
    assert changed.json() == {
        **made,
        "autoscaling": {"min_replicas": 1, "max_replicas": 5},
        "inactive_timeout": None,
        "updated_at": "2026-01-01T00:00:01Z",
    }
    stopped = (await http.patch(url, json={"state": "STOPPED"})).json()
    assert stopped["state"] == "PENDING", "the state is what is, not what is wanted"
    assert (await http.patch(url, json={"state": "STOPPED"})).json() == stopped


async def test_an_error_explains_itself_and_starts_again(office: Office, http: httpx.AsyncClient) -> None:
    made = await create(http)
    stored = await office.store.endpoint(made["id"])
    assert stored is not None
    failed = replace(stored.status, state=State.ERROR, gave_up=True)
    await office.store.apply(StatusChange(stored.id, stored.status_version, failed))

    assert (await http.patch(f"/endpoints/{made['id']}", json={"state": "STARTED"})).json()["state"] == "ERROR"

    after = await office.store.endpoint(made["id"])
    assert after is not None
    assert after.spec.start_requests == 1


@pytest.mark.parametrize("spelling", ["{id}", "{name}", "{quoted}", "{id}/"])
@pytest.mark.parametrize("prefix", ["/v1", "", "/v1/v1"])
async def test_ids_names_and_prefixes(app: FastAPI, http: httpx.AsyncClient, prefix: str, spelling: str) -> None:
    made = await create(http)
    path = spelling.format(id=made["id"], name=made["name"], quoted=quote(made["name"], safe=""))
    url = f"http://roost.test{prefix}/endpoints/{path}"

    assert (await http.get(url)).json() == made
    assert (await http.patch(url, json={"display_name": "B"})).json()["display_name"] == "B"
    gone = await http.delete(url, headers={"content-type": "application/json"})
    assert (gone.status_code, gone.content) == (204, b"")
    for response in (await http.get(url), await http.delete(url), await http.patch(url, json={})):
        assert check_failure(response, 404)["code"] == "endpoint_not_found"


async def test_lists_are_complete_newest_first_and_filtered(office: Office, app: FastAPI) -> None:
    async with client_of(app, 1) as admin, client_of(app, 2) as member:
        first = await create(admin)
        office.clock.advance(timedelta(seconds=1))
        second = await create(member)

        async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
            body = (await client.get(f"/endpoints{query}")).json()
            assert body["object"] == "list"
            return [item["id"] for item in body["data"]]

        assert await ids(admin) == [second["id"], first["id"]]
        assert await ids(admin, "?mine=True&type=dedicated") == [first["id"]]
        assert await ids(admin, "?mine=false&usage_type=on-demand") == [second["id"], first["id"]]
        assert await ids(member) == [second["id"]]
        assert await ids(admin, "?type=serverless") == []
        assert await ids(admin, "?usage_type=reserved") == []
        assert check_failure(await admin.get("/endpoints?type=other"), 400)["param"] == "type"
        assert check_failure(await admin.get("/endpoints?mine=perhaps"), 400)["param"] == "mine"


async def test_a_foreign_endpoint_does_not_exist(app: FastAPI, http: httpx.AsyncClient) -> None:
    made = await create(http)
    async with client_of(app, 2) as other:
        for method in ("GET", "PATCH", "DELETE"):
            theirs = check_failure(await other.request(method, f"/endpoints/{made['id']}", json={}), 404)
            assert theirs["code"] == "endpoint_not_found"


async def test_adapters_are_not_offered(http: httpx.AsyncClient) -> None:
    made = await create(http)
    for method in ("GET", "POST", "DELETE"):
        response = await http.request(method, f"/endpoints/{quote(made['name'], safe='')}/adapters", json={})
        assert check_failure(response, 501)["code"] == "not_implemented"
        assert response.headers["x-should-retry"] == "false"


async def test_an_idempotency_key_makes_one_endpoint(office: Office, http: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "once"}
    first = (await http.post("/endpoints", json=CREATE, headers=headers)).json()

    assert (await http.post("/endpoints", json=CREATE, headers=headers)).json() == first
    other = {**CREATE, "display_name": "Other"}
    check_failure(await http.post("/endpoints", json=other, headers=headers), 400)
    assert len(await office.store.endpoints()) == 1

    await http.delete(f"/endpoints/{first['id']}")
    again = (await http.post("/endpoints", json=CREATE, headers=headers)).json()
    assert again["id"] != first["id"]


async def test_identical_creates_and_retries_of_answered_ones_make_two(office: Office, http: httpx.AsyncClient) -> None:
    for count in ("0", "0", "1"):
        await http.post("/endpoints", json=CREATE, headers={"x-stainless-retry-count": count})

    assert len(await office.store.endpoints()) == 3


@pytest.mark.parametrize("moment", ["asked", "applying", "http.response.start", "http.response.body"])
async def test_a_retry_of_a_create_whose_client_hung_up_finds_it(
    office: Office, app: FastAPI, http: httpx.AsyncClient, moment: str
) -> None:
    body = json.dumps(CREATE).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    gone = asyncio.Event()

    def reach(now: str) -> None:
        if now == moment:
            gone.set()

    async def receive() -> Message:
        if incoming:
            return incoming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        reach(message["type"])

    async def applied() -> None:
        reach("applying")

    headers = [(b"authorization", f"Bearer {secret_of(1)}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/endpoints", "query_string": b"", "headers": headers}
    reach("asked")
    await AppliedWrites(app, applied)(scope, receive, send)
    (lost,) = await office.store.endpoints()

    retry = {"x-stainless-retry-count": "1"}
    assert (await http.post("/endpoints", json=CREATE, headers=retry)).json()["id"] == lost.id
    assert (await http.post("/endpoints", json=CREATE, headers=retry)).json()["id"] != lost.id
    assert len(await office.store.endpoints()) == 2
