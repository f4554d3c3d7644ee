"""The control plane with its loops running: over the memory store and runtime, on the real clock, waiting on news."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.control.world import ENGINELESS, WEIGHTLESS, WEIGHTY, Catalog, cpu_node

from roost.config import Settings
from roost.control.plane import ControlPlane
from roost.domain.endpoint import Endpoint
from roost.domain.errors import NotReady
from roost.domain.hardware import Resources
from roost.domain.launch import LaunchSpec, ProcessSpec
from roost.domain.lifecycle import DesiredState, State
from roost.domain.log import ReplicaLog
from roost.domain.replica import ExitInfo, RuntimeState
from roost.domain.routing import RoutingTable
from roost.runtimes.base import RuntimeSettings
from roost.runtimes.memory import MemoryRuntime
from roost.store.memory import MemoryStore
from roost.testing.builders import make_endpoint
from roost.testing.cache import MemoryCache
from roost.testing.clock import SeededUuids
from roost.testing.prober import ManualProber


class SureProber(ManualProber):
    """Proves at once, and tells."""

    news: Callable[[str], None]

    def start(self, replica_id: str, address: str, probe: object, api_key_env: str | None) -> None:
        self.prove(replica_id)
        self.news(replica_id)


class Running:
    """A plane that runs, and what it runs over."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.cache = MemoryCache()
        self.runtime = MemoryRuntime(RuntimeSettings(Path("/nowhere"), "i"), nodes=[cpu_node("n1", 2)], auto_ready=True)
        self.number = 0
        self.uuids = SeededUuids(1)

    async def begin(self) -> None:
        prober = SureProber()
        self.plane = ControlPlane(
            store=self.store,
            runtime=self.runtime,
            cache=self.cache,
            catalog=Catalog(),
            settings=Settings(home=Path("/nowhere")),
            now=lambda: datetime.now(UTC),
            uuids=self.uuids,
            jitter=random.Random(1).random,
            prober=prober,
            gateway_settle=timedelta(0),
        )
        prober.news = self.plane.replica_news
        await self.plane.start()

    async def create(self, **over: object) -> str:
        self.number += 1
        it = make_endpoint(self.number, **{"model": WEIGHTLESS.id, **over})
        await self.store.insert_endpoint(it, [])
        self.plane.wake(it.id)
        return it.id

    async def state_of(self, endpoint_id: str) -> State:
        it = await self.store.endpoint(endpoint_id)
        assert it is not None
        return it.status.state

    async def reaches(self, endpoint_id: str, state: State) -> Endpoint:
        async def there() -> bool:
            return await self.state_of(endpoint_id) is state

        await eventually(there)
        it = await self.store.endpoint(endpoint_id)
        assert it is not None
        return it


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110 - each turn lets the loops run
            await asyncio.sleep(0)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    it = Running()
    await it.store.open()
    await it.begin()
    yield it
    await it.plane.stop(keep_replicas=True)


async def test_a_wish_becomes_a_serving_replica_and_a_route(running: Running) -> None:
    endpoint_id = await running.create()
    await running.reaches(endpoint_id, State.STARTED)

    async def routed() -> bool:
        return any(e.id == endpoint_id and e.replicas for e in running.plane.publisher.table.endpoints)

    await eventually(routed)


async def test_watchers_wait_for_the_next_version(running: Running) -> None:
    version = running.plane.publisher.table.version
    waiting: asyncio.Task[RoutingTable] = asyncio.create_task(running.plane.publisher.wait_newer(version))
    await running.create()
    table = await asyncio.wait_for(waiting, 10)
    assert table.version > version
    assert table.endpoints


async def test_weights_that_arrive_start_it(running: Running) -> None:
    endpoint_id = await running.create(model=WEIGHTY.id)
    await running.reaches(endpoint_id, State.STARTING)

    async def asked() -> bool:
        return bool(running.cache.fetching())

    await eventually(asked)
    running.cache.finish(WEIGHTY.id)
    await running.reaches(endpoint_id, State.STARTED)
    assert running.cache.uses == [WEIGHTY.id]


async def test_an_engine_that_dies_is_replaced_by_the_hint_alone(running: Running) -> None:
    endpoint_id = await running.create()
    await running.reaches(endpoint_id, State.STARTED)
    (first,) = await running.store.replicas(endpoint_id)
    running.runtime.crash(first.id, ExitInfo(signal=9))

    async def replaced() -> bool:
        rows = await running.store.replicas(endpoint_id)
        return bool(rows) and rows[0].id != first.id

    await eventually(replaced)
    await running.reaches(endpoint_id, State.STARTED)


