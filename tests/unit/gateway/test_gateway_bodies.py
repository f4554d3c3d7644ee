"""Long bodies: who may send them, how much of them is kept, and that all room is free again however a request ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    ENDPOINT,
    KEY,
    LISTED_KEY,
    Client,
    World,
    echo,
    post,
    silent,
    table,
    until,
)

from roost.gateway.answers import Refusal
from roost.gateway.bodies import SHORT, Bodies
from roost.gateway.body import MOST_NAMES, MOST_VALUES, UNCOUNTED, decode
from roost.gateway.limits import MOST_TOKENS
from roost.gateway.request import Request

SMALL_WORLD = pytest.mark.parametrize("world", [{"max_body_bytes": 1 << 20, "max_bodies_mb": 2}], indirect=True)
LONG = 600 * 1024


def limit(world: World, **limits: Any) -> None:
    """Apply a table in which the member's key has limits."""
    world.version += 1
    made = table(world.version, world.replica())
    member, *others = made.keys
    world.gateway.apply(replace(made, keys=(replace(member, **limits), *others)))


def long(size: int = LONG, **fields: Any) -> bytes:
    return post({"model": ENDPOINT, "messages": [{"role": "user", "content": "x" * size}]}, **fields)


async def part(world: World, *, key: str = KEY, size: int = LONG) -> Client:
    """A client that has sent most of a long body, all of which has arrived."""
    client = await world.connect()
    data = long(size, key=key)[:-100]
    await client.send(data)
    head = data.index(b"\r\n\r\n") + 4
    await until(lambda: any(_received(front) == len(data) - head for front in world.gateway.fronts))
    return client


def _received(front: Any) -> int:
    return front._request.received if front._request is not None else 0


def nothing_is_kept(world: World) -> bool:
    bodies = world.gateway.bodies
    return not bodies.held and not bodies._total and not bodies._of and not bodies._arriving


async def test_a_long_body_of_a_key_that_may_not_ask_is_not_kept(world: World) -> None:
    limit(world, requests_per_minute=1)
    assert (await world.ask(post())).status == 200
    client = await part(world)
    (front,) = (front for front in world.gateway.fronts if front._request is not None)
    assert front._request is not None
    assert front._request.body == []
    assert nothing_is_kept(world)
    answer = await client.ask(b"x" * 100)
    assert (answer.status, answer.error["code"]) == (429, "rate_limited")
    assert (await client.ask(post(key=ADMIN_KEY))).status == 200


async def test_a_body_of_a_key_that_may_not_ask_is_not_looked_at(world: World) -> None:
    limit(world, requests_per_minute=1)
    assert (await world.ask(post())).status == 200
    assert (await world.ask(post(raw=b"no JSON"))).error["code"] == "rate_limited"


async def test_long_requests_are_charged_once_and_wrong_ones_not_at_all(world: World) -> None:
    limit(world, requests_per_minute=2, concurrency=1)
    for body in (b"no JSON" + b" " * SHORT, b'{"model":"other","x":"%b"}' % (b" " * SHORT)):
        assert (await world.ask(post(raw=body))).status in (400, 404)
    assert [(await world.ask(long())).status for _ in range(3)] == [200, 200, 429]
    assert nothing_is_kept(world)


async def test_a_long_body_on_its_way_takes_a_place_of_its_key(world: World) -> None:
    limit(world, concurrency=1)
    first = await part(world)
    second = await world.ask(long())
    assert (second.status, second.error["code"]) == (429, "concurrency_limited")
    first.hang_up()
    await until(lambda: nothing_is_kept(world))
    assert (await world.ask(long())).status == 200


@SMALL_WORLD
async def test_bodies_of_one_key_and_of_all_have_a_most(world: World) -> None:
    world.upstream.handler = silent
    for number, key in enumerate((KEY, ADMIN_KEY, LISTED_KEY), start=1):
        await (await world.connect()).send(long(key=key))
        await world.upstream.wait_for(number)
    again = await world.ask(long(key=ADMIN_KEY))
    assert (again.status, again.error["code"], again.headers["x-should-retry"]) == (429, "bodies_limited", "true")
    chunked = b"%x\r\n%b\r\n" % (LONG, b"x" * LONG)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer rk-test-other\r\n"
    client = await world.connect()
    await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
    full = await client.answer()
    assert (full.status, full.error["code"], full.headers["retry-after"]) == (503, "too_many_bodies", "1")
    world.upstream.handler = echo
    for each in world.clients:
        each.hang_up()
    await until(lambda: not world.gateway.fronts)
    assert nothing_is_kept(world)
    assert (await world.ask(long(key=ADMIN_KEY))).status == 200


