"""Engines' output: whose it is, how much of it, and what comes while one looks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from tests.unit.services.office import ADMIN, INFERENCE, MEMBER, Office

from roost.domain.endpoint import Endpoint
from roost.domain.errors import BadRequest, NotFound, PermissionDenied
from roost.domain.key import Role
from roost.domain.log import ReplicaLog
from roost.services.access import Principal
from roost.services.endpoint_requests import Bounds, EndpointDraft
from roost.services.logs import CHECK_EVERY, POLL_S, LogService
from roost.store.base import StatusChange
from roost.testing.builders import make_event

DRAFT = EndpointDraft(model="tiny", hardware="1x_cpu", autoscaling=Bounds(1, 1))


class Desk:
    """The service, with the engines' output and the passing of time in the test's hands."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.output: list[ReplicaLog] = []
        self.then: list[Callable[[], object]] = []
        """Happens one by one, each time the service waits."""
        self.logs = LogService(office.services.endpoints, office.store, self._logs_of, office.clock.now, self._wait)

    async def create(self) -> Endpoint:
        return await self.office.services.endpoints.create(ADMIN, DRAFT)

    async def _logs_of(self, endpoint_id: str, tail: int) -> Sequence[ReplicaLog]:
        return [ReplicaLog(log.replica_id, log.lines[-tail:] if tail else (), log.ended) for log in self.output]

    async def _wait(self, seconds: float) -> None:
        assert self.then, "followed for longer than the test meant"
        self.office.clock.advance(timedelta(seconds=seconds))
        happened = self.then.pop(0)()
        if hasattr(happened, "__await__"):
            await happened

    def says(self, replica_id: str, *lines: str, ended: bool = False) -> None:
        old = next((log.lines for log in self.output if log.replica_id == replica_id), ())
        self.output = [log for log in self.output if log.replica_id != replica_id]
        self.output.append(ReplicaLog(replica_id, (*old, *lines), ended))


@pytest.fixture
def desk(office: Office) -> Desk:
    return Desk(office)


def asks(principal: Principal) -> Callable[[], Awaitable[Principal]]:
    async def who() -> Principal:
        return principal

    return who


async def all_of(batches: AsyncIterator[Sequence[ReplicaLog]]) -> list[Sequence[ReplicaLog]]:
    return [batch async for batch in batches]


def told(batches: Sequence[Sequence[ReplicaLog]]) -> list[str]:
    return [f"{log.replica_id}: {line}" for batch in batches for log in batch for line in log.lines]


async def test_the_last_lines_of_each_replica_that_runs(desk: Desk) -> None:
    endpoint = await desk.create()
    desk.says("replica-0", "old", ended=True)
    desk.says("replica-1", "one", "two", "three")
    desk.says("replica-2", "eins")
    found = await desk.logs.tail(ADMIN, endpoint.name, tail=2)
    assert told([found]) == ["replica-1: two", "replica-1: three", "replica-2: eins"]
    assert told([await desk.logs.tail(ADMIN, endpoint.id, replica="replica-0")]) == ["replica-0: old"]
    assert told([await desk.logs.tail(ADMIN, endpoint.id, tail=0)]) == []


async def test_an_endpoint_of_another_is_not_there(desk: Desk) -> None:
    endpoint = await desk.create()
    for reader, error in ((MEMBER, NotFound), (INFERENCE, PermissionDenied)):
        with pytest.raises(error):
            await desk.logs.tail(reader, endpoint.id)
        with pytest.raises(error):
            await anext(desk.logs.follow(asks(reader), endpoint.id))


@pytest.mark.parametrize("tail", [-1, 10_001])
async def test_a_tail_out_of_bounds(desk: Desk, tail: int) -> None:
    endpoint = await desk.create()
    with pytest.raises(BadRequest) as caught:
        await desk.logs.tail(ADMIN, endpoint.id, tail=tail)
    assert caught.value.param == "tail"
    with pytest.raises(BadRequest):
        await anext(desk.logs.follow(asks(ADMIN), endpoint.id, tail=tail))


