"""Streams whose replicas are killed: ``python -m benchmarks.lossless.continuation``.

Real weights, a gateway and three replicas in this process and beside it; greedy streams run through the gateway while
the replicas are killed one after another (SIGKILL), each replaced by a fresh one. It prints which share of the streams
that were cut after their first byte went on on another replica, and how many of those gave the text of an undisturbed
run, beside how many did so in a second undisturbed run: batching alone makes greedy texts differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from roost.config import Settings
from roost.domain.key import digest_of
from roost.domain.routing import LLAMA_CPP, RouteEndpoint, RouteKey, RouteReplica, RoutingTable
from roost.engines.llama_cpp import LlamaCppEngine, slots_of
from roost.gateway.front import Front
from roost.gateway.gateway import Gateway
from roost.models.catalog import SMOLLM2
from roost.testing.engine_contract import make_launch_request
from roost.testing.engine_process import EngineProcess, start_engine
from roost.testing.weights import smollm2_path

KEY = "rk-benchmark"
ENDPOINT = "endpoint-1"
PATIENCE_S = 600.0
SUBJECTS = (
    *("a lighthouse keeper and a whale", "a robot that learns to paint", "the first snow of the year", "a lost dog"),
    *("two sisters and a boat", "a train that never stops", "a gardener on the moon", "the last bookshop in town"),
    *("a storm at sea", "a clock that runs backwards", "a cook without taste", "an owl in a lamp"),
    *("a letter that came too late", "a bridge of glass", "the winter market", "a song without words"),
)


@dataclass
class Heard:
    """A stream as its client has it. ``ended``: with ``[DONE]``; ``error``: by an error frame."""

    text: str = ""
    events: int = 0
    usage: dict[str, Any] | None = None
    ids: set[str] = field(default_factory=set)
    ended: bool = False
    error: bool = False


class Fleet:
    """The gateway and its replicas."""

    def __init__(self, folder: Path, weights: Path, gateway: Gateway) -> None:
        self.gateway = gateway
        self.live: dict[str, EngineProcess] = {}
        self._folder = folder
        self._spec = LlamaCppEngine().build(make_launch_request(SMOLLM2, str(weights), threads=1))
        self._started = self._version = 0

    async def add(self) -> None:
        """Start one more replica and route to it."""
        self._started += 1
        name = f"replica-{self._started}"
        self.live[name] = await start_engine(self._spec, self._folder / f"{self._started}.sock", PATIENCE_S)
        self.route()

    async def kill(self) -> set[str]:
        """Kill the oldest replica; the ids of the streams that it had begun to answer."""
        name, engine = next(iter(self.live.items()))
        exchanges: list[Any] = [front.active for front in self.gateway.fronts if front.active is not None]
        cut = {each.request.id.decode() for each in exchanges if each.where == name and each.first is not None}
        os.kill(engine.pid, signal.SIGKILL)
        del self.live[name]
        await engine.stop(0)
        self.route()
        return cut

    def route(self) -> None:
        """Tell the gateway which replicas there are."""
        self._version += 1
        replicas = tuple(RouteReplica(n, e.address, slots=slots_of(SMOLLM2)) for n, e in self.live.items())
        route = RouteEndpoint(
            *(ENDPOINT, "roost/smollm2-1", "roost", "STARTED", True, "llama_cpp"),
            cancels_non_stream=False, dialect=LLAMA_CPP, continues=True, replicas=replicas,
            context_length=SMOLLM2.context_length,
        )  # fmt: skip
        key = RouteKey(digest_of(KEY), "key-1", "roost", "member")
        self.gateway.apply(RoutingTable("benchmark", 1, self._version, (route,), (key,)))


async def listen(client: httpx.AsyncClient, number: int, name: str, tokens: int, heard: Heard) -> None:
    """One greedy stream: chat and completions in turn."""
    said = f"Tell me a story about {SUBJECTS[number % len(SUBJECTS)]}."
    chat = number % 2 == 0
    body: dict[str, Any] = {"messages": [{"role": "user", "content": said}]} if chat else {"prompt": f"{said}\n\nOnce"}
    options = {"include_usage": True}
    body |= {"model": ENDPOINT, "stream": True, "stream_options": options, "max_tokens": tokens, "temperature": 0}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    async with client.stream("POST", path, json=body, headers={"x-request-id": name}) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                take(heard, line.removeprefix("data: "))


def take(heard: Heard, data: str) -> None:
    """One event's data."""
    if data == "[DONE]":
        heard.ended = True
        return
    value = json.loads(data)
    if "error" in value:
        heard.error = True
        return
    heard.ids.add(value["id"])
    heard.usage = value.get("usage") or heard.usage
    for choice in value["choices"]:
        text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
        heard.text += text
        heard.events += bool(text)


