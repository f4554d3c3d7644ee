"""The control plane: owns the loops and ties them together. Built by the wiring; used by the services through
``wake``, ``wake_routes`` and ``capacity``.

Loops: the worker (work queue → reconciler), the publisher (changes → routing table), the runtime's and the cache's
hints, and a slow resync that also sweeps replicas that belong to nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from roost.config import Settings
from roost.control.actuator import Actuator
from roost.control.ended_logs import EndedLogs
from roost.control.gateways import GatewayRegistry
from roost.control.observer import ModelLookup, Observer
from roost.control.prober import HttpProber, Prober
from roost.control.reconciler import Reconciler
from roost.control.routes import RoutePublisher
from roost.control.workqueue import WorkQueue
from roost.domain.errors import NotReady
from roost.domain.hardware import Node
from roost.domain.ids import UuidSource
from roost.domain.lifecycle import State
from roost.domain.log import ReplicaLog
from roost.domain.replica import Replica, ReplicaState
from roost.models.base import Cache
from roost.policy.facts import Plan, PlanSettings
from roost.policy.placement import configurations
from roost.runtimes.base import Runtime
from roost.store.base import Store

log = structlog.get_logger(__name__)

RESYNC = timedelta(seconds=15)
GATEWAY_SETTLE = timedelta(seconds=3)
"""How long after its start a control plane takes in-flight counts for unknown: gateways may not have reconnected."""

RETRY_AFTER_FAULT = timedelta(seconds=1)


class PassObserver(Protocol):
    """Told of each pass, for metrics."""

    def __call__(self, seconds: float, *, failed: bool) -> None: ...


def plan_settings(settings: Settings) -> PlanSettings:
    """The part of the settings that planning depends on."""
    return PlanSettings(
        drain_deadline=timedelta(seconds=settings.drain_deadline_s),
        stop_grace=timedelta(seconds=settings.stop_grace_s),
        unresponsive_deadline=timedelta(seconds=settings.unresponsive_deadline_s),
        max_start_failures=settings.max_start_failures,
    )


class ControlPlane:
    """Everything between the store and the runtime. ``gateway_pids`` gives the pids of the gateways that there are.

    ``fault`` resolves with the exception that ended a loop: the process is then to end and be started anew, since a
    control plane with a dead loop must not look alive.
    """

    def __init__(
        self,
        *,
        store: Store,
        runtime: Runtime,
        cache: Cache,
        catalog: ModelLookup,
        settings: Settings,
        now: Callable[[], datetime],
        uuids: UuidSource,
        jitter: Callable[[], float],
        prober: Prober | None = None,
        on_pass: PassObserver | None = None,
        gateway_settle: timedelta = GATEWAY_SETTLE,
        gateway_pids: Callable[[], Iterable[int]] = tuple,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._cache = cache
        self._uuids = uuids
        self._prices = settings.hardware
        self.on_pass = on_pass
        self._queue = WorkQueue()
        self._publish = asyncio.Event()
        self._asked = self._published = 0
        self._published_more = asyncio.Condition()
        self._resync_now = asyncio.Event()
        self._passed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._endpoint_of: dict[str, str] = {}
        self._draining: dict[str, str] = {}
        self._short: set[str] = set()
        self.fault: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.publisher = RoutePublisher(store, catalog.get, cache.status)
        self.gateways = GatewayRegistry(now, settle=gateway_settle, expected=gateway_pids)
        self.gateways.news = self._gateway_news
        self._prober = prober or HttpProber(self.replica_news)
        self._ended_logs = EndedLogs()
        observer = Observer(
            store=store,
            runtime=runtime,
            cache=cache,
            catalog=catalog,
            prober=self._prober,
            gateways=self.gateways,
            publisher=self.publisher,
            prices=settings.hardware,
            jitter=jitter,
        )
        self._actuator = Actuator(
            store=store,
            runtime=runtime,
            cache=cache,
            catalog=catalog,
            prober=self._prober,
            uuids=uuids,
            wake=self.wake,
            ended_logs=self._ended_logs,
        )
        self.reconciler = Reconciler(
            observer=observer,
            actuator=self._actuator,
            settings=plan_settings(settings),
            now=now,
            changed=self._pass_changed,
        )

    async def start(self) -> None:
        """Publish the first routing table and begin all loops. The store and the runtime have been started."""
        installation = await self._store.installation(str(self._uuids()))
        self.publisher.hardware = configurations(await self.capacity(), self._prices)
        await self.publisher.start(installation, await self._store.next_term())
        await self._resync_once()
        loops = (self._work, self._republish, self._runtime_hints, self._cache_hints, self._resync)
        for loop in loops:
            task = asyncio.create_task(self._lasting(loop), name=f"control:{loop.__name__}")
            task.add_done_callback(self._loop_ended)
            self._tasks.append(task)

    async def stop(self, *, keep_replicas: bool) -> None:
        """End the loops; unless ``keep_replicas``, first drain and stop every replica. Desired states stay."""
        if not keep_replicas:
            self.reconciler.shutting_down = True
            await self.publisher.shut_down()
            await self._resync_once()
            await self._all_gone()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._queue.close()
        await self._prober.close()

    async def hurry(self) -> None:
        """While stopping: end what is draining now, without its deadline and without grace."""
        self.reconciler.settings = replace(self.reconciler.settings, hurry=True)
        await self._resync_once()
        await self._actuator.hurry()

    def wake(self, endpoint_id: str) -> None:
        """Look at the endpoint soon, and at the routing table: its spec or its replicas have changed."""
        self._queue.add(endpoint_id)
        self.wake_routes()

    def wake_routes(self) -> None:
        """Build the routing table anew: keys or models have changed."""
        self._asked += 1
        self._publish.set()

    async def routes_applied(self) -> None:
        """Wait until every connected gateway serves by a table with all that ``wake`` and ``wake_routes`` were called
        for so far; the caller sets the limit."""
        async with self._published_more:
            asked = self._asked
            await self._published_more.wait_for(lambda: self._published >= asked)
        table = self.publisher.table
        await self.gateways.applied(table.term, table.version)

    def replica_news(self, replica_id: str) -> None:
        """Something about the replica may have changed."""
        endpoint_id = self._endpoint_of.get(replica_id)
        if endpoint_id is None:
            self._resync_now.set()
        else:
            self._queue.add(endpoint_id)

    async def capacity(self) -> Sequence[Node]:
        """The runtime's nodes, as they are now."""
        return await self._runtime.capacity()

    async def logs(self, endpoint_id: str, tail: int) -> Sequence[ReplicaLog]:
        """The last ``tail`` lines of each replica of the endpoint: those that ended lately, then those that run, oldest
        first. Servers that Roost did not start have none."""
        ended = [replace(log, lines=log.lines[-tail:] if tail else ()) for log in self._ended_logs.of(endpoint_id)]
        rows = sorted(await self._store.replicas(endpoint_id), key=lambda row: (row.created_at, row.id))
        running = [
            ReplicaLog(row.id, tuple(await self._runtime.logs(row.id, tail)))
            for row in rows
            if await self._runtime.status(row.id) is not None
        ]
        known = {log.replica_id for log in running}
        return [*(log for log in ended if log.replica_id not in known), *running]

    async def _all_gone(self) -> None:
        while True:
            self._passed.clear()
            endpoints = await self._store.endpoints(deleted=True)
            settled = all(e.status.state in (State.STOPPED, State.ERROR) for e in endpoints if e.deleted_at is None)
            if settled and not await self._store.replicas():
                return
            await self._passed.wait()

    async def _lasting(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop, and begin it again where it lacked what comes back: files of this process, the database."""
        while True:
            try:
                await loop()
            except (OSError, NotReady) as error:
                log.error("control.loop_waits", loop=loop.__name__, reason=str(error))
                await asyncio.sleep(RETRY_AFTER_FAULT.total_seconds())
                # What it was about to do may be lost: everything is looked at anew.
                self._publish.set()
                self._resync_now.set()

    async def _work(self) -> None:
        while True:
            endpoint_id = await self._queue.get()
            began = time.perf_counter()
            failed = False
            try:
                again = await self.reconciler.run(endpoint_id)
            except Exception:  # the boundary of the work queue: one endpoint's fault must not stop the others
                log.exception("reconciler.fault", endpoint_id=endpoint_id)
                failed, again = True, RETRY_AFTER_FAULT
            self._queue.done(endpoint_id)
            self._passed.set()
            if again is not None:
                self._queue.add_after(endpoint_id, again)
            if self.on_pass is not None:
                self.on_pass(time.perf_counter() - began, failed=failed)

    async def _republish(self) -> None:
        while True:
            await self._publish.wait()
            self._publish.clear()
            asked = self._asked
            await self.publisher.refresh()
            async with self._published_more:
                self._published = asked
                self._published_more.notify_all()
            # A drain counts from the version that announces it.
            for endpoint_id in set(self._draining.values()):
                self._queue.add(endpoint_id)

    async def _runtime_hints(self) -> None:
        while True:
            replica_id = await self._runtime.changed()
            if replica_id not in self._endpoint_of:
                self._endpoint_of = {row.id: row.endpoint_id for row in await self._store.replicas()}
            self.replica_news(replica_id)

    async def _cache_hints(self) -> None:
        while True:
            model_id = await self._cache.changed()
            for endpoint in await self._store.endpoints():
                if endpoint.spec.model == model_id:
                    self._queue.add(endpoint.id)

    async def _resync(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RESYNC.total_seconds()):
                    await self._resync_now.wait()
            except TimeoutError:
                await self.sweep()
            self._resync_now.clear()
            await self._resync_once()

    async def _resync_once(self) -> None:
        """Look at every endpoint, tombstones included: hints may have been lost."""
        rows = await self._store.replicas()
        self._endpoint_of = {row.id: row.endpoint_id for row in rows}
        self._draining = {row.id: row.endpoint_id for row in rows if _awaits_drain(row)}
        for endpoint in await self._store.endpoints(deleted=True):
            self._queue.add(endpoint.id)

    async def sweep(self) -> None:
        """End replicas of this installation that no row speaks of. Listed before the rows are read, since a row is
        always there before its process."""
        listed = await self._runtime.list()
        known = {row.id for row in await self._store.replicas()}
        for status in listed:
            if status.replica_id not in known:
                log.warning("replica.orphan", replica_id=status.replica_id, state=status.state.value)
                await self._runtime.stop(status.replica_id, self.reconciler.settings.stop_grace)
                await self._runtime.forget(status.replica_id)

    def _pass_changed(self, endpoint_id: str, plan: Plan) -> None:
        for row in (*plan.update, *plan.probe):
            self._endpoint_of[row.id] = endpoint_id
            if _awaits_drain(row):
                self._draining[row.id] = endpoint_id
            else:
                self._draining.pop(row.id, None)
        for replica_id in plan.delete:
            self._draining.pop(replica_id, None)
            self._endpoint_of.pop(replica_id, None)
        short = plan.status.reason is not None and plan.status.reason.code in ("no_capacity", "infeasible")
        (self._short.add if short else self._short.discard)(endpoint_id)
        if plan.delete:
            for waiting in self._short:
                self._queue.add(waiting)
        self._publish.set()

    def _gateway_news(self) -> None:
        for endpoint_id in set(self._draining.values()):
            self._queue.add(endpoint_id)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.fault.done():
            log.error("control.loop_fault", loop=task.get_name(), exc_info=error)
            self.fault.set_result(error)


def _awaits_drain(row: Replica) -> bool:
    return row.state is ReplicaState.DRAINING and row.stop_requested_at is None
