"""The description of the API: complete, true to the schemas, and the one in ``docs/reference``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi.routing import APIRoute

from roost import schemas
from roost.api import openapi
from roost.api.app import ROUTES, described_app
from roost.api.openapi_operations import EVERYWHERE, FAILURES, OPERATIONS
from roost.gateway.request import INFERENCE_PATHS
from roost.schemas import endpoints
from roost.services import endpoint_requests

COMMITTED = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(json.dumps(described_app().openapi()))
OPERATIONS_FOUND = {(method, path): operation for method, path, operation in openapi.operations(DOCUMENT)}


def test_the_committed_description_is_the_one_that_is_served() -> None:
    committed = json.loads(COMMITTED.read_text())
    changed = {key for key in DOCUMENT["paths"] | committed["paths"] if _of(committed, key) != _of(DOCUMENT, key)}
    assert committed == DOCUMENT, f"{COMMITTED.name} is out of date ({', '.join(sorted(changed))}): run `make openapi`"


def _of(document: dict[str, Any], path: str) -> Any:
    return document["paths"].get(path)


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/openapi.json"])
async def test_it_is_served_to_everybody(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(f"http://roost.test{path}", headers={"authorization": ""})
    assert response.status_code == 200
    assert response.json() == DOCUMENT


def test_the_table_has_every_operation_and_no_other() -> None:
    assert set(OPERATIONS_FOUND) == set(OPERATIONS), "roost.api.openapi_operations says what there is"
    ids = [about.id for about in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)


def test_every_route_of_the_app_and_of_the_gateway_is_described() -> None:
    routes = {
        (method.lower(), route.path_format)
        for route in ROUTES
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert len(routes) > 20
    assert routes - {("get", "/")} <= set(OPERATIONS_FOUND)
    assert {("post", path.decode()) for path in INFERENCE_PATHS} <= set(OPERATIONS_FOUND)


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_each_operation_is_told_in_full(method: str, path: str) -> None:
    operation = OPERATIONS_FOUND[method, path]
    assert operation["operationId"] == OPERATIONS[method, path].id
    assert operation["description"]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    assert {f"{{{p['name']}}}" for p in operation.get("parameters", ()) if p["in"] == "path"} == {
        part for part in path.split("/") if part.startswith("{")
    }
    for parameter in operation.get("parameters", ()):
        assert parameter["description"], parameter["name"]
    own = {int(status) for status in operation["responses"] if int(status) >= 400}
    if operation.get("security") != []:
        assert own == {*OPERATIONS[method, path].failures, *EVERYWHERE}
    if "requestBody" in operation:
        assert {400, 413} <= own


def test_nothing_dangles() -> None:
    text = json.dumps(DOCUMENT)
    for kind in ("schemas", "responses", "headers"):
        known = DOCUMENT["components"][kind]
        used = {reference.split('"')[0] for reference in text.split(f'"#/components/{kind}/')[1:]}
        assert used <= set(known)
        assert kind == "schemas" or used == set(known)


def check(schema: dict[str, Any], value: Any) -> None:
    """Assert that ``value`` is as ``schema`` says, its references resolved within the document."""
    jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(value)


def test_every_example_is_as_its_schema_says() -> None:
    checked = 0
    for operation in OPERATIONS_FOUND.values():
        places = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (place.get("content", {}).get("application/json", {}) for place in places):
            values = [item["value"] for item in content.get("examples", {}).values()]
            for value in [*values, *([content["example"]] if "example" in content else [])]:
                check(content["schema"], value)
                checked += 1
    for response in DOCUMENT["components"]["responses"].values():
        content = response["content"]["application/json"]
        check(content["schema"], content["example"])
    assert checked > 20


def test_examples_of_failures_have_the_status_s_own_type() -> None:
    for name, _, example in FAILURES.values():
        assert DOCUMENT["components"]["responses"][name]["content"]["application/json"]["example"] == example


def test_the_limits_described_are_those_that_hold() -> None:
    create = DOCUMENT["components"]["schemas"]["EndpointCreate"]["properties"]
    assert endpoints.MAX_REPLICAS == endpoint_requests.MAX_REPLICAS
    assert create["inactive_timeout"]["maximum"] == endpoint_requests.MAX_TIMEOUT_MINUTES
    assert create["display_name"]["maxLength"] == endpoint_requests.MAX_NAME_LENGTH


def test_a_create_needs_what_the_reference_says() -> None:
    create = DOCUMENT["components"]["schemas"]["EndpointCreate"]
    assert create["required"] == ["model", "hardware", "autoscaling"]
    body = {"model": "m", "hardware": "h", "autoscaling": {"min_replicas": 1, "max_replicas": 1}}
    check(create, {**body, "inactive_timeout": None, "disable_prompt_cache": True})
    wrongs: list[dict[str, Any]] = [
        {"hardware": None},
        {"state": "RUNNING"},
        {"inactive_timeout": -1},
        {"autoscaling": {}},
    ]
    for wrong in wrongs:
        with pytest.raises(jsonschema_rs.ValidationError):
            check(create, {**body, **wrong})


def test_bodies_are_those_of_the_schemas() -> None:
    assert all(issubclass(kind, schemas.base.Body) for kind in openapi.BODIES)
