"""The description of the API at ``/openapi.json``. Called by ``api.app``; `python -m roost.api` prints it.

FastAPI tells paths, parameters and answers. Routes read their bodies themselves, so that every fault gets the envelope;
they name the wire model as ``body`` in their ``openapi_extra``, and this module turns it into a reference. What the
gateway answers comes from ``openapi_gateway``; ids, failures and examples from ``openapi_operations``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from roost import schemas
from roost.api import openapi_gateway
from roost.api.openapi_operations import (
    EVERYWHERE,
    FAILURES,
    OPERATIONS,
    PARAMETERS,
    RETRIED,
    TAGS,
    Operation,
)

BODIES = (
    schemas.EndpointCreate,
    schemas.EndpointUpdate,
    schemas.ModelCreate,
    schemas.ApiKeyCreate,
    schemas.ApiKeyUpdate,
)
REFERENCE = "#/components/schemas/{model}"
ABOUT = """Dedicated LLM endpoints on your own machines.

Send `Authorization: Bearer <API key>`. Every path is also served below `/v1/v1` and without `/v1`. Every answer that is
no success has the error envelope, and every answer an `x-request-id`. Whatever is asked, what is no proper HTTP request
is answered 400, 408, 413, 417 or 431, and a method that a path does not take 405."""


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of ``app`` and the gateway before it."""
    document = get_openapi(title=app.title, version=app.version, description=ABOUT, routes=app.routes)
    document["servers"] = [{"url": "/v1"}]
    document["security"] = [{"key": []}]
    document["tags"] = [{"name": name, "description": about} for name, about in TAGS.items()]
    paths = document["paths"] | copy.deepcopy(openapi_gateway.PATHS) | {"/endpoints/{endpoint}/adapters": _adapters()}
    components = document.setdefault("components", {})
    components["schemas"] = _schemas(components.get("schemas", {}))
    components["responses"] = {name: _failure(status) for status, (name, _, _) in FAILURES.items()}
    components["headers"] = _HEADERS
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method != "servers":
                _complete(operation, OPERATIONS.get((method, path)) or Operation(f"{method} {path}"))
    document["paths"] = dict(sorted(paths.items()))
    return document


def _adapters() -> dict[str, Any]:
    """By hand, since FastAPI describes no route of several methods."""
    described: dict[str, Any] = {
        "tags": ["endpoints"],
        "description": "LoRA adapters are not offered by this server yet.",
        "parameters": [{"name": "endpoint", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {},
    }
    return {method: copy.deepcopy(described) for method in ("get", "post", "delete")}


_HEADERS: dict[str, Any] = {
    "x-request-id": {
        "description": "What the server's logs call the request: the request's own `x-request-id`, or a new one.",
        "schema": {"type": "string"},
    },
    "retry-after": {"description": "Seconds until another try makes sense.", "schema": {"type": "integer"}},
    "x-should-retry": {
        "description": "Whether a client should send the same request again.",
        "schema": {"enum": ["true", "false"]},
    },
}


def _schemas(known: dict[str, Any]) -> dict[str, Any]:
    kinds: Iterable[Any] = (*BODIES, schemas.ErrorEnvelope, *openapi_gateway.KINDS)
    _, more = models_json_schema([(kind, "validation") for kind in kinds], ref_template=REFERENCE)
    merged = known | more["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        merged.pop(name, None)
    for schema in merged.values():
        _tidy(schema)
    return dict(sorted(merged.items()))


def _tidy(schema: dict[str, Any]) -> None:
    """Take away what says nothing: titles made of names, defaults that are null; a required field is not null."""
    if "description" in schema:
        schema["description"] = schema["description"].replace("``", "`")
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if field.get("default", ...) is None:
            del field["default"]
        if name in required and schema.get("title", "") in NEVER_NULL:
            _without_null(field)


NEVER_NULL = frozenset(kind.__name__ for kind in BODIES)


def _without_null(field: dict[str, Any]) -> None:
    choices = [choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        del field["anyOf"]
        field.update(choices[0])


def _complete(operation: dict[str, Any], about: Operation) -> None:
    operation["operationId"] = about.id
    operation["summary"] = about.id.replace("_", " ").capitalize()
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter)
    responses = operation["responses"]
    responses.pop("422", None)
    for status, response in responses.items():
        response["headers"] = _headers("x-request-id")
        if response["description"] == "Successful Response":
            response["description"] = "Done." if status == "204" else "As asked."
    _exemplify(responses.get("200", {}), about.answer)
    own = about.failures if operation.get("security") == [] else (*about.failures, *EVERYWHERE)
    for code in sorted(own):
        responses[str(code)] = {"$ref": f"#/components/responses/{FAILURES[code][0]}"}
    body = operation.pop("body", None)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _content(body)}
        if about.request:
            examples = {name: {"value": value} for name, value in about.request.items()}
            operation["requestBody"]["content"]["application/json"]["examples"] = examples


def _complete_parameter(parameter: dict[str, Any]) -> None:
    schema = parameter["schema"]
    schema.pop("title", None)
    # A query has no null.
    _without_null(schema)
    about = schema.pop("description", None) or parameter.get("description") or PARAMETERS.get(parameter["name"], "")
    parameter["description"] = about
    if parameter["in"] == "path":
        schema["minLength"] = 1


def _exemplify(response: dict[str, Any], example: Any) -> None:
    if example is not None:
        response["content"]["application/json"]["example"] = example


def _failure(status: int) -> dict[str, Any]:
    _, about, example = FAILURES[status]
    names = ("x-request-id", "x-should-retry", *(("retry-after",) if status in RETRIED else ()))
    response = {"description": about, "headers": _headers(*names), "content": _content("ErrorEnvelope")}
    _exemplify(response, example)
    return response


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _content(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REFERENCE.format(model=model)}}}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "servers":
                yield method, path, operation
