"""The gateway's books: the routing table made ready for lookups, with what this worker knows about each entry.

One ``Books`` per worker. Applying a newer table keeps the books of what is still there (requests in flight, held
requests, counters). It must never drop a replica's book while requests are in flight on it.
"""

from __future__ import annotations

import asyncio
import math
import sys
from typing import TYPE_CHECKING, Any

from roost.domain.routing import RouteEndpoint, RouteKey, RouteReplica, RoutingTable
from roost.gateway.hold_queue import HoldQueue
from roost.gateway.request import INFERENCE_PATHS
from roost.gateway.upstream import Address, Pool, parse_address
from roost.policy.balance import ONLY
from roost.policy.ejection import GOOD, Standing
from roost.policy.prefix import PrefixIndex, WholePromptIndex

if TYPE_CHECKING:
    from roost.gateway.exchange import Exchange


NO_LIMIT = sys.maxsize
CACHED_TOKENS = 2**19
"""How many tokens of prompts a replica is taken to keep, where nothing says how much it can ..."""
MOST_CACHED_TOKENS = 2**22
"""... and at most: the index of them takes memory here (some 2 bytes for each)."""


class ReplicaBook:
    """A replica: where it is, its connections, requests in flight here, and what ``policy.balance.Candidate`` names.

    ``standing`` keeps new requests away for a while after it failed to answer, as does ``healthy`` False until it
    answers its health check again (``probes``, which also note ``heard_at``: when bytes last came from it). ``room`` is
    below how many requests in flight it takes another one without a further look. ``shown`` is the name under which the
    board has its requests in flight, empty when no other worker wants to know them. ``listed`` is False once no table
    names it. ``mark`` are the header lines for the answers of an endpoint's only replica.
    """

    __slots__ = (
        "_label",
        "busy_s",
        "busy_since",
        "draining",
        "heads",
        "healthy",
        "heard_at",
        "id",
        "in_flight",
        "listed",
        "mark",
        "outstanding_tokens",
        "pool",
        "prefix",
        "ready_at",
        "room",
        "shown",
        "slots",
        "standing",
        "text",
    )

    def __init__(
        self, route: RouteReplica, loop: asyncio.AbstractEventLoop, prefix: PrefixIndex, ready_at: float
    ) -> None:
        self.id = route.id
        self.text = route.address
        address = parse_address(route.address)
        self.pool = Pool(address, loop)
        self.draining = route.draining
        self.in_flight = self.outstanding_tokens = 0
        self.busy_s = self.busy_since = 0.0
        self.slots: int | None = None
        self.room = 0
        self.shown = ""
        self.ready_at = ready_at
        self.prefix = prefix
        self.standing: Standing = GOOD
        self.healthy = True
        self.heard_at = -math.inf
        self.listed = True
        self.heads = tuple(_head_start(address, path.decode()) for path in INFERENCE_PATHS)
        self._label = b"x-roost-replica: %b\r\nx-roost-route: " % route.id.encode("ascii", "strict")
        self.mark = self.marked(ONLY)

    def marked(self, reason: str) -> bytes:
        """The header lines that tell which replica answered, and why this one."""
        return b"%b%b\r\n" % (self._label, reason.encode())

    def busy(self, now: float) -> float:
        """Seconds so far in which it had a request of this worker in flight."""
        return self.busy_s + (now - self.busy_since if self.in_flight else 0.0)

    def limit(self, slots: int | None, *, shared: bool) -> None:
        """Take over how many requests it works on at once (None: no limit); ``shared`` by several workers."""
        self.slots = slots
        self.shown = f"{self.id} in flight" if shared and slots is not None else ""
        self.room = NO_LIMIT if slots is None else 0 if shared else slots


def _prefix_index(route: RouteEndpoint, replica: RouteReplica) -> PrefixIndex:
    tokens = route.cache_tokens
    if tokens is None and replica.slots is not None and route.context_length is not None:
        tokens = replica.slots * route.context_length
    elif tokens is None:
        tokens = CACHED_TOKENS
    return (WholePromptIndex if route.cache_whole else PrefixIndex)(min(tokens, MOST_CACHED_TOKENS))


def _head_start(address: Address, path: str) -> bytes:
    line = f"POST {address.target(path)} HTTP/1.1\r\nhost: {address.authority}\r\ncontent-type: application/json\r\n"
    return line.encode("ascii", "strict")


