"""The store contract: texts, times and other values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from roost.domain.endpoint import StateReason
from roost.domain.errors import BadRequest, NotFound
from roost.domain.replica import Failure
from roost.store.base import StatusChange, Store
from roost.testing.builders import make_endpoint, make_event, make_key, make_model, make_replica, make_spec, make_status
from roost.testing.store_contract.base import (
    LATER,
    UNSTORABLE,
    UNUSUAL_TEXT,
    StoreFixtures,
    change,
)


class ValueContract(StoreFixtures):
    """Values come back as they went in."""

    # Values

    async def test_any_text_reads_back(self, store: Store) -> None:
        endpoint = make_endpoint(
            display_name=UNUSUAL_TEXT, reason=StateReason("code", UNUSUAL_TEXT, log_tail=(UNUSUAL_TEXT,))
        )
        replica = make_replica(reason=UNUSUAL_TEXT, failure=Failure("code", UNUSUAL_TEXT))
        await store.insert_endpoint(endpoint, [make_event(reason=UNUSUAL_TEXT, data={UNUSUAL_TEXT: UNUSUAL_TEXT})])
        await store.apply(change(endpoint, status=endpoint.status, upsert_replicas=(replica,)))
        assert await store.endpoint(endpoint.id) == replace(endpoint, status_version=2)
        assert await store.replicas() == [replica]
        (event,) = await store.events()
        assert (event.reason, event.data) == (UNUSUAL_TEXT, {UNUSUAL_TEXT: UNUSUAL_TEXT})

    async def test_names_hold_letters_of_any_language(self, store: Store) -> None:
        endpoint = make_endpoint(owner="josé🐓", name="josé🐓/モデル-1")
        await store.insert_endpoint(endpoint, [])
        assert await store.endpoint_by_name("josé🐓/モデル-1") == endpoint
        assert await store.endpoints(owner="josé🐓") == [endpoint]

    @pytest.mark.parametrize("text", UNSTORABLE, ids=["nul", "surrogate"])
    async def test_unstorable_identifiers_are_found_nowhere(self, store: Store, text: str) -> None:
        assert await store.endpoint(text) is None
        assert await store.endpoint_by_name(text) is None
        assert await store.key_by_digest(text) is None
        assert list(await store.endpoints(owner=text)) == []
        assert list(await store.replicas(text)) == []
        assert list(await store.events(endpoint_id=text)) == []
        with pytest.raises(NotFound):
            await store.update_spec(text, 1, make_spec(), LATER, [])
        with pytest.raises(NotFound):
            await store.mark_deleted(text, LATER, [])
        with pytest.raises(NotFound):
            await store.purge_endpoint(text, [])
        with pytest.raises(NotFound):
            await store.apply(StatusChange(text, 1, make_status()))
        with pytest.raises(NotFound):
            await store.revoke_key(text, LATER, [])
        with pytest.raises(NotFound):
            await store.limit_key(text, {"concurrency": 1}, [])
        with pytest.raises(NotFound):
            await store.delete_model(text, [])

    @pytest.mark.parametrize("text", UNSTORABLE, ids=["nul", "surrogate"])
    async def test_unstorable_identifiers_are_refused(self, store: Store, text: str) -> None:
        with pytest.raises(BadRequest):
            await store.insert_endpoint(make_endpoint(name=text), [])
        with pytest.raises(BadRequest):
            await store.insert_key(make_key(owner=text), [])
        with pytest.raises(BadRequest):
            await store.put_model(make_model(id=text), [])
        with pytest.raises(BadRequest):
            await store.append_events([make_event(actor=text)])

    async def test_times_come_back_in_utc(self, store: Store) -> None:
        local = datetime(2026, 7, 1, 0, 30, 0, 654321, tzinfo=timezone(timedelta(hours=5, minutes=45)))
        endpoint = make_endpoint(created_at=local, changed_at=local)
        await store.insert_endpoint(endpoint, [make_event(at=local)])
        await store.insert_key(make_key(created_at=local), [])
        await store.apply(change(endpoint, status=endpoint.status, upsert_replicas=(make_replica(created_at=local),)))
        found = await store.endpoint(endpoint.id)
        assert found is not None
        times = [
            found.created_at,
            found.status.changed_at,
            (await store.events())[0].at,
            (await store.keys())[0].created_at,
            (await store.replicas())[0].created_at,
        ]
        assert times == [local] * 5
        assert {time.tzinfo for time in times if time} == {UTC}

    async def test_times_without_a_zone_are_refused(self, store: Store) -> None:
        naive = datetime(2026, 7, 1)
        with pytest.raises(ValueError, match="no time zone"):
            await store.insert_endpoint(make_endpoint(created_at=naive), [])
        with pytest.raises(ValueError, match="no time zone"):
            await store.append_events([make_event(at=naive)])
        await store.insert_endpoint(make_endpoint(), [])
        with pytest.raises(ValueError, match="no time zone"):
            await store.mark_deleted(make_endpoint().id, naive, [])
        assert await store.endpoints() == [make_endpoint()]

    async def test_what_the_caller_changes_later_stays_outside(self, store: Store) -> None:
        data, options = {"key": "value"}, {"option": "value"}
        await store.append_events([make_event(data=data)])
        await store.put_model(make_model(options=options), [])
        data["key"] = options["option"] = "changed"
        assert [event.data for event in await store.events()] == [{"key": "value"}]
        assert [model.options for model in await store.models()] == [{"option": "value"}]
