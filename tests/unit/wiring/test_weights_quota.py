"""Weights in use are those of endpoints that are there; what goes is recorded."""

from __future__ import annotations

from roost.store.memory import MemoryStore
from roost.testing.builders import make_endpoint
from roost.testing.clock import FakeClock, SeededUuids
from roost.wiring.weights_quota import weights_quota


async def test_models_are_in_use_until_their_endpoints_are_gone() -> None:
    store, clock = MemoryStore(), FakeClock()
    await store.open()
    quota = weights_quota(store, 5, clock.now, SeededUuids())
    endpoint = make_endpoint(1)
    await store.insert_endpoint(endpoint, [])
    spec = endpoint.spec

    assert (quota.size, set(await quota.in_use())) == (5, {spec.model})
    await store.mark_deleted(endpoint.id, clock.now(), [])
    assert set(await quota.in_use()) == {spec.model}
    await store.purge_endpoint(endpoint.id, [])
    assert set(await quota.in_use()) == set()


async def test_an_eviction_is_an_event() -> None:
    store, clock = MemoryStore(), FakeClock()
    await store.open()

    await weights_quota(store, 5, clock.now, SeededUuids()).evicted("acme/old", "used longest ago")

    (event,) = await store.events()
    assert (event.kind, event.actor, event.reason) == ("model.evicted", "system", "used longest ago")
    assert event.data == {"model": "acme/old"}
