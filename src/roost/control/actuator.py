"""The actuator: carries out a plan. Intent before effect: the transaction first, then the runtime.

Called by the reconciler. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from roost.control.ended_logs import LINES, EndedLogs
from roost.control.engine_boundary import ask
from roost.control.observer import ModelLookup
from roost.control.prober import Prober
from roost.domain.endpoint import Endpoint
from roost.domain.errors import EngineFault, LaunchRefused
from roost.domain.event import Event
from roost.domain.hardware import Placement
from roost.domain.ids import UuidSource, event_id, replica_id
from roost.domain.launch import LaunchSpec
from roost.domain.model import Model
from roost.domain.replica import Failure, Replica, ReplicaState
from roost.engines.base import Engine, LaunchRequest
from roost.engines.registry import names
from roost.models.base import Cache
from roost.policy.facts import Facts, Note, Plan, Stop
from roost.runtimes.base import Runtime
from roost.store.base import StatusChange, Store

ACTOR = "system"
EXTERNAL_PROBE_TIMEOUT = timedelta(seconds=15)
NO_GRACE = timedelta(0)
LONGEST_START = timedelta(days=7)
"""More than any weights take to load; the clock ends somewhere."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A replica row to be written, with the spec to run (None: refused, or nothing to run)."""

    row: Replica
    spec: LaunchSpec | None
    note: Note


