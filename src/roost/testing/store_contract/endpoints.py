"""The store contract: endpoints and their specs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from roost.domain.endpoint import Endpoint, Progress, StateReason
from roost.domain.errors import Conflict, NotFound, VersionConflict
from roost.domain.lifecycle import DesiredState, State
from roost.domain.replica import ReplicaState
from roost.store.base import Store
from roost.testing.builders import make_endpoint, make_event, make_replica, make_spec
from roost.testing.clock import START
from roost.testing.store_contract.base import (
    LATER,
    WRITERS,
    StoreFixtures,
    change,
    kinds,
)


class EndpointContract(StoreFixtures):
    """Endpoints and specs."""

    # Endpoints

    async def test_an_endpoint_reads_back_equal(self, store: Store) -> None:
        endpoint = make_endpoint(
            inactive_timeout=timedelta(minutes=90, microseconds=1),
            availability_zone="zone-b",
            zone_required=True,
            disable_speculative_decoding=True,
            start_requests=7,
            desired_state=DesiredState.STOPPED,
            state=State.ERROR,
            reason=StateReason("engine_crashed", "It crashed.", "Try again.", "loading", LATER, LATER, ("a", "b")),
            progress=Progress("fetching", 12.5, 5, 2**40),
            failures=3,
            failures_of=2,
            next_attempt_at=LATER,
            gave_up=True,
            proven=True,
            changed_at=LATER,
        )
        await store.insert_endpoint(endpoint, [])
        assert await store.endpoint(endpoint.id) == endpoint
        assert await store.endpoint_by_name(endpoint.name) == endpoint

    @pytest.mark.parametrize("timeout", [None, timedelta(0), timedelta(minutes=1)])
    async def test_no_timeout_and_a_timeout_of_zero_differ(self, store: Store, timeout: timedelta | None) -> None:
        await store.insert_endpoint(make_endpoint(inactive_timeout=timeout), [])
        found = await store.endpoint(make_endpoint().id)
        assert found is not None
        assert found.spec.inactive_timeout == timeout

    async def test_unknown_endpoints_are_none(self, store: Store) -> None:
        assert await store.endpoint("endpoint-0") is None
        assert await store.endpoint_by_name("nobody/nothing") is None

    async def test_an_id_is_used_once(self, store: Store) -> None:
        await store.insert_endpoint(make_endpoint(1), [])
        with pytest.raises(Conflict):
            await store.insert_endpoint(make_endpoint(2, id=make_endpoint(1).id), [make_event()])
        assert await store.endpoints() == [make_endpoint(1)]
        assert await store.events() == []

    async def test_a_name_is_used_once_even_after_its_endpoint_is_gone(self, store: Store) -> None:
        first = make_endpoint(1)
        again = make_endpoint(2, name=first.name)
        await store.insert_endpoint(first, [])
        with pytest.raises(Conflict, match=first.name):
            await store.insert_endpoint(again, [])
        await store.mark_deleted(first.id, LATER, [])
        with pytest.raises(Conflict):
            await store.insert_endpoint(again, [])
        await store.purge_endpoint(first.id, [])
        with pytest.raises(Conflict):
            await store.insert_endpoint(again, [make_event()])
        assert await store.events() == []

    async def test_one_of_many_inserts_of_a_name_wins(self, store: Store) -> None:
        rivals = [make_endpoint(number, name="roost/one") for number in range(1, WRITERS + 1)]
        results = await asyncio.gather(
            *(store.insert_endpoint(rival, [make_event(number)]) for number, rival in enumerate(rivals)),
            return_exceptions=True,
        )
        assert sum(result is None for result in results) == 1
        assert sum(isinstance(result, Conflict) for result in results) == WRITERS - 1
        assert len(await store.endpoints()) == len(await store.events()) == 1

    async def test_fifty_inserts_at_once(self, store: Store) -> None:
        endpoints = [make_endpoint(number) for number in range(1, 51)]
        await asyncio.gather(
            *(store.insert_endpoint(endpoint, [make_event(n)]) for n, endpoint in enumerate(endpoints, 1))
        )
        assert await store.endpoints() == endpoints[::-1]
        assert {event.id for event in await store.events()} == {make_event(n).id for n in range(1, 51)}

    async def test_endpoints_come_newest_first_then_by_id(self, store: Store) -> None:
        same_time = {"created_at": START, "updated_at": START}
        old, low, high = make_endpoint(9, **same_time), make_endpoint(1), make_endpoint(2, created_at=LATER)
        low = replace(low, created_at=LATER)
        for endpoint in (low, old, high):
            await store.insert_endpoint(endpoint, [])
        assert [endpoint.id for endpoint in await store.endpoints()] == [high.id, low.id, old.id]

    async def test_endpoints_of_one_owner(self, store: Store) -> None:
        for number, owner in enumerate(["ann", "bob", "ann", "Ann"]):
            await store.insert_endpoint(make_endpoint(number, owner=owner), [])
        found = await store.endpoints(owner="ann")
        assert [endpoint.id for endpoint in found] == [make_endpoint(2).id, make_endpoint(0).id]
        assert await store.endpoints(owner="nobody") == []

    # Specs

    async def test_a_spec_is_replaced(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [make_event(1)])
        spec = make_spec(display_name="new", inactive_timeout=None)
        updated = await store.update_spec(endpoint.id, 1, spec, LATER, [make_event(2, kind="endpoint.updated")])
        assert updated == replace(endpoint, spec=spec, spec_version=2, updated_at=LATER)
        assert await store.endpoint(endpoint.id) == updated
        assert await kinds(store) == ["endpoint.changed", "endpoint.updated"]

    async def test_a_spec_of_another_version_is_not_replaced(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        for version in (0, 2):
            with pytest.raises(VersionConflict):
                await store.update_spec(endpoint.id, version, make_spec(), LATER, [make_event()])
        assert await store.endpoint(endpoint.id) == endpoint
        assert await store.events() == []

    async def test_a_spec_of_no_endpoint_or_a_deleted_one_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.update_spec("endpoint-0", 1, make_spec(), LATER, [make_event()])
        await store.insert_endpoint(make_endpoint(), [])
        await store.mark_deleted(make_endpoint().id, LATER, [])
        with pytest.raises(NotFound):
            await store.update_spec(make_endpoint().id, 1, make_spec(), LATER, [make_event()])
        assert await store.events() == []

    async def test_exactly_one_of_many_spec_writers_wins(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        results = await asyncio.gather(
            *(
                store.update_spec(endpoint.id, 1, make_spec(display_name=f"{n}"), LATER, [make_event(n)])
                for n in range(WRITERS)
            ),
            return_exceptions=True,
        )
        winners = [result for result in results if isinstance(result, Endpoint)]
        assert sum(isinstance(result, VersionConflict) for result in results) == WRITERS - 1
        assert [await store.endpoint(endpoint.id)] == winners
        assert [event.id for event in await store.events()] == [make_event(int(winners[0].spec.display_name)).id]

    async def test_spec_and_status_have_versions_of_their_own(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        await asyncio.gather(
            store.update_spec(endpoint.id, 1, make_spec(display_name="new"), LATER, []),
            store.apply(change(endpoint)),
        )
        found = await store.endpoint(endpoint.id)
        assert found is not None
        assert (found.spec_version, found.status_version) == (2, 2)
        assert (found.spec.display_name, found.status.state) == ("new", State.STARTING)

    # Tombstones

    async def test_a_deleted_endpoint_is_a_tombstone(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        await store.mark_deleted(endpoint.id, LATER, [make_event()])
        tombstone = replace(endpoint, deleted_at=LATER, updated_at=LATER)
        assert await store.endpoints() == []
        assert await store.endpoints(deleted=True) == [tombstone]
        assert await store.endpoints(owner=endpoint.owner, deleted=True) == [tombstone]
        assert await store.endpoint(endpoint.id) == tombstone
        assert await store.endpoint_by_name(endpoint.name) == tombstone
        assert len(await store.events()) == 1

    async def test_deleting_twice_changes_nothing(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        await store.mark_deleted(endpoint.id, LATER, [make_event(1)])
        await store.mark_deleted(endpoint.id, LATER + timedelta(days=1), [make_event(2)])
        found = await store.endpoint(endpoint.id)
        assert found is not None
        assert found.deleted_at == LATER
        assert [event.id for event in await store.events()] == [make_event(1).id]

    async def test_deleting_what_never_was_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.mark_deleted("endpoint-0", LATER, [make_event()])
        assert await store.events() == []

    async def test_a_tombstone_is_still_torn_down(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        running = await store.apply(change(endpoint, upsert_replicas=(make_replica(),)))
        await store.mark_deleted(endpoint.id, LATER, [])
        draining = make_replica(state=ReplicaState.DRAINING)
        await store.apply(change(running, upsert_replicas=(draining,)))
        assert await store.replicas() == [draining]

    async def test_purging_finishes_a_tombstone(self, store: Store) -> None:
        one, two = make_endpoint(1), make_endpoint(2)
        for number, endpoint in enumerate((one, two), 1):
            await store.insert_endpoint(endpoint, [])
            await store.apply(change(endpoint, upsert_replicas=(make_replica(number, endpoint_id=endpoint.id),)))
        await store.mark_deleted(one.id, LATER, [])
        await store.purge_endpoint(one.id, [make_event(1, kind="endpoint.purged")])
        await store.purge_endpoint(one.id, [make_event(2)])
        assert [endpoint.id for endpoint in await store.endpoints(deleted=True)] == [two.id]
        assert await store.endpoint_by_name(one.name) is not None
        assert await store.replicas() == [make_replica(2, endpoint_id=two.id)]
        assert await kinds(store) == ["endpoint.purged"]

    async def test_a_purged_endpoint_takes_no_change(self, store: Store) -> None:
        endpoint = make_endpoint()
        await store.insert_endpoint(endpoint, [])
        await store.mark_deleted(endpoint.id, LATER, [])
        await store.purge_endpoint(endpoint.id, [])
        with pytest.raises(NotFound):
            await store.apply(change(endpoint, upsert_replicas=(make_replica(),)))
        assert await store.replicas() == []

    async def test_only_tombstones_are_purged(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.purge_endpoint("endpoint-0", [])
        await store.insert_endpoint(make_endpoint(), [])
        with pytest.raises(NotFound):
            await store.purge_endpoint(make_endpoint().id, [make_event()])
        assert await store.endpoints() == [make_endpoint()]
        assert await store.events() == []