class EndpointBook:
    """An endpoint: its route, the replicas that take new requests, the requests that wait, what was served.

    ``last_at`` is seconds since the epoch, 0.0 when nothing was ever asked of it here.
    """

    __slots__ = ("completed", "failed", "held", "last_at", "ready", "route", "timer", "turn", "waits")

    def __init__(self, route: RouteEndpoint) -> None:
        self.route = route
        self.ready: tuple[ReplicaBook, ...] = ()
        self.held: HoldQueue[Exchange] = HoldQueue()
        self.completed = 0
        self.failed = 0
        self.last_at = 0.0
        self.turn = 0
        self.waits = f"{route.id} waits"
        """The name under which the board has whether requests wait here."""
        self.timer: asyncio.TimerHandle | None = None
        """For looking again whether what waits can go."""


class Books:
    """All books of a worker. ``by_model`` finds an endpoint by id or name; ``keys`` a key by digest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.table: RoutingTable | None = None
        self.keys: dict[str, RouteKey] = {}
        self.by_model: dict[str, EndpointBook] = {}
        self.endpoints: dict[str, EndpointBook] = {}
        self.replicas: dict[str, ReplicaBook] = {}
        self.shared = False
        """Whether other workers send requests to the same replicas."""
        self.unreadable: list[str] = []
        """Ids of replicas whose address could not be read in the last table; for the log."""

    def apply(self, table: RoutingTable) -> list[EndpointBook]:
        """Take over ``table``. Returns the books of endpoints that are gone, so that their requests can be answered."""
        first = self.table is None
        self.table = table
        self.keys = {key.digest: key for key in table.keys}
        self.unreadable = []
        old = self.endpoints
        self.endpoints = {}
        listed: set[str] = set()
        for route in table.endpoints:
            book = old.pop(route.id, None) or EndpointBook(route)
            book.route = route
            before = book.ready
            book.ready = tuple(r for r in self._replicas_of(route, listed, first=first) if not r.draining)
            if book.ready and not before:
                book.held.measure_anew(self._loop.time())
            self.endpoints[route.id] = book
        self.by_model = {book.route.name: book for book in self.endpoints.values()} | self.endpoints
        for replica in [r for r in self.replicas.values() if r.id not in listed]:
            replica.listed = False
            replica.draining = True
            self.release(replica)
        return list(old.values())

    def shown(self) -> set[str]:
        """The names that the board has numbers of these books under."""
        return {replica.shown for replica in self.replicas.values()} | {book.waits for book in self.endpoints.values()}

    def share(self, shared: bool) -> None:
        """Whether other workers send requests to the same replicas."""
        if shared != self.shared:
            self.shared = shared
            for replica in self.replicas.values():
                replica.limit(replica.slots, shared=shared)

    def _replicas_of(self, route: RouteEndpoint, listed: set[str], *, first: bool) -> list[ReplicaBook]:
        # Replicas of the first table were there before this worker, and are warm.
        ready_at = -math.inf if first else self._loop.time()
        found = []
        for item in route.replicas:
            book = self.replicas.get(item.id)
            if book is None or book.text != item.address:
                try:
                    fresh = ReplicaBook(item, self._loop, _prefix_index(route, item), ready_at)
                except (ValueError, UnicodeEncodeError):
                    self.unreadable.append(item.id)
                    continue
                if book is not None:
                    book.pool.close()
                book = self.replicas[item.id] = fresh
            book.draining = item.draining
            book.limit(item.slots, shared=self.shared)
            book.listed = True
            listed.add(item.id)
            found.append(book)
        return found

    def release(self, replica: ReplicaBook) -> None:
        """Forget a replica that no table names once nothing is in flight on it."""
        if not replica.listed and replica.in_flight == 0:
            replica.pool.close()
            if self.replicas.get(replica.id) is replica:
                del self.replicas[replica.id]

    def report(self) -> dict[str, Any]:
        """The counts of this worker as the control plane wants them; ``heard``: seconds since bytes came from a
        replica, to within a second or so."""
        now = self._loop.time()
        heard = {r.id: round(now - r.heard_at, 1) for r in self.replicas.values() if r.heard_at > -math.inf}
        return {
            "heard": heard,
            "in_flight": {replica.id: replica.in_flight for replica in self.replicas.values()},
            "held": {book.route.id: book.held.size for book in self.endpoints.values()},
            "waiting_for_slot": {b.route.id: b.held.size for b in self.endpoints.values() if b.ready and b.held.size},
            "requests": {
                book.route.id: {"completed": book.completed, "failed": book.failed, "last_at": book.last_at}
                for book in self.endpoints.values()
                if book.last_at
            },
        }
