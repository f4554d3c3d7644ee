"""While the server shuts down: nothing is held, what is in flight finishes, the probe says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.gateway.fakes import ENDPOINT, Answer, Peer, Seen, World, post, table, until, whole

from roost.domain.routing import RoutingTable
from roost.gateway.control_link import Link, RoutesFile

READY = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"


def shut_down(world: World) -> None:
    old = world.gateway.books.table
    assert old is not None
    world.version += 1
    world.gateway.apply(replace(old, version=world.version, shutting_down=True))


def check(answer: Answer) -> None:
    assert (answer.status, answer.error["code"], answer.error["type"]) == (503, "shutting_down", "overloaded_error")
    assert answer.error["message"] == "The server is shutting down; try again when it is back."
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("5", "true")


async def test_new_requests_are_refused_and_the_connection_stays(world: World) -> None:
    client = await world.connect()
    assert (await client.ask(post())).status == 200
    shut_down(world)
    check(await client.ask(post()))
    check(await client.ask(post({"model": "nobody/none"})))
    assert (await client.ask(b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n")).status == 204
    assert (await client.ask(post(key=None))).status == 401
    assert len(world.upstream.seen) == 1


@pytest.mark.parametrize("gone", [True, False])
async def test_held_requests_end(world: World, gone: bool) -> None:
    world.route(state="STARTING")
    clients = [await world.connect() for _ in range(2)]
    for client in clients:
        await client.send(post())
    await until(lambda: world.gateway.books.report()["held"] == {ENDPOINT: 2})
    if gone:
        world.version += 1
        world.gateway.apply(replace(table(world.version), endpoints=(), shutting_down=True))
    else:
        shut_down(world)
    for client in clients:
        check(await client.answer())


@pytest.mark.parametrize("lost", [True, False])
async def test_requests_in_flight_finish_unless_their_replica_is_lost(world: World, lost: bool) -> None:
    finish = asyncio.Event()

    async def waits(seen: Seen, peer: Peer) -> None:
        await finish.wait()
        if lost:
            peer.reset()
        else:
            await peer.send(whole(b"{}"))

    world.upstream.handler = waits
    client = await world.connect()
    await client.send(post())
    await world.upstream.wait_for(1)
    world.route(world.replica(draining=True))
    shut_down(world)
    finish.set()
    answer = await client.answer()
    if lost:
        check(answer)
    else:
        assert answer.status == 200


async def test_the_probe_says_so(world: World) -> None:
    world.gateway.confirmed_at = world.gateway.wall()
    assert (await world.ask(READY)).status == 200
    shut_down(world)
    answer = await world.ask(READY)
    assert (answer.status, answer.json["reason"]) == (503, "the server is shutting down")


async def test_a_gateway_that_starts_with_the_last_table_waits_for_a_server(world: World) -> None:
    last = replace(table(7), shutting_down=True)
    file = RoutesFile(world.folder / "routes")
    file.save(last)
    Link(world.gateway, "gateway-0-a", file).load()
    assert world.gateway.books.table == replace(last, shutting_down=False)
    # The same server is still there, and says it again: this counts, once.
    assert world.gateway.apply(last)
    assert not world.gateway.apply(last)
    assert not world.gateway.apply(replace(last, shutting_down=False))
    assert world.gateway.books.table == last
    check(await world.ask(post()))
    assert world.gateway.apply(table(1, world.replica(), term=2))
    assert (await world.ask(post())).status == 200


def test_a_table_tells_it_to_the_gateways_and_may_be_silent_about_it() -> None:
    told = replace(table(1), shutting_down=True).to_dict()
    assert told["shutting_down"] is True
    assert RoutingTable.from_dict(told).shutting_down
    del told["shutting_down"]
    assert not RoutingTable.from_dict(told).shutting_down
