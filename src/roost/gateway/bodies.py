"""The bytes of requests' bodies that one worker keeps: from their arrival until their request is over.

Asked by ``front`` while a long body arrives and by ``gateway`` when it is there; who ends a request ``release``s it. It
must never cost a short request more than a comparison, and never count what is over: room that is never free again
is worse than no bound.
"""

from __future__ import annotations

from roost.gateway.answers import Refusal
from roost.gateway.request import Request

SHORT = 64 * 1024
"""Bodies up to this many bytes are not counted: a connection has one or two of them ..."""
FEW = 16
"""... if they come in so few pieces."""
PIECE = 48
"""Bytes that a piece takes beyond its content: a body may come in pieces of one byte."""
SHARE = 4
"""One key may take one part in so many."""


class Bodies:
    """What is kept. ``most`` bytes in all; what one body may have is always room enough for one."""

    def __init__(self, most: int, longest: int) -> None:
        self._most = max(most, longest)
        self._most_of_one = max(most // SHARE, longest)
        self.held: dict[Request, int] = {}
        """Bytes by request."""
        self._arriving: dict[Request, str] = {}  # and their keys; those that were told of, and are not there yet
        self._total = 0
        self._of: dict[str, int] = {}

    def begin(self, request: Request) -> Refusal | None:
        """A long body is about to come: why it must not; else it counts as ``arriving`` until it has ``arrived``."""
        refusal = self._refusal(request, request.length)
        if refusal is None:
            self.held[request] = 0
            self._arriving[request] = _key(request)
        return refusal

    def arriving(self, key_id: str) -> int:
        """How many long bodies of a key are on their way."""
        return sum([each == key_id for each in self._arriving.values()])

    def arrived(self, request: Request) -> None:
        """It is there, or comes no more; of no effect for others."""
        self._arriving.pop(request, None)

    def hold(self, request: Request) -> Refusal | None:
        """Count what has come of a body so far; why it is too much, then nothing more is counted."""
        more = request.received + PIECE * len(request.body) - self.held.get(request, 0)
        refusal = self._refusal(request, more) if more > 0 else None
        if refusal is None:
            self._add(request, more)
        return refusal

    def release(self, request: Request) -> None:
        """A request is over, or its body dropped; of no effect for one that is not counted."""
        kept = self.held.get(request)
        if kept is not None:
            self._add(request, -kept)
            del self.held[request]
            self._arriving.pop(request, None)

    def _add(self, request: Request, more: int) -> None:
        key = _key(request)
        self.held[request] = self.held.get(request, 0) + more
        self._total += more
        self._of[key] = left = self._of.get(key, 0) + more
        if not left:
            del self._of[key]

    def _refusal(self, request: Request, more: int) -> Refusal | None:
        if self._of.get(_key(request), 0) + more > self._most_of_one:
            message = f"The requests of this API key that are under way may have {self._most_of_one} bytes of bodies."
            message += " Try again when some are answered."
            return Refusal(429, message, "bodies_limited", retry_after=1, should_retry=True)
        if self._total + more > self._most:
            message = "The bodies of the requests that are under way take all the memory there is for them."
            return Refusal(503, message, "too_many_bodies", retry_after=1, should_retry=True)
        return None


def _key(request: Request) -> str:
    # Whoever needs no key to ask shares one.
    return request.key.id if request.key is not None else ""
