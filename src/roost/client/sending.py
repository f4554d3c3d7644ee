"""One call from its first sending to its end, without I/O. Called by the shells, which send, sleep and draw lots.

It knows when a request is sent again (``retry`` decides) and reads the answer that ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from roost.client import requests
from roost.client.requests import IDEMPOTENCY_KEY, Answer, Call
from roost.client.retry import Attempt, delay_after_answer, delay_after_failure

T = TypeVar("T")

MAYBE_DONE = frozenset({500, 502, 504})
"""Answers after which the request may have had its effect; a 503 says that it had none."""


class Sending(Generic[T]):
    """``request`` is what to send each time. ``limit`` is how many repetitions are allowed; ``key`` becomes the
    ``Idempotency-Key`` of a request that takes one and has none."""

    def __init__(self, call: Call[T], limit: int, key: str) -> None:
        if call.request.takes_key and IDEMPOTENCY_KEY not in call.request.headers:
            headers = {**call.request.headers, IDEMPOTENCY_KEY: key}
            call = replace(call, request=replace(call.request, headers=headers))
        self.request = call.request
        self._call = call
        self._limit = limit
        self._number = 0
        self._maybe_done = False

    def failed(self, *, sent: bool, jitter: float) -> float | None:
        """The connection failed, before or after the request was ``sent``. Seconds until the next try; None: none."""
        delay = delay_after_failure(self._attempt(jitter), sent=sent)
        self._maybe_done = self._maybe_done or sent
        self._number += 1
        return delay

    def answered(self, status: int, headers: Mapping[str, str], body: bytes, jitter: float) -> Answer[T] | float:
        """The answer, or seconds until the next try. Raises ``ApiError``, ``UnexpectedAnswer``."""
        if status == 404 and self._maybe_done and self.request.method == "DELETE":
            # An earlier try has deleted it, and only its answer was lost.
            return Answer(self._call.read(None), None)
        delay = delay_after_answer(self._attempt(jitter), status, headers)
        if delay is None:
            return requests.parse(self._call, status, headers, body)
        self._maybe_done = self._maybe_done or status in MAYBE_DONE
        self._number += 1
        return delay

    def _attempt(self, jitter: float) -> Attempt:
        return Attempt(self._number, self._limit, self.request.repeatable, jitter)
