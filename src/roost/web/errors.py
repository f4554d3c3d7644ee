"""The one map of failures to HTTP: status, error type, envelope. Pure, standard library only.

Called by the API and by the gateway. It must never let anything but these shapes on the wire.
"""

from __future__ import annotations

from typing import Any

from roost.domain import errors

_STATUSES: tuple[tuple[type[errors.RoostError], int], ...] = (
    (errors.BadRequest, 400),
    (errors.AuthenticationFailed, 401),
    (errors.PermissionDenied, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.VersionConflict, 409),
    (errors.PayloadTooLarge, 413),
    (errors.TooManyRequests, 429),
    (errors.NotReady, 503),
)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "request_error",
    409: "conflict_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_body(message: str, type: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The error envelope."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def status_of(error: errors.RoostError) -> int:
    """The HTTP status of an expected failure; 500 for one that no client can cause."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def type_of(status: int) -> str:
    """The envelope's ``type`` for an HTTP status."""
    return _TYPES.get(status, "server_error" if status >= 500 else "request_error")


def body_of(error: errors.RoostError) -> dict[str, Any]:
    """The envelope of an expected failure."""
    return error_body(error.message, type_of(status_of(error)), error.param, error.code)
