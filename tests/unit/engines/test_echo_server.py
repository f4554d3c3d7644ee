"""The echo engine's process: cancellation, waiting, and every dial."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from roost.domain.errors import LaunchRefused
from roost.domain.launch import LaunchSpec
from roost.domain.replica import ExitInfo
from roost.engines.echo import EchoEngine
from roost.testing.builders import make_model
from roost.testing.engine_contract import make_launch_request
from roost.testing.engine_process import EngineEnded, EngineProcess, spawn_engine, start_engine

ENGINE = EchoEngine()
PATIENCE_S = 20.0
CHAT = "/v1/chat/completions"


def spec(dials: Mapping[str, str] | None = None, slots: int | None = None) -> LaunchSpec:
    return ENGINE.build(make_launch_request(make_model(source=None, slots=slots, options=dials or {})))


def body(**over: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "one two"}], **over}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="roost-") as path:
        yield Path(path)


class Rig:
    """One echo process and a client of it."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.client = engine.client(PATIENCE_S)

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get("/debug/state")).json()
        return found

    async def until(self, holds: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while not holds(found := await self.state()):  # noqa: ASYNC110 (another process has the state)
                await asyncio.sleep(0.005)
        return found


class Rigs:
    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder, self._stack = folder, stack

    async def __call__(self, slots: int | None = None, **dials: str) -> Rig:
        engine = await start_engine(spec(dials, slots), self._folder / "e.sock", PATIENCE_S)
        self._stack.push_async_callback(engine.stop)
        rig = Rig(engine)
        await self._stack.enter_async_context(rig.client)
        return rig


@pytest.fixture
async def start(folder: Path) -> AsyncIterator[Rigs]:
    async with AsyncExitStack() as stack:
        yield Rigs(folder, stack)


# -- clients that leave


async def test_a_dropped_stream_is_cancelled(start: Rigs) -> None:
    rig = await start(tokens_per_second="20")
    async with rig.client.stream("POST", CHAT, json=body(stream=True, max_tokens=10_000)) as reply:
        lines = reply.aiter_lines()  # kept: what is let go closes the connection
        await anext(lines)
        assert (await rig.state())["active"] == 1
    state = await rig.until(lambda s: s["active"] == 0)
    assert (state["cancelled"], state["completed"]) == (1, 0)


@pytest.mark.parametrize(("dial", "cancelled", "completed"), [("true", 1, 0), ("false", 0, 1)])
async def test_a_dropped_non_stream_is_cancelled_if_the_dial_says_so(
    start: Rigs, dial: str, cancelled: int, completed: int
) -> None:
    rig = await start(tokens_per_second="20", cancels_non_stream=dial)
    ask = asyncio.create_task(rig.client.post(CHAT, json=body(max_tokens=10)))
    await rig.until(lambda s: s["active"] == 1)
    ask.cancel()
    state = await rig.until(lambda s: s["active"] == 0)
    assert (state["cancelled"], state["completed"]) == (cancelled, completed)
    assert ENGINE.capabilities(make_model(options={"cancels_non_stream": dial})).cancels_non_stream is bool(cancelled)


async def test_a_client_that_leaves_while_waiting_is_forgotten(start: Rigs) -> None:
    rig = await start(slots=1, tokens_per_second="20")
    asks = [asyncio.create_task(rig.client.post(CHAT, json=body(max_tokens=10_000))) for _ in range(2)]
    await rig.until(lambda s: (s["active"], s["waiting"]) == (1, 1))
    for ask in asks:
        ask.cancel()
    state = await rig.until(lambda s: (s["active"], s["waiting"]) == (0, 0))
    assert state["cancelled"] == 2
    assert (await rig.client.post(CHAT, json=body(max_tokens=1))).status_code == 200


# -- many


async def test_slots_bound_what_is_worked_on(start: Rigs) -> None:
    rig = await start(slots=2, tokens_per_second="50")
    asks = [asyncio.create_task(rig.client.post(CHAT, json=body(max_tokens=5))) for _ in range(6)]
    state = await rig.until(lambda s: s["waiting"] > 0)
    assert state["active"] == 2
    assert {(await ask).status_code for ask in asks} == {200}
    assert (await rig.state())["completed"] == 6


async def test_hundreds_of_streams_at_once(start: Rigs) -> None:
    rig = await start(tokens_per_second="20")

    async def stream() -> int:
        async with rig.client.stream("POST", CHAT, json=body(stream=True, max_tokens=5)) as reply:
            return len([line async for line in reply.aiter_lines() if line.startswith("data: {")])

    counts = await asyncio.gather(*(stream() for _ in range(250)))
    assert counts == [7] * 250  # the role, five tokens, the end
    state = await rig.state()
    assert (state["completed"], state["chunks"], state["cancelled"]) == (250, 1250, 0)


async def test_metrics_count(start: Rigs) -> None:
    rig = await start()
    await rig.client.post(CHAT, json=body(max_tokens=3))
    lines = (await rig.client.get("/metrics")).text.splitlines()
    assert {"requests_processing 0", "cancelled_total 0", "completed_total 1"} <= set(lines)


# -- HTTP


async def test_requests_follow_one_another_on_a_connection(folder: Path) -> None:
    engine = await start_engine(spec(), folder / "e.sock", PATIENCE_S)
    try:
        reader, writer = await asyncio.open_unix_connection(str(engine.socket))
        data = json.dumps(body(max_tokens=2)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode()
        writer.write((head + data) * 2 + b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        writer.close()
    finally:
        await engine.stop()
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"one two") == 2
    assert answer.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize("kind", ["chat", "embedding", "rerank"])
async def test_a_model_of_each_type_answers_its_probe(start: Rigs, kind: str) -> None:
    rig = await start()
    probe = ENGINE.probe(make_model(type=kind))
    reply = await rig.client.request(probe.method, probe.path, json=dict(probe.body))
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("GET", CHAT, b"", 405),
        ("POST", "/health", b"", 405),
        ("POST", CHAT, b"{", 400),
        ("POST", "/v1/completions", b"{}", 400),
        ("POST", "/v1/embeddings", b"{}", 400),
        ("GET", "/v1/rerank", b"", 405),
    ],
)
async def test_refusals(start: Rigs, method: str, path: str, content: bytes, status: int) -> None:
    rig = await start()
    reply = await rig.client.request(method, path, content=content)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


