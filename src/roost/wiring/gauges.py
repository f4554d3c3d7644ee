"""Keeps the gauges of ``/metrics`` true: counts endpoints and replicas after reconcile passes.

Run by ``wiring.control``. It reads the store at most once a second and never writes it.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from roost.domain.errors import NotReady
from roost.store.base import Store
from roost.telemetry import metrics

LEAST_INTERVAL_S = 1.0

log = structlog.get_logger(__name__)


class Gauges:
    """Told of each pass; counts in a task of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._passed = asyncio.Event()

    def on_pass(self, seconds: float, *, failed: bool) -> None:
        """Count the pass, and look at the states anew soon."""
        metrics.reconciled(seconds, failed=failed)
        self._passed.set()

    async def run(self) -> None:
        """Count at the start and after passes, for ever."""
        while True:
            self._passed.clear()
            try:
                await self.count()
            except NotReady as error:
                log.error("the gauges of metrics stay as they were", reason=error.message)
                self._passed.set()
            await asyncio.sleep(LEAST_INTERVAL_S)
            await self._passed.wait()

    async def count(self) -> None:
        """Set the gauges from the store."""
        endpoints, replicas = await self._store.endpoints(), await self._store.replicas()
        metrics.set_endpoints(Counter(endpoint.status.state for endpoint in endpoints))
        metrics.set_replicas(Counter(replica.state for replica in replicas))
