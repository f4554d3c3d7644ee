"""A key with limits before a running gateway: what it is told, and that each request gives its place back, once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    ENDPOINT,
    OTHER_KEY,
    STREAM_HEAD,
    Client,
    Peer,
    Seen,
    World,
    chunked,
    delta,
    echo,
    event,
    post,
    silent,
    table,
    until,
    whole,
)

from roost.domain.routing import RouteReplica
from roost.gateway.exchange import Exchange

LIMITED = ("limit", "remaining", "reset")


class Broken(asyncio.Transport):
    """Fails when it is told to end for the first time."""

    def __init__(self, inner: asyncio.Transport) -> None:
        super().__init__()
        self.inner = inner
        self.told = False

    def abort(self) -> None:
        if not self.told:
            self.told = True
            raise RuntimeError
        self.inner.abort()


def limit(world: World, *replicas: RouteReplica, limits: dict[str, Any], **changes: Any) -> None:
    """Apply a table in which the member's key has limits."""
    world.version += 1
    made = table(world.version, *replicas, **changes)
    member, *others = made.keys
    world.gateway.apply(replace(made, keys=(replace(member, **limits), *others)))


async def begins(seen: Seen, peer: Peer) -> None:
    """Begins a stream and never ends it."""
    await peer.send(STREAM_HEAD, chunked(event(delta("Hel"))))
    await asyncio.Event().wait()


async def breaks(seen: Seen, peer: Peer) -> None:
    """Loses each request before it answers."""
    peer.reset()


async def breaks_later(seen: Seen, peer: Peer) -> None:
    """Loses each stream after its beginning."""
    await peer.send(STREAM_HEAD, chunked(event(delta("Hel"))))
    peer.reset()


async def fails(seen: Seen, peer: Peer) -> None:
    await peer.send(whole(b'{"error":{"message":"no"}}', "500 Internal Server Error"))


async def check_free(world: World) -> None:
    """One request of the key finds a place, and a second one beside it does not: nothing is held, nothing too much."""
    hanging = await world.connect()
    world.upstream.handler = silent
    limit(world, world.replica(), limits={"concurrency": 1})
    before = len(world.upstream.seen)
    await hanging.send(post())
    await world.upstream.wait_for(before + 1)
    refused = await world.ask(post())
    assert (refused.status, refused.error["code"]) == (429, "concurrency_limited")


async def hang_up(world: World, client: Client) -> None:
    client.hang_up()
    await until(lambda: not world.gateway.fronts)


@pytest.mark.parametrize("handler", [silent, begins])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_up_on_a_replica_gives_the_place_back(world: World, handler: Any, stream: bool) -> None:
    world.upstream.handler = handler
    limit(world, world.replica(), limits={"concurrency": 1})
    client = await world.connect()
    await client.send(post({"model": ENDPOINT, "stream": stream}))
    await world.upstream.wait_for(1)
    if stream and handler is begins:
        async with asyncio.timeout(5):
            await client.reader.readuntil(b"\n\n")
    await hang_up(world, client)

    await check_free(world)


async def test_a_hang_up_while_it_waits_gives_the_place_back(world: World) -> None:
    limit(world, state="STARTING", limits={"concurrency": 1})
    client = await world.connect()
    await client.send(post())
    await until(lambda: world.gateway.books.report()["held"] == {ENDPOINT: 1})
    assert (await world.ask(post())).status == 429, "what waits counts"
    client.hang_up()
    await until(lambda: world.gateway.books.report()["held"] == {ENDPOINT: 0})

    await check_free(world)


async def test_a_hang_up_while_it_connects_gives_the_place_back(world: World) -> None:
    limit(world, world.replica(), limits={"concurrency": 1})
    client = await world.connect()
    await client.send(post())
    client.hang_up()
    await until(lambda: not world.gateway.fronts)

    await check_free(world)


async def test_a_hang_up_between_two_tries_gives_the_place_back(world: World) -> None:
    world.upstream.handler = breaks
    limit(world, world.replica(), limits={"concurrency": 1})
    client = await world.connect()
    await client.send(post())
    await until(lambda: world.gateway.books.report()["held"] == {ENDPOINT: 1})
    await hang_up(world, client)

    await check_free(world)


@pytest.mark.parametrize(
    ("handler", "stream"), [(echo, False), (echo, True), (fails, False), (fails, True), (breaks_later, True)]
)
async def test_an_answer_of_any_kind_gives_the_place_back(world: World, handler: Any, stream: bool) -> None:
    world.upstream.handler = handler
    limit(world, world.replica(), limits={"concurrency": 1})
    client = await world.connect()
    for _ in range(3):
        answer = await client.ask(post({"model": ENDPOINT, "stream": stream}))
        assert answer.status != 429
        if not answer.complete:
            client = await world.connect()

    await check_free(world)


async def test_a_full_queue_and_an_endpoint_that_goes_give_the_place_back(world: World) -> None:
    limit(world, state="STARTING", limits={"concurrency": 1})
    waiting = await world.connect()
    await waiting.send(post())
    await until(lambda: world.gateway.books.report()["held"] == {ENDPOINT: 1})
    limit(world, state="STOPPED", accepting=False, limits={"concurrency": 1})
    assert (await waiting.answer()).status == 400

    await check_free(world)


