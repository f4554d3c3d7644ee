"""Clients that send or read too slowly, that are too many, or that ask for more than they take."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fakes import ENDPOINT, STREAM_HEAD, Client, Peer, Seen, World, chunked, event, post, until

from roost.gateway.front import LINGER_S
from roost.gateway.gateway import access_log_path
from roost.gateway.pace import IDLE_S, MIN_RATE, Limits, Pace

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
LIMITS = Limits(head_s=30, body_s=60, read_s=60)


def sweep(world: World, later: float) -> None:
    """The sweep as it will be so many seconds from now."""
    for front in list(world.gateway.fronts):
        front.sweep(world.gateway.now() + later)


async def there(world: World, data: bytes) -> Client:
    client = await world.connect()
    await client.send(data)
    await until(lambda: any(front._request is not None for front in world.gateway.fronts))
    return client


async def test_a_head_has_a_deadline_however_often_a_byte_comes(world: World) -> None:
    client = await there(world, GET[:10])
    for second in range(1, 29):
        sweep(world, second)
        await client.send(GET[10:11] if second == 5 else b"")
    sweep(world, 32)
    assert (await client.answer()).status == 408
    sweep(world, 33 + LINGER_S)
    assert await client.closed()


async def test_empty_lines_do_not_keep_a_connection(world: World) -> None:
    client = await world.connect()
    await client.ask(GET)
    sweep(world, 1)
    await client.send(b"\r\n" * 10)
    await until(lambda: bool(world.gateway.fronts))
    sweep(world, IDLE_S + 2)
    assert await client.closed()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/endpoints"])
async def test_a_body_has_a_least_rate(world: World, path: str) -> None:
    head, _, body = post(raw=b"x" * 100_000, path=path).partition(b"\r\n\r\n")
    client = await there(world, head + b"\r\n\r\n" + body[:10])
    for second in range(1, 62):
        sweep(world, second)
    await client.send(body[10:20])
    sweep(world, 63)
    assert (await client.answer()).status == 408
    assert not world.upstream.seen + world.control.seen


def test_a_body_that_is_quick_enough_may_take_long() -> None:
    pace, received = Pace(0), 0
    for second in range(1, 1000):
        received += MIN_RATE + 10
        assert not pace.slow_body(second, "request", received, LIMITS)
    assert any(pace.slow_body(second, "request", received, LIMITS) for second in range(1000, 1125))


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20_000)), min_size=1, max_size=60))
def test_what_was_quick_before_earns_nothing(steps: list[tuple[int, int]]) -> None:
    pace, now, received, arrived = Pace(0), 0, 0, []
    for seconds, size in steps:
        now, received = now + seconds, received + size
        slow = pace.slow_body(now, "request", received, LIMITS)
        arrived.append((now, received))
        lately = [at for at, had in arrived if received - had < MIN_RATE * LIMITS.body_s]
        # Two windows at most pass with less than the rate.
        assert slow or now - min(lately) <= 2 * LIMITS.body_s + 20
        if slow:
            return


async def full(world: World) -> tuple[Client, Peer]:
    """A client that does not read an endless stream, and its upstream's side."""

    async def endless(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD)
        while not peer.gone.is_set():
            await peer.send(chunked(event("x" * 100_000)))

    world.upstream.handler = endless
    client = await there(world, GET[:5])
    await client.send(GET[5:])
    await client.answer()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(post({"model": ENDPOINT, "stream": True}))
    await until(lambda: any(front.full for front in world.gateway.fronts))
    return client, world.upstream.peers[-1]


async def test_a_client_that_takes_nothing_is_let_go_and_its_slot_is_free(world: World) -> None:
    client, peer = await full(world)
    (front,) = world.gateway.fronts
    for second in range(1, 61):
        sweep(world, second)
    assert not peer.gone.is_set()
    assert front.active is not None
    sweep(world, 62)
    async with asyncio.timeout(5):
        await peer.gone.wait()
    assert not world.gateway.fronts
    client.hang_up()


