"""The quota of the weights cache, joined to the store: which weights are in use, and the record of those that went.

Called by the composition root. It decides nothing: ``policy.eviction`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from roost.domain.event import Event
from roost.domain.ids import UuidSource, event_id
from roost.models.quota import Quota
from roost.store.base import Store


def weights_quota(store: Store, size: int | None, now: Callable[[], datetime], uuids: UuidSource) -> Quota:
    """A quota of ``size`` bytes (None: no limit) that spares what endpoints are deployed from, stopped ones and those
    that are being deleted included, and writes an event ``model.evicted`` for each model whose weights go."""

    async def in_use() -> Collection[str]:
        return {endpoint.spec.model for endpoint in await store.endpoints(deleted=True)}

    async def evicted(model_id: str, reason: str) -> None:
        event = Event(event_id(uuids()), now(), "model.evicted", "system", reason, data={"model": model_id})
        await store.append_events([event])

    return Quota(size, in_use, evicted)
