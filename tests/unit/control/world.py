"""The whole control plane over fakes that keep the real contracts: memory store, memory runtime, a cache and a prober
that end when told to, one fake clock, one seed. Passes are run by hand, so a sequence of steps repeats exactly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from roost.control.actuator import Actuator
from roost.control.gateways import GatewayRegistry
from roost.control.observer import Observer
from roost.control.reconciler import Reconciler
from roost.control.routes import RoutePublisher
from roost.domain.endpoint import Autoscaling, Endpoint
from roost.domain.hardware import Node, Resources
from roost.domain.launch import LaunchSpec
from roost.domain.lifecycle import DesiredState, State
from roost.domain.model import Model, Source
from roost.domain.replica import Replica
from roost.engines.registry import BUILT_IN, names
from roost.policy.facts import Plan, PlanSettings
from roost.runtimes.base import RuntimeSettings
from roost.runtimes.memory import MemoryRuntime
from roost.store.memory import MemoryStore
from roost.testing.builders import make_endpoint
from roost.testing.cache import MemoryCache
from roost.testing.clock import FakeClock, SeededUuids
from roost.testing.prober import ManualProber

T = TypeVar("T")
GIB = 1024**3
INSTALLATION = "installation-1"
GATEWAY, GATEWAY_PID = "gateway-0-aaaaaaaa", 4_000_000

WEIGHTLESS = Model("test/echo", "echo")
WEIGHTY = Model("test/weights", "echo", source=Source("file", "/nowhere/weights.gguf"))
ENGINELESS = Model("test/engineless", "gone-with-its-plug-in")
EXTERNAL = Model("test/external", "external", url="http://127.0.0.1:9", served_model="there")


def cpu_node(name: str, threads: int, zone: str = "a") -> Node:
    total = Resources(threads, threads * GIB)
    return Node(name, zone, "cpu", total, total)


class Catalog:
    """Models that need no file. ``test/<engine>`` of a test's own engine is one that it runs."""

    def get(self, id_or_alias: str) -> Model | None:
        own = {f"test/{name}": Model(f"test/{name}", name) for name in names() if name not in BUILT_IN}
        return {**own, **{m.id: m for m in (WEIGHTLESS, WEIGHTY, EXTERNAL, ENGINELESS)}}.get(id_or_alias)


class Interrupted(Exception):
    """The control plane died here."""


class CuttableRuntime(MemoryRuntime):
    """A runtime whose caller dies just before its orders arrive, while ``cut`` is set."""

    cut = False

    async def launch(self, spec: LaunchSpec, replica_id: str) -> None:
        if self.cut:
            raise Interrupted
        await super().launch(spec, replica_id)

    async def stop(self, replica_id: str, grace: timedelta) -> None:
        if not self.cut:
            await super().stop(replica_id, grace)


