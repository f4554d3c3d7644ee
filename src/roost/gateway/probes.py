"""Health checks of replicas that serve: each is asked once a second whether it still answers.

Run by ``worker`` as one task. A replica that hangs keeps its connections open and says nothing, so that only asking
tells. Whatever comes from a replica proves that it lives: one that is at work is not asked. It must never hold one of
the engine's connections for itself: some have a thread for each, and few of those.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from zlib import crc32

import structlog

from roost.gateway import dispatch
from roost.gateway.books import EndpointBook, ReplicaBook
from roost.gateway.http1 import ResponseHead
from roost.gateway.upstream import Connection, lacks_files

if TYPE_CHECKING:
    from roost.gateway.gateway import Gateway

EVERY_S = 1.0
"""The time between two checks of a replica, and how long an answer may take."""
SLICES = 10
"""The replicas are spread over so many moments of that time, differently by each worker."""
CONNECT_EVERY = 10
"""One of so many checks is made where all that can be asked is whether it accepts a connection: it may be a server
elsewhere, which others watch too."""
MISSES = 3

log = structlog.get_logger(__name__)


class Check:
    """One question to a replica, and the consumer of its answer. ``over`` tells whether there was one, good or bad;
    ``alive`` whether it was good, ``asked`` False that it could not be asked, for a reason of this side."""

    __slots__ = ("_connection", "_idle_since", "_path", "_replica", "_task", "alive", "asked", "over")

    def __init__(self, replica: ReplicaBook, path: str | None) -> None:
        self._replica = replica
        self._path = path
        self._connection: Connection | None = None
        self._idle_since = 0.0
        self._task: asyncio.Task[None] | None = None
        self.over = self.alive = False
        self.asked = True

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask, on an idle connection if there is one."""
        connection = self._replica.pool.take() if self._path is not None else None
        if connection is None:
            self._task = loop.create_task(self._connect())
        else:
            # It is not to look busier than it is: the pool lets idle connections go.
            self._idle_since = connection.idle_since
            self._send(connection, "")

    def drop(self) -> None:
        """Ask no further."""
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def _connect(self) -> None:
        try:
            connection = await self._replica.pool.connect()
        except OSError as error:
            self.asked = not lacks_files(error)
            self._end(alive=False)
            return
        if self._path is not None:
            self._send(connection, "connection: close\r\n")
            return
        if connection.transport is not None:
            connection.transport.close()
        self._end(alive=True)

    def _send(self, connection: Connection, more: str) -> None:
        self._connection = connection
        host = self._replica.pool.address.authority
        connection.send(self, f"GET {self._path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n".encode())

    def _end(self, *, alive: bool) -> None:
        self.over, self.alive = True, alive
        self._connection = None

    def on_head(self, head: ResponseHead) -> bool:
        """It answers."""
        self.alive = head.status < 500
        return False

    def on_body(self, data: bytes) -> None:
        """What it says beyond its status does not matter."""

    def on_end(self) -> None:
        """The answer is complete."""
        if self._connection is not None and self._idle_since:
            self._connection.idle_since = self._idle_since
        self._replica.pool.heard = False
        self._end(alive=self.alive)

    def on_lost(self, reason: str, *, stale: bool) -> None:
        """The connection broke. One that had idled says nothing of the replica: it is asked on a new one."""
        self._connection = None
        if stale:
            self._task = asyncio.get_running_loop().create_task(self._connect())
        else:
            self._end(alive=False)

    def on_upstream_full(self) -> None:
        """The question is tiny."""

    def on_upstream_drained(self) -> None:
        """See ``on_upstream_full``."""


class Probes:
    """The health checks of one worker; ``salt`` makes its moments differ from those of other workers."""

    def __init__(self, gateway: Gateway, salt: str) -> None:
        self._gateway = gateway
        self._salt = salt
        self._turn = 0
        self._checks: dict[ReplicaBook, Check] = {}
        self._misses: dict[ReplicaBook, int] = {}

    async def run(self) -> None:
        """Ask for ever."""
        try:
            while True:
                await asyncio.sleep(EVERY_S / SLICES)
                self.turn()
        finally:
            for check in self._checks.values():
                check.drop()

    def turn(self) -> None:
        """Look at the replicas whose moment this is: judge by their last answers, then ask anew."""
        turn, self._turn = self._turn, self._turn + 1
        serving: set[ReplicaBook] = set()
        for book in self._gateway.books.endpoints.values():
            serving.update(book.ready)
            for replica in book.ready:
                moment = crc32(f"{self._salt}{replica.id}".encode())
                path = book.route.health_path
                every = SLICES if path is not None else SLICES * CONNECT_EVERY
                if (turn + moment) % every == 0:
                    self._judge(book, replica)
                    self._ask(replica, path)
        for gone in [replica for replica in (*self._checks, *self._misses) if replica not in serving]:
            self._misses.pop(gone, None)
            if (check := self._checks.pop(gone, None)) is not None:
                check.drop()

    def _ask(self, replica: ReplicaBook, path: str | None) -> None:
        if replica.pool.heard and replica.healthy:
            replica.pool.heard = False
            replica.heard_at = self._gateway.now()
            self._misses.pop(replica, None)
            return
        check = self._checks[replica] = Check(replica, path)
        check.begin(self._gateway.loop)

    def _judge(self, book: EndpointBook, replica: ReplicaBook) -> None:
        check = self._checks.pop(replica, None)
        if check is None:
            return
        if not check.over:
            check.drop()
        if check.alive or replica.pool.heard:
            replica.heard_at = self._gateway.now()
            self._misses.pop(replica, None)
            self._answers(book, replica)
            return
        if not check.asked:
            return
        misses = self._misses[replica] = self._misses.get(replica, 0) + 1
        if misses < MISSES:
            return
        if replica.healthy:
            log.warning("a replica does not answer its health check", replica=replica.id, endpoint=book.route.id)
            replica.healthy = False
        # Each time: what could go nowhere else before may find another replica now.
        self._gateway.unresponsive(replica)

    def _answers(self, book: EndpointBook, replica: ReplicaBook) -> None:
        if replica.healthy:
            return
        log.info("a replica answers its health check again", replica=replica.id, endpoint=book.route.id)
        replica.healthy = True
        dispatch.serve_next(self._gateway, book)
