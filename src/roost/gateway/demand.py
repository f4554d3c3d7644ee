"""What the autoscaler will want to know of each endpoint: counts since this worker began, and what waits now.

Asked by ``control_link`` for each report; fed by ``gateway`` with the sums of answers. It must never add to what a
request costs: arrivals, for one, are what has ended and what has not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from roost.gateway.exchange import Exchange
from roost.gateway.usage import COMPLETION, FAILED, PROMPT, REFUSED, REQUESTS, Key, Sums

if TYPE_CHECKING:
    from roost.gateway.gateway import Gateway

BYTES_PER_TOKEN = 4
"""For prompts whose tokens nobody has told yet."""


class Demand:
    """The counts of one worker."""

    def __init__(self) -> None:
        self._ended: dict[str, dict[str, float]] = {}
        self._flight_s: dict[str, float] = {}
        self._at: float | None = None

    def add(self, sums: Iterable[tuple[Key, Sums]]) -> None:
        """Take in what was counted of answers."""
        for (endpoint_id, _, _, _, outcome), values in sums:
            counts = self._ended.setdefault(
                endpoint_id, {"requests": 0, "prompt_tokens": 0, "finished": 0, "output_tokens": 0}
            )
            counts["requests"] += values[REQUESTS]
            counts["prompt_tokens"] += values[PROMPT]
            if outcome not in (REFUSED, FAILED):
                counts["finished"] += values[REQUESTS]
                counts["output_tokens"] += values[COMPLETION]

    def report(self, gateway: Gateway) -> dict[str, dict[str, Any]]:
        """The counts by endpoint. Cumulative: ``requests`` that came, ``prompt_tokens`` and ``output_tokens`` of those
        that are ``finished``, ``first_tokens`` of streams by time (``counters.BOUNDS`` and above), ``busy_s`` in which
        a replica had a request, ``in_flight_s`` (requests times seconds, sampled at each report). Of now: ``unserved``
        requests without any output yet, held ones among them, and about how many prompt tokens these have."""
        gateway.publish()
        waiting = self._waiting(gateway)
        now = gateway.now()
        since, self._at = now - (self._at if self._at is not None else now), now
        told = {}
        for book in gateway.books.endpoints.values():
            name = book.route.id
            replicas = [r for each in book.route.replicas if (r := gateway.books.replicas.get(each.id)) is not None]
            in_flight = sum(replica.in_flight for replica in replicas)
            ended = self._ended.get(name)
            if ended is None and not in_flight and not book.held.size:
                continue
            self._flight_s[name] = self._flight_s.get(name, 0.0) + in_flight * since
            unserved, tokens = waiting.get(name, (0, 0))
            counts: dict[str, float] = dict(ended) if ended is not None else {"requests": 0}
            counts["requests"] += in_flight + book.held.size
            told[name] = {
                **counts,
                "first_tokens": gateway.meters.first_tokens(name),
                "busy_s": sum(replica.busy(now) for replica in replicas),
                "in_flight_s": self._flight_s[name],
                "unserved": unserved,
                "unserved_prompt_tokens": tokens,
            }
        return told

    @staticmethod
    def _waiting(gateway: Gateway) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for front in gateway.fronts:
            exchange = front.active
            if isinstance(exchange, Exchange) and exchange.first is None:
                name = exchange.book.route.id
                requests, tokens = found.get(name, (0, 0))
                found[name] = (requests + 1, tokens + len(exchange.payload) // BYTES_PER_TOKEN)
        return found
