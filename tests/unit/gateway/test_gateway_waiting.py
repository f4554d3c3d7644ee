"""What clients hear while their request waits for a replica."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.gateway.fakes import ENDPOINT, Peer, Seen, World, delta, post, stream, until

STREAM = {"model": ENDPOINT, "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def streams(seen: Seen, peer: Peer) -> None:
    await peer.send(stream(delta("a"), delta("b", finish="stop"), "[DONE]"))


async def held(world: World, body: dict[str, Any], **more: Any) -> Any:
    client = await world.connect()
    await client.send(post(body, **more))
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 1)
    return client


def later(world: World, seconds: float) -> None:
    now = world.gateway.now()
    world.gateway.now = lambda: now + seconds
    world.gateway.sweep()


async def test_a_stream_that_waits_hears_what_it_waits_for_and_is_then_served(world: World) -> None:
    world.upstream.handler = streams
    wall = world.gateway.wall()
    world.route(state="STARTING", phase="loading", retry_after_s=30.0, ready_at=wall + 30)
    client = await held(world, STREAM)
    later(world, 6.0)
    later(world, 1.0)
    world.route(world.replica())
    answer = await client.answer()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.body.startswith(b": waiting for a replica (STARTING, loading, about 30 s left)\n\n: waiting")
    assert answer.body.count(b": waiting") == 2
    assert [event for event in answer.events if event][-1] == "[DONE]"
    assert '"content":"a"' in answer.body.decode().replace(" ", "")


async def test_a_short_wait_leaves_no_trace_and_whole_answers_hear_nothing(world: World) -> None:
    world.route(state="STARTING")
    stream_client = await held(world, STREAM)
    later(world, 4.0)
    assert [exchange.begun for exchange in world.gateway.books.endpoints[ENDPOINT].held] == [False]
    stream_client.hang_up()
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 0)
    await held(world, {**STREAM, "stream": False})
    later(world, 6.0)
    assert [exchange.begun for exchange in world.gateway.books.endpoints[ENDPOINT].held] == [False]


async def test_with_comments_a_stream_waits_beyond_the_timeout_its_client_announced(world: World) -> None:
    world.upstream.handler = streams
    world.route(state="STARTING")
    client = await held(world, STREAM, headers={"x-stainless-read-timeout": "10"})
    later(world, 6.0)
    later(world, 60.0)
    world.route(world.replica())
    assert b"[DONE]" in (await client.answer()).body


@pytest.mark.parametrize("world", [{"hold_stream_timeout_s": 20.0, "hold_timeout_s": 10.0}], indirect=True)
async def test_a_stream_that_waited_in_vain_ends_with_an_error_frame(world: World) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)
    later(world, 16.0)
    answer = await client.answer()
    assert answer.status == 200
    assert '"code":"not_ready"' in answer.events[-1].replace(" ", "")


async def test_a_replica_that_answers_with_an_error_after_comments_gives_an_error_frame(world: World) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)

    async def refuses(seen: Seen, peer: Peer) -> None:
        body = b'{"error":{"message":"no such thing"}}'
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    world.upstream.handler = refuses
    world.route(world.replica())
    answer = await client.answer()
    assert answer.status == 200
    assert "no such thing" in answer.events[-1]
