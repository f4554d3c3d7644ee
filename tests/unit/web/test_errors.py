"""The one map of failures to HTTP."""

from __future__ import annotations

import subprocess
import sys

import pytest

from roost.domain import errors
from roost.web.errors import body_of, status_of, type_of


def all_kinds(kind: type[errors.RoostError] = errors.RoostError) -> list[type[errors.RoostError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in all_kinds(below))]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.BadRequest("x"), 400, "request_error"),
        (errors.EndpointStopped("x"), 400, "request_error"),
        (errors.AuthenticationFailed("x"), 401, "authentication_error"),
        (errors.PermissionDenied("x"), 403, "permission_error"),
        (errors.NotFound("x"), 404, "not_found_error"),
        (errors.Conflict("x"), 409, "conflict_error"),
        (errors.VersionConflict("x"), 409, "conflict_error"),
        (errors.PayloadTooLarge("x"), 413, "request_error"),
        (errors.TooManyRequests("x"), 429, "rate_limit_error"),
        (errors.NotReady("x"), 503, "overloaded_error"),
        (errors.LaunchRefused("x"), 500, "server_error"),
        (errors.RoostError("x"), 500, "server_error"),
    ],
)
def test_statuses_and_types(error: errors.RoostError, status: int, kind: str) -> None:
    assert (status_of(error), type_of(status)) == (status, kind)


def test_the_envelope_carries_code_and_param() -> None:
    error = errors.BadRequest("no", code="c", param="p")

    assert body_of(error) == {"error": {"message": "no", "type": "request_error", "param": "p", "code": "c"}}


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
def test_every_expected_failure_has_an_envelope(kind: type[errors.RoostError]) -> None:
    body = body_of(kind("what to do"))["error"]

    assert 400 <= status_of(kind("x")) < 600
    assert "invalid" not in body["type"]
    assert isinstance(body["code"], str)


def test_it_stays_light_enough_for_the_gateway() -> None:
    code = "import sys, roost.web.errors; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert not {"fastapi", "starlette", "pydantic", "httpx"} & set(done.stdout.split())
