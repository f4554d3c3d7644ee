"""The publisher tells gateways that the server is shutting down."""

from __future__ import annotations

import asyncio

from tests.unit.control.world import WEIGHTLESS, Catalog

from roost.control.routes import RoutePublisher
from roost.store.memory import MemoryStore
from roost.testing.builders import make_endpoint
from roost.testing.cache import MemoryCache


async def test_a_shut_down_is_a_version_that_watchers_see_and_later_ones_keep() -> None:
    store = MemoryStore()
    await store.open()
    publisher = RoutePublisher(store, Catalog().get, MemoryCache().status)
    await publisher.start("installation-1", 1)
    before = publisher.table
    waiting = asyncio.create_task(publisher.wait_newer(before.version))
    await publisher.shut_down()
    async with asyncio.timeout(5):
        told = await waiting
    assert (before.shutting_down, told.shutting_down, told.version) == (False, True, before.version + 1)
    await publisher.shut_down()
    assert publisher.table is told
    assert not await publisher.refresh()
    await store.insert_endpoint(make_endpoint(model=WEIGHTLESS.id), [])
    assert await publisher.refresh()
    later = publisher.table
    assert (later.shutting_down, later.version, len(later.endpoints)) == (True, told.version + 1, 1)
    await publisher.start("installation-1", 2)
    assert not publisher.table.shutting_down


async def test_a_shut_down_amid_a_rebuild_is_not_lost() -> None:
    store = MemoryStore()
    await store.open()
    publisher = RoutePublisher(store, Catalog().get, MemoryCache().status)
    await publisher.start("installation-1", 1)
    await store.insert_endpoint(make_endpoint(model=WEIGHTLESS.id), [])
    await asyncio.gather(publisher.refresh(), publisher.shut_down())
    assert publisher.table.shutting_down
    assert len(publisher.table.endpoints) == 1
