"""The description of the API at ``/openapi.json``. Called by ``api.app``.

Routes read their bodies themselves, so that every fault gets the envelope; they name the wire model as ``body`` in
their ``openapi_extra``, and this module turns it into a reference.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from roost import schemas

BODIES = (schemas.EndpointCreate, schemas.EndpointUpdate, schemas.ModelCreate, schemas.ApiKeyCreate)
REFERENCE = "#/components/schemas/{model}"


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of ``app``."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, bodies = models_json_schema(
        [(kind, "validation") for kind in (*BODIES, schemas.ErrorEnvelope)], ref_template=REFERENCE
    )
    components = document.setdefault("components", {})
    known = components.setdefault("schemas", {})
    known.update(bodies["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):
        known.pop(name, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    document["servers"] = [{"url": "/v1"}]
    for methods in document["paths"].values():
        for operation in methods.values():
            _complete(operation)
    return document


def _complete(operation: dict[str, Any]) -> None:
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {
        "description": "Any failure.",
        "content": _content("ErrorEnvelope"),
    }
    body = operation.pop("body", None)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _content(body)}


def _content(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REFERENCE.format(model=model)}}}