async def test_pipelined_requests_take_one_place_after_the_other(world: World) -> None:
    limit(world, world.replica(), limits={"concurrency": 1})
    client = await world.connect()
    await client.send(post() * 3)
    assert [(await client.answer()).status for _ in range(3)] == [200] * 3

    await check_free(world)


async def test_requests_per_minute_are_refused_with_what_is_left(world: World) -> None:
    limit(world, world.replica(), limits={"requests_per_minute": 2, "tokens_per_minute": 1000})
    client = await world.connect()
    assert [(await client.ask(post())).status for _ in range(2)] == [200, 200]
    refused = await client.ask(post())

    assert (refused.status, refused.error["code"], refused.error["type"]) == (429, "rate_limited", "rate_limit_error")
    assert refused.headers["x-should-retry"] == "true"
    assert 29 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-limit-tokens"] == "1000"
    assert (await client.ask(post(key=OTHER_KEY))).status == 404, "other keys go on"
    assert len(world.upstream.seen) == 2


async def test_a_request_that_is_wrong_uses_nothing(world: World) -> None:
    limit(world, world.replica(), limits={"requests_per_minute": 1})
    client = await world.connect()
    assert (await client.ask(post({"model": "none"}))).status == 404
    assert (await client.ask(post({"model": ENDPOINT, "temperature": "hot"}))).status == 400

    assert [(await client.ask(post())).status for _ in range(2)] == [200, 429]


async def test_tokens_of_answers_count(world: World) -> None:
    limit(world, world.replica(), limits={"tokens_per_minute": 5})
    client = await world.connect()
    assert (await client.ask(post({"model": ENDPOINT, "stream": True}))).status == 200
    refused = await client.ask(post())

    assert (refused.status, refused.error["code"]) == (429, "token_rate_limited")
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_a_new_limit_holds_with_the_next_table(world: World) -> None:
    client = await world.connect()
    assert (await client.ask(post())).status == 200
    limit(world, world.replica(), limits={"requests_per_minute": 1})
    assert [(await client.ask(post())).status for _ in range(2)] == [200, 429]
    world.route(world.replica())

    assert (await client.ask(post())).status == 200


async def test_answers_tell_what_is_left(world: World) -> None:
    limit(world, world.replica(), limits={"requests_per_minute": 60, "tokens_per_minute": 6000})
    client = await world.connect()
    for body in ({"model": ENDPOINT}, {"model": ENDPOINT, "stream": True}):
        answer = await client.ask(post(body))
        assert answer.status == 200
        told = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
        assert set(told) == {f"x-ratelimit-{what}-{of}" for what in LIMITED for of in ("requests", "tokens")}
        assert told["x-ratelimit-limit-requests"] == "60"
        assert int(told["x-ratelimit-remaining-requests"]) < 60
        assert int(told["x-ratelimit-remaining-tokens"]) <= 6000
        assert told["x-ratelimit-reset-requests"].endswith("s")
    free = await client.ask(post(key=ADMIN_KEY))
    assert free.status == 200
    assert "x-ratelimit" not in str(free.headers)


async def test_each_try_tells_it_once(world: World) -> None:
    world.upstream.handler = breaks
    sound = await world.another(echo)
    limit(world, world.replica(1), world.replica(2, sound), limits={"requests_per_minute": 60})
    client = await world.connect()
    await client.send(post())
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.count(b"x-ratelimit-limit-requests: 60\r\n") == 1
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_an_abort_that_fails_gives_the_place_back(world: World) -> None:
    world.upstream.handler = silent
    limit(world, world.replica(), limits={"concurrency": 1})
    client = await world.connect()
    await client.send(post())
    await world.upstream.wait_for(1)
    (front,) = world.gateway.fronts
    exchange = front.active
    assert isinstance(exchange, Exchange)
    assert exchange.attempt is not None
    assert exchange.attempt.connection is not None
    transport = exchange.attempt.connection.transport
    assert transport is not None
    exchange.attempt.connection.transport = Broken(transport)
    with pytest.raises(RuntimeError):
        exchange.abort()
    front.active = None

    await check_free(world)


async def test_what_is_over_ends_only_once(world: World) -> None:
    limit(world, world.replica(), limits={"concurrency": 2})
    for status in (200, 499):
        client = await world.connect()
        world.upstream.handler = silent
        seen = len(world.upstream.seen)
        await client.send(post())
        await world.upstream.wait_for(seen + 1)
        exchange = next(front.active for front in world.gateway.fronts if front.active is not None)
        assert isinstance(exchange, Exchange)
        book = exchange.book
        before = book.completed + book.failed
        if status == 200:
            exchange.answered((200, b"{}"))
        else:
            exchange.abort()
        exchange.finish(200, "completed")
        exchange.abort()
        assert book.completed + book.failed == before + (status == 200)
        assert not [replica for replica in world.gateway.books.replicas.values() if replica.in_flight]
        client.hang_up()

    await check_free(world)
