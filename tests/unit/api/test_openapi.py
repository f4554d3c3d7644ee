"""The description of the API."""

from __future__ import annotations

import json
from typing import Any

import httpx

from roost import schemas
from roost.api import openapi


async def test_it_describes_every_route_and_nothing_dangles(http: httpx.AsyncClient) -> None:
    document: dict[str, Any] = (await http.get("/openapi.json")).json()

    assert {(method, path) for path, methods in document["paths"].items() for method in methods} >= {
        ("post", "/endpoints"),
        ("get", "/endpoints"),
        ("patch", "/endpoints/{endpoint}"),
        ("delete", "/endpoints/{endpoint}"),
        ("get", "/hardware"),
        ("get", "/clusters/availability-zones"),
        ("post", "/models/{model}/pull"),
        ("post", "/keys"),
        ("get", "/events"),
        ("get", "/v3/whoami"),
    }
    text = json.dumps(document)
    known = document["components"]["schemas"]
    for reference in text.split('"#/components/schemas/')[1:]:
        assert reference.split('"')[0] in known
    assert "422" not in text
    create = document["paths"]["/endpoints"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/EndpointCreate")
    assert "default" in create["responses"]


def test_bodies_are_those_of_the_schemas() -> None:
    assert all(issubclass(kind, schemas.base.Body) for kind in openapi.BODIES)
