"""The observer: gathers the facts of one endpoint for ``policy.plan``. It looks and never changes anything.

Called by the reconciler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from roost.control.engine_boundary import ask
from roost.control.gateways import GatewayRegistry
from roost.control.prober import Prober, Proof
from roost.control.routes import RoutePublisher
from roost.domain.endpoint import Endpoint
from roost.domain.errors import LaunchRefused
from roost.domain.hardware import HardwarePrice
from roost.domain.model import Fetch, FetchState, Model
from roost.domain.replica import ExitInfo, Failure, Replica, ReplicaState, RuntimeState, RuntimeStatus
from roost.engines.base import Engine
from roost.engines.registry import names
from roost.models.base import Cache
from roost.policy.facts import Facts, ReplicaFacts
from roost.policy.placement import configurations
from roost.runtimes.base import Runtime
from roost.store.base import Store


class ModelLookup(Protocol):
    """What control needs of the catalog."""

    def get(self, id_or_alias: str) -> Model | None:
        """The entry of that id or alias."""
        ...


class Observer:
    """Asks the store, the runtime, the cache, the prober and the gateways, and puts their answers together."""

    def __init__(
        self,
        *,
        store: Store,
        runtime: Runtime,
        cache: Cache,
        catalog: ModelLookup,
        prober: Prober,
        gateways: GatewayRegistry,
        publisher: RoutePublisher,
        prices: Mapping[str, HardwarePrice],
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._cache = cache
        self._catalog = catalog
        self._prober = prober
        self._gateways = gateways
        self._publisher = publisher
        self._prices = prices
        self._jitter = jitter

    async def facts(self, endpoint_id: str, *, shutting_down: bool) -> Facts | None:
        """The facts of an endpoint; None when it does not exist (any more)."""
        endpoint = await self._store.endpoint(endpoint_id)
        if endpoint is None:
            return None
        model = self._catalog.get(endpoint.spec.model)
        lack, managed = _lack(endpoint.spec.model, model), True
        if lack is not None:
            model = None
        elif model is not None:
            try:
                managed = _managed(model)
            except LaunchRefused as refused:
                model, lack = None, refused
        rows = await self._store.replicas(endpoint_id)
        replicas = [await self._replica(row, model, managed=managed) for row in rows]
        nodes = tuple(await self._runtime.capacity())
        self._publisher.hardware = offered = configurations(nodes, self._prices)
        return Facts(
            endpoint=endpoint,
            replicas=tuple(replicas),
            fetch=self._fetch(endpoint, model, lack),
            hardware=offered.get(endpoint.spec.hardware),
            nodes=nodes,
            managed=managed,
            jitter=self._jitter(),
            shutting_down=shutting_down,
        )

    def _fetch(self, endpoint: Endpoint, model: Model | None, lack: LaunchRefused | None) -> Fetch:
        if model is not None:
            return self._cache.status(model)
        code, error = (lack.code, lack.message) if lack is not None else (None, None)
        return Fetch(endpoint.spec.model, FetchState.FAILED, error_code=code, error=error, retryable=False)

    async def _replica(self, row: Replica, model: Model | None, *, managed: bool) -> ReplicaFacts:
        proof = self._prober.proof(row.id)
        observed = await self._runtime.status(row.id) if managed else _external(row, model, proof)
        failure = None
        if observed is not None and observed.state in (RuntimeState.EXITED, RuntimeState.LOST):
            tail = tuple(await self._runtime.logs(row.id, 50)) if managed else ()
            failure = _explain(observed, model, tail)
        elif observed is not None and observed.state is RuntimeState.STARTING:
            observed = replace(observed, log_tail=tuple(await self._runtime.logs(row.id, 20)))
        drained = self._publisher.drained_at(row.id)
        table = self._publisher.table
        in_flight = None
        if row.state is ReplicaState.DRAINING and drained is not None:
            in_flight = self._gateways.in_flight(row.id, table.term, drained)
        elif row.state is ReplicaState.READY:
            in_flight = self._gateways.load(row.id)
        return ReplicaFacts(
            replica=row,
            observed=observed,
            proven=proof is not None and proof.proven,
            probing=None if proof is None else proof.last,
            watched=proof is not None and proof.watched,
            unresponsive_for=None if proof is None else proof.unresponsive_for,
            heard_ago=self._gateways.heard(row.id),
            failure=failure,
            in_flight=in_flight,
        )


def _lack(model_id: str, model: Model | None) -> LaunchRefused | None:
    """What an endpoint's model lacks to be run at all; None when nothing."""
    if model is None:
        message = f"{model_id} is no longer in the catalog; add it again with `roost models add`."
    elif model.engine not in names():
        message = f"{model_id} runs on the engine {model.engine!r}, which is not installed; install its plug-in again."
    else:
        return None
    return LaunchRefused(message, code="source_missing")


def _managed(model: Model) -> bool:
    return ask(model, lambda engine: engine.capabilities(model).managed)


def _external(row: Replica, model: Model | None, proof: Proof | None) -> RuntimeStatus:
    """The status of a server that Roost does not run: there until the row is told to stop, or it cannot be reached."""
    if proof is not None and proof.lost:
        return RuntimeStatus(row.id, RuntimeState.EXITED, exit=ExitInfo(cause=proof.last))
    if row.stop_requested_at is not None or model is None or model.url is None:
        return RuntimeStatus(row.id, RuntimeState.EXITED, exit=ExitInfo(cause="detached"))
    return RuntimeStatus(row.id, RuntimeState.READY, address=model.url, started_at=row.created_at)


def _explain(observed: RuntimeStatus, model: Model | None, tail: tuple[str, ...]) -> Failure:
    ended = observed.exit or ExitInfo(cause="its node was lost" if observed.state is RuntimeState.LOST else None)
    if not ended.log_tail:
        ended = replace(ended, log_tail=tail)
    if model is None:
        return Failure("engine_crashed", "The engine ended.", log_tail=ended.log_tail)
    try:
        return ask(model, lambda engine: _explained(engine, ended))
    except LaunchRefused as error:
        return Failure(error.code, error.message, retryable=error.retryable, log_tail=ended.log_tail)


def _explained(engine: Engine, ended: ExitInfo) -> Failure:
    failure = engine.explain(ended)
    return failure if failure.log_tail else replace(failure, log_tail=ended.log_tail)
