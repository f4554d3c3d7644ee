"""What can go wrong for a caller of the client. Raised by the client's shells and parsers; knows no transport."""

from __future__ import annotations


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


class UnexpectedAnswer(ClientError):
    """A success that is not what this API answers: another server, or a proxy between."""


class ApiError(ClientError):
    """The server refused or failed.

    ``status`` is the HTTP status (of the stream's own error frame: 200), ``type``, ``code`` and ``param`` are the
    envelope's; ``request_id`` is what the server's logs call the request; ``retry_after`` is in seconds.
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
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
