"""The Python client before the real API: what is sent twice happens once, and refusals are of the kind they name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.unit.api.front import BASE_URL, app_of
from tests.unit.services.office import Office, make_node

from roost import (
    AsyncRoost,
    AuthenticationError,
    BadRequest,
    EndpointFailed,
    NotFound,
    PermissionDenied,
)
from roost.domain.endpoint import StateReason
from roost.domain.lifecycle import State
from roost.store.base import StatusChange
from roost.testing.builders import secret_of

SCALE = {"min_replicas": 1, "max_replicas": 2}


class Lossy(httpx.AsyncBaseTransport):
    """Hands requests to the app; ``lose`` answers of the next ones never arrive."""

    def __init__(self, office: Office) -> None:
        self._inner = httpx.ASGITransport(app_of(office))
        self.lose = 0
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, or break."""
        self.requests.append(request)
        response = await self._inner.handle_async_request(request)
        await response.aread()
        if self.lose:
            self.lose -= 1
            raise httpx.ReadError("gone", request=request)
        return response


class World:
    """One API, its store, and hands of control: what is on ``at_polls`` happens one by one at each sleep."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.transport = Lossy(office)
        self.at_polls: list[tuple[State, StateReason | None]] = []
        self.seconds = 0.0

    async def sleep(self, seconds: float) -> None:
        """Let the next thing happen."""
        self.seconds += seconds
        assert self.seconds < 1000, "it polls for ever"
        if self.at_polls:
            state, reason = self.at_polls.pop(0)
            (endpoint,) = await self.office.store.endpoints()
            status = replace(endpoint.status, state=state, reason=reason)
            await self.office.store.apply(StatusChange(endpoint.id, endpoint.status_version, status))

    def client(self, key: int = 1) -> AsyncRoost:
        """A client with that test key."""
        clock: Callable[[], float] = lambda: self.seconds  # noqa: E731
        return AsyncRoost(BASE_URL, secret_of(key), transport=self.transport, sleep=self.sleep, monotonic=clock)


@pytest.fixture
async def world() -> World:
    office = await Office().open()
    office.nodes = [make_node("n1", "local")]
    return World(office)


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncRoost]:
    async with world.client() as client:
        yield client


async def make(client: AsyncRoost, **over: Any) -> str:
    return (await client.endpoints.create(model="test/model", hardware="1x_cpu", autoscaling=SCALE, **over)).id


async def test_a_create_whose_answers_are_lost_makes_one_endpoint(world: World, client: AsyncRoost) -> None:
    world.transport.lose = 2
    made = await make(client)
    assert len(world.transport.requests) == 3
    assert [endpoint.id for endpoint in await world.office.store.endpoints()] == [made]


async def test_two_creates_make_two_endpoints_unless_they_share_a_key(world: World, client: AsyncRoost) -> None:
    assert await make(client) != await make(client)
    assert await make(client, idempotency_key="once") == await make(client, idempotency_key="once")
    assert len(await world.office.store.endpoints()) == 3


async def test_a_delete_whose_answer_is_lost_has_succeeded(world: World, client: AsyncRoost) -> None:
    made = await make(client)
    world.transport.lose = 1
    await client.endpoints.delete(made)
    assert await world.office.store.endpoints() == []
    with pytest.raises(NotFound) as caught:
        await client.endpoints.delete(made)
    assert caught.value.code == "endpoint_not_found"


async def test_waiting_follows_the_endpoint(world: World, client: AsyncRoost) -> None:
    made = await make(client)
    seen: list[str] = []
    world.at_polls = [(State.STARTING, None), (State.STARTED, None)]
    found = await client.endpoints.wait(made, on_change=lambda endpoint: seen.append(endpoint.state))
    assert (found.id, seen) == (made, ["PENDING", "STARTING", "STARTED"])


async def test_waiting_tells_why_it_failed(world: World, client: AsyncRoost) -> None:
    made = await make(client)
    why = StateReason(code="engine_exited", message="It fell over.", hint="Hold it.", log_tail=("last words",))
    world.at_polls = [(State.STARTING, None), (State.ERROR, why)]
    with pytest.raises(EndpointFailed) as caught:
        await client.endpoints.wait(made)
    error = caught.value
    assert (error.code, error.reason, error.hint) == ("engine_exited", "It fell over.", "Hold it.")
    assert error.log_tail == ("last words",)


async def test_refusals_are_of_the_kind_they_name(world: World, client: AsyncRoost) -> None:
    with pytest.raises(BadRequest, match="hardware") as caught:
        await client.endpoints.create(model="test/model", hardware="9x_none", autoscaling=SCALE)
    assert caught.value.param == "hardware"
    assert caught.value.request_id
    async with AsyncRoost(BASE_URL, "nobody's", transport=world.transport) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.endpoints.list()
    async with world.client(3) as guest:
        with pytest.raises(PermissionDenied):
            await guest.endpoints.list()


async def test_the_catalog_is_iterated(client: AsyncRoost) -> None:
    listed = await client.models.list()
    assert [model.id for model in listed] == [model.id for model in listed.data]
    assert (await client.models.retrieve(listed.data[0].id)).object == "model"
