"""When a request is sent again, and after how long. Pure; called by the shells.

| what happened                                                | a repeatable request | any other |
|--------------------------------------------------------------|----------------------|-----------|
| the server cannot have seen it (refused, no connection)      | again                | again     |
| the connection broke, or no answer came in time              | again                |           |
| 429, or ``x-should-retry: true``                             | again                | again     |
| 408, 409, 5xx                                                | again                |           |
| ``x-should-retry: false``, a longer ``retry-after``, any else |                      |           |

Repeatable are reads, updates and deletes, whose repetition changes nothing, and what carries an ``Idempotency-Key``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_RETRIES = 2
RETRIED_STATUSES = frozenset({408, 409, 429})
LONGEST_RETRY_AFTER_S = 60.0
"""A server that names a longer time is believed, and not waited for."""
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 8.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a request: ``number`` counts from 0, ``limit`` is how many more than the first may follow;
    ``repeatable`` tells that sending it twice is the same as once; ``jitter`` is random in [0, 1)."""

    number: int
    limit: int
    repeatable: bool
    jitter: float = 0.0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The server's ``retry-after`` in seconds, None when it names none that is a number."""
    try:
        value = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return value if value >= 0 else None


def delay_after_answer(attempt: Attempt, status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds until the next try after an answer, None for no other try."""
    told = headers.get("x-should-retry")
    passing = status in RETRIED_STATUSES or status >= 500
    again = told == "true" or status == 429 or (passing and attempt.repeatable)
    if 200 <= status < 300 or told == "false" or not again or attempt.number >= attempt.limit:
        return None
    named = retry_after(headers)
    if named is not None:
        return named if named <= LONGEST_RETRY_AFTER_S else None
    return backoff(attempt.number, attempt.jitter)


def delay_after_failure(attempt: Attempt, *, sent: bool) -> float | None:
    """Seconds until the next try after a broken or refused connection, None for no other try.

    ``sent`` False means that the server cannot have seen the request, so that any may be repeated.
    """
    if attempt.number >= attempt.limit or (sent and not attempt.repeatable):
        return None
    return backoff(attempt.number, attempt.jitter)


def backoff(attempt: int, jitter: float) -> float:
    """A quarter of a second, doubling up to eight, with up to a quarter of itself taken off at random."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 16)) * (1 - 0.25 * jitter)
