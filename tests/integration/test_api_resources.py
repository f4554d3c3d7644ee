"""Hardware, models, keys, events, identity and everything that is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from tests.unit.api.front import CREATE, app_of, check_failure, client_of
from tests.unit.services.office import GIB, Office, make_node

from roost.domain.hardware import Resources

ELSEWHERE = {"kind": "http", "location": "http://127.0.0.1:9/mine.gguf"}
MINE = {"id": "me/mine", "engine": "echo", "alias": "mine", "context_length": 512, "slots": 2}


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


async def test_hardware_has_no_null(http: httpx.AsyncClient) -> None:
    for query in ("", "?model=test/model", "?model=tiny", "?model="):
        body = (await http.get(f"/hardware{query}")).json()
        assert [item["id"] for item in body["data"]] == ["1x_cpu", "2x_cpu", "3x_cpu", "4x_cpu"]
        assert body["data"][0] == {
            "object": "hardware",
            "id": "1x_cpu",
            "pricing": {"cents_per_minute": 0.0},
            "specs": {"gpu_type": "cpu", "gpu_link": "none", "gpu_memory": 4.3, "gpu_count": 1},
            "availability": {"status": "available"},
            "updated_at": "2026-01-01T00:00:00Z",
        }
    error = check_failure(await http.get("/hardware?model=no/such"), 404)
    assert error["code"] == "model_not_found"


async def test_hardware_for_a_model_is_what_can_hold_it_and_what_a_create_takes(
    office: Office, http: httpx.AsyncClient
) -> None:
    large = {"id": "me/large", "engine": "echo", "source": {**ELSEWHERE, "size_bytes": 6 * GIB}}
    assert (await http.post("/models", json=large)).status_code == 200
    office.nodes = [make_node(free=Resources(3, 12 * GIB))]

    async def statuses(query: str) -> dict[str, str]:
        data = (await http.get(f"/hardware{query}")).json()["data"]
        return {item["id"]: item["availability"]["status"] for item in data}

    every = {"1x_cpu": "available", "2x_cpu": "available", "3x_cpu": "available", "4x_cpu": "insufficient"}
    fitting = {name: every[name] for name in ("2x_cpu", "3x_cpu", "4x_cpu")}
    assert await statuses("") == every
    assert await statuses("?model=me/large") == fitting
    office.nodes = [make_node(free=Resources())]
    assert await statuses("?model=me/large") == dict.fromkeys(fitting, "unavailable")

    made = await http.post("/endpoints", json={**CREATE, "model": "me/large", "hardware": "2x_cpu"})
    assert made.status_code == 200, made.text
    refused = await http.post("/endpoints", json={**CREATE, "model": "me/large", "hardware": "1x_cpu"})
    error = check_failure(refused, 400)
    assert (error["param"], error["code"]) == ("hardware", "hardware_too_small")
    assert "Invalid hardware provided" in error["message"]
    assert "check the hardware API" in error["message"]
    assert "A replica needs 6714 MiB of memory" in error["message"]
    assert "but 1x_cpu has 4096 MiB" in error["message"]


async def test_a_declared_footprint_decides(office: Office, http: httpx.AsyncClient) -> None:
    body = {"id": "me/declared", "engine": "echo", "source": {**ELSEWHERE, "size_bytes": GIB}, "context_length": 1000}
    for token_bytes, fitting in ((1000, 4), (5_000_000, 3)):
        declared = {**body, "footprint": {"weights_bytes": GIB, "kv_bytes_per_token": token_bytes}}
        added = await http.post("/models", json=declared)
        assert added.status_code == 200, added.text
        assert len((await http.get("/hardware?model=me/declared")).json()["data"]) == fitting
        assert (await http.delete("/models/me/declared")).status_code == 200
    wrong = await http.post("/models", json={**body, "footprint": {"weights_bytes": 0}})
    assert check_failure(wrong, 400)["param"] == "footprint.weights_bytes"


async def test_zones(http: httpx.AsyncClient) -> None:
    assert (await http.get("/clusters/availability-zones")).json() == {"avzones": ["local"]}


@pytest.mark.parametrize(
    ("agent", "bare"),
    [
        ("Together/Python 2.42.0", True),
        ("AsyncTogether/Python 2.42.0", True),
        ("Together/JS 0.20.0", True),
        ("Together/v1 PythonBindings/1.5.35", True),
        ("together-cli/1.0", True),
        ("OpenAI/Python 1.60.0", False),
        ("roost/0.1.0", False),
        ("curl/8 Together", False),
    ],
)
async def test_the_catalog_in_the_shape_that_the_client_reads(http: httpx.AsyncClient, agent: str, bare: bool) -> None:
    for query in ("", "?dedicated=true"):
        body = (await http.get(f"/models{query}", headers={"user-agent": agent})).json()
        items = body if bare else body["data"]
        assert [item["id"] for item in items] == ["test/model", "far/away"]
        assert bare or body["object"] == "list"
        classic = ("id", "object", "created", "type", "display_name", "organization", "context_length", "pricing")
        assert all(items[0][field] is not None for field in classic)


async def test_a_model_is_added_pulled_and_removed(office: Office, http: httpx.AsyncClient) -> None:
    source = {"kind": "http", "location": "http://127.0.0.1:9/mine.gguf", "size_bytes": 1000}
    added = await http.post("/models", json={**MINE, "source": source})
    assert added.status_code == 200, added.text
    assert (added.json()["alias"], added.json()["download"]["state"]) == ("mine", "absent")

    pulled = (await http.post("/models/me%2Fmine/pull")).json()
    assert pulled["download"] == {
        "state": "fetching",
        "percent": 0.0,
        "done_bytes": 0,
        "total_bytes": 1000,
        "error": None,
        "error_code": None,
        "path": None,
    }
    office.cache.fail("me/mine", "source_missing")
    assert (await http.get("/models/mine")).json()["download"]["error_code"] == "source_missing"

    made = (await http.post("/endpoints", json={**CREATE, "model": "mine"})).json()
    assert check_failure(await http.delete("/models/me/mine"), 409)["code"] == "model_in_use"
    await http.delete(f"/endpoints/{made['id']}")
    removed = await http.delete("/models/me/mine")
    assert removed.json() == {"id": "me/mine", "object": "model", "deleted": True, "freed_bytes": 0}
    assert check_failure(await http.get("/models/me/mine"), 404)["code"] == "model_not_found"


async def test_details_are_told_without_secrets(http: httpx.AsyncClient) -> None:
    source = {"kind": "http", "location": "http://me:pass-word@host/m.gguf?token=pass-word", "size_bytes": 1000}
    options = {"tokens_per_second": "5"}
    body = {**MINE, "type": "embedding", "source": source, "slots": 3, "options": options, "context_length": 512}

    added = await http.post("/models", json=body)

    shown = (await http.get("/models/me%2Fmine")).json()
    assert (
        added.json() == shown == (await http.get("/models/me/mine")).json() == (await http.get("/models/mine")).json()
    )
    assert "pass-word" not in added.text
    assert shown["source"] == {**source, "location": "http://host/m.gguf", "member": None, "sha256": None}
    told = {name: shown[name] for name in ("type", "slots", "options", "context_length", "size_bytes", "used_by")}
    assert told == {
        "type": "embedding",
        "slots": 3,
        "options": options,
        "context_length": 512,
        "size_bytes": 1000,
        "used_by": [],
    }


async def test_where_weights_lie_is_told_to_admins_alone(app: FastAPI, http: httpx.AsyncClient) -> None:
    location = "http://internal/m.gguf"
    await http.post("/models", json={**MINE, "source": {"kind": "http", "location": location}})
    assert (await http.get("/models/me/mine")).json()["source"]["location"] == location

    for key in (2, 3):
        async with client_of(app, key) as other:
            assert "internal" not in (await other.get("/models")).text
            assert (await other.get("/models/me/mine")).json()["source"]["location"] is None


async def test_who_uses_a_model_is_told(http: httpx.AsyncClient) -> None:
    made = (await http.post("/endpoints", json={**CREATE, "model": "tiny"})).json()
    assert (await http.get("/models/tiny")).json()["used_by"] == [made["name"]]
    (tiny, far) = (await http.get("/models")).json()["data"]
    assert (tiny["used_by"], far["used_by"]) == ([made["name"]], [])


async def test_weights_alone_are_removed(office: Office, http: httpx.AsyncClient) -> None:
    await http.post("/models/tiny/pull")
    office.cache.finish("test/model")
    ready = (await http.get("/models/tiny")).json()["download"]
    assert (ready["state"], ready["path"]) == ("ready", "/weights/test/model")

    removed = await http.delete("/models/tiny?weights_only=true")

    assert removed.json() == {"id": "test/model", "object": "model", "deleted": False, "freed_bytes": 1000}
    assert (await http.get("/models/tiny")).json()["download"]["state"] == "absent"
    check_failure(await http.delete("/models/tiny?weights_only=perhaps"), 400)


def weights(kind: str = "hf", location: str = "acme/tiny", **more: object) -> dict[str, object]:
    return {"id": "a", "engine": "llama_cpp", "source": {"kind": kind, "location": location, **more}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "id"),
        ({"model_name": "x", "model_source": "y"}, "id"),
        ({"id": "ünï", "engine": "echo"}, "id"),
        ({"id": "a\0b", "engine": "echo"}, "id"),
        ({"id": "a" * 129, "engine": "echo"}, "id"),
        ({"id": "../up", "engine": "echo"}, "id"),
        ({"id": "a", "engine": "echo", "contextlength": 5}, "contextlength"),
        ({"id": "a", "engine": "echo", "context_length": 10**15}, "context_length"),
        ({"id": "a", "engine": "echo", "context_length": 10**40}, "context_length"),
        ({"id": "a", "engine": "echo", "slots": 0}, "slots"),
        ({"id": "a", "engine": "echo", "options": {"warp": "9"}}, "options"),
        ({"id": "a", "engine": "echo", "display_name": "a\u2028b"}, "display_name"),
        (weights("carrier_pigeon"), "source.kind"),
        (weights(location="tiny"), "source.location"),
        (weights(location="acme/tiny@\0"), "source.location"),
        (weights(member="../../etc/passwd"), "source.member"),
        (weights(member="/etc/passwd"), "source.member"),
        (weights("pypi", "x==1", member="a/../../b"), "source.member"),
        (weights(sha256="beef"), "source.sha256"),
        (weights(size_bytes=0), "source.size_bytes"),
        (weights("http", "ftp://me:pass-word@host/x"), "source.location"),
        ({"id": "a b", "engine": "echo"}, "id"),
        ({"id": "a", "engine": "warp"}, "engine"),
        ({"id": "a", "engine": "echo", "type": "poem"}, "type"),
        ({"id": "a", "engine": "echo", "context_length": 0}, "context_length"),
        ({"id": "a", "engine": "echo", "slots": True}, "slots"),
        ({"id": "a", "engine": "echo", "options": {"x": 1}}, "options.x"),
        ({"id": "a", "engine": "echo", "source": {"kind": "file"}}, "source.location"),
        ({"id": "a", "engine": "echo", "source": {"kind": "file", "location": "/nowhere/x.gguf"}}, "source.location"),
        ({"id": "a", "engine": "external"}, "url"),
        ({"id": "a", "engine": "external", "url": "http://host", "api_key_env": "ROOST_NOT_SET"}, "api_key_env"),
        ({"id": "a", "engine": "external", "url": "ftp://host"}, "url"),
    ],
)
async def test_bad_models_are_refused(
    office: Office, http: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    response = await http.post("/models", json=body)

    assert check_failure(response, 400)["param"] == param
    assert "pass-word" not in response.text
    assert await office.store.models() == []


async def test_a_taken_name_is_a_conflict(http: httpx.AsyncClient) -> None:
    check_failure(await http.post("/models", json={**MINE, "alias": "tiny"}), 409)


async def test_keys_come_and_go(app: FastAPI, http: httpx.AsyncClient) -> None:
    made = await http.post("/keys", json={"owner": "bob", "expires_at": "2026-01-02T00:00:00Z"})
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    assert key == {
        "object": "api_key",
        "id": key["id"],
        "key": key["key"],
        "owner": "bob",
        "role": "member",
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00Z",
        "revoked_at": None,
        "state": "active",
        "name": None,
        "endpoints": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "concurrency": None,
    }
    async with client_of(app, None, authorization=f"Bearer {key['key']}") as bob:
        listed = (await bob.get("/keys")).json()["data"]
        assert [item["id"] for item in listed] == [key["id"]]
        assert "key" not in listed[0]
        assert (await bob.get("/whoami")).json()["owner"] == "bob"
        assert (await http.delete(f"/keys/{key['id']}")).status_code == 204
        check_failure(await bob.get("/keys"), 401)
    assert check_failure(await http.delete("/keys/key-none"), 404)["code"] == "key_not_found"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"role": "root"}, "role"),
        ({"role": None}, "role"),
        ({"owner": "a/b"}, "owner"),
        ({"owner": ""}, "owner"),
        ({"owner": "é"}, "owner"),
        ({"expires_at": "2025-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "1999999999"}, "expires_at"),
        ({"expires_at": 1999999999}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"endpoints": []}, "endpoints"),
        ({"endpoints": "endpoint-1"}, "endpoints"),
        ({"endpoints": ["endpoint-none"]}, "endpoints"),
        ({"endpoints": ["e"] * 1001}, "endpoints"),
        ({"role": "admin", "endpoints": ["endpoint-none"]}, "endpoints"),
        ({"endpoint": ["endpoint-1"]}, "endpoint"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": "10"}, "tokens_per_minute"),
        ({"tokens_per_minute": 1.5}, "tokens_per_minute"),
        ({"concurrency": 10**9 + 1}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"requests_per_second": 1}, "requests_per_second"),
        ({"expires": "2030-01-01T00:00:00Z"}, "expires"),
    ],
)
async def test_bad_keys_are_refused(
    office: Office, http: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    error = check_failure(await http.post("/keys", json=body), 400)

    assert error["param"] == param
    assert len(await office.store.keys()) == 3


async def test_a_member_must_name_the_endpoint_whose_events_it_reads(app: FastAPI) -> None:
    async with client_of(app, 2) as member:
        error = check_failure(await member.get("/events"), 400)

    assert error["param"] == "endpoint"


async def test_events_in_pages(http: httpx.AsyncClient) -> None:
    made = (await http.post("/endpoints", json=CREATE)).json()
    await http.patch(f"/endpoints/{made['id']}", json={"state": "STOPPED"})
    await http.post("/endpoints", json=CREATE)

    async def kinds(query: str) -> list[str]:
        body = (await http.get(f"/events?{query}")).json()
        assert body["object"] == "list"
        return [item["kind"] for item in body["data"]]

    assert await kinds("") == ["endpoint.created", "endpoint.updated", "endpoint.created"]
    assert await kinds(f"endpoint={made['name']}") == ["endpoint.created", "endpoint.updated"]
    assert await kinds(f"endpoint_id={made['id']}&after=1") == ["endpoint.updated"]
    assert await kinds("order=desc&limit=2") == ["endpoint.created", "endpoint.updated"]
    (event,) = (await http.get("/events?after=1&limit=1")).json()["data"]
    assert event["sequence"] == 2
    assert event["data"] == {"state": "STARTED -> STOPPED"}
    assert event["reason"] == "roost changed state: STARTED -> STOPPED"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after=-1", "after"),
        (f"after={1 << 70}", "after"),
        ("order=up", "order"),
    ],
)
async def test_bad_pages_are_refused(http: httpx.AsyncClient, query: str, param: str) -> None:
    assert check_failure(await http.get(f"/events?{query}"), 400)["param"] == param


async def test_who_one_is(http: httpx.AsyncClient) -> None:
    assert (await http.get("/whoami")).json() == {
        "api_key_id": "key-00000001",
        "organization_id": "roost",
        "organization_name": "roost",
        "project_id": "roost",
        "project_name": "roost",
        "project_slug": "roost",
        "owner": "roost",
        "role": "admin",
        "endpoints": None,
        "expires_at": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "concurrency": None,
    }
    for path in ("/v3/whoami", "/v1/v3/whoami"):
        assert (await http.get(f"http://roost.test{path}")).json() == {
            "type": "project_api_key",
            "api_key": {"id": "key-00000001"},
            "organization": {"id": "roost", "name": "roost"},
            "project": {"id": "roost", "name": "roost", "slug": "roost"},
        }


ROUTES = [
    ("POST", "/endpoints"),
    ("GET", "/endpoints"),
    ("GET", "/endpoints/x"),
    ("PATCH", "/endpoints/x"),
    ("DELETE", "/endpoints/x"),
    ("GET", "/endpoints/x/adapters"),
    ("GET", "/hardware"),
    ("GET", "/clusters/availability-zones"),
    ("GET", "/models"),
    ("GET", "/models/test/model"),
    ("POST", "/models"),
    ("POST", "/models/test/model/pull"),
    ("DELETE", "/models/test/model"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("PATCH", "/keys/key-00000001"),
    ("DELETE", "/keys/key-00000001"),
    ("GET", "/events"),
    ("GET", "/whoami"),
    ("GET", "/v3/whoami"),
    ("GET", "/metrics"),
]
READABLE_FOR_INFERENCE = {"/models", "/models/test/model", "/whoami", "/v3/whoami", "/metrics", "/endpoints/x/adapters"}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic dTpw", "Bearer \xff"])
async def test_without_a_key_nothing_is_answered(app: FastAPI, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    async with client_of(app, None) as client:
        for method, path in ROUTES:
            request = client.build_request(method, path, headers=headers, content=b"{")
            check_failure(await client.send(request), 401)


async def test_what_keys_of_each_role_may_not_do(office: Office, app: FastAPI) -> None:
    async with client_of(app, 2) as member, client_of(app, 3) as inference:
        for method, path in ROUTES:
            if method != "GET" and path.startswith(("/models", "/keys")) and "pull" not in path:
                expected = 404 if method == "DELETE" and path.startswith("/keys") else 403
                check_failure(await member.request(method, path, json={}), expected)
            if method != "GET" or path not in READABLE_FOR_INFERENCE:
                check_failure(await inference.request(method, path, json={}), 403)
    assert await office.events() == []


async def test_metrics(http: httpx.AsyncClient) -> None:
    response = await http.get("/metrics")

    assert response.text == "test_metric 1\n"
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/console/", 404),
        ("POST", "/v1/chat/completions", 404),
        ("PUT", "/v1/endpoints", 405),
        ("PUT", "/v1/endpoints/x", 405),
        ("DELETE", "/v1/hardware", 405),
        ("POST", "/v3/whoami", 405),
        ("TRACE", "/v1/models", 405),
        ("GET", "/v1/endpoints%00", 404),
        ("GET", "/v1/endpoints/%00", 404),
        ("GET", "/v1/endpoints/%ed%a0%80", 404),
        ("GET", "/v1/endpoints/" + "x" * 5000, 404),
        ("GET", "/docs", 404),
    ],
)
async def test_everything_else_is_refused_in_the_envelope(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    error = check_failure(await http.request(method, f"http://roost.test{path}"), status)

    assert len(error["message"]) < 500


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/hardware", "GET"),
        ("PUT", "/endpoints", "GET, POST"),
        ("POST", "/endpoints/a%2Fb", "DELETE, GET, PATCH"),
        ("PATCH", "/endpoints/a%2Fb/logs", "GET"),
        ("PATCH", "/endpoints/a%2Fb/adapters", "DELETE, GET, POST"),
        ("PATCH", "/endpoints/a%0Ab/adapters", "DELETE, GET, POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_405_says_all_that_the_path_takes(http: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    response = await http.request(method, path)
    check_failure(response, 405)
    assert sorted(response.headers["allow"].split(", ")) == allowed.split(", ")


@pytest.mark.parametrize("path", ["/v2/endpoints", "/v2", "/v1/v2/models"])
async def test_newer_sdks_are_told_which_one_to_use(http: httpx.AsyncClient, path: str) -> None:
    error = check_failure(await http.get(f"http://roost.test{path}"), 404)

    assert "use together<3" in error["message"]


async def test_people_are_sent_to_the_console(http: httpx.AsyncClient) -> None:
    response = await http.get("http://roost.test/", headers={"accept": "text/html,*/*"})

    assert (response.status_code, response.headers["location"]) == (302, "/console/")
