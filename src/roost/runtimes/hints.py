"""Hints that some replica's status changed: the waiting side of ``Runtime.changed``. Used by the runtimes."""

from __future__ import annotations

import asyncio


class Hints:
    """A set of replica ids that keeps its order and can be waited on. Several hints about one replica that nobody
    has taken yet are one, so it never outgrows the number of replicas; each hint goes to one waiter."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def put(self, replica_id: str) -> None:
        """Say that something changed for ``replica_id``. Never waits."""
        self._ids[replica_id] = None
        while self._waiters:
            waiter = self._waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return

    async def take(self) -> str:
        """The oldest hint; waits for one when there is none."""
        while not self._ids:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        replica_id = next(iter(self._ids))
        del self._ids[replica_id]
        return replica_id
