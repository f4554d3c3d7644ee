"""What the control plane is told of answers: does the client's machine have them, and did the client read them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.gateway.fakes import Peer, Seen, World, silent, until, whole

from roost.domain.creation import DELIVERY_HEADER, Delivery

CREATE = b"POST /v1/endpoints HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
CLOSING = CREATE.replace(b"Host: h", b"Host: h\r\nConnection: close")


class News:
    """A link that writes down what it is told."""

    connected = True

    def __init__(self) -> None:
        self.told: list[tuple[str, Delivery]] = []

    def report_soon(self) -> None: ...

    def tell(self, answer: str, delivery: Delivery) -> None:
        self.told.append((answer, delivery))

    async def are(self, world: World, *states: Delivery) -> None:
        """Wait for these, of the answer that the control plane was asked for last."""
        await until(lambda: len(self.told) >= len(states))
        name = world.control.seen[-1].headers[DELIVERY_HEADER]
        assert self.told == [(name, state) for state in states]


@pytest.fixture
def news(world: World) -> News:
    world.gateway.link = link = News()
    return link


@asynccontextmanager
async def unread(world: World, data: bytes, room: int | None = None) -> AsyncIterator[socket.socket]:
    """A connection on which a request was sent and nothing is read; ``room`` is what the kernel takes, in bytes."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        if room is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        await loop.sock_connect(sock, ("127.0.0.1", world.port))
        await loop.sock_sendall(sock, data)
        yield sock


async def test_only_what_must_not_be_repeated_is_named(world: World) -> None:
    client = await world.connect()
    forged = CREATE.replace(b"Host: h", b"Host: h\r\n" + DELIVERY_HEADER.encode() + b": mine")
    names = [(await client.ask(forged)).json["headers"][DELIVERY_HEADER] for _ in range(2)]
    assert len({"mine", *names}) == 3
    for method in (b"GET", b"DELETE", b"HEAD"):
        head = b"%b /v1/x HTTP/1.1\r\nHost: h\r\n%b: mine\r\n\r\n" % (method, DELIVERY_HEADER.encode())
        await client.send(head)
        await client.answer(head_only=method == b"HEAD")
        assert DELIVERY_HEADER not in world.control.seen[-1].headers


async def test_a_client_that_goes_on_has_read_the_answer(world: World, news: News) -> None:
    client = await world.connect()
    await client.ask(CREATE)
    await news.are(world, Delivery.ACKNOWLEDGED)
    await client.send(b"GET")
    await news.are(world, Delivery.ACKNOWLEDGED, Delivery.DELIVERED)


@pytest.mark.parametrize("request_", [CREATE, CLOSING], ids=["kept open", "to be closed"])
async def test_a_client_that_closes_after_reading_has_the_answer(world: World, news: News, request_: bytes) -> None:
    client = await world.connect()
    assert (await client.ask(request_)).status == 200
    client.writer.close()
    await news.are(world, Delivery.ACKNOWLEDGED, Delivery.DELIVERED)


@pytest.mark.parametrize("request_", [CREATE, CLOSING], ids=["kept open", "to be closed"])
async def test_a_client_that_closes_before_reading_has_not(world: World, news: News, request_: bytes) -> None:
    async with unread(world, request_):
        await news.are(world, Delivery.ACKNOWLEDGED)
    await news.are(world, Delivery.ACKNOWLEDGED, Delivery.LOST)


async def test_a_client_that_is_gone_before_the_answer(world: World, news: News) -> None:
    world.control.handler = silent
    async with unread(world, CREATE):
        await world.control.wait_for(1)
    await news.are(world, Delivery.LOST)


async def test_an_answer_that_does_not_fit_the_client_s_machine_is_not_acknowledged(world: World, news: News) -> None:
    body = b"x" * 60_000

    async def large(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(body))

    world.control.handler = large
    async with unread(world, CREATE, room=2048) as sock:
        await until(lambda: any(front.delivery is not None for front in world.gateway.fronts))
        assert news.told == []
        reader, writer = await asyncio.open_connection(sock=sock.dup())
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(body))
        await news.are(world, Delivery.ACKNOWLEDGED)
        writer.close()
    await news.are(world, Delivery.ACKNOWLEDGED, Delivery.DELIVERED)


@pytest.mark.parametrize("broken", ["before", "within", "refused"])
async def test_an_answer_that_the_control_plane_does_not_give_is_lost(world: World, news: News, broken: str) -> None:
    async def breaks(seen: Seen, peer: Peer) -> None:
        if broken == "refused":
            await peer.send(whole(b"{}", "500 Internal Server Error"))
            return
        if broken == "within":
            await peer.send(whole(b"{}" * 50)[:-5])
        peer.close()

    world.control.handler = breaks
    client = await world.connect()
    answer = await client.ask(CREATE)
    assert (answer.status, answer.complete) == {"before": (502, True), "within": (200, False), "refused": (500, True)}[
        broken
    ]
    await news.are(world, Delivery.LOST)


async def test_an_idle_connection_that_this_side_closes_counts_as_read(world: World, news: News) -> None:
    client = await world.connect()
    await client.ask(CREATE)
    world.gateway.drain()
    assert await client.closed()
    await news.are(world, Delivery.ACKNOWLEDGED, Delivery.DELIVERED)
