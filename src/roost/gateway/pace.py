"""Whether a client is too slow: the limits on its request's head and body and on its taking the answer. Pure.

Each ``front`` has one ``Pace``, and asks it in the sweep, once a second; there is no timer per connection. It must
never count the time in which the gateway itself makes the client wait.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_RATE = 500
"""Bytes a second that a request's body has to bring, over the time that it is given."""
IDLE_S = 75.0
"""A connection without a request is kept for so long after the last answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for a request's head from its first byte; for ``MIN_RATE`` of its body to show; for any of the answer to
    be taken."""

    head_s: float
    body_s: float
    read_s: float


class Pace:
    """The pace of one connection's client. All times are the loop's, in seconds."""

    __slots__ = ("_body", "_body_at", "_body_mark", "_since", "_stuck_since")

    def __init__(self, now: float) -> None:
        self._since = now  # from when on the client's next request is awaited
        self._body: object | None = None
        self._body_at = 0.0
        self._body_mark = 0
        self._stuck_since: float | None = None

    def answered(self, now: float) -> None:
        """It is the client's turn again, or at least not before now."""
        self._since = now
        self._body = None

    def idles(self, now: float) -> bool:
        """Whether it has not begun a request for too long."""
        return now - self._since > IDLE_S

    def slow_head(self, now: float, began: float, limits: Limits) -> bool:
        """Whether the head that ``began`` then should be there."""
        return now - max(began, self._since) > limits.head_s

    def slow_body(self, now: float, request: object, received: int, limits: Limits) -> bool:
        """Whether ``request``'s body, of which ``received`` bytes are there, brings too little."""
        if self._body is not request:
            self._body, self._body_at, self._body_mark = request, now, received
        elif received - self._body_mark >= MIN_RATE * limits.body_s:
            self._body_at, self._body_mark = now, received
        return now - self._body_at > limits.body_s

    def stuck(self, now: float, limits: Limits) -> bool:
        """Whether it has taken nothing of its answer for too long. Asked while the buffer is full."""
        if self._stuck_since is None:
            self._stuck_since = now
        return now - self._stuck_since > limits.read_s

    def moved(self) -> None:
        """It has taken some."""
        self._stuck_since = None