@SMALL_WORLD
async def test_who_asks_without_a_key_has_a_most(world: World) -> None:
    size = 900 * 1024
    clients = [await world.connect() for _ in range(2)]
    for client in clients:
        head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        await client.send(head + b"x" * (size - 1))
    answers = []
    for client in clients[::-1]:
        await client.send(b"x")
        answers.append((await client.answer()).status)
    assert sorted(answers) == [200, 429]
    assert nothing_is_kept(world)


ENDS = {
    "a hang-up": b"",
    "a broken chunk": b"no size\r\n",
    "too long": b"%x\r\n%b\r\n" % (LONG, b"x" * LONG),
}


@SMALL_WORLD
@pytest.mark.parametrize("name", ENDS)
async def test_a_body_that_does_not_arrive_is_dropped(world: World, name: str) -> None:
    client = await world.connect()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n" % KEY.encode()
    await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (LONG, b"x" * LONG))
    await until(lambda: sum(world.gateway.bodies.held.values()) > LONG)
    if ENDS[name]:
        await client.send(ENDS[name])
    else:
        client.hang_up()
    await until(lambda: nothing_is_kept(world))


@SMALL_WORLD
async def test_a_body_that_stalls_is_dropped_with_the_answer(world: World) -> None:
    client = await part(world)
    now = world.gateway.now()
    (front,) = world.gateway.fronts
    for later in (0.0, 100.0):
        front.sweep(now + later)
    assert (await client.answer()).status == 408
    assert nothing_is_kept(world)


@SMALL_WORLD
async def test_what_is_pipelined_behind_a_last_answer_is_dropped(world: World) -> None:
    client = await world.connect()
    await client.send(post(headers={"connection": "close"}) + long() + long()[:-100])
    assert (await client.answer()).status == 200
    await until(lambda: not world.gateway.fronts)
    assert nothing_is_kept(world)


@SMALL_WORLD
async def test_an_offer_to_upgrade_counts_its_body_once(world: World) -> None:
    answer = await world.ask(long(headers={"connection": "upgrade", "upgrade": "h2c"}))
    assert answer.status == 200
    assert nothing_is_kept(world)


def test_pieces_count_beyond_their_bytes() -> None:
    bodies, request = Bodies(1 << 20, 1 << 20), Request(0.0)
    request.body = [b"x"] * 30_000
    request.received = 30_000
    refusal = bodies.hold(request)
    assert isinstance(refusal, Refusal)
    assert not bodies.held


def filled(values: bytes) -> bytes:
    return b'{"model":"m","prompt":[%b]}' % values


def test_as_many_tokens_as_a_request_may_have_are_decoded() -> None:
    raw = filled(b"100000," * (MOST_TOKENS - 1) + b"1")
    assert isinstance(decode(raw), dict)


@pytest.mark.parametrize(
    "values",
    [
        b"{}," * (MOST_VALUES // 2 + 1) + b"{}",
        b"[]," * (MOST_VALUES // 2 + 1) + b"[]",
        b"1," * (MOST_VALUES + 1) + b"1",
        b"{" + b'"name":1,' * (MOST_NAMES + 1) + b'"name":1}',
    ],
    ids=["objects", "lists", "numbers", "names"],
)
def test_bodies_with_too_many_values_are_refused_before_they_are_decoded(values: bytes) -> None:
    refusal = decode(filled(values))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (413, "too_many_values")


def test_short_bodies_and_long_texts_may_hold_anything() -> None:
    assert isinstance(decode(filled(b"{}," * (UNCOUNTED // 3 - 100) + b"{}")), dict)
    assert isinstance(decode(filled(b'"' + b"A sentence, as they are: " * 200_000 + b'"')), dict)
