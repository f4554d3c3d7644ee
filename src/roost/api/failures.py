"""Failures become responses: exception handlers of both apps. ``roost.web.errors`` says which status and type.

Registered by ``api.app``. What is not expected is left to ``api.boundary``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from roost.api.answers import failure, refusal
from roost.api.bodies import complaint
from roost.domain.errors import BadRequest, RoostError
from roost.web.errors import status_of

log = structlog.get_logger(__name__)


def register(app: FastAPI, routes: Iterable[BaseRoute] = ()) -> None:
    """Have ``app`` answer all expected failures in the envelope; ``routes`` are asked what a path takes."""
    app.state.routes = [route for route in routes if isinstance(route, Route)]
    app.add_exception_handler(RoostError, _expected)
    app.add_exception_handler(RequestValidationError, _query)
    app.add_exception_handler(HTTPException, _http)


async def _expected(request: Request, error: Exception) -> Response:
    expected = cast(RoostError, error)
    if status_of(expected) >= 500:
        log.warning("request failed", path=request.url.path, code=expected.code, error=expected.message)
    return failure(expected)


async def _query(request: Request, error: Exception) -> Response:
    first = cast(RequestValidationError, error).errors()[0]
    field = str(first["loc"][-1])
    return failure(BadRequest(f"{field} {complaint(first)}.", param=field))


async def _http(request: Request, error: Exception) -> Response:
    http = cast(HTTPException, error)
    method, path = request.method, str(request.scope.get("asked_path", request.url.path))[:300]
    if http.status_code == 404:
        if f"{request.scope['path']}/".startswith("/v2/"):
            message = "This server speaks the classic API, which newer SDKs have dropped: use together<3."
            return refusal(404, message, code="unsupported_api_version")
        return refusal(404, f"There is nothing at {method} {path}.", code="unknown_route")
    if http.status_code == 405:
        allowed = _methods(request)
        headers = {"allow": ", ".join(sorted(allowed))} if allowed else http.headers
        return refusal(405, f"{path} does not take {method}.", code="method_not_allowed", headers=headers)
    return refusal(http.status_code, str(http.detail), headers=http.headers)


def _methods(request: Request) -> set[str]:
    """What the path takes, over all routes that match it: the framework looks at the first one only."""
    matching = [route for route in request.app.state.routes if route.matches(request.scope)[0] != Match.NONE]
    return {method for route in matching for method in route.methods or ()}
