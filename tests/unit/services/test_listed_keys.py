"""Keys that are for some endpoints only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.services.office import ADMIN, INFERENCE, MEMBER, Office

from roost.domain.endpoint import Endpoint
from roost.domain.errors import BadRequest, NotFound, PermissionDenied
from roost.services.access import Principal
from roost.services.endpoint_requests import Bounds, EndpointChange, EndpointDraft

DRAFT = EndpointDraft(model="test/model", hardware="1x_cpu", autoscaling=Bounds(1, 1))


async def made(office: Office, who: Principal = MEMBER) -> Endpoint:
    return await office.services.endpoints.create(who, DRAFT)


async def holder(office: Office, *endpoints: str, role: str = "member", owner: str = MEMBER.owner) -> Principal:
    keys = office.services.keys
    issued = await keys.create(ADMIN, owner=owner, role=role, expires_at=None, endpoints=endpoints)
    return await keys.authenticate(issued.secret)


async def test_a_list_takes_ids_and_names_and_keeps_each_once(office: Office) -> None:
    one, other = await made(office), await made(office)

    who = await holder(office, one.name, other.id, one.id)

    assert who.endpoints == (one.id, other.id)


async def test_a_listed_key_sees_and_changes_what_is_on_its_list(office: Office) -> None:
    one, other = await made(office), await made(office)
    endpoints, events = office.services.endpoints, office.services.events
    who = await holder(office, one.id)

    assert await endpoints.list(who) == [one]
    assert await endpoints.list(who, mine=True) == [one]
    assert await endpoints.get(who, one.name) == one
    assert (await endpoints.update(who, one.id, EndpointChange(display_name="x"))).spec.display_name == "x"
    assert await events.list(who, endpoint=one.id)
    for wanted in (other.id, other.name):
        with pytest.raises(NotFound):
            await endpoints.get(who, wanted)
        with pytest.raises(NotFound):
            await endpoints.delete(who, wanted)
        with pytest.raises(NotFound):
            await endpoints.update(who, wanted, EndpointChange(display_name="x"))
        with pytest.raises(NotFound):
            await events.list(who, endpoint=wanted)
    await endpoints.delete(who, one.id)
    assert await endpoints.list(who) == []


async def test_a_listed_key_makes_no_endpoints(office: Office) -> None:
    who = await holder(office, (await made(office)).id)

    with pytest.raises(PermissionDenied, match="permission"):
        await made(office, who)


async def test_a_listed_key_sees_no_other_key(office: Office) -> None:
    who = await holder(office, (await made(office)).id)

    assert [key.id for key in await office.services.keys.list(who)] == [who.key_id]
    with pytest.raises(NotFound):
        await office.services.keys.revoke(who, MEMBER.key_id)
    assert (await office.services.keys.revoke(who, who.key_id)).revoked_at is not None


async def test_only_endpoints_of_the_key_s_owner_can_be_listed(office: Office) -> None:
    foreign, gone = await made(office, ADMIN), await made(office)
    await office.services.endpoints.delete(MEMBER, gone.id)

    for wanted in (foreign.id, foreign.name, gone.id, "endpoint-none"):
        with pytest.raises(BadRequest, match="endpoints") as raised:
            await holder(office, wanted)
        assert (raised.value.param, raised.value.code) == ("endpoints", "unknown_endpoint")
    with pytest.raises(BadRequest, match="admin"):
        await holder(office, foreign.id, role="admin", owner=ADMIN.owner)
    assert len(await office.store.keys()) == 3


async def test_a_listed_key_outlives_its_endpoints(office: Office) -> None:
    one = await made(office)
    who = await holder(office, one.id)
    await office.services.endpoints.delete(MEMBER, one.id)

    assert await office.services.endpoints.list(who) == []
    await made(office)
    assert await office.services.endpoints.list(who) == []


def test_who_may_use_an_endpoint() -> None:
    def may(who: Principal, *listed: str) -> bool:
        return replace(who, endpoints=listed or None).may_use("endpoint-1", MEMBER.owner)

    assert [may(who) for who in (ADMIN, MEMBER, INFERENCE)] == [True, True, False]
    assert may(MEMBER, "endpoint-1", "endpoint-2")
    assert not may(MEMBER, "endpoint-2")
    assert not may(INFERENCE, "endpoint-1"), "a list opens nothing of another owner"
    assert not may(ADMIN, "endpoint-2"), "a list limits whoever has one"
