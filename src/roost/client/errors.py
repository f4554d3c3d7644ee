"""What can go wrong for a caller of the client: one tree under ``ClientError``, exported from ``roost``.

Raised by the client's shells and parsers. Light on purpose: it imports nothing, since the command line needs it early.

    ClientError
    ├── NotConfigured: NoServerKnown, NoKeyKnown
    ├── ConnectionFailed: Timeout
    ├── UnexpectedAnswer
    ├── MissingPackage
    ├── WaitFailed: EndpointFailed, WaitTimeout
    └── ApiError: BadRequest, AuthenticationError, PermissionDenied, NotFound, Conflict, PayloadTooLarge, RateLimited,
        ServerError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roost.schemas import Endpoint


class ClientError(Exception):
    """Base of the client's failures; ``message`` is one sentence for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotConfigured(ClientError):
    """No server is named anywhere, or what names it cannot be read."""


class NoServerKnown(NotConfigured):
    """Neither the arguments, nor the environment, nor the home names a server."""


class NoKeyKnown(NotConfigured):
    """A server is named, and no key for it."""


class ConnectionFailed(ClientError):
    """The server could not be reached, or the connection broke before an answer was complete."""


class Timeout(ConnectionFailed):
    """The server was reached and did not answer within the client's ``timeout``."""


class Untrusted(ConnectionFailed):
    """The server's certificate is not one that this client trusts for the name in the base URL."""


class UnexpectedAnswer(ClientError):
    """A success that is not what this API answers: another server, or a proxy between."""


class MissingPackage(ClientError):
    """A part of the client needs a package that is not installed; the message says which, and how to get it."""


class WaitFailed(ClientError):
    """Waiting has come to an end without the state that was waited for; ``endpoint`` is its last sight.

    Raised itself when something else wants the opposite state by now, or nothing was ever asked of the endpoint.
    """

    def __init__(self, message: str, endpoint: Endpoint) -> None:
        super().__init__(message)
        self.endpoint = endpoint


class EndpointFailed(WaitFailed):
    """The endpoint is in ERROR. ``reason`` is one sentence, ``code`` its stable name, ``hint`` what mends it (None:
    nothing known), ``log_tail`` the last lines of the engine's log."""

    def __init__(self, endpoint: Endpoint) -> None:
        why = endpoint.state_reason
        self.reason = why.message if why is not None else "The server gives no reason."
        self.code = why.code if why is not None else None
        self.hint = why.hint if why is not None else None
        self.log_tail: tuple[str, ...] = tuple(why.log_tail) if why is not None else ()
        super().__init__(f"The endpoint failed. {self.reason}", endpoint)

    def __str__(self) -> str:
        hint = [f"Hint: {self.hint}"] if self.hint else []
        log = ["Last lines of the engine's log:", *(f"  {line}" for line in self.log_tail)] if self.log_tail else []
        return "\n".join([self.message, *hint, *log])


class WaitTimeout(WaitFailed):
    """The endpoint has not reached the state in the time given; it goes on. The message has its last state and why."""


class ApiError(ClientError):
    """The server refused or failed; the subclass goes by the HTTP status.

    ``status`` is the HTTP status (of an error within a stream: 200), ``type``, ``code`` and ``param`` are the
    envelope's; ``request_id`` is what the server's logs call the request; ``retry_after`` is in seconds;
    ``sandbox`` tells that a sandbox answered.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        sandbox: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        self.sandbox = sandbox

    def __repr__(self) -> str:
        named = {"code": self.code, "param": self.param, "request_id": self.request_id}
        rest = "".join(f", {name}={value!r}" for name, value in named.items() if value is not None)
        return f"{type(self).__name__}({self.message!r}, status={self.status}{rest})"


class BadRequest(ApiError):
    """400: the request is wrong; ``param`` names the field."""


class AuthenticationError(ApiError):
    """401: no key, or none that the server knows."""


class PermissionDenied(ApiError):
    """403: this key may not do that."""


class NotFound(ApiError):
    """404: there is no such thing, or it is not for this key to see."""


class Conflict(ApiError):
    """409: what is there already forbids the request."""


class PayloadTooLarge(ApiError):
    """413: the body is larger than the server takes."""


class RateLimited(ApiError):
    """429: too many requests for now; ``retry_after`` says when to come back."""


class ServerError(ApiError):
    """5xx: the server failed, or cannot serve this now."""


BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    429: RateLimited,
}


def kind_of(status: int) -> type[ApiError]:
    """The class for an HTTP status that is no success."""
    return BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
