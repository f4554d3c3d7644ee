"""What published clients rely on beyond the reference: paths, the envelope, keys, changes, filters, names, zones."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.spec.conftest import MODEL
from tests.spec.stage import Stage


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The envelope's content, checked in full; no message or type may have the command line say something else."""
    assert answer.headers["content-type"].startswith("application/json"), answer.text
    assert answer.headers["x-request-id"]
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["type"]
    assert "invalid" not in error["type"]
    for name in ("param", "code"):
        assert error[name] is None or isinstance(error[name], str)
    return error


ALIASES = ("/v1", "", "/v1/v1")


@pytest.mark.parametrize("prefix", ALIASES)
@pytest.mark.parametrize("path", ["/endpoints", "/hardware", "/models", "/clusters/availability-zones", "/whoami"])
def test_each_route_has_its_aliases(stage: Stage, prefix: str, path: str) -> None:
    assert stage.ask("GET", f"{stage.server.origin}{prefix}{path}").status_code == 200


@pytest.mark.parametrize("prefix", ALIASES)
def test_inference_has_its_aliases(stage: Stage, running: dict[str, Any], prefix: str) -> None:
    body = {"model": running["id"], "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    assert stage.ask("POST", f"{stage.server.origin}{prefix}/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize("path", ["/v3/whoami", "/v1/v3/whoami"])
def test_who_am_i_of_the_command_line(stage: Stage, path: str) -> None:
    told = stage.ask("GET", f"{stage.server.origin}{path}").json()
    assert told["type"] == "project_api_key"
    assert set(told["api_key"]) == {"id"}
    assert set(told["organization"]) == {"id", "name"}
    assert set(told["project"]) == {"id", "name", "slug"}


def test_who_am_i_of_the_sdks(stage: Stage) -> None:
    told = stage.ask("GET", "/whoami").json()
    names = ("api_key_id", "organization_id", "organization_name", "project_id", "project_name", "project_slug")
    assert all(isinstance(told[name], str) for name in names)


# Keys


ROUTES = [
    ("GET", "/endpoints"),
    ("POST", "/endpoints"),
    ("GET", "/endpoints/endpoint-none"),
    ("PATCH", "/endpoints/endpoint-none"),
    ("DELETE", "/endpoints/endpoint-none"),
    ("GET", "/hardware"),
    ("GET", "/models"),
    ("GET", "/whoami"),
    ("GET", "/clusters/availability-zones"),
    ("POST", "/chat/completions"),
    ("POST", "/completions"),
]


@pytest.mark.parametrize("key", ["", "Bearer wrong", "Basic eA==", "Bearer"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_bad_or_missing_key_is_401(stage: Stage, method: str, path: str, key: str) -> None:
    answer = httpx.request(
        method,
        f"{stage.server.base_url}{path}",
        headers={"authorization": key} if key else {},
        json={} if method in ("POST", "PATCH") else None,
    )
    assert answer.status_code == 401
    assert "authentication" in error_of(answer)["message"].lower()


@pytest.fixture
def others(stage: Stage) -> httpx.Client:
    """A client with a member's key of another owner."""
    made = stage.ask("POST", "/keys", json={"owner": "other", "role": "member"})
    assert made.status_code in (200, 201), made.text
    secret = made.json()["key"]
    return httpx.Client(base_url=stage.server.base_url, headers={"authorization": f"Bearer {secret}"})


def test_another_s_endpoint_is_404(stopped: dict[str, Any], others: httpx.Client) -> None:
    with others as http:
        answers = [
            http.get(f"/endpoints/{stopped['id']}"),
            http.get(f"/endpoints/{quote(stopped['name'], safe='')}"),
            http.patch(f"/endpoints/{stopped['id']}", json={"display_name": "Mine"}),
            http.delete(f"/endpoints/{stopped['id']}"),
        ]
        assert http.get("/endpoints").json()["data"] == []
        body = {"model": stopped["id"], "messages": [{"role": "user", "content": "Hello!"}]}
        chat = http.post("/chat/completions", json=body)
    for answer in answers:
        assert answer.status_code == 404
        message = error_of(answer)["message"].lower()
        assert "endpoint" in message
        assert "not found" in message
    assert chat.status_code == 404
    assert "endpoint" not in error_of(chat)["message"].replace(stopped["id"], "").lower()


def test_what_a_key_may_know_but_not_do_is_403(stage: Stage) -> None:
    made = stage.ask("POST", "/keys", json={"owner": "other", "role": "inference"}).json()
    answer = stage.ask("GET", "/endpoints", headers={"authorization": f"Bearer {made['key']}"})
    assert answer.status_code == 403
    assert "permission" in error_of(answer)["message"].lower()


# The envelope


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/endpoints/endpoint-none/nothing/at/all", 404),
        ("PUT", "/endpoints", 405),
        ("POST", "/endpoints/endpoint-none", 405),
        ("PATCH", "/hardware", 405),
        ("DELETE", "/endpoints", 405),
        ("GET", "/chat/completions", 405),
        ("GET", "/models/no/such", 404),
        ("GET", "/endpoints?type=odd", 400),
        ("GET", "/endpoints?mine=perhaps", 400),
        ("GET", "/hardware?model=no/such", 404),
    ],
)
def test_every_refusal_is_in_the_envelope(stage: Stage, method: str, path: str, status: int) -> None:
    answer = stage.ask(method, path)
    assert answer.status_code == status, answer.text
    error_of(answer)


@pytest.mark.parametrize("path", ["/v2/projects/p/endpoints", "/v2/anything"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_newer_api_is_refused_with_what_to_do(stage: Stage, method: str, path: str) -> None:
    answer = stage.ask(method, f"{stage.server.origin}{path}")
    assert answer.status_code == 404
    assert "use together<3" in error_of(answer)["message"]


def test_every_answer_has_a_request_id(stage: Stage) -> None:
    given = stage.ask("GET", "/endpoints", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    assert stage.ask("GET", "/endpoints").headers["x-request-id"]


def test_the_root_leads_browsers_to_the_console_only(stage: Stage) -> None:
    browser = stage.ask("GET", f"{stage.server.origin}/", headers={"accept": "text/html,*/*;q=0.8"})
    assert browser.status_code in (302, 303, 307, 404)
    assert stage.ask("GET", f"{stage.server.origin}/", headers={"accept": "application/json"}).status_code in (200, 404)


# What the command line greps


def greps_as_model(text: str) -> bool:
    text = text.lower()
    return "model" in text and any(
        words in text for words in ("not found", "invalid", "does not exist", "not supported")
    )


@pytest.mark.parametrize(
    "body",
    [
        {"autoscaling": {"min_replicas": 5, "max_replicas": 1}},
        {"autoscaling": {"min_replicas": -1, "max_replicas": 1}},
        {"autoscaling": {}},
        {"state": "RUNNING"},
        {"inactive_timeout": -1},
        {"availability_zone": "nowhere-1"},
        {"display_name": "x" * 300},
        {"hardware": ""},
        {"hardware": "9x_dream"},
    ],
)
def test_no_other_refusal_of_a_create_reads_as_a_model_that_was_not_found(stage: Stage, body: dict[str, Any]) -> None:
    answer = stage.ask("POST", "/endpoints", json=stage.body(**body))
    assert answer.status_code == 400
    error_of(answer)
    hardware = re.search("(?i)invalid hardware provided|hardware is required", answer.text)
    assert hardware or not greps_as_model(answer.text), answer.text


def test_a_model_that_is_not_there_reads_so_and_not_as_an_endpoint(stage: Stage) -> None:
    answer = stage.ask("POST", "/endpoints", json=stage.body(model="no/such"))
    assert answer.status_code == 404
    assert greps_as_model(answer.text)
    assert "endpoint" not in answer.text.lower()
    chat = stage.ask("POST", "/chat/completions", json={"model": "no/such", "messages": []})
    assert chat.status_code == 404
    assert "endpoint" not in error_of(chat)["message"].lower()


@pytest.mark.parametrize("wrong", ["9x_dream", "1x_nvidia_h100_80gb", "0x_nvidia_h100_80gb_sxm", "4096x_cpu", "läma"])
def test_hardware_that_is_not_there_sends_to_the_hardware_list(stage: Stage, wrong: str) -> None:
    answer = stage.ask("POST", "/endpoints", json=stage.body(hardware=wrong))
    assert answer.status_code == 400
    message = error_of(answer)["message"]
    assert "Invalid hardware provided" in message
    assert "check the hardware API" in message


@pytest.mark.parametrize("missing", ["", None, ...])
def test_no_hardware_is_said_to_be_required(stage: Stage, missing: Any) -> None:
    body = {name: value for name, value in stage.body(hardware=missing).items() if value is not ...}
    answer = stage.ask("POST", "/endpoints", json=body)
    assert (answer.status_code, "hardware is required" in error_of(answer)["message"]) == (400, True)


# Endpoints


def test_a_zone_comes_in_the_query_or_in_the_body_and_both_must_agree(stage: Stage) -> None:
    one, two, *_ = stage.ask("GET", "/clusters/availability-zones").json()["avzones"]
    query = stage.ask("POST", "/endpoints", params={"availability_zone": one}, json=stage.body())
    assert query.json()["availability_zone"] == one
    both = stage.ask("POST", "/endpoints", params={"availability_zone": one}, json=stage.body(availability_zone=one))
    assert both.json()["availability_zone"] == one
    conflict = stage.ask(
        "POST", "/endpoints", params={"availability_zone": one}, json=stage.body(availability_zone=two)
    )
    assert (conflict.status_code, error_of(conflict)["param"]) == (400, "availability_zone")
    assert stage.ask("POST", "/endpoints", params={"availability_zone": "x"}, json=stage.body()).status_code == 400


def test_what_1_x_sends_is_accepted_and_not_kept(stage: Stage) -> None:
    made = stage.made(disable_prompt_cache=True, something_new={"a": [1]})
    assert "disable_prompt_cache" not in made


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True),
        ("?type=dedicated", True),
        ("?type=serverless", False),
        ("?usage_type=on-demand", True),
        ("?usage_type=reserved", False),
        ("?mine=True", True),
        ("?mine=true", True),
        ("?mine=False", True),
        ("?type=dedicated&usage_type=on-demand&mine=True", True),
    ],
)
def test_filters(stage: Stage, stopped: dict[str, Any], query: str, found: bool) -> None:
    listed = stage.ask("GET", f"/endpoints{query}")
    assert listed.status_code == 200, listed.text
    assert (stopped["id"] in [endpoint["id"] for endpoint in listed.json()["data"]]) is found


def test_mine_is_what_the_key_s_owner_has(stage: Stage, stopped: dict[str, Any], others: httpx.Client) -> None:
    with others as http:
        theirs = http.post("/endpoints", json=stage.body())
        assert theirs.status_code == 200, theirs.text
        listed = http.get("/endpoints").json()["data"]
        assert [endpoint["id"] for endpoint in listed] == [theirs.json()["id"]]
    mine = [endpoint["id"] for endpoint in stage.ask("GET", "/endpoints?mine=True").json()["data"]]
    assert stopped["id"] in mine
    assert theirs.json()["id"] not in mine
    assert theirs.json()["id"] in stage.ids()


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_name_is_as_good_as_an_id(stage: Stage, stopped: dict[str, Any], method: str, escaped: bool) -> None:
    name = quote(stopped["name"], safe="" if escaped else "/")
    answer = stage.ask(method, f"/endpoints/{name}", json={} if method == "PATCH" else None)
    assert answer.status_code == (204 if method == "DELETE" else 200)
    if method != "DELETE":
        assert answer.json()["id"] == stopped["id"]


def test_an_update_changes_what_it_names(stage: Stage, stopped: dict[str, Any]) -> None:
    path = f"/endpoints/{stopped['id']}"

    def patched(**changes: Any) -> dict[str, Any]:
        answer = stage.ask("PATCH", path, json=changes)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    unchanged = patched()
    assert {**unchanged, "updated_at": None} == {**stopped, "updated_at": None}
    assert patched(autoscaling={"max_replicas": 5})["autoscaling"] == {"min_replicas": 1, "max_replicas": 5}
    assert patched(autoscaling={"min_replicas": 2})["autoscaling"] == {"min_replicas": 2, "max_replicas": 5}
    assert patched(inactive_timeout=None)["inactive_timeout"] is None
    assert patched(display_name="New")["display_name"] == "New"
    assert patched(something_new=1)["display_name"] == "New"
    assert patched(state="STOPPED")["state"] == "STOPPED"
    assert patched(state="STOPPED")["state"] == "STOPPED"


@pytest.mark.parametrize(
    "changes",
    [
        {"display_name": "New", "autoscaling": {"min_replicas": 9}},
        {"display_name": "New", "state": "RUNNING"},
        {"display_name": "New", "inactive_timeout": -1},
        {"display_name": "New", "inactive_timeout": "5"},
        {"display_name": "New", "inactive_timeout": 1.5},
        {"display_name": "New", "autoscaling": {"max_replicas": 0}},
        {"display_name": "New", "autoscaling": {"max_replicas": 10**30}},
        {"display_name": "New", "autoscaling": "many"},
        {"display_name": "New", "autoscaling": None},
        {"display_name": "New", "model": MODEL},
        {"display_name": "New", "hardware": "1x_cpu"},
    ],
)
def test_an_update_is_all_or_nothing(stage: Stage, stopped: dict[str, Any], changes: dict[str, Any]) -> None:
    answer = stage.ask("PATCH", f"/endpoints/{stopped['id']}", json=changes)
    assert answer.status_code == 400, answer.text
    error = error_of(answer)
    if "model" in changes or "hardware" in changes:
        assert "cannot be changed" in error["message"]
    assert stage.server.endpoint(stopped["id"]) == stopped


def test_starting_what_is_started_is_fine(stage: Stage, running: dict[str, Any]) -> None:
    answer = stage.ask("PATCH", f"/endpoints/{running['id']}", json={"state": "STARTED"})
    assert (answer.status_code, answer.json()["state"]) == (200, "STARTED")


def test_a_delete_is_204_then_404_with_whatever_the_sdks_send(stage: Stage, stopped: dict[str, Any]) -> None:
    path = f"/endpoints/{stopped['id']}"
    header = {"content-type": "application/json"}
    first = stage.ask("DELETE", path, headers=header)
    assert (first.status_code, first.content) == (204, b"")
    again = stage.ask("DELETE", path, headers=header)
    assert again.status_code == 404
    error_of(again)


@pytest.mark.parametrize("state", ["STARTED", "STOPPED"])
def test_what_is_coming_up_can_be_deleted(stage: Stage, state: str) -> None:
    made = stage.made(state=state)
    assert stage.ask("DELETE", f"/endpoints/{made['id']}").status_code == 204
    assert stage.gone(made["id"])


def test_an_endpoint_that_is_not_there_reads_so(stage: Stage) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        answer = stage.ask(method, "/endpoints/endpoint-none", json={} if method == "PATCH" else None)
        assert answer.status_code == 404
        message = error_of(answer)["message"].lower()
        assert "endpoint" in message
        assert "not found" in message


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_adapters_are_refused_in_the_envelope(stage: Stage, stopped: dict[str, Any], method: str) -> None:
    body = None if method == "GET" else json.dumps({"model_id": f"{stopped['name']}:mine"}).encode()
    header = {"content-type": "application/json"}
    answer = stage.ask(method, f"/endpoints/{stopped['id']}/adapters", content=body, headers=header)
    assert answer.status_code == 501
    assert answer.headers["x-should-retry"] == "false"
    error_of(answer)


# Lists


@pytest.mark.parametrize(
    ("agent", "bare"),
    [
        ("Together/Python 2.42.0", True),
        ("AsyncTogether/Python 2.42.0", True),
        ("Together/JS 0.52.0", True),
        ("OpenAI/Python 3.54.0", False),
        ("curl/8.0", False),
        ("", False),
    ],
)
def test_the_list_of_models_has_the_shape_of_the_client(stage: Stage, agent: str, bare: bool) -> None:
    told = stage.ask("GET", "/models", headers={"user-agent": agent}).json()
    items = told if bare else told["data"]
    assert isinstance(items, list)
    assert bare or told["object"] == "list"
    for item in items:
        assert item["object"] == "model"
        assert isinstance(item["created"], int)
        assert set(item["pricing"]) >= {"base", "finetune", "hourly", "input", "output"}
        assert None not in [item[name] for name in ("id", "type", "display_name", "organization", "context_length")]
    dedicated = stage.ask("GET", "/models?dedicated=true", headers={"user-agent": agent}).json()
    assert MODEL in [item["id"] for item in (dedicated if bare else dedicated["data"])]
    assert stage.ask("GET", f"/models/{MODEL}").json()["id"] == MODEL


def test_hardware_has_no_null(stage: Stage) -> None:
    for path in ("/hardware", f"/hardware?model={MODEL}"):
        items = stage.ask("GET", path).json()["data"]
        assert items
        for item in items:
            flat = item | item["specs"] | item["pricing"] | item["availability"]
            assert None not in flat.values()
            assert set(item["specs"]) == {"gpu_type", "gpu_link", "gpu_memory", "gpu_count"}
            assert item["availability"]["status"] in ("available", "unavailable", "insufficient")
            assert item["updated_at"].endswith("Z")


def test_hardware_for_a_model_is_what_can_hold_it(stage: Stage) -> None:
    everything = {item["id"] for item in stage.ask("GET", "/hardware").json()["data"]}
    fitting = {item["id"] for item in stage.ask("GET", f"/hardware?model={MODEL}").json()["data"]}
    assert fitting < everything
    assert stage.hardware in fitting
    assert "1x_nvidia_l40s_48gb_pcie" in everything - fitting
    small = stage.ask("POST", "/endpoints", json=stage.body(hardware="1x_nvidia_l40s_48gb_pcie"))
    assert small.status_code == 400
    error_of(small)
