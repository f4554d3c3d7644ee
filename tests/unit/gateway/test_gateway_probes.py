"""Health checks of replicas: who does not answer gets no requests until it does; who is at work is not asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from tests.unit.gateway.fakes import ENDPOINT, Peer, Seen, World, echo, no_files_left, post, silent, until, whole

from roost.gateway.books import ReplicaBook
from roost.gateway.probes import MISSES, SLICES, Probes


class Asked:
    """The upstream's side: how often it was asked for its health, and what it answers ("" for nothing)."""

    def __init__(self) -> None:
        self.count = 0
        self.answer = "200 OK"

    def reached(self, count: int) -> bool:
        return self.count >= count

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        if not seen.target.startswith("/health"):
            await echo(seen, peer)
            return
        self.count += 1
        await (peer.send(whole(b"{}", self.answer)) if self.answer else silent(seen, peer))


def begin(world: World) -> tuple[Probes, Asked, ReplicaBook]:
    world.upstream.handler = asked = Asked()
    world.route(world.replica(), health_path="/health")
    (replica,) = world.gateway.books.replicas.values()
    replica.pool.heard = False
    return Probes(world.gateway, "salt"), asked, replica


async def a_second(probes: Probes, over: Callable[[], bool] = lambda: True) -> None:
    """The turns of a second, after which ``over`` becomes true."""
    for _ in range(SLICES):
        probes.turn()
    await until(over)


async def test_three_checks_without_an_answer_take_the_replica_out_and_one_with_one_brings_it_back(
    world: World,
) -> None:
    probes, asked, replica = begin(world)
    asked.answer = ""
    for count in range(1, MISSES + 1):
        assert replica.healthy
        await a_second(probes, partial(asked.reached, count))
    for _ in range(SLICES):
        probes.turn()
    assert not replica.healthy
    client = await world.connect()
    await client.send(post())
    (book,) = world.gateway.books.endpoints.values()
    await until(lambda: book.held.size == 1)
    asked.answer = "200 OK"
    await a_second(probes, partial(asked.reached, MISSES + 2))
    await until(lambda: all(check.over for check in probes._checks.values()))
    await a_second(probes, lambda: replica.healthy)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize(("answer", "healthy"), [("503 Service Unavailable", False), ("404 Not Found", True)])
async def test_an_error_of_the_server_is_no_answer_and_one_of_the_client_is(
    world: World, answer: str, healthy: bool
) -> None:
    probes, asked, replica = begin(world)
    asked.answer = answer
    for count in range(1, MISSES + 2):
        await a_second(probes, partial(asked.reached, count))
        await until(lambda: all(check.over for check in probes._checks.values()))
    assert replica.healthy is healthy


async def test_a_gateway_short_of_files_takes_no_replica_out(world: World) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    probes, asked, replica = begin(world)
    with no_files_left():
        for _ in range(MISSES + 2):
            await a_second(probes, lambda: all(check.over for check in probes._checks.values()))
    assert (asked.count, replica.healthy, probes._misses) == (0, True, {})


async def test_a_replica_at_work_is_not_asked(world: World) -> None:
    probes, asked, replica = begin(world)
    client = await world.connect()
    for _ in range(3):
        assert (await client.ask(post({"model": ENDPOINT}))).status == 200
        await a_second(probes)
    assert asked.count == 0
    assert replica.healthy


async def test_without_a_path_being_connected_to_is_enough(world: World) -> None:
    probes, asked, replica = begin(world)
    world.route(world.replica())
    asked.answer = ""
    for _ in range(5):
        for _ in range(10):
            for _ in range(SLICES):
                probes.turn()
        await until(lambda: all(check.over for check in probes._checks.values()))
    assert (asked.count, replica.healthy) == (0, True)


async def test_the_report_tells_when_a_replica_was_last_heard(world: World) -> None:
    probes, asked, replica = begin(world)
    assert world.gateway.books.report()["heard"] == {}
    asked.answer = ""
    await world.ask(post())  # output is as good as an answer to the check
    for _ in range(SLICES):
        probes.turn()
    told = world.gateway.books.report()["heard"][replica.id]
    assert 0 <= told < 60
    before = replica.heard_at
    for count in range(1, MISSES + 1):
        await a_second(probes, partial(asked.reached, count))
    assert replica.heard_at == before
