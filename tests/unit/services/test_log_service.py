"""Engines' output: whose it is, how much of it, and what comes while one looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from tests.unit.services.office import ADMIN, INFERENCE, MEMBER, Office

from roost.domain.endpoint import Endpoint
from roost.domain.errors import BadRequest, NotFound, NotReady, PermissionDenied, TooManyRequests
from roost.domain.key import Role
from roost.domain.log import ReplicaLog
from roost.policy.logs import GAP
from roost.services.access import Principal
from roost.services.endpoint_requests import Bounds, EndpointDraft
from roost.services.logs import CHECK_EVERY, MAX_FOLLOWED, POLL_S, WINDOW, LogService
from roost.store.base import StatusChange
from roost.testing.builders import make_event

DRAFT = EndpointDraft(model="tiny", hardware="1x_cpu", autoscaling=Bounds(1, 1))


class Desk:
    """The service, with the engines' output and the passing of time in the test's hands."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.output: list[ReplicaLog] = []
        self.looks = 0
        self.then: list[Callable[[], object]] = []
        """Happens one by one, each time the service waits."""
        self.logs = LogService(office.services.endpoints, office.store, self._logs_of, office.clock.now, self._wait)

    async def create(self) -> Endpoint:
        return await self.office.services.endpoints.create(ADMIN, DRAFT)

    async def _logs_of(self, endpoint_id: str, tail: int) -> Sequence[ReplicaLog]:
        self.looks += 1
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


async def test_those_who_follow_one_endpoint_share_its_looks_and_each_is_told_every_line(desk: Desk) -> None:
    endpoint, other = await desk.create(), await desk.create()
    desk.says("replica-1", "one")
    readers = [replace(ADMIN, key_id=f"key-{n}") for n in range(100)]
    followers = [desk.logs.follow(asks(reader), endpoint.id) for reader in readers]
    assert {told([await anext(follower)])[0] for follower in followers} == {"replica-1: one"}
    for number in range(3):
        looks = desk.looks
        desk.then = [partial(desk.says, "replica-1", f"line {number}")]
        batches = await asyncio.gather(*(anext(follower) for follower in followers))
        assert [told([batch]) for batch in batches] == [[f"replica-1: line {number}"]] * 100
        assert desk.looks - looks == 1

    elsewhere = desk.logs.follow(asks(ADMIN), other.id)
    await anext(elsewhere)
    looks, desk.then = desk.looks, [lambda: None, lambda: None]
    await asyncio.gather(anext(elsewhere), *(anext(follower) for follower in followers))
    assert desk.looks - looks == 2, "one for each endpoint"


async def test_one_that_reads_slowly_holds_up_nobody_and_is_told_that_lines_are_missing(desk: Desk) -> None:
    endpoint = await desk.create()
    desk.says("replica-1", "one")
    slow, fast = (desk.logs.follow(asks(ADMIN), endpoint.id) for _ in range(2))
    await anext(slow)
    await anext(fast)
    many = [f"line {n}" for n in range(3 * WINDOW)]
    desk.then = [partial(desk.says, "replica-1", *many[at : at + 300]) for at in range(0, len(many), 300)]
    seen = [line for _ in range(len(desk.then)) for line in told([await anext(fast)])]
    assert seen == [f"replica-1: {line}" for line in many]
    desk.then = [lambda: None]
    assert told([await anext(slow)]) == [f"replica-1: {line}" for line in (GAP, *many[-WINDOW:])]


async def test_one_that_hangs_up_does_not_end_the_look_of_the_others(desk: Desk) -> None:
    endpoint = await desk.create()
    release = asyncio.Event()
    desk.then = [release.wait]
    leaves, stays = (desk.logs.follow(asks(ADMIN), endpoint.id) for _ in range(2))
    await anext(leaves)
    await anext(stays)
    tasks = [asyncio.ensure_future(follower.__anext__()) for follower in (leaves, stays)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    desk.says("replica-1", "one")
    release.set()
    assert told([await tasks[1]]) == ["replica-1: one"]


async def test_a_failed_look_ends_all_its_followers_and_none_that_come_later(desk: Desk) -> None:
    endpoint = await desk.create()

    async def fail() -> None:
        raise NotReady("The server is shutting down.")

    followers = [desk.logs.follow(asks(ADMIN), endpoint.id) for _ in range(2)]
    for follower in followers:
        await anext(follower)
    desk.then = [fail]
    ends = await asyncio.gather(*(anext(follower) for follower in followers), return_exceptions=True)
    assert [type(end) for end in ends] == [NotReady, NotReady]
    desk.then = [lambda: desk.says("replica-1", "one")]
    later = desk.logs.follow(asks(ADMIN), endpoint.id)
    await anext(later)
    assert told([await anext(later)]) == ["replica-1: one"]


async def test_a_key_follows_so_many_and_no_more(desk: Desk) -> None:
    endpoint = await desk.create()
    followers = [desk.logs.follow(asks(ADMIN), endpoint.id) for _ in range(MAX_FOLLOWED)]
    for follower in followers:
        await anext(follower)
    with pytest.raises(TooManyRequests, match="end one of them"):
        await anext(desk.logs.follow(asks(ADMIN), endpoint.id))
    await anext(desk.logs.follow(asks(replace(ADMIN, key_id="key-other")), endpoint.id))
    with pytest.raises(NotFound):
        await anext(desk.logs.follow(asks(replace(ADMIN, key_id="key-other")), endpoint.id, replica="none"))
    await followers[0].aclose()
    followers[0] = desk.logs.follow(asks(ADMIN), endpoint.id)
    await anext(followers[0])


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
