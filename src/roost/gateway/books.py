"""The gateway's books: the routing table made ready for lookups, with what this worker knows about each entry.

One ``Books`` per worker. Applying a newer table keeps the books of what is still there (requests in flight, held
requests, counters). It must never drop a replica's book while requests are in flight on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from roost.domain.routing import RouteEndpoint, RouteKey, RouteReplica, RoutingTable
from roost.gateway.request import INFERENCE_PATHS
from roost.gateway.upstream import Address, Pool, parse_address

if TYPE_CHECKING:
    from roost.gateway.exchange import Exchange


class ReplicaBook:
    """A replica: where it is, its connections, requests in flight here. ``suspect_until`` (loop time) keeps new
    requests away for a moment after it failed to answer, as does ``healthy`` False until it answers its health check
    again (``probes``); ``listed`` is False once no table names it."""

    __slots__ = ("draining", "heads", "healthy", "id", "in_flight", "listed", "pool", "suspect_until", "text")

    def __init__(self, route: RouteReplica, loop: asyncio.AbstractEventLoop) -> None:
        self.id = route.id
        self.text = route.address
        address = parse_address(route.address)
        self.pool = Pool(address, loop)
        self.draining = route.draining
        self.in_flight = 0
        self.suspect_until = 0.0
        self.healthy = True
        self.listed = True
        self.heads = tuple(_head_start(address, path.decode()) for path in INFERENCE_PATHS)


def _head_start(address: Address, path: str) -> bytes:
    line = f"POST {address.target(path)} HTTP/1.1\r\nhost: {address.authority}\r\ncontent-type: application/json\r\n"
    return line.encode("ascii", "strict")


class EndpointBook:
    """An endpoint: its route, the replicas that take new requests, the held requests in order, what was served.

    ``last_at`` is seconds since the epoch, 0.0 when nothing was ever asked of it here.
    """

    __slots__ = ("completed", "failed", "held", "last_at", "ready", "route", "turn")

    def __init__(self, route: RouteEndpoint) -> None:
        self.route = route
        self.ready: tuple[ReplicaBook, ...] = ()
        self.held: deque[Exchange] = deque()
        self.completed = 0
        self.failed = 0
        self.last_at = 0.0
        self.turn = 0


class Books:
    """All books of a worker. ``by_model`` finds an endpoint by id or name; ``keys`` a key by digest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.table: RoutingTable | None = None
        self.keys: dict[str, RouteKey] = {}
        self.by_model: dict[str, EndpointBook] = {}
        self.endpoints: dict[str, EndpointBook] = {}
        self.replicas: dict[str, ReplicaBook] = {}
        self.unreadable: list[str] = []
        """Ids of replicas whose address could not be read in the last table; for the log."""

    def apply(self, table: RoutingTable) -> list[EndpointBook]:
        """Take over ``table``. Returns the books of endpoints that are gone, so that their requests can be answered."""
        self.table = table
        self.keys = {key.digest: key for key in table.keys}
        self.unreadable = []
        old = self.endpoints
        self.endpoints = {}
        listed: set[str] = set()
        for route in table.endpoints:
            book = old.pop(route.id, None) or EndpointBook(route)
            book.route = route
            book.ready = tuple(r for r in self._replicas_of(route, listed) if not r.draining)
            self.endpoints[route.id] = book
        self.by_model = {book.route.name: book for book in self.endpoints.values()} | self.endpoints
        for replica in [r for r in self.replicas.values() if r.id not in listed]:
            replica.listed = False
            replica.draining = True
            self.release(replica)
        return list(old.values())

    def _replicas_of(self, route: RouteEndpoint, listed: set[str]) -> list[ReplicaBook]:
        found = []
        for item in route.replicas:
            book = self.replicas.get(item.id)
            if book is None or book.text != item.address:
                try:
                    fresh = ReplicaBook(item, self._loop)
                except (ValueError, UnicodeEncodeError):
                    self.unreadable.append(item.id)
                    continue
                if book is not None:
                    book.pool.close()
                book = self.replicas[item.id] = fresh
            book.draining = item.draining
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
        """The counts of this worker as the control plane wants them."""
        return {
            "in_flight": {replica.id: replica.in_flight for replica in self.replicas.values()},
            "held": {book.route.id: len(book.held) for book in self.endpoints.values()},
            "requests": {
                book.route.id: {"completed": book.completed, "failed": book.failed, "last_at": book.last_at}
                for book in self.endpoints.values()
                if book.last_at
            },
        }