async def test_what_is_not_http_is_refused(folder: Path) -> None:
    engine = await start_engine(spec(), folder / "e.sock", PATIENCE_S)
    try:
        reader, writer = await asyncio.open_unix_connection(str(engine.socket))
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    finally:
        await engine.stop()


async def test_completions_and_models(start: Rigs) -> None:
    rig = await start()
    answer = (await rig.client.post("/v1/completions", json={"prompt": "a b", "max_tokens": 3})).json()
    assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", "a b a")
    assert (await rig.client.get("/v1/models?x=1")).json()["data"][0]["id"] == "roost/model-00000001"


async def test_it_listens_on_a_port_too() -> None:
    (process,) = spec().processes
    argv = [part.replace("{listen}", "127.0.0.1:0") for part in process.argv]
    started = await asyncio.create_subprocess_exec(*argv)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := psutil.Process(started.pid).net_connections("tcp")):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.005)
        async with httpx.AsyncClient() as client:
            reply = await client.get(f"http://127.0.0.1:{found[0].laddr.port}/health")
        assert reply.json() == {"status": "ok"}
    finally:
        started.kill()
        await started.wait()


# -- dials that misbehave


async def test_a_start_that_fails_says_the_text(folder: Path) -> None:
    with pytest.raises(EngineEnded) as ended:
        await start_engine(spec({"fail_at_start": "-- Out of cheese."}), folder / "e.sock", PATIENCE_S)
    failure = ENGINE.explain(ended.value.exit)
    assert failure.code == "told_to_fail"
    assert failure.message.endswith("-- Out of cheese.")


async def test_a_hanging_start_never_listens_and_ends_on_term(folder: Path) -> None:
    engine = await spawn_engine(spec({"hang": "true"}), folder / "e.sock")
    with pytest.raises(TimeoutError):
        await engine.ready(0.5)
    assert await engine.stop() in (ExitInfo(code=0), ExitInfo(signal=signal.SIGTERM))
    assert not engine.socket.exists()


async def test_loading_takes_its_time(folder: Path) -> None:
    engine = await spawn_engine(spec({"load_time": "3600"}), folder / "e.sock")
    with pytest.raises(TimeoutError):
        await engine.ready(0.5)
    assert (await engine.stop()).signal != signal.SIGKILL


async def test_a_deaf_one_must_be_killed(start: Rigs) -> None:
    rig = await start(ignore_term="true")
    assert (await rig.engine.stop(grace_s=0.3)).signal == signal.SIGKILL


async def test_dying_after_so_many_chunks(start: Rigs) -> None:
    rig = await start(die_after_chunks="3")
    lines = []

    async def read() -> None:
        async with rig.client.stream("POST", CHAT, json=body(stream=True, max_tokens=100)) as reply:
            async for line in reply.aiter_lines():
                lines.append(line)  # noqa: PERF401 (a comprehension would lose the lines)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert sum('"content":' in line for line in lines) == 4  # the role's empty one and three tokens
    failure = ENGINE.explain(await rig.engine.exit())
    assert (failure.code, failure.retryable) == ("told_to_die", True)


async def test_a_child_that_only_the_trees_end_ends(start: Rigs) -> None:
    rig = await start(spawn_child="true")
    child = psutil.Process((await rig.state())["child"])
    assert child.parent() == psutil.Process(rig.engine.pid)
    assert child.is_running()
    await rig.engine.stop()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    "dials",
    [
        {"speed": "1"},
        {"hang": "yes"},
        {"slots": "-1"},
        {"die_after_chunks": "1.5"},
        {"tokens_per_second": "nan"},
        {"load_time": "-1"},
        {"load_time": "soon"},
    ],
)
def test_dials_that_it_does_not_have(dials: dict[str, str]) -> None:
    with pytest.raises(LaunchRefused) as caught:
        spec(dials)
    assert caught.value.code == "unknown_option"
    assert next(iter(dials)) in caught.value.message