async def test_a_client_that_takes_a_little_is_kept() -> None:
    pace = Pace(0)
    for second in range(1000):
        assert not pace.stuck(second, LIMITS)
        if second % 50 == 0:
            pace.moved()


async def test_pipelined_requests_wait_until_the_answers_are_taken(world: World) -> None:
    client = await there(world, GET[:5])
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for side in (client.writer.transport, next(iter(world.gateway.fronts)).transport):
        side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.writer.write(GET[5:] + GET * 20_000)
    await until(lambda: any(front.full for front in world.gateway.fronts))
    (front,) = world.gateway.fronts
    await asyncio.sleep(0)
    assert front.transport.get_write_buffer_size() < 1 << 20
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(1000):
        assert (await client.answer()).status == 200
    client.hang_up()


@pytest.mark.parametrize("world", [{"max_client_connections": 2}], indirect=True)
async def test_more_connections_than_allowed_are_told_so(world: World) -> None:
    clients = [await world.connect() for _ in range(2)]
    for client in clients:
        assert (await client.ask(GET)).status == 200
    late = await world.connect()
    answer = await late.answer()
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "too_many_connections", "1")
    assert await late.closed()
    late.hang_up()
    clients[0].hang_up()
    await until(lambda: len(world.gateway.fronts) == 1)
    assert (await world.ask(GET)).status == 200


async def test_who_waits_behind_others_is_told_to_continue_when_it_is_its_turn(world: World) -> None:
    finish = asyncio.Event()

    async def slowly(seen: Seen, peer: Peer) -> None:
        await finish.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    world.upstream.handler = slowly
    for path in ("/v1/chat/completions", "/v1/endpoints"):
        finish.clear()
        client = await world.connect()
        head, _, body = post(path=path, headers={"Expect": "100-continue"}).partition(b"\r\n\r\n")
        await client.send(post() + head + b"\r\n\r\n")
        await world.upstream.wait_for(len(world.upstream.seen) + 1)
        finish.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 100]
        assert (await client.ask(body)).status == 200


@pytest.mark.parametrize("overhead", [b"1;" + b"a" * 200 + b"\r\nx\r\n"])
async def test_chunks_that_are_mostly_overhead_are_refused(world: World, overhead: bytes) -> None:
    head = post(raw=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    client = await there(world, head)
    for _ in range(20):
        client.writer.write(overhead * 100)
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.answer()).error["code"] == "bad_framing"


async def test_what_the_server_as_a_whole_can_do(world: World) -> None:
    answer = await world.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    for method in ("TRACE", "PURGE", "SOURCE"):
        refused = await world.ask(f"{method} /v1/endpoints HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert refused.status in (400, 405)
    assert not world.control.seen


@pytest.mark.parametrize("world", [{"max_body_bytes": 1000}], indirect=True)
@pytest.mark.parametrize(
    ("status", "code"), [(413, "payload_too_large"), (408, "request_timeout"), (400, "bad_framing")]
)
async def test_a_relayed_body_that_is_refused_midway_is_logged_once(world: World, status: int, code: str) -> None:
    head = b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = await there(world, head + b"10\r\n" + b"x" * 16 + b"\r\n")
    async with asyncio.timeout(5):
        while not world.control.peers:  # noqa: ASYNC110 - the head has gone out, the request is not whole
            await asyncio.sleep(0.002)
    if status == 413:
        await client.send(b"800\r\n" + b"x" * 2048)
    elif status == 400:
        await client.send((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 350)
    else:
        for second in range(1, 64):
            sweep(world, second)
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (status, code)
    async with asyncio.timeout(5):
        await world.control.peers[0].gone.wait()
    client.hang_up()
    await until(lambda: not world.gateway.fronts)
    world.gateway.usage.settle()
    world.gateway.log.flush()
    (line,) = (json.loads(text) for text in access_log_path(world.gateway.settings, 0).read_text().splitlines())
    assert (line["status"], line["outcome"], line["path"]) == (status, code, "/v1/endpoints")
