"""What a key with a list of endpoints, and one of another owner, gets over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from tests.unit.api.front import CREATE, app_of, check_failure, client_of
from tests.unit.services.office import Office


@pytest.fixture
async def office() -> Office:
    """Services over an empty store with three keys."""
    return await Office().open()


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


async def issue(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await http.post("/keys", json=fields)
    assert response.status_code == 200, response.text
    return dict(response.json())


def holder(app: FastAPI, key: dict[str, Any]) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return client_of(app, None, authorization=f"Bearer {key['key']}")


async def test_a_listed_member_works_with_what_is_on_its_list(app: FastAPI, http: httpx.AsyncClient) -> None:
    one, other = await create(http), await create(http)
    key = await issue(http, endpoints=[one["name"]], name="ci", expires_at="2026-02-01T00:00:00Z")
    assert (key["endpoints"], key["name"], key["state"]) == ([one["id"]], "ci", "active")

    async with holder(app, key) as member:
        assert [item["id"] for item in (await member.get("/endpoints")).json()["data"]] == [one["id"]]
        assert (await member.patch(f"/endpoints/{one['id']}", json={"state": "STOPPED"})).status_code == 200
        assert (await member.get("/events", params={"endpoint": one["id"]})).json()["data"]
        for path in ("/hardware", "/models", "/clusters/availability-zones"):
            assert (await member.get(path)).status_code == 200
        me = (await member.get("/whoami")).json()
        assert (me["endpoints"], me["expires_at"]) == ([one["id"]], "2026-02-01T00:00:00Z")
        refused = check_failure(await member.post("/endpoints", json=CREATE), 403)
        assert "permission" in refused["message"]
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/logs")):
            error = check_failure(await member.request(method, f"/endpoints/{other['id']}{path}", json={}), 404)
            assert error["code"] == "endpoint_not_found"
    assert len((await http.get("/endpoints")).json()["data"]) == 2


@pytest.mark.parametrize("owner", ["a.b", "a-b_c", "x" * 64, "0", "A..B", "a--b"])
async def test_names_with_any_owner_work_in_paths(app: FastAPI, http: httpx.AsyncClient, owner: str) -> None:
    key = await issue(http, owner=owner)
    async with holder(app, key) as member:
        made = await create(member)
        assert made["name"].startswith(f"{owner}/test/model-")
        for spelling in (quote(made["name"], safe=""), made["name"]):
            assert (await member.get(f"/endpoints/{spelling}")).json()["id"] == made["id"]
        listed = await issue(http, owner=owner, endpoints=[made["name"]])
        assert listed["endpoints"] == [made["id"]]
        assert (await member.delete(f"/endpoints/{quote(made['name'], safe='')}")).status_code == 204


async def test_another_owner_s_endpoints_are_not_there(app: FastAPI, http: httpx.AsyncClient) -> None:
    foreign = await create(http)
    async with client_of(app, 2) as member:
        mine = await create(member)
        assert [item["id"] for item in (await member.get("/endpoints")).json()["data"]] == [mine["id"]]
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/logs")):
            for name in (foreign["id"], quote(foreign["name"], safe="")):
                error = check_failure(await member.request(method, f"/endpoints/{name}{path}", json={}), 404)
                assert error["code"] == "endpoint_not_found"
        check_failure(await member.get("/events", params={"endpoint": foreign["id"]}), 404)
    everything, own = await http.get("/endpoints"), await http.get("/endpoints", params={"mine": "true"})
    assert [item["id"] for item in everything.json()["data"]] == [mine["id"], foreign["id"]]
    assert [item["id"] for item in own.json()["data"]] == [foreign["id"]]


async def test_a_list_with_another_owner_s_endpoint_names_that_owner(http: httpx.AsyncClient) -> None:
    made = await create(http)
    answer = await http.post("/keys", json={"owner": "bob", "role": "inference", "endpoints": [made["id"]]})
    assert check_failure(answer, 400)["message"].endswith(
        f"That is {made['owner']}'s: make the key with owner {made['owner']}, and say by name whom it is for."
    )


async def test_a_key_s_state_is_told(office: Office, http: httpx.AsyncClient) -> None:
    soon = await issue(http, expires_at="2026-01-01T00:01:00Z")
    gone = await issue(http)
    await http.delete(f"/keys/{gone['id']}")
    office.clock.advance(timedelta(minutes=1))

    states = {item["id"]: item["state"] for item in (await http.get("/keys")).json()["data"]}
    assert (states[soon["id"]], states[gone["id"]], states["key-00000001"]) == ("expired", "revoked", "active")


async def test_limits_are_told_wherever_a_key_is(app: FastAPI, http: httpx.AsyncClient) -> None:
    limits = {"requests_per_minute": 60, "tokens_per_minute": 10**9, "concurrency": 1}
    key = await issue(http, role="inference", **limits)

    one = (await http.get(f"/keys/{key['id']}")).json()
    assert key == {**one, "key": key["key"]}
    assert one.items() >= limits.items()
    assert one in (await http.get("/keys")).json()["data"]
    async with holder(app, key) as its_holder:
        assert (await its_holder.get("/whoami")).json().items() >= limits.items()


async def test_limits_change_one_by_one(office: Office, http: httpx.AsyncClient) -> None:
    key = await issue(http, requests_per_minute=60, concurrency=1)
    wakes = office.route_wakes

    changed = await http.patch(f"/keys/{key['id']}", json={"requests_per_minute": 5, "concurrency": None})

    told = {name: changed.json()[name] for name in ("requests_per_minute", "tokens_per_minute", "concurrency")}
    assert told == {"requests_per_minute": 5, "tokens_per_minute": None, "concurrency": None}
    assert office.route_wakes == wakes + 1, "gateways are told"
    events = await office.events()
    assert (events[-1].kind, events[-1].data) == ("key.changed", {"key": key["id"]})
    assert "concurrency unlimited, requests_per_minute 5" in events[-1].reason
    assert (await http.patch(f"/keys/{key['id']}", json={})).json() == changed.json()
    assert await office.events() == events, "nothing has changed"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"tokens_per_minute": "1"}, "tokens_per_minute"),
        ({"role": "admin"}, "role"),
    ],
)
async def test_limits_that_are_none_are_refused(http: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    key = await issue(http)
    assert check_failure(await http.patch(f"/keys/{key['id']}", json=body), 400)["param"] == param


async def test_only_admins_change_limits_and_only_of_keys_that_can_be_used(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    key = await issue(http, owner="bob", concurrency=1)
    async with holder(app, key) as member:
        check_failure(await member.patch(f"/keys/{key['id']}", json={"concurrency": None}), 403)
        check_failure(await member.get("/keys/key-00000001"), 404)
    await http.delete(f"/keys/{key['id']}")
    refused = check_failure(await http.patch(f"/keys/{key['id']}", json={"concurrency": None}), 400)
    assert refused["code"] == "key_revoked"
    assert check_failure(await http.patch("/keys/key-none", json={}), 404)["code"] == "key_not_found"