class World:
    """One installation, stepped by hand. ``crash_control`` replaces everything that a process holds in memory."""

    def __init__(self, seed: int = 0, nodes: tuple[Node, ...] = (cpu_node("n1", 2),)) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.random = random.Random(seed)
        self.uuids = SeededUuids(seed)
        self.store = MemoryStore()
        self.cache = MemoryCache()
        self.runtime = CuttableRuntime(RuntimeSettings(Path("/nowhere"), INSTALLATION, zone="a"), nodes=nodes)
        self.settings = PlanSettings(drain_deadline=timedelta(seconds=300), max_start_failures=3)
        self.run(self.store.open())
        self.terms = 0
        self.created = 0
        self.changes: list[tuple[str, Plan]] = []
        self.crash_control()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 10))

    def close(self) -> None:
        self.run(self.actuator.idle())
        self.loop.close()

    def crash_control(self) -> None:
        """The control plane dies and comes back: store and runtime stay, memory is lost."""
        self.terms += 1
        self.due: dict[str, timedelta] = {}
        self.prober = ManualProber()
        self.publisher = RoutePublisher(self.store, Catalog().get, self.cache.status)
        self.gateways = GatewayRegistry(self.clock.now, settle=timedelta(0), alive=lambda pid: True)
        self.run(self.publisher.start(INSTALLATION, self.terms))
        observer = Observer(
            store=self.store,
            runtime=self.runtime,
            cache=self.cache,
            catalog=Catalog(),
            prober=self.prober,
            gateways=self.gateways,
            publisher=self.publisher,
            prices={},
            jitter=self.random.random,
        )
        self.actuator = Actuator(
            store=self.store,
            runtime=self.runtime,
            cache=self.cache,
            catalog=Catalog(),
            prober=self.prober,
            uuids=self.uuids,
            wake=lambda endpoint_id: None,
        )
        self.reconciler = Reconciler(
            observer=observer,
            actuator=self.actuator,
            settings=self.settings,
            now=self.clock.now,
            changed=lambda endpoint_id, plan: self.changes.append((endpoint_id, plan)),
        )

    def create(self, model: Model = WEIGHTLESS, hardware: str = "1x_cpu", replicas: tuple[int, int] = (1, 1)) -> str:
        self.created += 1
        it = make_endpoint(
            self.created, model=model.id, hardware=hardware, autoscaling=Autoscaling(*replicas), state=State.PENDING
        )
        self.run(self.store.insert_endpoint(it, []))
        return it.id

    def wish(self, endpoint_id: str, desired: DesiredState) -> None:
        it = self.endpoint(endpoint_id)
        restart = desired is DesiredState.STARTED and (
            it.spec.desired_state is DesiredState.STOPPED or it.status.state is State.ERROR
        )
        spec = replace(it.spec, desired_state=desired, start_requests=it.spec.start_requests + restart)
        self.run(self.store.update_spec(it.id, it.spec_version, spec, self.clock.now(), []))

    def delete(self, endpoint_id: str) -> None:
        self.run(self.store.mark_deleted(endpoint_id, self.clock.now(), []))

    def one_pass(self, endpoint_id: str) -> timedelta | None:
        """One pass, its stops carried out, the routing table published."""
        again = self.run(self.reconciler.run(endpoint_id))
        self.run(self.actuator.idle())
        self.run(self.publisher.refresh())
        return again

    def pass_cut_short(self, endpoint_id: str) -> None:
        """A pass that writes its intent; then the control plane dies, and none of its orders arrive."""
        self.runtime.cut = True
        try:
            self.run(self.reconciler.run(endpoint_id))
            self.run(self.actuator.idle())
        except Interrupted:
            pass
        self.runtime.cut = False
        self.crash_control()

    def passes(self, endpoint_id: str, most: int = 40) -> timedelta | None:
        """Passes until none is due at once and nothing changes."""
        for _ in range(most):
            before = len(self.changes)
            again = self.one_pass(endpoint_id)
            if len(self.changes) == before and (again is None or again > timedelta(0)):
                return again
        raise AssertionError(f"{endpoint_id} does not settle: {self.changes[-1][1]}")

    def gateway_reports(self, in_flight: dict[str, int] | None = None) -> None:
        """The one gateway applies the newest table and tells what it has in flight."""
        table = self.publisher.table
        self.gateways.report(
            {
                "protocol": 1,
                "gateway": GATEWAY,
                "pid": GATEWAY_PID,
                "term": table.term,
                "version": table.version,
                "in_flight": in_flight or {},
                "held": {},
                "requests": {},
            }
        )

    def endpoint(self, endpoint_id: str) -> Endpoint:
        it = self.run(self.store.endpoint(endpoint_id))
        assert it is not None
        return it

    def endpoints(self) -> list[Endpoint]:
        return list(self.run(self.store.endpoints(deleted=True)))

    def rows(self, endpoint_id: str | None = None) -> list[Replica]:
        return list(self.run(self.store.replicas(endpoint_id)))

    def state(self, endpoint_id: str) -> State:
        return self.endpoint(endpoint_id).status.state