async def test_a_replica_of_which_nothing_is_kept_names_those_that_are(desk: Desk) -> None:
    endpoint = await desk.create()
    desk.says("replica-1", "one")
    with pytest.raises(NotFound, match="replica-1") as caught:
        await desk.logs.tail(ADMIN, endpoint.id, replica="replica-9")
    assert caught.value.param == "replica"


async def test_after_a_restart_the_last_failure_tells(desk: Desk) -> None:
    endpoint = await desk.create()
    assert await desk.logs.tail(ADMIN, endpoint.id) == []
    data = {"code": "engine_crashed", "log_tail": "first\nlast words"}
    failed = make_event(7, kind="replica.failed", endpoint_id=endpoint.id, replica_id="replica-5", data=data)
    change = StatusChange(endpoint.id, endpoint.status_version, endpoint.status, events=(failed,))
    await desk.office.store.apply(change)
    found = await desk.logs.tail(ADMIN, endpoint.id, tail=1)
    assert found == [ReplicaLog("replica-5", ("last words",), ended=True)]


async def test_following_tells_each_line_once_through_replicas_that_come_and_go(desk: Desk) -> None:
    endpoint = await desk.create()
    desk.says("replica-0", "long over", ended=True)
    desk.says("replica-1", "one", "two")

    async def delete() -> None:
        await desk.office.services.endpoints.delete(ADMIN, endpoint.id)

    desk.then = [
        lambda: desk.says("replica-1", "three"),
        lambda: None,
        lambda: desk.says("replica-1", "crash", ended=True),
        lambda: desk.says("replica-2", "eins"),
        lambda: desk.says("replica-2", "bye", ended=True),
        delete,
    ]
    batches = [batch async for batch in desk.logs.follow(asks(ADMIN), endpoint.id, tail=1)]
    assert told(batches) == [
        "replica-1: two",
        "replica-1: three",
        "replica-1: crash",
        "replica-2: eins",
        "replica-2: bye",
    ]
    assert list(batches[2]) == []


async def test_following_one_replica_is_silent_about_others(desk: Desk) -> None:
    endpoint = await desk.create()
    desk.says("replica-1", "one")
    desk.says("replica-2", "eins")
    desk.then = [
        lambda: desk.says("replica-2", "zwei"),
        lambda: desk.says("replica-1", "two"),
        lambda: desk.office.services.endpoints.delete(ADMIN, endpoint.id),
    ]
    batches = [batch async for batch in desk.logs.follow(asks(ADMIN), endpoint.id, replica="replica-1")]
    assert told(batches) == ["replica-1: one", "replica-1: two"]


@pytest.mark.parametrize("list_now", [("endpoint-other",), ()])
async def test_an_endpoint_that_leaves_the_keys_list_is_followed_no_longer(
    desk: Desk, list_now: tuple[str, ...]
) -> None:
    endpoint = await desk.create()
    limited = replace(ADMIN, role=Role.MEMBER, endpoints=(endpoint.id,))
    now = [limited]

    async def who() -> Principal:
        return now[0]

    desk.says("replica-1", "line 0")
    desk.then = [partial(desk.says, "replica-1", f"line {n}") for n in range(1, 100)]
    desk.then.insert(10, lambda: now.__setitem__(0, replace(limited, endpoints=list_now)))
    with pytest.raises(NotFound):
        await all_of(desk.logs.follow(who, endpoint.id))
    assert 100 - len(desk.then) <= 10 + CHECK_EVERY.total_seconds() / POLL_S


async def test_a_clock_that_is_set_back_does_not_put_the_check_off(desk: Desk) -> None:
    endpoint = await desk.create()
    now = [ADMIN]

    async def who() -> Principal:
        return now[0]

    def set_back() -> None:
        desk.office.clock.advance(-timedelta(days=1))
        now[0] = MEMBER

    desk.then = [set_back]
    with pytest.raises(NotFound):
        await all_of(desk.logs.follow(who, endpoint.id))
