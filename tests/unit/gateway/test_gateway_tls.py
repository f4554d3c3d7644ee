"""TLS on the public port: what works over it, and how a certificate is replaced."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from tests.unit.gateway.fakes import Client, Peer, Seen, World, post, silent, until

from roost.domain.errors import InvalidSettings
from roost.gateway.front import LINGER_S, Front
from roost.web.certificates import Certificate, read

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
CREATE = b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


class Pair:
    """A certificate for localhost in files, and an authority that vouches for it."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.authority = trustme.CA()
        self.issue()

    def issue(self) -> None:
        issued = self.authority.issue_cert("localhost")
        self.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def pair(folder: Path) -> Pair:
    return Pair(folder)


@pytest.fixture
async def port(world: World, pair: Pair) -> AsyncIterator[int]:
    certificate = Certificate(str(pair.cert), str(pair.key))
    world.gateway.certificate = certificate
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Front(world.gateway), "127.0.0.1", 0, ssl=certificate.context, ssl_shutdown_timeout=0.2
    )
    yield server.sockets[0].getsockname()[1]
    server.close()


async def connect(world: World, port: int, context: ssl.SSLContext) -> Client:
    streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    client = Client(*streams)
    world.clients.append(client)
    return client


async def test_requests_of_all_kinds_go_over_tls(world: World, pair: Pair, port: int) -> None:
    client = await connect(world, port, pair.client())
    tls = client.writer.get_extra_info("ssl_object")
    assert tls.version() in ("TLSv1.2", "TLSv1.3")
    for data in (GET, post(), post({"model": "endpoint-1", "stream": True}), CREATE, post(), GET + GET):
        assert (await client.ask(data)).status == 200
    assert (await client.answer()).status == 200
    assert (await client.ask(b"\0\r\n\r\n")).status == 400
    for front in list(world.gateway.fronts):
        front.sweep(world.gateway.now() + LINGER_S)
    assert await client.closed()


async def test_older_versions_and_plain_requests_are_refused(world: World, pair: Pair, port: int) -> None:
    context = pair.client()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connect(world, port, context)
    plain = Client(*await asyncio.open_connection("127.0.0.1", port))
    plain.writer.write(GET)
    assert await plain.closed()
    await until(lambda: not world.gateway.fronts)


async def test_a_client_that_hangs_up_frees_its_slot(world: World, pair: Pair, port: int) -> None:
    world.upstream.handler = silent
    for hang_up in (Client.hang_up, lambda client: client.writer.close()):
        client = await connect(world, port, pair.client())
        await client.send(post())
        await world.upstream.wait_for(len(world.upstream.seen) + 1)
        hang_up(client)
        async with asyncio.timeout(5):
            await world.upstream.peers[-1].gone.wait()
        await until(lambda: not world.gateway.fronts)


async def test_a_last_answer_arrives_before_the_end(world: World, pair: Pair, port: int) -> None:
    client = await connect(world, port, pair.client())
    answer = await client.ask(CREATE.replace(b"Host: a", b"Host: a\r\nConnection: close"))
    assert (answer.status, answer.complete) == (200, True)
    client.writer.close()
    await until(lambda: not world.gateway.fronts)


async def test_large_answers_and_bodies(world: World, pair: Pair, port: int) -> None:
    async def large(seen: Seen, peer: Peer) -> None:
        body = b'{"x":"%b"}' % (b"x" * 3_000_000)
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body)

    world.upstream.handler = large
    client = await connect(world, port, pair.client())
    answer = await client.ask(post({"model": "endpoint-1", "x": "y" * 2_000_000}))
    assert (answer.status, len(answer.body)) == (200, 3_000_008)


async def test_a_changed_pair_is_taken_over_by_the_sweep(world: World, pair: Pair, port: int) -> None:
    context = pair.client()
    before = await connect(world, port, context)
    assert (await before.ask(GET)).status == 200
    old = before.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    key = pair.key.read_bytes()
    pair.issue()
    new = pair.key.read_bytes()
    pair.key.write_bytes(key)
    world.gateway.sweep()
    between = await connect(world, port, context)
    assert between.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"] == old, "half a pair is none"
    pair.key.write_bytes(new)
    world.gateway.sweep()
    after = await connect(world, port, context)
    assert after.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"] != old
    for client in (before, between, after):
        assert (await client.ask(GET)).status == 200


def test_what_is_wrong_with_a_pair_is_said(pair: Pair, folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    foreign = Pair(other)
    nothing = folder / "none.pem"
    with pytest.raises(InvalidSettings, match=r"none\.pem \(tls_cert\): No such file"):
        read(str(nothing), str(pair.key))
    with pytest.raises(InvalidSettings, match=r"none\.pem \(tls_key\): No such file"):
        read(str(pair.cert), str(nothing))
    with pytest.raises(InvalidSettings, match="is not that of the certificate"):
        read(str(pair.cert), str(foreign.key))
    nothing.write_text("nothing")
    for cert, key in ((nothing, pair.key), (pair.cert, nothing), (pair.key, pair.cert)):
        with pytest.raises(InvalidSettings, match="both in PEM"):
            read(str(cert), str(key))
    certificate = Certificate(str(pair.cert), str(pair.key))
    assert certificate.look() is None
    shutil.copy(foreign.key, pair.key)
    assert "is not that of" in (certificate.look() or "")
    assert certificate.look() is None, "once for each change"
