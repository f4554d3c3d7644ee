"""The services put together. Called by the composition root."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from roost.config import Settings
from roost.domain.hardware import Node
from roost.domain.ids import UuidSource
from roost.domain.log import ReplicaLog
from roost.domain.model import Model
from roost.engines.base import Capabilities
from roost.engines.registry import engine
from roost.models.base import Cache
from roost.services.catalog import Models
from roost.services.endpoints import EndpointService
from roost.services.events import EventService
from roost.services.hardware import HardwareService
from roost.services.keys import KeyService
from roost.services.logs import LogService, LogsOf
from roost.services.models import ModelService
from roost.services.recent_creates import RecentCreates
from roost.services.usage import UsageService
from roost.store.base import Store


@dataclass(frozen=True, slots=True)
class Services:
    """All use cases."""

    endpoints: EndpointService
    hardware: HardwareService
    models: ModelService
    keys: KeyService
    events: EventService
    logs: LogService
    recent_creates: RecentCreates
    usage: UsageService


def build_services(
    *,
    store: Store,
    catalog: Models,
    cache: Cache,
    capacity: Callable[[], Awaitable[Sequence[Node]]],
    settings: Settings,
    now: Callable[[], datetime],
    uuids: UuidSource,
    wake: Callable[[str], None],
    wake_routes: Callable[[], None],
    token: Callable[[], str] = secrets.token_urlsafe,
    capabilities: Callable[[Model], Capabilities] | None = None,
    logs_of: LogsOf | None = None,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Services:
    """Put the services together.

    ``wake`` puts an endpoint's id on control's queue, ``wake_routes`` has the routing table rebuilt (keys changed).
    ``token`` makes the random part of API keys; ``capabilities`` defaults to what the engines' registry says.
    ``logs_of`` gives the output of an endpoint's replicas (None: there is none), ``wait`` passes seconds.
    """
    minutes = settings.inactive_timeout_minutes
    hardware = HardwareService(
        capacity=capacity,
        prices=settings.hardware,
        catalog=catalog,
        cache=cache,
        capabilities=capabilities or _registered_capabilities,
        now=now,
    )
    endpoints = EndpointService(
        store=store,
        catalog=catalog,
        hardware=hardware,
        default_timeout=timedelta(minutes=minutes) if minutes else None,
        now=now,
        uuids=uuids,
        wake=wake,
    )
    return Services(
        endpoints=endpoints,
        hardware=hardware,
        models=ModelService(catalog, cache, store),
        keys=KeyService(store, now, uuids, token, wake_routes),
        events=EventService(store),
        logs=LogService(endpoints, store, logs_of or _no_logs, now, wait),
        recent_creates=RecentCreates(store, now),
        usage=UsageService(store, now),
    )


def _registered_capabilities(model: Model) -> Capabilities:
    return engine(model.engine).capabilities(model)


async def _no_logs(endpoint_id: str, tail: int) -> Sequence[ReplicaLog]:
    return ()
