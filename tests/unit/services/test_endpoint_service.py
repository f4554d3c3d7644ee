"""Creating, reading, changing and deleting endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from tests.unit.services.office import ADMIN, INFERENCE, MEMBER, Office, make_node

from roost.config import Settings
from roost.domain.endpoint import Autoscaling, Endpoint, EndpointSpec
from roost.domain.errors import BadRequest, Conflict, NotFound, PermissionDenied, VersionConflict
from roost.domain.event import Event
from roost.domain.hardware import Resources
from roost.domain.lifecycle import DesiredState, State
from roost.services.endpoint_requests import Bounds, EndpointChange, EndpointDraft
from roost.services.endpoints import ATTEMPTS
from roost.store.base import StatusChange
from roost.store.memory import MemoryStore

DRAFT = EndpointDraft(model="test/model", hardware="1x_cpu", autoscaling=Bounds(1, 2))


async def set_state(office: Office, endpoint: Endpoint, state: State) -> None:
    status = replace(endpoint.status, state=state)
    await office.store.apply(StatusChange(endpoint.id, endpoint.status_version, status))


async def test_create_stores_the_spec_an_event_and_wakes_control(office: Office) -> None:
    made = await office.services.endpoints.create(ADMIN, DRAFT)

    assert await office.store.endpoint(made.id) == made
    assert made.name == f"roost/test/model-{made.id.removeprefix('endpoint-')[:8]}"
    assert made.spec == EndpointSpec("test/model", "1x_cpu", Autoscaling(1, 2), "test/model")
    assert (made.status.state, made.status.changed_at) == (State.PENDING, office.clock.now())
    assert office.wakes == [made.id]
    (event,) = await office.events()
    assert (event.kind, event.actor, event.endpoint_id) == ("endpoint.created", "roost", made.id)
    assert "test/model on 1x_cpu" in event.reason


async def test_an_alias_is_kept_as_the_models_own_id(office: Office) -> None:
    made = await office.services.endpoints.create(ADMIN, replace(DRAFT, model="tiny"))

    assert made.spec.model == "test/model"


async def test_created_stopped_begins_stopped(office: Office) -> None:
    made = await office.services.endpoints.create(ADMIN, replace(DRAFT, state="STOPPED"))

    assert (made.spec.desired_state, made.status.state) == (DesiredState.STOPPED, State.STOPPED)


@pytest.mark.parametrize("asked", [None, 0])
async def test_null_and_zero_turn_the_timeout_off(office: Office, asked: int | None) -> None:
    made = await office.services.endpoints.create(ADMIN, replace(DRAFT, inactive_timeout=asked))

    assert made.spec.inactive_timeout is None


@pytest.mark.parametrize(("minutes", "expected"), [(7, timedelta(minutes=7)), (0, None)])
async def test_an_absent_timeout_is_the_setting(minutes: int, expected: timedelta | None) -> None:
    office = await Office(Settings(home=Path("/nowhere"), inactive_timeout_minutes=minutes)).open()

    made = await office.services.endpoints.create(ADMIN, DRAFT)

    assert made.spec.inactive_timeout == expected


async def test_a_taken_name_is_drawn_again(office: Office) -> None:
    first = await office.services.endpoints.create(ADMIN, DRAFT)
    draws = iter([UUID(first.id.removeprefix("endpoint-"))])
    fresh = office.uuids
    service = replace(office.services.endpoints, uuids=lambda: next(draws, None) or fresh())

    second = await service.create(ADMIN, DRAFT)

    assert second.name != first.name
    assert len(await office.store.endpoints()) == 2


async def test_names_that_stay_taken_are_a_conflict(office: Office) -> None:
    first = await office.services.endpoints.create(ADMIN, DRAFT)
    service = replace(office.services.endpoints, uuids=lambda: UUID(first.id.removeprefix("endpoint-")))

    with pytest.raises(Conflict):
        await service.create(ADMIN, DRAFT)


async def test_get_by_id_and_by_name(office: Office) -> None:
    made = await office.services.endpoints.create(ADMIN, DRAFT)

    assert await office.services.endpoints.get(ADMIN, made.id) == made
    assert await office.services.endpoints.get(ADMIN, made.name) == made


async def test_a_foreign_endpoint_reads_exactly_like_none(office: Office) -> None:
    made = await office.services.endpoints.create(ADMIN, DRAFT)
    service = office.services.endpoints

    for act in (
        service.get(MEMBER, made.id),
        service.update(MEMBER, made.id, EndpointChange(state="STOPPED")),
        service.delete(MEMBER, made.id),
    ):
        with pytest.raises(NotFound) as caught:
            await act
        assert caught.value.message == f"The endpoint {made.id} was not found."
    assert await service.get(ADMIN, made.id) == made


async def test_lists_show_what_one_may_see(office: Office) -> None:
    service = office.services.endpoints
    ours = await service.create(ADMIN, DRAFT)
    office.clock.advance(timedelta(seconds=1))
    theirs = await service.create(MEMBER, DRAFT)

    assert await service.list(ADMIN) == [theirs, ours]
    assert await service.list(ADMIN, mine=True) == [ours]
    assert await service.list(MEMBER) == [theirs]


async def test_keys_for_inference_control_nothing(office: Office) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, DRAFT)

    for act in (service.create(INFERENCE, DRAFT), service.get(INFERENCE, made.id), service.list(INFERENCE)):
        with pytest.raises(PermissionDenied, match="permission"):
            await act


async def test_update_merges_and_records(office: Office) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, DRAFT)
    office.wakes.clear()

    change = EndpointChange(display_name="New", autoscaling=Bounds(max_replicas=5), inactive_timeout=None)
    changed = await service.update(ADMIN, made.name, change)

    assert changed.spec == replace(made.spec, display_name="New", autoscaling=Autoscaling(1, 5), inactive_timeout=None)
    assert changed.spec_version == made.spec_version + 1
    assert office.wakes == [made.id]
    event = (await office.events())[-1]
    assert event.kind == "endpoint.updated"
    assert event.data == {
        "max_replicas": "2 -> 5",
        "inactive_timeout": "60 min -> never",
        "display_name": "test/model -> New",
    }


async def test_an_update_is_all_or_nothing(office: Office) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, DRAFT)

    with pytest.raises(BadRequest):
        await service.update(ADMIN, made.id, EndpointChange(display_name="New", autoscaling=Bounds(3, None)))

    assert await service.get(ADMIN, made.id) == made


@pytest.mark.parametrize(
    "change", [EndpointChange(), EndpointChange(state="STARTED"), EndpointChange(autoscaling=Bounds(1, 2))]
)
async def test_asking_for_what_is_so_writes_nothing(office: Office, change: EndpointChange) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, DRAFT)
    office.wakes.clear()

    assert await service.update(ADMIN, made.id, change) == made
    assert len(await office.events()) == 1
    assert office.wakes == []


async def test_an_empty_display_name_falls_back_to_the_model(office: Office) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, replace(DRAFT, display_name="Mine"))

    assert (await service.update(ADMIN, made.id, EndpointChange(display_name=""))).spec.display_name == "test/model"


async def test_started_after_stopped_is_a_new_wish(office: Office) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, DRAFT)

    stopped = await service.update(ADMIN, made.id, EndpointChange(state="STOPPED"))
    started = await service.update(ADMIN, made.id, EndpointChange(state="STARTED"))

    assert (stopped.spec.desired_state, stopped.spec.start_requests) == (DesiredState.STOPPED, 0)
    assert (started.spec.desired_state, started.spec.start_requests) == (DesiredState.STARTED, 1)
    assert started.status == made.status, "a service never writes a status"


async def test_started_after_an_error_is_a_new_wish(office: Office) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, DRAFT)
    await set_state(office, made, State.ERROR)

    started = await service.update(ADMIN, made.id, EndpointChange(state="STARTED"))

    assert started.spec.start_requests == 1
    assert office.wakes[-1] == made.id


async def test_delete_hides_at_once(office: Office) -> None:
    service = office.services.endpoints
    made = await service.create(ADMIN, DRAFT)
    office.wakes.clear()

    assert await service.delete(ADMIN, made.name) == made

    assert office.wakes == [made.id]
    assert (await office.events())[-1].kind == "endpoint.deleted"
    for act in (service.get(ADMIN, made.id), service.delete(ADMIN, made.id)):
        with pytest.raises(NotFound):
            await act
    assert await service.list(ADMIN) == []


class Contended(MemoryStore):
    """A store in which somebody else writes first, ``losses`` times."""

    losses = 0

    async def update_spec(
        self, endpoint_id: str, expected_version: int, spec: EndpointSpec, now: datetime, events: Sequence[Event]
    ) -> Endpoint:
        if self.losses:
            self.losses -= 1
            current = await self.endpoint(endpoint_id)
            assert current is not None
            other = replace(current.spec, display_name=f"by others {self.losses}")
            await super().update_spec(endpoint_id, current.spec_version, other, now, [])
        return await super().update_spec(endpoint_id, expected_version, spec, now, events)


@pytest.mark.parametrize("losses", [1, ATTEMPTS - 1])
async def test_a_lost_race_is_decided_again_on_what_is_there(office: Office, losses: int) -> None:
    store = Contended()
    await store.open()
    service = replace(office.services.endpoints, store=store)
    made = await service.create(ADMIN, DRAFT)
    store.losses = losses

    changed = await service.update(ADMIN, made.id, EndpointChange(autoscaling=Bounds(2, 3)))

    assert changed.spec.autoscaling == Autoscaling(2, 3)
    assert changed.spec.display_name == "by others 0", "the other's change is kept"


async def test_races_lost_for_ever_are_a_conflict(office: Office) -> None:
    store = Contended()
    await store.open()
    service = replace(office.services.endpoints, store=store)
    made = await service.create(ADMIN, DRAFT)
    store.losses = ATTEMPTS

    with pytest.raises(VersionConflict):
        await service.update(ADMIN, made.id, EndpointChange(state="STOPPED"))


async def test_full_hardware_is_no_reason_to_refuse(office: Office) -> None:
    office.nodes = [make_node(free=Resources())]

    made = await office.services.endpoints.create(ADMIN, DRAFT)

    assert made.status.state is State.PENDING


async def test_a_zone_that_must_be_and_cannot_hold_it_is_refused(office: Office) -> None:
    office.nodes = [make_node("big", "a", 4), make_node("small", "b", 1)]
    draft = replace(DRAFT, hardware="4x_cpu", availability_zone="b")

    with pytest.raises(BadRequest, match="Invalid hardware provided") as caught:
        await office.services.endpoints.create(ADMIN, replace(draft, zone_required=True))
    assert (caught.value.param, caught.value.code) == ("hardware", "infeasible_hardware")
    assert "check the hardware API" in caught.value.message
    assert await office.store.endpoints() == []

    preferred = await office.services.endpoints.create(ADMIN, draft)
    assert preferred.spec.availability_zone == "b"


async def test_servers_elsewhere_take_any_listed_hardware(office: Office) -> None:
    office.nodes = [make_node("big", "a", 4), make_node("small", "b", 1)]
    draft = replace(DRAFT, model="far", hardware="4x_cpu", availability_zone="b", zone_required=True)

    made = await office.services.endpoints.create(ADMIN, draft)

    assert made.spec.model == "far/away"
    with pytest.raises(BadRequest, match="Invalid hardware provided"):
        await office.services.endpoints.create(ADMIN, replace(draft, hardware="9x_cpu"))