async def test_what_an_engine_said_outlives_it(running: Running) -> None:
    endpoint_id = await running.create()
    await running.reaches(endpoint_id, State.STARTED)
    (first,) = await running.store.replicas(endpoint_id)
    running.runtime.write_log(first.id, "one", "last words")
    assert await running.plane.logs(endpoint_id, 1) == [ReplicaLog(first.id, ("last words",))]
    running.runtime.crash(first.id, ExitInfo(signal=9))

    async def replaced() -> bool:
        logs = await running.plane.logs(endpoint_id, 10)
        return [log.ended for log in logs] == [True, False]

    await eventually(replaced)
    assert (await running.plane.logs(endpoint_id, 10))[0] == ReplicaLog(first.id, ("one", "last words"), ended=True)
    await running.store.mark_deleted(endpoint_id, datetime.now(UTC), [])
    running.plane.wake(endpoint_id)

    async def forgotten() -> bool:
        return not await running.plane.logs(endpoint_id, 10)

    await eventually(forgotten)


async def test_room_that_appears_starts_who_waits(running: Running) -> None:
    first = await running.create(hardware="2x_cpu")
    await running.reaches(first, State.STARTED)
    second = await running.create(hardware="2x_cpu")

    async def refused() -> bool:
        it = await running.store.endpoint(second)
        return it is not None and it.status.reason is not None and it.status.reason.code == "no_capacity"

    await eventually(refused)
    await running.store.mark_deleted(first, datetime.now(UTC), [])
    running.plane.wake(first)
    await running.reaches(second, State.STARTED)


async def test_shutting_down_stops_every_replica_and_keeps_the_wish(running: Running) -> None:
    endpoint_id = await running.create()
    await running.reaches(endpoint_id, State.STARTED)
    await running.plane.stop(keep_replicas=False)
    it = await running.reaches(endpoint_id, State.STOPPED)
    assert it.spec.desired_state is DesiredState.STARTED
    assert running.plane.publisher.table.shutting_down
    assert all(s.state is RuntimeState.EXITED for s in await running.runtime.list())
    await running.begin()
    await running.reaches(endpoint_id, State.STARTED)


async def test_hurry_does_not_wait_for_a_drain(running: Running) -> None:
    endpoint_id = await running.create()
    await running.reaches(endpoint_id, State.STARTED)
    running.plane.gateways.connected("gateway-0-x", 1)
    stopping = asyncio.create_task(running.plane.stop(keep_replicas=False))
    await running.reaches(endpoint_id, State.STOPPING)
    await running.plane.hurry()
    await asyncio.wait_for(stopping, 10)
    assert await running.state_of(endpoint_id) is State.STOPPED


async def test_a_replica_that_no_row_speaks_of_is_ended(running: Running) -> None:
    spec = LaunchSpec("endpoint-gone", (ProcessSpec(("x",)),), Resources(1, 1), "cpu")
    await running.runtime.launch(spec, "replica-orphan")
    await running.plane.sweep()
    assert await running.runtime.list() == ()


async def test_a_loop_that_dies_is_a_fault_of_the_process(running: Running) -> None:
    running.cache.break_changed(RuntimeError("boom"))
    fault = await asyncio.wait_for(asyncio.shield(running.plane.fault), 10)
    assert str(fault) == "boom"


@pytest.mark.parametrize(
    "lack", [OSError(errno.EMFILE, "Too many open files"), NotReady("The database is away.", code="store_unavailable")]
)
async def test_a_loop_that_lacks_what_comes_back_is_begun_again(running: Running, lack: Exception) -> None:
    running.cache.break_changed(lack)
    running.cache.break_changed(RuntimeError("the loop went on"))
    fault = await asyncio.wait_for(asyncio.shield(running.plane.fault), 10)
    assert str(fault) == "the loop went on"


async def test_hardware_that_comes_back_starts_who_waits(running: Running) -> None:
    running.runtime.set_nodes([])
    endpoint_id = await running.create()

    async def refused() -> bool:
        it = await running.store.endpoint(endpoint_id)
        return it is not None and it.status.reason is not None and it.status.reason.code == "infeasible"

    await eventually(refused)
    running.runtime.set_nodes([cpu_node("n1", 2)])
    running.plane.wake(endpoint_id)
    await running.reaches(endpoint_id, State.STARTED)


async def test_an_engine_that_is_no_longer_installed_is_an_error_that_says_so(running: Running) -> None:
    endpoint_id = await running.create(model=ENGINELESS.id)
    it = await running.reaches(endpoint_id, State.ERROR)
    assert it.status.reason is not None
    assert "gone-with-its-plug-in" in it.status.reason.message


async def test_one_endpoints_fault_does_not_stop_the_others(running: Running) -> None:
    passes: list[bool] = []
    running.plane.on_pass = lambda seconds, *, failed: passes.append(failed)
    broken = await running.create(model=WEIGHTY.id)
    running.cache.break_status(WEIGHTY.id)

    async def failed() -> bool:
        return True in passes

    running.plane.wake(broken)
    await eventually(failed)
    await running.reaches(await running.create(), State.STARTED)
