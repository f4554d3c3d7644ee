"""A worker that hands over to its successor: every client gets its answer, and is told to go when it gets its last."""

from __future__ import annotations

import asyncio

from tests.unit.gateway.fakes import CHAT, ENDPOINT, LAST, STREAM_HEAD, Peer, Seen, World, chunked, event, post

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_an_idle_connection_gets_one_more_answer_that_says_it_was_the_last(world: World) -> None:
    client = await world.connect()
    assert "connection" not in (await client.ask(post())).headers
    world.gateway.hand_over()
    # Nothing has closed it: what is sent now, or was on its way, is answered.
    answer = await client.ask(post())
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.closed()
    await asyncio.wait_for(world.gateway.empty.wait(), 5)


async def test_a_head_that_is_known_already_is_no_way_around_the_end(world: World) -> None:
    client = await world.connect()
    for _ in range(3):
        await client.ask(post())
    world.gateway.hand_over()
    world.gateway.sweep()
    assert (await client.ask(post())).headers["connection"] == "close"


async def test_a_stream_whose_head_promised_more_keeps_the_connection_for_one_more_request(world: World) -> None:
    go_on = asyncio.Event()

    async def slow(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD, chunked(event(CHAT[0])))
        await go_on.wait()
        await peer.send(chunked(event("[DONE]")), LAST)

    world.upstream.handler = slow
    client = await world.connect()
    await client.send(post({"model": ENDPOINT, "stream": True}))
    await world.upstream.wait_for(1)
    world.gateway.hand_over()
    go_on.set()
    answer = await client.answer()
    assert (answer.complete, answer.events[-1]) == (True, "[DONE]")
    assert "connection" not in answer.headers
    last = await client.ask(HEALTH)
    assert (last.status, last.headers["connection"]) == (200, "close")
    assert await client.closed()


async def test_a_connection_accepted_at_the_last_moment_is_served_once(world: World) -> None:
    world.gateway.hand_over()
    client = await world.connect()
    assert (await client.ask(post())).headers["connection"] == "close"
    assert await client.closed()


async def test_of_pipelined_requests_the_last_one_is_told(world: World) -> None:
    client = await world.connect()
    await client.ask(HEALTH)
    world.gateway.hand_over()
    await client.send(HEALTH + HEALTH)
    first, second = await client.answer(), await client.answer()
    assert "connection" not in first.headers
    assert second.headers["connection"] == "close"


async def test_without_clients_there_is_nothing_to_wait_for(world: World) -> None:
    world.gateway.hand_over()
    assert world.gateway.empty.is_set()
