"""The store contract: the installation, API keys, models and events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from roost.domain.creation import Delivery
from roost.domain.errors import BadRequest, Conflict, NotFound
from roost.domain.key import KeyLimits, Role
from roost.domain.model import Footprint, Source
from roost.policy.creates import WINDOW
from roost.store.base import Store
from roost.testing.builders import make_creation, make_endpoint, make_event, make_key, make_model
from roost.testing.clock import START
from roost.testing.store_contract.base import (
    LATER,
    WRITERS,
    Connect,
    StoreFixtures,
    kinds,
)


class RecordContract(StoreFixtures):
    """Everything that is not an endpoint."""

    # Opening

    async def test_an_unopened_store_says_so(self, connect: Connect) -> None:
        store = connect()
        with pytest.raises(RuntimeError, match="not open"):
            await store.endpoints()
        with pytest.raises(RuntimeError, match="not open"):
            await store.append_events([make_event()])

    async def test_opening_and_closing_twice_is_harmless(self, store: Store) -> None:
        await store.insert_endpoint(make_endpoint(), [])
        await store.open()
        assert await store.endpoints() == [make_endpoint()]
        await store.close()
        await store.close()

    # The installation and its term

    async def test_the_first_installation_id_stays(self, store: Store) -> None:
        assert await store.installation("first") == "first"
        assert await store.installation("second") == "first"

    async def test_terms_count_up_from_one(self, store: Store) -> None:
        assert [await store.next_term() for _ in range(3)] == [1, 2, 3]

    async def test_terms_are_never_given_twice(self, store: Store) -> None:
        terms = await asyncio.gather(*(store.next_term() for _ in range(WRITERS)))
        assert sorted(terms) == list(range(1, WRITERS + 1))

    # API keys

    async def test_a_key_reads_back_equal(self, store: Store) -> None:
        key = make_key(role=Role.INFERENCE, expires_at=LATER)
        await store.insert_key(key, [make_event()])
        assert await store.key_by_digest(key.digest) == key
        assert await store.keys() == [key]
        assert await store.key_by_digest("0" * 64) is None
        assert len(await store.events()) == 1

    async def test_a_key_s_name_and_list_read_back(self, store: Store) -> None:
        keys = [make_key(1, name="Büro 🐓", endpoints=("endpoint-b", "endpoint-a")), make_key(2, endpoints=())]
        for key in keys:
            await store.insert_key(key, [])
        assert await store.keys() == keys
        assert await store.revoke_key(keys[0].id, LATER, []) == replace(keys[0], revoked_at=LATER)

    async def test_a_key_s_limits_read_back(self, store: Store) -> None:
        key = make_key(limits=KeyLimits(1, 2**40, 3))
        await store.insert_key(key, [])
        assert await store.keys() == [key]

    async def test_a_key_s_limits_change_one_by_one(self, store: Store) -> None:
        await store.insert_key(make_key(1, limits=KeyLimits(1, 2, 3)), [])
        await store.insert_key(make_key(2), [])
        changed = await store.limit_key(
            make_key(1).id, {"requests_per_minute": 10, "tokens_per_minute": None}, [make_event()]
        )
        assert changed == make_key(1, limits=KeyLimits(10, None, 3))
        assert await store.limit_key(changed.id, {}, []) == changed
        assert await store.keys() == [changed, make_key(2)]
        assert [event.id for event in await store.events()] == [make_event().id]

    async def test_limits_of_no_key_and_of_a_revoked_one_cannot_change(self, store: Store) -> None:
        await store.insert_key(make_key(revoked_at=LATER), [])
        with pytest.raises(BadRequest) as raised:
            await store.limit_key(make_key().id, {"concurrency": 1}, [make_event()])
        assert raised.value.code == "key_revoked"
        with pytest.raises(NotFound):
            await store.limit_key("key-0", {"concurrency": 1}, [make_event()])
        assert await store.keys() == [make_key(revoked_at=LATER)]
        assert await store.events() == []

    async def test_key_ids_and_digests_are_used_once(self, store: Store) -> None:
        await store.insert_key(make_key(1), [])
        for rival in (make_key(2, id=make_key(1).id), make_key(2, digest=make_key(1).digest)):
            with pytest.raises(Conflict) as raised:
                await store.insert_key(rival, [make_event()])
            assert rival.digest not in raised.value.message
        assert await store.keys() == [make_key(1)]
        assert await store.events() == []

    async def test_keys_come_oldest_first(self, store: Store) -> None:
        for number in (2, 3, 1):
            await store.insert_key(make_key(number), [])
        assert await store.keys() == [make_key(1), make_key(2), make_key(3)]

    async def test_a_key_is_revoked_once(self, store: Store) -> None:
        await store.insert_key(make_key(1), [])
        await store.insert_key(make_key(2), [])
        revoked = await store.revoke_key(make_key(1).id, LATER, [make_event(1)])
        assert revoked == make_key(1, revoked_at=LATER)
        assert await store.key_by_digest(revoked.digest) == revoked
        again = await store.revoke_key(revoked.id, LATER + timedelta(days=1), [make_event(2)])
        assert again == revoked
        assert await store.keys() == [revoked, make_key(2)]
        assert [event.id for event in await store.events()] == [make_event(1).id]

    async def test_the_last_admin_key_is_kept_when_asked(self, store: Store) -> None:
        usable, expired, revoked = make_key(1), make_key(2, expires_at=LATER), make_key(3)
        member = make_key(4, role=Role.MEMBER)
        for key in (usable, expired, revoked, member):
            await store.insert_key(key, [])
        await store.revoke_key(revoked.id, LATER, [], keep_admin=True)
        with pytest.raises(BadRequest) as raised:
            await store.revoke_key(usable.id, LATER, [make_event()], keep_admin=True)
        assert raised.value.code == "last_admin_key"
        for key in (expired, revoked, member):
            await store.revoke_key(key.id, LATER, [], keep_admin=True)
        assert [key.id for key in await store.keys() if key.revoked_at is None] == [usable.id]
        assert await store.events() == []
        assert (await store.revoke_key(usable.id, LATER, [])).revoked_at == LATER

    async def test_revoking_all_admin_keys_at_once_leaves_one(self, store: Store) -> None:
        keys = [make_key(number) for number in range(1, WRITERS + 1)]
        for key in keys:
            await store.insert_key(key, [])
        revoking = (store.revoke_key(key.id, LATER, [], keep_admin=True) for key in keys)
        results = await asyncio.gather(*revoking, return_exceptions=True)
        assert sum(isinstance(result, BadRequest) for result in results) == 1
        assert sum(key.revoked_at is None for key in await store.keys()) == 1

    async def test_revoking_an_unknown_key_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.revoke_key("key-0", LATER, [make_event()])
        assert await store.events() == []

    # Creations

    async def test_a_creation_is_kept_with_its_endpoint(self, store: Store) -> None:
        creations = [
            make_creation(2, idempotency_key="näme", attempt=3, delivery=Delivery.LOST),
            make_creation(1, attempt=None),
        ]
        for number, creation in zip((2, 1), creations, strict=True):
            await store.insert_endpoint(make_endpoint(number), [], creation)
        await store.insert_endpoint(make_endpoint(3), [])
        assert await store.creations(START) == creations[::-1]
        assert await store.creations(creations[0].at) == creations[:1]

    async def test_an_endpoint_that_is_refused_keeps_no_creation(self, store: Store) -> None:
        await store.insert_endpoint(make_endpoint(1), [])
        with pytest.raises(Conflict):
            await store.insert_endpoint(make_endpoint(1), [], make_creation(1))
        with pytest.raises(ValueError, match="creation"):
            await store.insert_endpoint(make_endpoint(2), [], make_creation(1))
        assert await store.creations(START) == []

    async def test_a_creation_is_replaced_or_left_out(self, store: Store) -> None:
        await store.insert_endpoint(make_endpoint(1), [], make_creation(1))
        changed = make_creation(1, answer="another", attempt=1, delivery=Delivery.DELIVERED, told_at=LATER)
        await store.update_creation(changed)
        await store.update_creation(make_creation(2))
        assert await store.creations(START) == [changed]

    async def test_a_deleted_endpoint_has_no_creation(self, store: Store) -> None:
        await store.insert_endpoint(make_endpoint(1), [], make_creation(1))
        await store.mark_deleted(make_endpoint(1).id, LATER, [])
        assert await store.creations(START) == []

    async def test_creations_that_nothing_can_mean_any_more_go(self, store: Store) -> None:
        late = make_creation(3, at=START + timedelta(seconds=1) + WINDOW)
        for number, creation in (
            (1, make_creation(1, at=START)),
            (2, make_creation(2, at=late.at - WINDOW)),
            (3, late),
        ):
            await store.insert_endpoint(make_endpoint(number), [], creation)
        assert [creation.endpoint_id for creation in await store.creations(START)] == [
            make_endpoint(2).id,
            make_endpoint(3).id,
        ]

    # Models

    async def test_models_are_added_replaced_and_listed_by_id(self, store: Store) -> None:
        full = make_model(
            2,
            source=Source("pypi", "weights==1.0", "weights/model.gguf", "ab" * 32, 2**40),
            alias="two",
            license="Apache-2.0",
            context_length=131072,
            slots=4,
            url="https://upstream/v1",
            served_model="two",
            footprint=Footprint(2**40, 327_680),
            api_key_env="UPSTREAM_KEY",
            options={"flag": "value", "": ""},
        )
        # Capital letters sort before small ones, whatever the machine's language.
        upper = make_model(3, id="Test/model")
        for model in (full, make_model(1), upper, make_model(1, display_name="again", source=None)):
            await store.put_model(model, [])
        assert await store.models() == [upper, make_model(1, display_name="again", source=None), full]

    async def test_a_model_is_deleted(self, store: Store) -> None:
        await store.put_model(make_model(1), [make_event(1, kind="model.added")])
        await store.put_model(make_model(2), [])
        await store.delete_model(make_model(1).id, [make_event(2, kind="model.removed")])
        assert await store.models() == [make_model(2)]
        assert await kinds(store) == ["model.added", "model.removed"]

    async def test_deleting_an_unknown_model_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound) as raised:
            await store.delete_model("test/nothing", [make_event()])
        assert "endpoint" not in raised.value.message
        assert await store.events() == []

    # Events

    async def test_an_event_reads_back_with_its_sequence(self, store: Store) -> None:
        event = make_event(replica_id="replica-1", data={"gpu": "0", "leer": ""}, sequence=77)
        await store.append_events([event])
        found = await store.events()
        assert found[0].sequence is not None
        assert found == [replace(event, sequence=found[0].sequence)]

    async def test_sequences_rise_by_insertion(self, store: Store) -> None:
        numbers = [5, 3, 9, 1]
        await store.append_events([make_event(number) for number in numbers[:2]])
        await store.append_events([])
        await store.append_events([make_event(number) for number in numbers[2:]])
        found = await store.events()
        assert [event.id for event in found] == [make_event(number).id for number in numbers]
        sequences = [event.sequence or 0 for event in found]
        assert sequences == sorted(set(sequences))
        assert sequences[0] >= 1

    async def test_events_are_read_in_pages(self, store: Store) -> None:
        await store.append_events([make_event(number) for number in range(1, 26)])
        seen: list[str] = []
        after = 0
        while page := await store.events(after=after, limit=10):
            assert len(page) <= 10
            seen += [event.id for event in page]
            after = page[-1].sequence or 0
        assert seen == [make_event(number).id for number in range(1, 26)]

    async def test_the_newest_events(self, store: Store) -> None:
        await store.append_events([make_event(number) for number in range(1, 6)])
        newest = await store.events(newest_first=True, limit=2)
        assert [event.id for event in newest] == [make_event(5).id, make_event(4).id]
        third = (await store.events())[2].sequence or 0
        above = await store.events(newest_first=True, after=third)
        assert [event.id for event in above] == [make_event(5).id, make_event(4).id]

    async def test_events_of_one_endpoint(self, store: Store) -> None:
        other = make_event(2, endpoint_id="endpoint-other")
        nobody = make_event(3, endpoint_id=None)
        await store.append_events([make_event(1), other, nobody, make_event(4)])
        one = await store.events(endpoint_id=make_endpoint(1).id)
        assert [event.id for event in one] == [make_event(1).id, make_event(4).id]
        assert [event.id for event in await store.events(endpoint_id="endpoint-other")] == [other.id]
        assert len(await store.events()) == 4

    async def test_limits_at_their_edges(self, store: Store) -> None:
        await store.append_events([make_event(1), make_event(2)])
        assert await store.events(limit=0) == []
        assert len(await store.events(limit=2**70, after=-(2**70))) == 2
        assert await store.events(after=2**70) == []
        with pytest.raises(ValueError, match="negative"):
            await store.events(limit=-1)

    async def test_an_event_is_recorded_once(self, store: Store) -> None:
        await store.append_events([make_event(1)])
        with pytest.raises(Conflict):
            await store.append_events([make_event(2), make_event(1)])
        with pytest.raises(Conflict):
            await store.append_events([make_event(3), make_event(3)])
        assert [event.id for event in await store.events()] == [make_event(1).id]

    async def test_concurrent_batches_are_not_mixed(self, store: Store) -> None:
        batches = [[make_event(10 * batch + n, kind=f"batch.{batch}") for n in range(5)] for batch in range(10)]
        await asyncio.gather(*(store.append_events(batch) for batch in batches))
        found = await kinds(store)
        assert all(len(set(found[start : start + 5])) == 1 for start in range(0, 50, 5))
