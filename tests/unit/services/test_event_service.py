"""Reading events."""

from __future__ import annotations

import pytest
from tests.unit.services.office import ADMIN, INFERENCE, MEMBER, Office

from roost.domain.errors import BadRequest, NotFound, PermissionDenied
from roost.services.endpoint_requests import Bounds, EndpointDraft

DRAFT = EndpointDraft(model="tiny", hardware="1x_cpu", autoscaling=Bounds(1, 1))


async def test_admins_read_all_and_members_their_own(office: Office) -> None:
    events = office.services.events
    ours = await office.services.endpoints.create(ADMIN, DRAFT)
    theirs = await office.services.endpoints.create(MEMBER, DRAFT)
    await office.services.endpoints.delete(MEMBER, theirs.id)

    assert [e.endpoint_id for e in await events.list(ADMIN)] == [ours.id, theirs.id, theirs.id]
    found = await events.list(MEMBER, endpoint=theirs.name)
    assert [e.kind for e in found] == ["endpoint.created", "endpoint.deleted"], "also of what is deleted"
    with pytest.raises(NotFound):
        await events.list(MEMBER, endpoint=ours.id)
    with pytest.raises(BadRequest, match="endpoint is required"):
        await events.list(MEMBER)
    with pytest.raises(PermissionDenied):
        await events.list(INFERENCE, endpoint=ours.id)


async def test_pages(office: Office) -> None:
    events = office.services.events
    for _ in range(3):
        await office.services.endpoints.create(ADMIN, DRAFT)
    first, second, third = [e.sequence for e in await events.list(ADMIN)]
    assert first is not None

    assert [e.sequence for e in await events.list(ADMIN, after=first, limit=1)] == [second]
    assert [e.sequence for e in await events.list(ADMIN, limit=2, newest_first=True)] == [third, second]


@pytest.mark.parametrize(("after", "limit", "param"), [(-1, 1, "after"), (1 << 63, 1, "after"), (0, 0, "limit")])
async def test_pages_out_of_range(office: Office, after: int, limit: int, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await office.services.events.list(ADMIN, after=after, limit=limit)
    assert caught.value.param == param
