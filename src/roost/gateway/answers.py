"""The gateway's own responses as bytes: error envelopes and small JSON documents.

Called by everything that answers without an upstream. It must never put a secret or a body's content in a message.
"""

from __future__ import annotations

import math
from http import HTTPStatus

import orjson

from roost.web.errors import error_body, type_of

MAX_RETRY_AFTER_S = 60
"""The classic SDKs honour no longer ``retry-after``."""

SANDBOX = b"x-roost-sandbox: true\r\n"
"""The header line on every response of a sandbox."""

REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus}


class Refusal:
    """An error answer: HTTP ``status``, one sentence, stable ``code``, the field at fault.

    ``retry_after`` in seconds and ``should_retry`` become headers when not None; ``allow`` likewise.
    """

    __slots__ = ("allow", "code", "message", "param", "retry_after", "should_retry", "status")

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        allow: bytes | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.allow = allow

    def body(self) -> bytes:
        """The error envelope."""
        return orjson.dumps(error_body(self.message, type_of(self.status), self.param, self.code))

    def headers(self) -> bytes:
        """Header lines beyond the usual ones, each with its line end."""
        lines = b""
        if self.retry_after is not None:
            lines += b"retry-after: %d\r\n" % seconds_to_retry(self.retry_after)
        if self.should_retry is not None:
            lines += b"x-should-retry: true\r\n" if self.should_retry else b"x-should-retry: false\r\n"
        if self.allow is not None:
            lines += b"allow: %b\r\n" % self.allow
        return lines


def seconds_to_retry(seconds: float) -> int:
    """Whole seconds for ``retry-after``, between 1 and ``MAX_RETRY_AFTER_S``."""
    return max(1, min(MAX_RETRY_AFTER_S, math.ceil(seconds)))


def response(
    status: int,
    body: bytes,
    request_id: bytes,
    *,
    headers: bytes = b"",
    content_type: bytes = b"application/json",
    close: bool = False,
    http10: bool = False,
    head_only: bool = False,
) -> bytes:
    """A complete response. ``headers`` are further lines, each with its line end; ``head_only`` answers a HEAD."""
    described = b"" if status == 204 else b"content-type: %b\r\ncontent-length: %d\r\n" % (content_type, len(body))
    return b"HTTP/1.1 %d %b\r\n%b%b%bx-request-id: %b\r\n\r\n%b" % (
        status,
        REASONS.get(status, b"Error"),
        described,
        headers,
        connection_line(close, http10),
        request_id,
        b"" if head_only or status == 204 else body,
    )


def connection_line(close: bool, http10: bool) -> bytes:
    """The ``connection`` header line that a client needs to know whether the connection stays."""
    if close:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if http10 else b""


def error_frame(refusal: Refusal) -> bytes:
    """The refusal as an unnamed server-sent event (named ones are dropped by the SDKs)."""
    return b"data: " + refusal.body() + b"\n\n"