async def run(fleet: Fleet, port: int, streams: int, tokens: int, kills: int) -> tuple[list[Heard], set[int]]:
    """All streams at once; which of them were cut after their first byte by ``kills`` kills, spread over the run."""
    heard = [Heard() for _ in range(streams)]
    cut: set[int] = set()
    limits = httpx.Limits(max_connections=None)
    authorization = {"authorization": f"Bearer {KEY}"}
    client = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=authorization, timeout=PATIENCE_S, limits=limits
    )
    async with client, asyncio.TaskGroup() as tasks:
        for number in range(streams):
            tasks.create_task(listen(client, number, f"stream-{number}", tokens, heard[number]))
        for kill in range(kills):
            wanted = streams * tokens * (kill + 1) // (kills + 2)
            while sum(each.events for each in heard) < wanted and not all(each.ended for each in heard):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            cut |= {int(name.removeprefix("stream-")) for name in await fleet.kill()}
            await fleet.add()
    return heard, cut


def shared(one: str, other: str) -> float:
    """Which part of the longer text the two begin with."""
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return same / max(1, len(one), len(other))


@dataclass
class Tally:
    """The counts of all rounds; ``equal`` and ``own`` of the streams that went on."""

    streams: int = 0
    cut: int = 0
    went_on: int = 0
    error_frames: int = 0
    silent: int = 0
    equal: int = 0
    own: int = 0
    shared: float = 0.0
    own_shared: float = 0.0
    usage: int = 0
    one_id: int = 0

    def add(self, runs: Sequence[Sequence[Heard]], cut: set[int]) -> None:
        """One round: two undisturbed runs and a disturbed one."""
        first, second, disturbed = runs
        self.streams += len(disturbed)
        self.cut += len(cut)
        for number in sorted(cut):
            heard, calm, again = disturbed[number], first[number], second[number]
            self.error_frames += heard.error
            self.silent += not heard.ended and not heard.error
            if not heard.ended or heard.error:
                continue
            self.went_on += 1
            self.equal += heard.text == calm.text
            self.own += calm.text == again.text
            self.shared += shared(heard.text, calm.text)
            self.own_shared += shared(calm.text, again.text)
            self.one_id += len(heard.ids) == 1
            wanted = {**(calm.usage or {}), "prompt_tokens_details": None}
            self.usage += {**(heard.usage or {}), "prompt_tokens_details": None} == wanted

    def table(self) -> str:
        """The shares."""

        def of(count: float, whole: int) -> str:
            return f"{count:.0f} of {whole} ({100 * count / whole:.0f} %)" if whole else "none"

        on = self.went_on
        rows = (
            ("streams while replicas were killed", str(self.streams)),
            ("cut after their first byte", of(self.cut, self.streams)),
            ("of those: went on elsewhere", of(on, self.cut)),
            ("  ended with an error frame", of(self.error_frames, self.cut)),
            ("  ended without a word", of(self.silent, self.cut)),
            ("went on: the text of an undisturbed run", of(self.equal, on)),
            ("  two undisturbed runs, the same text", of(self.own, on)),
            ("  share of the text before they part", f"{100 * self.shared / max(1, on):.0f} %"),
            ("  two undisturbed runs, likewise", f"{100 * self.own_shared / max(1, on):.0f} %"),
            ("  the usage of an undisturbed run", of(self.usage, on)),
            ("  one id throughout", of(self.one_id, on)),
        )
        return "\n".join(f"{name:<42}{value}" for name, value in rows)


async def measure(options: argparse.Namespace) -> Tally:
    """All rounds."""
    tally = Tally()
    weights = smollm2_path(options.cache.absolute())
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-")))
        settings = Settings(home=folder)
        settings.run_dir.mkdir(mode=0o700)
        settings.logs_dir.mkdir()
        gateway = Gateway(settings, 0, loop)
        stack.push_async_callback(gateway.close)
        gateway.start()
        server = await loop.create_server(lambda: Front(gateway), "127.0.0.1", 0)
        stack.callback(server.close)
        fleet = Fleet(folder, weights, gateway)
        stack.push_async_callback(stop, fleet)
        await asyncio.gather(*(fleet.add() for _ in range(3)))
        port = server.sockets[0].getsockname()[1]
        for number in range(options.rounds):
            began = time.perf_counter()
            calm = [(await run(fleet, port, options.streams, options.tokens, 0))[0] for _ in range(2)]
            disturbed, cut = await run(fleet, port, options.streams, options.tokens, options.kills)
            tally.add((*calm, disturbed), cut)
            print(f"round {number + 1}: {len(cut)} cut, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return tally


async def stop(fleet: Fleet) -> None:
    """End the replicas."""
    await asyncio.gather(*(engine.stop(2.0) for engine in fleet.live.values()))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.lossless.continuation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=12, help="at once")
    parser.add_argument("--tokens", type=int, default=96, help="of each stream at most")
    parser.add_argument("--kills", type=int, default=2, help="in each round")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="where the weights are kept")
    print(asyncio.run(measure(parser.parse_args())).table())


if __name__ == "__main__":
    main()
