"""What an upstream may answer: the client gets a clean refusal or a broken-off answer, never bytes that are not its
own, and the connection to the upstream is not used again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from tests.unit.gateway.fakes import LAST, STREAM_HEAD, Peer, Seen, World, chunked, delta, event, post, whole

from roost.gateway.http1 import MAX_HEAD, BrokenResponse, check_beginning

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
LENGTH = b"content-length: 2\r\n"
CODING = b"transfer-encoding: chunked\r\n"
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"


@dataclass(frozen=True)
class Case:
    """``status`` and ``body``: what the client sees; ``whole``: whether the answer is complete."""

    data: bytes
    status: int = 502
    whole: bool = True
    body: bytes | None = None


CASES: dict[str, Case] = {
    "equal lengths": Case(OK + LENGTH + LENGTH + b"\r\n{}"),
    "different lengths": Case(OK + LENGTH + b"content-length: 9\r\n\r\n{}"),
    "listed lengths": Case(OK + b"content-length: 2, 2\r\n\r\n{}"),
    "signed length": Case(OK + b"content-length: +2\r\n\r\n{}"),
    "endless length": Case(OK + b"content-length: " + b"9" * 40 + b"\r\n\r\n{}"),
    "length and coding": Case(OK + LENGTH + CODING + b"\r\n2\r\n{}\r\n0\r\n\r\n"),
    "coding and length": Case(OK + CODING + LENGTH + b"\r\n2\r\n{}\r\n0\r\n\r\n"),
    "another coding": Case(OK + b"transfer-encoding: gzip\r\n\r\n{}"),
    "coding twice": Case(OK + CODING + CODING + b"\r\n2\r\n{}\r\n0\r\n\r\n"),
    "coding in HTTP/1.0": Case(OK.replace(b"1.1", b"1.0") + CODING + b"\r\n2\r\n{}\r\n0\r\n\r\n"),
    "bare LF": Case(b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}"),
    "bare LF in a header": Case(OK + b"a: b\nset-cookie: evil=1\r\n" + LENGTH + b"\r\n{}"),
    "lone CR in a header": Case(OK + b"a: b\rset-cookie: evil=1\r\n" + LENGTH + b"\r\n{}"),
    "NUL in a header": Case(OK + b"a: \0\r\n" + LENGTH + b"\r\n{}"),
    "space before a colon": Case(OK + b"content-length : 2\r\n\r\n{}"),
    "folded header": Case(OK + b"a: b\r\n c\r\n" + LENGTH + b"\r\n{}"),
    "endless head": Case(OK + b"a: b\r\n" * 20_000 + LENGTH + b"\r\n{}"),
    "endless header": Case(OK + b"a: " + b"b" * 100_000),
    "another protocol": Case(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "HTTP/2": Case(b"HTTP/2 200\r\n" + LENGTH + b"\r\n{}"),
    "no status": Case(b"HTTP/1.1 OK\r\n" + LENGTH + b"\r\n{}"),
    "status of two digits": Case(b"HTTP/1.1 20 OK\r\n" + LENGTH + b"\r\n{}"),
    "switched protocols": Case(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    "interim responses without end": Case(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + OK + LENGTH + b"\r\n{}"),
    "a few interim responses": Case(
        b"HTTP/1.1 103 Early\r\na: b\r\n\r\n" * 3 + OK + LENGTH + b"\r\n{}", 200, body=b"{}"
    ),
    "bytes behind the end": Case(OK + LENGTH + b"\r\n{}" + POISON, 200, body=b"{}"),
    "bytes behind the last chunk": Case(OK + CODING + b"\r\n2\r\n{}\r\n0\r\n\r\n" + POISON, 200, body=b"{}"),
    "body of a 204": Case(b"HTTP/1.1 204 No Content\r\n\r\n" + POISON, 204),
    "length of a 204": Case(b"HTTP/1.1 204 No Content\r\n" + LENGTH + b"\r\n{}", 204),
    "coding of a 204": Case(b"HTTP/1.1 204 No Content\r\n" + CODING + b"\r\n2\r\n{}\r\n0\r\n\r\n", 204),
    "trailers": Case(OK + CODING + b"\r\n2\r\n{}\r\n0\r\nset-cookie: evil=1\r\n\r\n", 200, body=b"{}"),
    "header named by connection": Case(OK + b"connection: x\r\nx: evil\r\n" + LENGTH + b"\r\n{}", 200, body=b"{}"),
    "early end": Case(OK + b"content-length: 9\r\n\r\n{}", 200, whole=False),
    "chunk size 0x": Case(OK + CODING + b"\r\n0x2\r\n{}\r\n0\r\n\r\n", 200, whole=False),
    "chunk size -": Case(OK + CODING + b"\r\n2\r\n{}\r\n-1\r\n\r\n", 200, whole=False),
    "chunk size beyond 64 bits": Case(OK + CODING + b"\r\n2\r\n{}\r\n" + b"f" * 17 + b"\r\n", 200, whole=False),
    "chunk longer than it says": Case(OK + CODING + b"\r\n1\r\n{}\r\n0\r\n\r\n", 200, whole=False),
    "long chunk without an end": Case(
        OK + CODING + b"\r\n20000\r\n" + b"x" * 0x20000 + b"XX0\r\n\r\n", 200, whole=False
    ),
    "trailer that is none": Case(OK + CODING + b"\r\n2\r\n{}\r\n0\r\na\nb\r\n\r\n", 200, whole=False),
}


async def closes(world: World, data: bytes) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        await peer.send(data)
        if b"early" not in seen.body:
            peer.close()

    world.upstream.handler = world.control.handler = answers


@pytest.mark.parametrize("side", ["inference", "relayed"])
@pytest.mark.parametrize("name", CASES)
async def test_what_the_client_sees(world: World, name: str, side: str) -> None:
    case = CASES[name]
    await closes(world, case.data)
    world.route(world.replica(1), world.replica(2))
    client = await world.connect()
    ask = post() if side == "inference" else b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    await client.send(ask)
    try:
        answer = await client.answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        assert not case.whole
        return
    except ValueError:
        # The chunk that is broken has reached the client as it is: it can be taken for nothing.
        assert not case.whole
        assert await client.closed()
        return
    if not case.whole and answer.status == 502:
        # Nothing of it had gone out yet.
        assert answer.error["code"] == "engine_failed"
        return
    assert (answer.status, answer.complete) == (case.status, case.whole)
    if case.body is not None:
        assert answer.body == case.body
    assert b"poison" not in answer.body
    assert "evil" not in str(answer.headers)
    if not case.whole:
        return
    if case.status == 502:
        assert answer.error["message"]
    if case.status == 204:
        assert not {"content-length", "transfer-encoding"} & answer.headers.keys()
    # The connection goes on, with nothing on it that belongs to this answer.
    assert (await client.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).json == {"status": "ok"}


@pytest.mark.parametrize("extra", [POISON, b"\r\n", b"x"])
async def test_bytes_on_a_kept_connection_end_it(world: World, extra: bytes) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(b'{"n":%d}' % len(world.upstream.seen)))

    world.upstream.handler = answers
    client = await world.connect()
    assert (await client.ask(post())).json == {"n": 1}
    peer = world.upstream.peers[0]
    peer.writer.write(extra)
    async with asyncio.timeout(5):
        while not peer.reader.at_eof():  # noqa: ASYNC110 - a reader tells its end to readers only
            await asyncio.sleep(0.002)
    assert (await client.ask(post())).json == {"n": 2}
    assert len(world.upstream.peers) == 2


async def test_an_answer_before_the_end_of_the_request_ends_the_connection(world: World) -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        peers.append(reader)

    peers: list[asyncio.StreamReader] = []
    await world.upstream.stop()
    server = await asyncio.start_unix_server(refuses, world.upstream.path, limit=1024)
    client = await world.connect()
    assert (await client.ask(post({"model": "endpoint-1", "x": "y" * 8_000_000}))).status == 413
    assert (await client.ask(post({"model": "endpoint-1", "x": "y" * 8_000_000}))).status == 413
    assert len(peers) == 2, "the second request does not follow the rest of the first"
    server.close()


async def test_an_endless_event_ends_a_stream_that_is_read(world: World) -> None:
    async def endless(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(event(delta("a"))))
        while not peer.gone.is_set():
            await peer.send(chunked(b"data: " + b"x" * 1_000_000))

    world.upstream.handler = endless
    answer = await world.ask(post({"model": "endpoint-1", "stream": True}, headers={"User-Agent": "Together/Python 2"}))
    assert answer.complete
    assert "engine_failed" in answer.events[-1]
    assert LAST not in answer.body


@pytest.mark.parametrize(
    "data", [b"SSH-", b"HTTP/2", b"HTTP/1.1 200 OK\na: b", b"HTTP/1.1 200 OK\r\na: " + b"b" * MAX_HEAD]
)
def test_a_beginning_that_can_become_no_head_is_not_waited_for(data: bytes) -> None:
    with pytest.raises(BrokenResponse):
        check_beginning(data)


@pytest.mark.parametrize("data", [OK + LENGTH + b"\r\n{}" + POISON, OK + CODING + b"\r\n2\r\n{}\r\n0\r\n\r\nx"])
async def test_bytes_behind_an_answer_end_its_connection(world: World, data: bytes) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        peer.writer.write(data)
        await peer.writer.drain()

    world.upstream.handler = answers
    client = await world.connect()
    for _ in range(2):
        assert (await client.ask(post())).body == b"{}"
    assert len(world.upstream.peers) == 2


async def test_switched_protocols_are_no_interim_response(world: World) -> None:
    world.route(world.replica(1), world.replica(2))
    await closes(world, b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + LENGTH + b"\r\n{}")
    assert (await world.ask(post())).status == 502
