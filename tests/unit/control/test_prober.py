"""The prober against servers that answer well, late, badly, without end, and not at all."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from roost.control.prober import MISSES, MOST_READ, NOT_ASKED, HttpProber, Silence, _connect, _silence
from roost.engines.base import Probe

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
PROBE = Probe("POST", "/v1/chat/completions", {"max_tokens": 1}, timeout_s=5.0)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LOADING = b"HTTP/1.1 503 X\r\ncontent-length: 7\r\n\r\nloading"


class Server:
    """Raw HTTP, one scripted answer per request; the last one is repeated."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(len(b'{"max_tokens":1}'))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    await reader.read()
                    return
                writer.write(answer)
                while answer.endswith(b"ENDLESS"):
                    writer.write(b"x" * 4096)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def probing(
    server: Server, prefix: str = "", probe: Probe = PROBE
) -> AsyncIterator[tuple[HttpProber, asyncio.Queue[str]]]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    news: asyncio.Queue[str] = asyncio.Queue()
    prober = HttpProber(news.put_nowait)
    prober.start("r1", f"http://127.0.0.1:{port}{prefix}", probe, None)
    try:
        yield prober, news
    finally:
        await prober.close()
        listening.close()


async def told(prober: HttpProber, news: asyncio.Queue[str], *, proven: bool) -> str:
    async with asyncio.timeout(20):
        while True:
            assert await news.get() == "r1"
            proof = prober.proof("r1")
            assert proof is not None
            if proof.proven is proven:
                return proof.last


async def test_a_good_answer_proves() -> None:
    server = Server(OK)
    async with probing(server) as (prober, news):
        await told(prober, news, proven=True)
    assert server.heads[0].startswith(b"POST /v1/chat/completions ")


async def test_a_url_that_brings_its_own_v1_gets_no_second_one() -> None:
    server = Server(OK)
    async with probing(server, "/v1") as (prober, news):
        await told(prober, news, proven=True)
    assert server.heads[0].startswith(b"POST /v1/chat/completions ")


async def test_it_asks_again_until_the_answer_is_good_and_tells_what_fell_short() -> None:
    async with probing(Server(LOADING, LOADING, OK)) as (prober, news):
        assert await told(prober, news, proven=False) == "HTTP 503: loading"
        await told(prober, news, proven=True)


async def test_an_endless_answer_is_cut_off() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\nENDLESS"
    async with probing(Server(endless)) as (prober, news):
        assert str(MOST_READ) in await told(prober, news, proven=False)


async def test_no_answer_is_told_after_the_probes_timeout() -> None:
    quick = Probe(PROBE.method, PROBE.path, PROBE.body, timeout_s=0.05)
    async with probing(Server(None), probe=quick) as (prober, news):
        assert "no answer within 0.05 s" in await told(prober, news, proven=False)


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    news: asyncio.Queue[str] = asyncio.Queue()
    prober = HttpProber(news.put_nowait)
    prober.start("r1", f"unix:{tmp_path / 'none.sock'}", PROBE, None)
    assert await told(prober, news, proven=False) == "cannot connect: No such file or directory"
    prober.forget("r1")
    assert prober.proof("r1") is None
    await prober.close()


@pytest.mark.parametrize("again", [1, 3])
async def test_started_again_it_is_one_probe(again: int) -> None:
    server = Server(OK)
    async with probing(server) as (prober, news):
        for _ in range(again):
            prober.start("r1", "http://127.0.0.1:1", PROBE, None)
        await told(prober, news, proven=True)
    assert len(server.heads) == 1


async def test_a_watched_server_that_goes_away_is_lost() -> None:
    server = Server(OK)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    news: asyncio.Queue[str] = asyncio.Queue()
    prober = HttpProber(news.put_nowait, watch_every_s=0.01)
    prober.watch("r1", f"http://127.0.0.1:{port}/v1", None, managed=False)
    proof = prober.proof("r1")
    assert proof is not None
    assert proof.proven
    listening.close()
    await listening.wait_closed()
    assert "cannot connect" in await told(prober, news, proven=False)
    proof = prober.proof("r1")
    assert proof is not None
    assert proof.lost
    await prober.close()


async def test_an_engine_that_stops_answering_is_told_of_and_again_when_it_answers() -> None:
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if silent.is_set():
            writer.write(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    news: asyncio.Queue[str] = asyncio.Queue()
    clock = 100.0
    prober = HttpProber(news.put_nowait, ask_every_s=0.01, clock=lambda: clock)
    prober.watch("r1", f"http://127.0.0.1:{port}", "/health", managed=True)
    silent.set()
    assert await asyncio.wait_for(news.get(), 10) == "r1"
    proof = prober.proof("r1")
    assert proof is not None
    assert (proof.proven, proof.lost, proof.unresponsive_for) == (True, False, timedelta(0))
    clock += 3600  # nobody has asked meanwhile: this process stood still
    proof = prober.proof("r1")
    assert proof is not None
    assert timedelta(seconds=1) < (proof.unresponsive_for or timedelta(0)) < timedelta(seconds=2)
    silent.clear()
    await asyncio.wait_for(news.get(), 10)
    proof = prober.proof("r1")
    assert proof is not None
    assert proof.unresponsive_for is None
    await prober.close()
    listening.close()
    await listening.wait_closed()


def test_a_silence_grows_with_the_questions_and_not_while_nobody_asks() -> None:
    silence = Silence(step_s=2.0)
    assert [silence.missed(asked, asked + 1.0) for asked in (10.0, 12.0, 14.0)] == [1, 2, MISSES]
    assert silence.length(15.5) == 5.5
    assert silence.length(3600.0) == 7.0
    assert silence.missed(3600.0, 3601.0) == 4
    assert silence.length(3601.0) == 7.0
    silence.misses = 0
    silence.missed(4000.0, 4001.0)
    assert silence.length(4001.0) == 1.0


@pytest.mark.parametrize("address", ["unix:/nowhere/r.sock", "http://127.0.0.1:1"])
async def test_a_question_for_which_no_file_is_left_says_nothing_about_the_replica(address: str) -> None:
    prober = HttpProber(lambda _: None)
    async with prober._client(address, 1.0) as client:
        assert await _silence(client, "/health") not in NOT_ASKED
        with short_of_files():
            assert await _silence(client, "/health") in NOT_ASKED
            if address.startswith("http"):
                assert await _connect(address) in NOT_ASKED


@contextmanager
def short_of_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
