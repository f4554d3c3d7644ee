"""What a request's head must be like, beyond what the parser demands: one meaning for everybody who reads it. Pure.

Asked by ``front`` once for each head that the parser has read. Who passes here is read alike by the control plane and
by whatever stands in front of the gateway; it must never repair a head whose framing could be read in two ways.
"""

from __future__ import annotations

import re

from roost.gateway.answers import Refusal
from roost.gateway.request import RELAY, Request

MAX_HEAD = 64 * 1024
"""Request heads beyond this many bytes are refused."""
MAX_HEADERS = 100
"""Header lines of one request."""
MAX_TARGET = 8192
"""Bytes of a request target."""
MAX_LENGTH_DIGITS = 19
"""Digits of a content-length: what they say is far beyond any limit, and leading zeros are nobody's need."""

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
"""Methods that anything behind the gateway may be asked with."""

HEAD_TOO_LARGE = Refusal(431, "The request head is too large.", "head_too_large")
TOO_MANY_HEADERS = Refusal(431, f"The request has more than {MAX_HEADERS} header lines.", "too_many_headers")
EXPECTATION = Refusal(417, "Only `Expect: 100-continue` is understood.", "expectation_failed")
VERSION = Refusal(400, "Only HTTP/1.0 and HTTP/1.1 are spoken here.", "http_version")
TARGET = Refusal(400, "The request target is neither a path nor an http URL.", "bad_target")
TARGET_TOO_LONG = Refusal(414, f"The request target is longer than {MAX_TARGET} bytes.", "target_too_long")
HOST = Refusal(400, "An HTTP/1.1 request has exactly one `Host` header, with a host's name in it.", "bad_host")
FRAMING = Refusal(400, "The request's framing is ambiguous or unsupported.", "bad_framing")
MALFORMED = Refusal(400, "The request is not well-formed HTTP/1.1.", "malformed_request")
STALLED = Refusal(408, "The request did not arrive in time.", "request_timeout", should_retry=True)
CROWDED = Refusal(503, "Too many connections are open.", "too_many_connections", retry_after=1, should_retry=True)
METHOD = Refusal(405, "This method is not served here.", "method_not_allowed", allow=b", ".join(METHODS))

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]{0,5})?")
"""A comma, which is allowed in names that nobody has, is the trace of two such headers."""
_KNOWN_HOSTS: set[bytes] = set()
_MAX_KNOWN_HOSTS = 1000


def flaw(request: Request, version: str | None, lines: int) -> Refusal | None:
    """Why the request must not be served and nothing behind it be read; None when it is sound.

    ``version`` is None for a plain HTTP/1.1 request; ``lines`` counts its header lines. Sets ``http10``, ``chunked``,
    ``length``, and what ``Request.classify`` sets.
    """
    headers = request.headers
    if version is not None and version != "1.1":
        if version != "1.0":
            return VERSION
        request.http10 = True
    if lines > MAX_HEADERS:
        return TOO_MANY_HEADERS
    host = headers.get(b"host")
    if host not in _KNOWN_HOSTS and not _sound_host(host, request):
        return HOST
    try:
        request.classify()
    except ValueError:
        return TARGET
    if len(request.target) > MAX_TARGET:
        return TARGET_TOO_LONG
    if request.kind is RELAY and (
        request.method == b"CONNECT" or (request.target == b"*" and request.method != b"OPTIONS")
    ):
        return TARGET
    return _framing(request, headers.get(b"content-length"), headers.get(b"transfer-encoding"))


def _framing(request: Request, length: bytes | None, coding: bytes | None) -> Refusal | None:
    if coding is not None:
        if length is not None or request.http10 or coding.lower() != b"chunked":
            return FRAMING
        request.chunked = True
    elif length is not None:
        length = length.rstrip(b" \t")
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
            return FRAMING
        request.length = int(length)
    return None


def _sound_host(host: bytes | None, request: Request) -> bool:
    if host is None:
        return request.http10
    if _HOST.fullmatch(host.rstrip(b" \t")) is None:
        return False
    if len(host) <= 300:
        if len(_KNOWN_HOSTS) >= _MAX_KNOWN_HOSTS:
            _KNOWN_HOSTS.clear()
        _KNOWN_HOSTS.add(host)
    return True


def body_too_large(limit: int) -> Refusal:
    """The answer to a body beyond ``limit`` bytes."""
    return Refusal(413, f"The request body exceeds {limit} bytes.", "payload_too_large", should_retry=False)


def too_large(headers: dict[bytes, bytes]) -> bool:
    """Whether a head that came in one piece exceeds ``MAX_HEAD``, which is known by its length when it came in many."""
    return sum(map(len, headers)) + sum(map(len, headers.values())) > MAX_HEAD


def without_upgrade(request: Request) -> bytes:
    """The head of ``request`` again, for the parser, without its offer to change the protocol."""
    left = {b"upgrade", b"http2-settings"}
    tokens = [token.strip() for token in request.headers.get(b"connection", b"").split(b",")]
    kept = b", ".join(token for token in tokens if token and token.lower() not in left)
    headers = {name: value for name, value in request.headers.items() if name not in left and name != b"connection"}
    if kept:
        headers[b"connection"] = kept
    lines = [b"%b %b HTTP/1.%d\r\n" % (request.method, request.target, 0 if request.http10 else 1)]
    return b"".join([*lines, *(b"%b: %b\r\n" % item for item in headers.items()), b"\r\n"])