class Actuator:
    """Writes a plan's changes, then gives its orders. ``wake`` is called when an order has been carried out."""

    def __init__(
        self,
        *,
        store: Store,
        runtime: Runtime,
        cache: Cache,
        catalog: ModelLookup,
        prober: Prober,
        uuids: UuidSource,
        wake: Callable[[str], None],
        ended_logs: EndedLogs | None = None,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._cache = cache
        self._catalog = catalog
        self._prober = prober
        self._uuids = uuids
        self._wake = wake
        self._ended_logs = ended_logs if ended_logs is not None else EndedLogs()
        self._stops: dict[str, asyncio.Task[None]] = {}

    async def execute(self, facts: Facts, plan: Plan, now: datetime) -> None:
        """Carry out ``plan``. Raises ``VersionConflict`` (nothing done) when somebody else wrote the status."""
        endpoint = facts.endpoint
        model = self._catalog.get(endpoint.spec.model)
        if model is not None and model.engine not in names():
            model = None
        launches = [self._prepare(facts, model, placement, now) for placement in plan.launch]
        notes = (*plan.notes, *(launch.note for launch in launches))
        await self._store.apply(
            StatusChange(
                endpoint_id=endpoint.id,
                expected_version=endpoint.status_version,
                status=plan.status,
                upsert_replicas=(*plan.update, *(launch.row for launch in launches)),
                delete_replicas=plan.delete,
                events=tuple(self._event(endpoint, note, now) for note in notes),
            )
        )
        if model is not None and (plan.relaunch or any(launch.spec is not None for launch in launches)):
            await self._cache.used(model)
        for launch in launches:
            if launch.spec is not None:
                await self._runtime.launch(launch.spec, launch.row.id)
        for row in plan.relaunch:
            await self._relaunch(facts, model, row)
        for order in plan.stop:
            self._stop(endpoint.id, order)
        await self._look_after(facts, model, plan)
        if plan.finished:
            event = self._event(endpoint, Note("endpoint.removed", "its teardown is complete"), now)
            await self._store.purge_endpoint(endpoint.id, [event])
            self._ended_logs.drop(endpoint.id)

    async def _look_after(self, facts: Facts, model: Model | None, plan: Plan) -> None:
        addresses = {item.replica.id: item.observed.address for item in facts.replicas if item.observed is not None}
        for row in plan.probe:
            address = addresses.get(row.id)
            if row.state is ReplicaState.READY and address is not None:
                path = None if model is None else ask(model, lambda engine: engine.capabilities(model).health_path)
                self._prober.watch(row.id, address, path, managed=facts.managed)
            elif model is not None and address is not None:
                await self._probe(facts.endpoint, model, row, address)
        if plan.fetch and model is not None:
            self._cache.request(model)
        for gone in plan.delete:
            self._prober.forget(gone)
            if facts.managed:
                lines = tuple(await self._runtime.logs(gone, LINES))
                self._ended_logs.keep(facts.endpoint.id, gone, lines)
                await self._runtime.forget(gone)

    async def _probe(self, endpoint: Endpoint, model: Model, row: Replica, address: str) -> None:
        try:
            probe = ask(model, lambda engine: engine.probe(model))
        except LaunchRefused as error:
            # Its process runs: the row says what is wrong with it, and the next plan ends it.
            await self._write(endpoint, replace(row, failure=_failure(error)))
            return
        self._prober.start(row.id, address, probe, model.api_key_env)

    def _prepare(self, facts: Facts, model: Model | None, placement: Placement, now: datetime) -> Launch:
        endpoint = facts.endpoint
        row = Replica(
            id=replica_id(self._uuids()),
            endpoint_id=endpoint.id,
            state=ReplicaState.LAUNCHING,
            node_id=placement.node_id,
            zone=placement.zone,
            hardware=endpoint.spec.hardware,
            created_at=now,
            reason=placement.reason,
        )
        data = {"node": placement.node_id, "zone": placement.zone, "hardware": endpoint.spec.hardware}
        note = Note("replica.launching", placement.reason, row.id, data)
        try:
            slots = ask(model, lambda engine: engine.capabilities(model).slots) if model is not None else None
            if not facts.managed:
                return Launch(replace(row, deadline=now + EXTERNAL_PROBE_TIMEOUT, slots=slots), None, note)
            spec = self._spec(facts, model, placement)
        except LaunchRefused as error:
            return Launch(replace(row, state=ReplicaState.FAILED, failure=_failure(error)), None, note)
        return Launch(replace(row, deadline=now + spec.start_timeout, slots=slots), spec, note)

    def _spec(self, facts: Facts, model: Model | None, placement: Placement) -> LaunchSpec:
        endpoint = facts.endpoint
        if model is None or facts.hardware is None:
            raise LaunchRefused(f"{endpoint.spec.model} or its hardware {endpoint.spec.hardware} is no longer there.")
        request = LaunchRequest(
            endpoint_id=endpoint.id,
            endpoint_name=endpoint.name,
            model=model,
            hardware=facts.hardware,
            placement=placement,
            weights_path=self._cache.status(model).path,
            speculative_decoding=not endpoint.spec.disable_speculative_decoding,
        )
        return ask(model, lambda engine: _built(engine, request))

    async def _relaunch(self, facts: Facts, model: Model | None, row: Replica) -> None:
        """Launch a replica whose row was written before a crash, but whose process was not."""
        try:
            spec = self._spec(facts, model, Placement(row.node_id, row.zone, row.reason))
        except LaunchRefused as error:
            await self._write(facts.endpoint, replace(row, state=ReplicaState.FAILED, failure=_failure(error)))
            return
        await self._runtime.launch(spec, row.id)

    async def _write(self, endpoint: Endpoint, row: Replica) -> None:
        """Write what became of a replica after the plan's own transaction."""
        current = await self._store.endpoint(endpoint.id)
        if current is not None:
            await self._store.apply(
                StatusChange(endpoint.id, current.status_version, current.status, upsert_replicas=(row,))
            )
            self._wake(endpoint.id)

    def _stop(self, endpoint_id: str, order: Stop) -> None:
        """End a replica in the background; ordered again while it goes on, it is the same order."""
        if order.replica_id in self._stops:
            return
        task = asyncio.create_task(self._runtime.stop(order.replica_id, order.grace))
        self._stops[order.replica_id] = task

        def ended(done: asyncio.Task[None]) -> None:
            self._stops.pop(order.replica_id, None)
            if not done.cancelled():
                done.result()
            self._wake(endpoint_id)

        task.add_done_callback(ended)

    async def hurry(self) -> None:
        """End at once, without grace, what is being stopped."""
        for task_id in list(self._stops):
            await self._runtime.stop(task_id, NO_GRACE)

    async def idle(self) -> None:
        """Wait until no stop is under way."""
        while self._stops:
            await asyncio.gather(*self._stops.values(), return_exceptions=True)

    def _event(self, endpoint: Endpoint, note: Note, now: datetime) -> Event:
        return Event(
            id=event_id(self._uuids()),
            at=now,
            kind=note.kind,
            actor=ACTOR,
            reason=note.reason,
            endpoint_id=endpoint.id,
            replica_id=note.replica_id,
            data=note.data,
        )


def _built(engine: Engine, request: LaunchRequest) -> LaunchSpec:
    spec = engine.build(request)
    if spec.start_timeout > LONGEST_START:
        name, days = request.model.engine, LONGEST_START.days
        raise EngineFault(f"The engine {name!r} wants more than {days} days to start {request.model.id}.")
    return spec


def _failure(error: LaunchRefused) -> Failure:
    return Failure(error.code, error.message, retryable=error.retryable)
