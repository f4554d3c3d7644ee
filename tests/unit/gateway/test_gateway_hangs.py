"""Streams on a replica that hangs: they go on elsewhere if they can, and wait for it if they cannot."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.gateway.fakes import ENDPOINT, LAST, STREAM_HEAD, Peer, Seen, World, chunked, post, until
from tests.unit.gateway.test_gateway_continuation import ASKS, ask_of, chunk_of, engine, facts

from roost.engines import echo_reply


async def test_a_stream_leaves_a_replica_that_hangs(world: World) -> None:
    async def hanging(seen: Seen, peer: Peer) -> None:
        ask = echo_reply.understand(seen.body, chat=True, model="m")
        await peer.send(STREAM_HEAD, b"".join([chunked(event) for event, _ in echo_reply.events(ask, 1, 1)][:4]))
        await asyncio.Event().wait()

    world.upstream.handler = hanging
    other = await world.another(engine(2))
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await world.upstream.wait_for(1)
    world.route(world.replica(1), world.replica(2, other), continues=True)
    (front,) = world.gateway.fronts
    exchange: Any = front.active
    await until(lambda: exchange.begun)
    hangs(world, 1)
    assert facts(await client.answer())["contents"] == ["one", " two", " three", " one", " two", " three", " one"]


def hangs(world: World, number: int) -> None:
    """What is done once a replica does not answer its health check."""
    replica = world.gateway.books.replicas[f"replica-{number}"]
    replica.healthy = False
    world.gateway.unresponsive(replica)


def looked_at(world: World) -> list[Any]:
    """The loop's timers that are to tell whether a stream is silent; each is kept from running."""
    timers: list[Any] = []
    loop = world.gateway.loop

    class Loop:
        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

        def call_later(self, delay: float, callback: Any, *arguments: Any) -> None:
            timers.append(lambda: callback(*arguments))

    made: Any = Loop()
    world.gateway.loop = made
    return timers


@pytest.mark.parametrize(
    "unfit", [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {"stop": ["three four"]}], ids=repr
)
async def test_a_stream_that_cannot_go_on_elsewhere_waits_for_its_replica(world: World, unfit: dict[str, Any]) -> None:
    go = asyncio.Event()

    async def slow(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD, *[chunked(chunk_of(text)) for text in ("one", " two", " three")])
        await go.wait()
        await peer.send(chunked(chunk_of(" five")), chunked(b"data: [DONE]\n\n"), LAST)

    world.upstream.handler = slow
    other = await world.another(engine(2))
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    path, body, _ = ASKS["chat"]
    await client.send(post({"model": ENDPOINT, "stream": True, **body, **unfit}, path=path))
    await client.answer(head_only=True)
    world.route(world.replica(1), world.replica(2, other), continues=True)
    await client.reader.readuntil(b" three")
    timers = looked_at(world)
    hangs(world, 1)
    for timer in timers[:3]:
        timer()
    go.set()
    await client.reader.readuntil(b" five")
    await client.reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
    assert not other.seen


async def test_the_silence_of_a_stream_is_watched_by_one_timer_until_its_replica_answers_again(world: World) -> None:
    world.upstream.handler = engine(1)
    go = asyncio.Event()

    async def slow(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD, chunked(chunk_of("one")))
        await go.wait()
        await peer.send(chunked(b"data: [DONE]\n\n"), LAST)

    world.upstream.handler = slow
    other = await world.another(engine(2))
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await client.answer(head_only=True)
    world.route(world.replica(1), world.replica(2, other), continues=True)
    await client.reader.readuntil(b"one")
    timers = looked_at(world)
    for _ in range(5):
        hangs(world, 1)
    assert len(timers) == 1
    (front,) = world.gateway.fronts
    front.full = True
    timers.pop()()
    hangs(world, 1)
    assert len(timers) == 1
    front.full = False
    world.gateway.books.replicas["replica-1"].healthy = True
    timers.pop()()
    assert not timers
    go.set()
    await client.reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
    assert not other.seen


async def test_replicas_that_hang_are_left_without_counting_as_crashes(world: World) -> None:
    async def hanging(seen: Seen, peer: Peer) -> None:
        ask = echo_reply.understand(seen.body, chat=True, model="m")
        await peer.send(STREAM_HEAD, b"".join([chunked(event) for event, _ in echo_reply.events(ask, 1, 1)][:3]))
        await asyncio.Event().wait()

    world.upstream.handler = hanging
    second, third = await world.another(hanging), await world.another(engine(3))
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await client.answer(head_only=True)
    world.route(world.replica(1), world.replica(2, second), continues=True)
    await client.reader.readuntil(b"two")
    timers = looked_at(world)
    hangs(world, 1)
    timers.pop()()
    await second.wait_for(1)
    await client.reader.readuntil(b"three")
    world.route(world.replica(1), world.replica(2, second), world.replica(3, third), continues=True)
    hangs(world, 2)
    timers.pop()()
    await third.wait_for(1)
    await client.reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
