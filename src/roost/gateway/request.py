"""A client's request as the front has parsed it, and which kind of request a path is.

Built by ``front``, read by everything behind it. It must never hold anything about the answer.
"""

from __future__ import annotations

import math
import re
from enum import IntEnum
from urllib.parse import urlsplit

from roost.domain.routing import RouteKey
from roost.gateway.answers import Refusal
from roost.web.clients import is_classic


class Kind(IntEnum):
    """What a path asks for. The first four are inference; RELAY is everything the gateway does not answer itself."""

    CHAT = 0
    COMPLETIONS = 1
    EMBEDDINGS = 2
    RERANK = 3
    HEALTH = 4
    READY = 5
    METRICS = 6
    RELAY = 7


CHAT, COMPLETIONS, RELAY = Kind.CHAT, Kind.COMPLETIONS, Kind.RELAY
"""For code that runs for each request: Python 3.11 looks a member up in its class slowly."""
LAST_INFERENCE = Kind.RERANK
"""Kinds up to this one are inference."""


INFERENCE_PATHS: tuple[bytes, ...] = (b"/chat/completions", b"/completions", b"/embeddings", b"/rerank")
"""Paths by ``Kind``, below the API's prefix."""

KINDS: dict[bytes, Kind] = {
    prefix + path: Kind(kind) for kind, path in enumerate(INFERENCE_PATHS) for prefix in (b"/v1", b"", b"/v1/v1")
}
KINDS.update({b"/healthz": Kind.HEALTH, b"/readyz": Kind.READY, b"/metrics": Kind.METRICS})

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{0,5})?")
MAX_ANNOUNCED_S = 3600.0
"""A client's announced timeout counts up to this many seconds."""


_new = object.__new__


class Request:
    """One request. ``headers`` holds names in lower case; ``body`` the pieces that have arrived; ``complete`` that all
    have. ``key`` is set once the caller is known. ``classic`` tells that the client is one of the classic SDKs, which
    want their own shape of answers."""

    __slots__ = (
        "body",
        "chunked",
        "classic",
        "close",
        "complete",
        "headers",
        "http10",
        "id",
        "key",
        "kind",
        "length",
        "method",
        "path",
        "received",
        "refusal",
        "started",
        "target",
    )

    def __init__(
        self, started: float, headers: dict[bytes, bytes] | None = None, body: list[bytes] | None = None
    ) -> None:
        self.started = started
        self.method = self.target = self.path = self.id = b""
        self.kind = RELAY
        self.http10 = self.close = self.chunked = self.complete = self.classic = False
        self.length = self.received = 0
        self.headers = {} if headers is None else headers
        self.body = [] if body is None else body
        self.key: RouteKey | None = None
        self.refusal: Refusal | None = None

    def again(self, started: float, body: bytes, length: int) -> Request:
        """A complete request with the head of this one but for its length, and without an id and a key."""
        # Each slot is set once, without the defaults of a new one: this is done for nearly every request.
        fresh: Request = _new(Request)
        fresh.started = started
        fresh.method = self.method
        fresh.target = self.target
        fresh.path = self.path
        fresh.id = b""
        fresh.kind = self.kind
        fresh.http10 = fresh.close = fresh.chunked = False
        fresh.complete = True
        fresh.classic = self.classic
        fresh.length = fresh.received = length
        fresh.headers = self.headers
        fresh.body = [body]
        fresh.key = fresh.refusal = None
        return fresh

    def classify(self) -> None:
        """Set ``path`` and ``kind`` from ``target``, which becomes origin-form, and ``classic``. The host of a URL
        takes the place of the header's, as RFC 9112 wants it. Raises ``ValueError``."""
        self.classic = is_classic(self.headers.get(b"user-agent", b""))
        target = self.target
        kind = KINDS.get(target)
        if kind is not None:
            self.path, self.kind = target, kind
            return
        if b"#" in target:
            raise ValueError("a request target has no fragment")
        if not target.startswith(b"/") and target != b"*":
            parts = urlsplit(target)
            if parts.scheme not in (b"http", b"https") or not _AUTHORITY.fullmatch(parts.netloc):
                raise ValueError("the request target is neither a path nor an http URL")
            self.headers[b"host"] = parts.netloc
            target = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
            self.target = target
        cut = target.find(b"?")
        self.path = path = target if cut < 0 else target[:cut]
        self.kind = KINDS.get(path, RELAY)

    def announced_timeout(self) -> float | None:
        """The read timeout the client announced, in seconds; None when it did not, or nonsense."""
        headers = self.headers
        text = headers.get(b"x-stainless-read-timeout") or headers.get(b"x-stainless-timeout")
        if text is None:
            return None
        try:
            seconds = float(text)
        except ValueError:
            return None
        return min(seconds, MAX_ANNOUNCED_S) if math.isfinite(seconds) and seconds > 0 else None


def sane_id(text: bytes | None) -> bytes | None:
    """A request id as the client sent it, None when it is not plain letters, digits and ``._-``, 128 at most."""
    return text if text is not None and _SANE_ID.fullmatch(text) else None
