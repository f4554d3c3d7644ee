"""The store contract: what survives."""

from __future__ import annotations

import asyncio

from roost.store.base import Store
from roost.testing.builders import make_endpoint, make_event, make_key, make_model, make_replica
from roost.testing.store_contract.base import (
    LATER,
    Connect,
    StoreFixtures,
    change,
)


class DurabilityContract(StoreFixtures):
    """Data survives the store object, and writes survive their callers."""

    async def test_everything_is_there_after_reopening(self, connect: Connect) -> None:
        first = connect()
        await first.open()
        await first.installation("here")
        await first.next_term()
        await first.insert_endpoint(make_endpoint(1), [make_event(1)])
        await first.insert_endpoint(make_endpoint(2), [make_event(2)])
        applied = await first.apply(change(make_endpoint(1), upsert_replicas=(make_replica(),)))
        await first.mark_deleted(make_endpoint(2).id, LATER, [])
        await first.insert_key(make_key(), [])
        await first.put_model(make_model(), [])
        await first.close()

        second = connect()
        await second.open()
        assert await second.installation("elsewhere") == "here"
        assert await second.next_term() == 2
        assert await second.endpoints() == [applied]
        assert len(await second.endpoints(deleted=True)) == 2
        assert await second.replicas() == [make_replica()]
        assert await second.keys() == [make_key()]
        assert await second.models() == [make_model()]
        last = (await second.events())[-1].sequence or 0
        await second.append_events([make_event(3)])
        assert [event.id for event in await second.events(after=last)] == [make_event(3).id]
        await second.close()

    async def test_cancelled_writers_leave_the_store_whole(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        for number in range(1, 31):
            current = await store.endpoint(endpoint.id)
            assert current is not None
            new = change(current, upsert_replicas=(make_replica(number),), events=(make_event(number),))
            writer = asyncio.ensure_future(store.apply(new))
            for _ in range(number):
                await asyncio.sleep(0)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            # Whatever became of the cancelled write, the next one sees all of it or nothing.
            await store.append_events([make_event(1000 + number)])
            found = await store.endpoint(endpoint.id)
            assert found is not None
            written = [event.id for event in await store.events() if event.id < make_event(1000).id]
            assert found.status_version - 1 == len(await store.replicas()) == len(written)
