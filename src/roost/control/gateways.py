"""What the gateways have told: which are alive, which table they have applied, what they have in flight.

Called by the internal API (connected, report) and the observer (in_flight). A gateway counts until its process is gone,
connected or not: one that does not answer is unknown, never idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

import psutil

from roost.domain.errors import BadRequest
from roost.domain.routing import PROTOCOL


@dataclass(slots=True)
class GatewayPeer:
    """One gateway as last heard of."""

    pid: int
    connections: int = 0
    term: int = 0
    version: int = 0
    in_flight: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    demand: dict[str, Demand] = field(default_factory=dict)
    reported_at: datetime | None = None
    heard_at: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demand:
    """What gateways have counted of an endpoint; all but the last two only ever rise. ``requests`` came; those that are
    ``finished`` had ``prompt_tokens`` and ``output_tokens``; ``first_tokens`` of streams are counted by the time they
    took, in the buckets of the gateways' histograms (None: there was none yet). ``busy_s``: seconds in which a replica
    had a request in flight, summed over replicas and gateways; ``in_flight_s``: requests in flight times seconds.
    ``unserved`` requests have no output yet, and about so many ``unserved_prompt_tokens``."""

    requests: float = 0.0
    prompt_tokens: float = 0.0
    finished: float = 0.0
    output_tokens: float = 0.0
    busy_s: float = 0.0
    in_flight_s: float = 0.0
    first_tokens: tuple[float, ...] = ()
    unserved: int = 0
    unserved_prompt_tokens: int = 0

    def risen(self, since: Demand) -> Demand:
        """What has come since an earlier report of the same gateway."""
        counts: dict[str, Any] = {name: max(0.0, getattr(self, name) - getattr(since, name)) for name in RISING}
        return Demand(**counts, first_tokens=_added(self.first_tokens, since.first_tokens, -1))

    def plus(self, other: Demand) -> Demand:
        """The sums of both."""
        counts: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in RISING}
        return Demand(
            **counts,
            first_tokens=_added(self.first_tokens, other.first_tokens, 1),
            unserved=self.unserved + other.unserved,
            unserved_prompt_tokens=self.unserved_prompt_tokens + other.unserved_prompt_tokens,
        )


RISING = ("requests", "prompt_tokens", "finished", "output_tokens", "busy_s", "in_flight_s")


def _added(one: tuple[float, ...], other: tuple[float, ...], sign: int) -> tuple[float, ...]:
    return tuple(max(0.0, a + sign * b) for a, b in zip_longest(one, other, fillvalue=0.0))


def _demand(item: Mapping[str, Any]) -> Demand:
    counts: dict[str, Any] = {name: float(item.get(name, 0.0)) for name in RISING}
    return Demand(
        **counts,
        first_tokens=tuple(float(count) for count in item.get("first_tokens", ())),
        unserved=int(item.get("unserved", 0)),
        unserved_prompt_tokens=int(item.get("unserved_prompt_tokens", 0)),
    )


class GatewayRegistry:
    """All gateways known to this control plane.

    For ``settle`` after the start nothing is known of replicas in flight: gateways of before may not have
    reconnected yet. ``expected`` gives the pids of the gateways that there should be: one that lives and has not
    reported to this control plane is unknown, not idle. ``news`` is called after each report. ``clock`` (seconds) is
    one that nobody sets.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        settle: timedelta = timedelta(seconds=3),
        alive: Callable[[int], bool] = psutil.pid_exists,
        expected: Callable[[], Iterable[int]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._started = now()
        self._settle = settle
        self._alive = alive
        self._expected = expected
        self._clock = clock
        self._peers: dict[str, GatewayPeer] = {}
        self._counted: dict[str, Demand] = {}
        self._moved = asyncio.Event()
        self.news: Callable[[], None] = lambda: None

    def connected(self, gateway_id: str, pid: int) -> None:
        """A gateway has opened its watch stream."""
        peer = self._peers.setdefault(gateway_id, GatewayPeer(pid))
        peer.connections += 1

    def disconnected(self, gateway_id: str) -> None:
        """Its watch stream has ended; it may still be serving."""
        peer = self._peers.get(gateway_id)
        if peer is not None:
            peer.connections -= 1
        self._tell()

    def report(self, report: Mapping[str, Any]) -> None:
        """Take in one report. Raises ``BadRequest`` on anything that is not one of this protocol's."""
        if report.get("protocol") != PROTOCOL:
            raise BadRequest(f"This control plane speaks protocol {PROTOCOL} with gateways.", param="protocol")
        try:
            gateway_id, pid = str(report["gateway"]), int(report["pid"])
            term, version = int(report["term"]), int(report["version"])
            in_flight = {str(key): int(value) for key, value in report["in_flight"].items()}
            held = {str(key): int(value) for key, value in report["held"].items()}
            requests = {str(key): dict(value) for key, value in report["requests"].items()}
            demand = {str(key): _demand(value) for key, value in report.get("demand", {}).items()}
            heard = {str(key): float(value) for key, value in report.get("heard", {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRequest(f"The report lacks or garbles a field: {error}.") from error
        peer = self._peers.setdefault(gateway_id, GatewayPeer(pid))
        self._count(peer, demand)
        peer.pid, peer.term, peer.version = pid, term, version
        peer.in_flight, peer.held, peer.requests, peer.reported_at = in_flight, held, requests, self._now()
        peer.heard_at = {replica_id: self._clock() - max(0.0, ago) for replica_id, ago in heard.items()}
        self._tell()

    def _count(self, peer: GatewayPeer, demand: dict[str, Demand]) -> None:
        # What a gateway had counted before it first reported here is not news: this control plane may have been told
        # of it in its former life.
        before = peer.demand if peer.reported_at is not None else demand
        for endpoint_id, now in demand.items():
            risen = now.risen(before.get(endpoint_id, Demand()))
            self._counted[endpoint_id] = self._counted.get(endpoint_id, Demand()).plus(risen)
        peer.demand = demand

    def demand(self, endpoint_id: str) -> Demand:
        """What has come for an endpoint since this control plane began, over all gateways, also those that have ended
        since; ``unserved`` as the live ones last told."""
        total = self._counted.get(endpoint_id, Demand())
        told = [each for peer in self._peers.values() if (each := peer.demand.get(endpoint_id)) is not None]
        return replace(
            total,
            unserved=sum(each.unserved for each in told),
            unserved_prompt_tokens=sum(each.unserved_prompt_tokens for each in told),
        )

    async def applied(self, term: int, version: int) -> None:
        """Wait until every gateway that is connected has applied table ``version`` of ``term``; for ever, if one does
        not: the caller sets the limit."""
        while any(p.connections > 0 and (p.term, p.version) < (term, version) for p in self._peers.values()):
            await self._moved.wait()

    def in_flight(self, replica_id: str, term: int, version: int) -> int | None:
        """Requests in flight on a replica, summed over all live gateways; None while any of them has not applied
        table ``version`` of ``term`` yet."""
        if self._now() - self._started < self._settle:
            return None
        self._forget_dead()
        heard = {peer.pid for peer in self._peers.values()}
        if any(pid not in heard and self._alive(pid) for pid in self._expected()):
            return None
        for peer in self._peers.values():
            if (peer.term, peer.version) < (term, version):
                return None
        return self.load(replica_id)

    def load(self, replica_id: str) -> int:
        """Requests in flight on a replica as last reported, for choosing among replicas that serve."""
        return sum(peer.in_flight.get(replica_id, 0) for peer in self._peers.values())

    def heard(self, replica_id: str) -> timedelta | None:
        """How long ago a gateway last had anything from a replica; None when none told of it."""
        times = [at for peer in self._peers.values() if (at := peer.heard_at.get(replica_id)) is not None]
        return timedelta(seconds=self._clock() - max(times)) if times else None

    def totals(self) -> dict[str, dict[str, int]]:
        """Cumulative requests per endpoint, ``{"completed", "failed"}``, over the live gateways."""
        sums: dict[str, dict[str, int]] = {}
        for peer in self._peers.values():
            for endpoint_id, counts in peer.requests.items():
                known = sums.setdefault(endpoint_id, {"completed": 0, "failed": 0})
                for name in known:
                    known[name] += int(counts.get(name, 0))
        return sums

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
        self.news()

    def _forget_dead(self) -> None:
        dead = [key for key, peer in self._peers.items() if peer.connections <= 0 and not self._alive(peer.pid)]
        for key in dead:
            del self._peers[key]
