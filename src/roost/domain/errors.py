"""The one tree of expected failures.

Raised anywhere, mapped to HTTP in exactly one place (``roost.web.errors``) and to exit codes in the CLI. Every error
says what to do in its ``message``; ``code`` is machine-readable and stable; ``param`` names the offending field.
"""

from __future__ import annotations

from datetime import timedelta


class RoostError(Exception):
    """Base of all expected failures.

    ``message`` is one clear sentence for the user; ``code`` a stable identifier; ``param`` the field at fault;
    ``retryable`` whether the same request may succeed later; ``retry_after`` how long to wait, when known.
    """

    code: str = "internal_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code if code is not None else type(self).code
        self.param = param
        self.retry_after = retry_after


class BadRequest(RoostError):
    """The request itself is wrong; sending it again cannot succeed. HTTP 400."""

    code = "bad_request"


class AuthenticationFailed(RoostError):
    """No key, or a key nobody issued. HTTP 401; the message must contain the word "authentication"."""

    code = "authentication_failed"


class PermissionDenied(RoostError):
    """A valid key that may not do this. HTTP 403; the message must contain the word "permission"."""

    code = "permission_denied"


class NotFound(RoostError):
    """The named thing does not exist, or is not the caller's to see. HTTP 404."""

    code = "not_found"


class Conflict(RoostError):
    """The thing is in a condition that forbids the request. HTTP 409 (clients retry it)."""

    code = "conflict"
    retryable = True


class PayloadTooLarge(RoostError):
    """The body exceeds the limit. HTTP 413."""

    code = "payload_too_large"


class TooManyRequests(RoostError):
    """More at once than one may have. HTTP 429."""

    code = "too_many_requests"
    retryable = True


class NotReady(RoostError):
    """It exists but cannot serve yet. HTTP 503 with ``retry-after``."""

    code = "not_ready"
    retryable = True


class EndpointStopped(BadRequest):
    """Inference asked of a stopped endpoint. HTTP 400, ``x-should-retry: false``."""

    code = "endpoint_stopped"


class EndpointFailed(BadRequest):
    """Inference asked of an endpoint in ERROR. HTTP 400, ``x-should-retry: false``."""

    code = "endpoint_failed"


class VersionConflict(RoostError):
    """A compare-and-set lost: somebody else wrote the row first. Read again and decide again."""

    code = "version_conflict"
    retryable = True


class ModelUnavailable(RoostError):
    """A model's weights could not be obtained. ``code`` says why: ``disk_full``, ``digest_mismatch``,
    ``source_unreachable``, ``source_missing``, ``source_ambiguous``, ``wrong_format``, ``permission``,
    ``quota_exceeded``."""

    code = "model_unavailable"


class LaunchRefused(RoostError):
    """An engine cannot be launched as asked (missing file, missing package). Not worth repeating."""

    code = "launch_refused"


class EngineFault(LaunchRefused):
    """An engine failed with what it must not raise. Trying again may help, and it counts like any failed start."""

    code = "engine_fault"
    retryable = True


class InvalidSettings(RoostError):
    """The configuration is wrong; the message names the setting and what it accepts."""

    code = "invalid_settings"


class ServerUnreachable(RoostError):
    """A client could not reach the server."""

    code = "server_unreachable"
    retryable = True
