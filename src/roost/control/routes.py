"""The routing table's publisher: builds it from the store when told that something changed, and lets watchers wait
for the next version. Called by the plane (changes), the internal API (watch) and the observer (drain versions)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from roost.control.engine_boundary import ask
from roost.domain.errors import LaunchRefused
from roost.domain.hardware import Hardware
from roost.domain.model import Fetch, Model
from roost.domain.routing import RoutingTable
from roost.engines.base import Capabilities, Engine
from roost.engines.registry import names
from roost.policy.routing import EngineTraits, route_endpoints, route_keys
from roost.policy.sizing import Demand, cached_tokens, footprint_of
from roost.store.base import Store


class RoutePublisher:
    """The current table and its versions.

    ``model_of`` resolves a model id to its catalog entry (None: unknown), ``fetch_of`` tells the condition of its
    weights. ``refresh`` is called by one task at a time; ``shut_down`` may be called beside it. ``hardware`` are the
    configurations by id, as last seen.
    """

    def __init__(
        self, store: Store, model_of: Callable[[str], Model | None], fetch_of: Callable[[Model], Fetch]
    ) -> None:
        self._store = store
        self._model_of = model_of
        self._fetch_of = fetch_of
        self.hardware: Mapping[str, Hardware] = {}
        self._table = RoutingTable("", 0, 0)
        self._newer = asyncio.Condition()
        self._drained: dict[str, int] = {}

    @property
    def table(self) -> RoutingTable:
        """The newest complete table; version 0 until ``start``."""
        return self._table

    async def start(self, installation: str, term: int) -> None:
        """Begin a new term with a first complete table."""
        self._table = RoutingTable(installation, term, 0)
        await self.refresh()

    async def refresh(self) -> bool:
        """Build the table anew; publish it as the next version if anything changed. Returns whether it did."""
        endpoints = await self._store.endpoints()
        replicas = await self._store.replicas()
        keys = await self._store.keys()
        traits: dict[str, EngineTraits] = {}
        for endpoint in endpoints:
            model = self._model_of(endpoint.spec.model)
            if model is not None and model.engine in names():
                hardware = self.hardware.get(endpoint.spec.hardware)
                found = traits_of(model, self._fetch_of(model), hardware)
                if found is not None:
                    traits[endpoint.id] = found
        routes, digests = route_endpoints(endpoints, replicas, traits), route_keys(keys)
        async with self._newer:
            old = self._table
            same = bool(old.version) and (routes, digests) == (old.endpoints, old.keys)
            version = old.version if same else old.version + 1
            serving = {r.id for e in routes for r in e.replicas if not r.draining}
            self._drained = {row.id: self._drained.get(row.id, version) for row in replicas if row.id not in serving}
            if same:
                return False
            self._table = replace(old, version=version, endpoints=routes, keys=digests)
            self._newer.notify_all()
        return True

    async def shut_down(self) -> None:
        """Publish that the server is shutting down: gateways refuse what they would hold. It holds for all later
        versions of the term; a second call changes nothing."""
        async with self._newer:
            old = self._table
            if not old.shutting_down:
                self._table = replace(old, version=old.version + 1, shutting_down=True)
                self._newer.notify_all()

    def drained_at(self, replica_id: str) -> int | None:
        """The first version of this term in which the replica gets no new requests; None while it still does."""
        return self._drained.get(replica_id)

    async def wait_newer(self, version: int) -> RoutingTable:
        """Wait until the table's version is above ``version`` and return the table."""
        async with self._newer:
            await self._newer.wait_for(lambda: self._table.version > version)
            return self._table


def traits_of(model: Model, fetch: Fetch | None = None, hardware: Hardware | None = None) -> EngineTraits | None:
    """What the gateway must know of ``model``'s engine; None when the engine cannot tell: it serves nobody then.
    ``fetch`` is the condition of its weights, ``hardware`` what its replicas run on (None: unknown)."""
    try:
        return ask(model, lambda engine: _traits(engine, model, fetch, hardware))
    except LaunchRefused:
        return None


def _traits(engine: Engine, model: Model, fetch: Fetch | None, hardware: Hardware | None) -> EngineTraits:
    capabilities = engine.capabilities(model)
    return EngineTraits(
        engine=model.engine,
        served_model=None if capabilities.any_model_name else capabilities.served_model or model.id,
        cancels_non_stream=capabilities.cancels_non_stream,
        api_key_env=model.api_key_env,
        slots=capabilities.slots,
        type=model.type,
        context_length=model.context_length if capabilities.managed else None,
        dialect=capabilities.dialect,
        speculation_spoils_logprobs=capabilities.speculation_spoils_logprobs,
        can_continue=capabilities.can_continue,
        health_path=capabilities.health_path,
        usage_on_request=capabilities.usage_on_request,
        cache_tokens=_cache_tokens(capabilities, model, fetch, hardware),
        cache_whole=capabilities.keeps_prompts_whole,
    )


def _cache_tokens(
    capabilities: Capabilities, model: Model, fetch: Fetch | None, hardware: Hardware | None
) -> int | None:
    # What an engine without slots, or one that somebody else runs, or one that stands in for another keeps is unknown.
    if capabilities.memory is None or capabilities.slots is None or not capabilities.managed or capabilities.stands_in:
        return None
    footprint = footprint_of(model, fetch) if fetch is not None else model.footprint
    return cached_tokens(Demand(footprint, model.context_length, capabilities.slots, capabilities.memory), hardware)
