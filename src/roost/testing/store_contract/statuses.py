"""The store contract: what a reconciler pass writes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from roost.domain.endpoint import Endpoint
from roost.domain.errors import Conflict, NotFound, VersionConflict
from roost.domain.lifecycle import State
from roost.domain.replica import Failure, ReplicaState
from roost.store.base import Store
from roost.testing.builders import make_endpoint, make_event, make_replica, make_status
from roost.testing.clock import START
from roost.testing.store_contract.base import (
    LATER,
    WRITERS,
    StoreFixtures,
    change,
)


class StatusContract(StoreFixtures):
    """Statuses and replicas."""

    # Statuses and replicas

    async def test_a_change_writes_everything(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        first, second = make_replica(1), make_replica(2)
        result = await store.apply(change(endpoint, upsert_replicas=(second, first), events=(make_event(),)))
        assert result == replace(endpoint, status=make_status(state=State.STARTING), status_version=2)
        assert await store.endpoint(endpoint.id) == result
        assert await store.replicas() == [first, second]
        assert len(await store.events()) == 1

    async def test_a_change_replaces_and_removes_replicas(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        result = await store.apply(change(endpoint, upsert_replicas=(make_replica(1), make_replica(2))))
        ready = make_replica(
            2,
            state=ReplicaState.FAILED,
            address="unix:/run/replica.sock",
            slots=4,
            ready_at=LATER,
            deadline=LATER,
            stop_requested_at=LATER,
            reason="it broke",
            failure=Failure("oom", "Out of memory.", "Buy more.", False, ("line 1", "line 2")),
        )
        gone = (make_replica(1).id, "replica-never-there")
        await store.apply(change(result, upsert_replicas=(ready,), delete_replicas=gone))
        assert await store.replicas() == [ready]

    async def test_a_lost_change_writes_nothing(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        before = await store.apply(change(endpoint, upsert_replicas=(make_replica(1),)))
        lost = change(endpoint, upsert_replicas=(make_replica(2),), delete_replicas=(make_replica(1).id,))
        with pytest.raises(VersionConflict):
            await store.apply(replace(lost, events=(make_event(),)))
        assert await store.endpoint(endpoint.id) == before
        assert await store.replicas() == [make_replica(1)]
        assert await store.events() == []

    async def test_a_change_that_fails_in_its_last_step_writes_nothing(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [make_event(1)])
        with pytest.raises(Conflict):
            await store.apply(
                change(endpoint, upsert_replicas=(make_replica(),), events=(make_event(2), make_event(1)))
            )
        assert await store.endpoint(endpoint.id) == endpoint
        assert await store.replicas() == []
        assert [event.id for event in await store.events()] == [make_event(1).id]

    async def test_exactly_one_of_many_status_writers_wins(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        results = await asyncio.gather(
            *(
                store.apply(change(endpoint, upsert_replicas=(make_replica(n),), events=(make_event(n),)))
                for n in range(WRITERS)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Endpoint) for result in results) == 1
        assert sum(isinstance(result, VersionConflict) for result in results) == WRITERS - 1
        assert len(await store.replicas()) == len(await store.events()) == 1

    async def test_a_change_of_no_endpoint_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.apply(change(make_endpoint(), upsert_replicas=(make_replica(),), events=(make_event(),)))
        assert await store.replicas() == []
        assert await store.events() == []

    async def test_a_change_reaches_no_other_endpoint(self, store: Store) -> None:
        one, two = make_endpoint(1), make_endpoint(2)
        await store.insert_endpoint(one, [])
        await store.insert_endpoint(two, [])
        await store.apply(change(one, upsert_replicas=(make_replica(1),)))
        with pytest.raises(ValueError, match="belongs to"):
            await store.apply(change(two, upsert_replicas=(make_replica(2),)))
        with pytest.raises(Conflict):
            await store.apply(change(two, upsert_replicas=(make_replica(1, endpoint_id=two.id),)))
        await store.apply(change(two, delete_replicas=(make_replica(1).id,)))
        assert await store.replicas() == [make_replica(1)]
        assert await store.replicas(one.id) == [make_replica(1)]
        assert await store.replicas(two.id) == []

    async def test_replicas_come_oldest_first_then_by_id(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        old, low, high = make_replica(9, created_at=START), make_replica(1, created_at=LATER), make_replica(2)
        high = replace(high, created_at=LATER)
        await store.apply(change(endpoint, upsert_replicas=(high, old, low)))
        assert await store.replicas(endpoint.id) == [old, low, high]
