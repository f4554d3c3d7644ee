"""How soon a client that hangs up frees its slot: the echo engine and llama.cpp with SmolLM2 behind the gateway.

    .venv/bin/python -m benchmarks.gateway.cancel [--rounds 20]

Each round a client hangs up in one phase of its request, and the engine is asked until it works on nothing: echo tells
its own count (``/debug/state``), llama.cpp its slots (``/slots``). The time is from the hang-up to that answer, the
question included. In the phase "prefill" (of 400 words, about 1,200 tokens) it is mostly that of the batch under way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from roost.config import Settings
from roost.control.routes import traits_of
from roost.domain.key import digest_of
from roost.domain.model import Model
from roost.domain.routing import RouteEndpoint, RouteKey, RouteReplica, RoutingTable
from roost.engines.registry import engine as engine_called
from roost.gateway.front import Front
from roost.gateway.gateway import Gateway
from roost.models.catalog import SMOLLM2
from roost.testing.engine_contract import make_launch_request
from roost.testing.engine_process import running_engine
from roost.testing.weights import smollm2_path

CACHE = Path(os.environ.get("ROOST_TEST_CACHE") or Path(__file__).parents[2] / ".cache")
KEY, ENDPOINT = "rk-bench", "endpoint-bench"
PATIENCE_S = 60.0
PROMPT_WORDS = 400
_NUMBERS = count()

Busy = Callable[[httpx.AsyncClient], Awaitable[int]]


class Stage:
    """A gateway with one replica of one slot, and the engine's own count of what it works on."""

    def __init__(self, gateway: Gateway, port: int, engine: httpx.AsyncClient, busy: Busy) -> None:
        self.gateway = gateway
        self._port = port
        self._engine = engine
        self._busy = busy

    async def until_busy(self, wanted: int) -> None:
        """Ask the engine until it works on so many requests."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._busy(self._engine) != wanted:  # noqa: ASYNC110 - the engine tells when asked
                await asyncio.sleep(0.002)

    async def send(self, **body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client of its own that has sent its request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        payload = json.dumps({"model": ENDPOINT, "max_tokens": 1000, "temperature": 0, **body}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (KEY.encode(), len(payload), payload)
        )
        await writer.drain()
        return reader, writer


def _asked(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def _stream(stage: Stage) -> float:
    reader, writer = await stage.send(**_asked("Write a long story.", stream=True))
    await reader.readuntil(b"data: ")
    await reader.readuntil(b"data: ")
    return await _hang_up(stage, writer)


async def _whole(stage: Stage) -> float:
    _, writer = await stage.send(**_asked("Write a long story."))
    await stage.until_busy(1)
    await asyncio.sleep(0.3)  # into the answer: nobody tells when it has begun
    return await _hang_up(stage, writer)


async def _prefill(stage: Stage) -> float:
    # No two prompts alike, so that no cache has them.
    words = " ".join(f"w{next(_NUMBERS) % 1000} again" for _ in range(PROMPT_WORDS // 2))
    _, writer = await stage.send(**_asked(words, stream=True))
    await stage.until_busy(1)
    return await _hang_up(stage, writer)


async def _queued(stage: Stage) -> float:
    _, first = await stage.send(**_asked("Write a long story.", stream=True))
    await stage.until_busy(1)
    _, second = await stage.send(**_asked("Another one.", stream=True))
    queue = stage.gateway.books.endpoints[ENDPOINT].held
    async with asyncio.timeout(PATIENCE_S):
        while not queue.size:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        began = time.perf_counter()
        second.transport.abort()
        while queue.size:  # noqa: ASYNC110
            await asyncio.sleep(0)
    seconds = time.perf_counter() - began
    await _hang_up(stage, first)
    return seconds


async def _hang_up(stage: Stage, writer: asyncio.StreamWriter) -> float:
    began = time.perf_counter()
    writer.transport.abort()
    await stage.until_busy(0)
    return time.perf_counter() - began


PHASES: dict[str, Callable[[Stage], Awaitable[float]]] = {
    "queued": _queued,
    "prefill": _prefill,
    "stream": _stream,
    "whole answer": _whole,
}


async def _echo_busy(client: httpx.AsyncClient) -> int:
    state = (await client.get("/debug/state")).json()
    return int(state["active"]) + int(state["waiting"])


async def _llama_busy(client: httpx.AsyncClient) -> int:
    return sum(slot["is_processing"] for slot in (await client.get("/slots")).json())


@asynccontextmanager
async def _stage(model: Model, weights: str | None, busy: Busy) -> AsyncIterator[Stage]:
    spec = engine_called(model.engine).build(make_launch_request(model, weights))
    traits = traits_of(model)
    assert traits is not None
    with tempfile.TemporaryDirectory(prefix="rc") as name:
        folder = Path(name)
        settings = Settings(home=folder)
        settings.run_dir.mkdir(mode=0o700)
        settings.logs_dir.mkdir()
        async with running_engine(spec, folder / "e.sock") as process, process.client() as client:
            gateway = Gateway(settings, 0, asyncio.get_running_loop())
            route = RouteEndpoint(
                id=ENDPOINT,
                name="bench/cancel",
                owner="bench",
                state="STARTED",
                accepting=True,
                engine=traits.engine,
                cancels_non_stream=traits.cancels_non_stream,
                dialect=traits.dialect,
                context_length=traits.context_length,
                replicas=(RouteReplica("replica-1", process.address, slots=1),),
            )
            gateway.apply(RoutingTable("bench", 1, 1, (route,), (RouteKey(digest_of(KEY), "k", "bench", "member"),)))
            server = await asyncio.get_running_loop().create_server(lambda: Front(gateway), "127.0.0.1", 0)
            try:
                yield Stage(gateway, server.sockets[0].getsockname()[1], client, busy)
            finally:
                server.close()
                await gateway.close()


async def _measure(model: Model, weights: str | None, busy: Busy, rounds: int) -> None:
    async with _stage(model, weights, busy) as stage:
        for name, phase in PHASES.items():
            if name == "prefill" and weights is None:
                continue  # echo computes no prompt
            times = [await phase(stage) * 1000 for _ in range(rounds)]
            print(f"| {model.engine} | {name} | {statistics.median(times):.0f} | {max(times):.0f} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway.cancel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    print("| engine | phase | ms until the slot is free, median | max |\n|---|---|---|---|")
    echo = replace(SMOLLM2, engine="echo", options={"tokens_per_second": "50"}, source=None, slots=1)
    llama = replace(SMOLLM2, slots=1)
    asyncio.run(_measure(echo, None, _echo_busy, rounds))
    asyncio.run(_measure(llama, str(smollm2_path(CACHE)), _llama_busy, rounds))


if __name__ == "__main__":
    main()
