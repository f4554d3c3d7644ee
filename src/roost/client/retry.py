"""When a request is sent again, and after how long. Pure; called by the shells."""

from __future__ import annotations

from collections.abc import Mapping

MAX_RETRIES = 2
RETRIED_STATUSES = frozenset({408, 409, 429})
LONGEST_RETRY_AFTER_S = 60.0
FIRST_DELAY_S = 0.25


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The server's ``retry-after`` in seconds, None when it names none that is a number."""
    try:
        value = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return value if value >= 0 else None


def delay_after_answer(
    method: str, attempt: int, status: int, headers: Mapping[str, str], jitter: float
) -> float | None:
    """Seconds until the next try after an answer, None for no other try.

    Only GET is repeated: the others may have had their effect. ``attempt`` counts from 0; ``jitter`` is in [0, 1).
    """
    wanted = headers.get("x-should-retry")
    retryable = status in RETRIED_STATUSES or status >= 500
    if method != "GET" or attempt >= MAX_RETRIES or wanted == "false" or not (retryable or wanted == "true"):
        return None
    named = retry_after(headers)
    if named is not None:
        return named if named <= LONGEST_RETRY_AFTER_S else None
    return backoff(attempt, jitter)


def delay_after_failure(method: str, attempt: int, *, sent: bool, jitter: float) -> float | None:
    """Seconds until the next try after a broken or refused connection, None for no other try.

    ``sent`` False means that the server cannot have seen the request, so that any method may be repeated.
    """
    if attempt >= MAX_RETRIES or (sent and method != "GET"):
        return None
    return backoff(attempt, jitter)


def backoff(attempt: int, jitter: float) -> float:
    """A quarter of a second, doubling, with up to a quarter of itself taken off at random."""
    return FIRST_DELAY_S * 2.0**attempt * (1 - 0.25 * jitter)
