"""The contract of engines: subclass ``EngineContract``, give it a ``case`` fixture, and pytest does the rest.

::

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def case(self):
            return EngineCase(MyEngine(), make_launch_request(model), broken=make_launch_request(bad_model))

For engines that Roost starts. The cases run the engine's process without a runtime, on a unix socket; they need an
asyncio mode of ``auto``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from roost.domain.errors import LaunchRefused
from roost.domain.hardware import Hardware, Placement, Resources
from roost.domain.launch import LISTEN, LaunchSpec
from roost.domain.model import Model
from roost.domain.replica import ExitInfo
from roost.engines.base import Engine, LaunchRequest
from roost.engines.registry import names
from roost.testing.engine_process import EngineEnded, EngineProcess, start_engine

PATIENCE_S = 60.0
"""A case that waits longer than this has failed."""

GENERIC = ("engine_crashed", "engine_start_failed", "internal_error")
"""Codes that explain nothing."""


@dataclass(frozen=True, slots=True)
class EngineCase:
    """An engine, a request that it can fulfil, and one whose launch can be built but fails when started."""

    engine: Engine
    request: LaunchRequest
    broken: LaunchRequest


def make_launch_request(
    model: Model, weights_path: str | None = None, *, threads: int = 1, memory_bytes: int = 4 << 30, **over: Any
) -> LaunchRequest:
    """A request for ``model`` on CPU hardware of ``threads`` threads; ``over`` replaces fields."""
    values: dict[str, Any] = {
        "endpoint_id": "endpoint-00000000-0000-0000-0000-000000000001",
        "endpoint_name": "roost/model-00000001",
        "model": model,
        "hardware": Hardware(
            id=f"{threads}x_cpu",
            accelerator="cpu",
            gpu_type="cpu",
            gpu_count=threads,
            gpu_link="none",
            memory_gb=memory_bytes / 1e9,
            cents_per_minute=0.0,
            resources=Resources(threads=threads, memory_bytes=memory_bytes),
        ),
        "placement": Placement("node-1", "zone-a", "the only node"),
        "weights_path": weights_path,
    }
    return LaunchRequest(**{**values, **over})


class EngineContract:
    """Every engine that Roost starts passes these."""

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        """A private folder with a path short enough for sockets."""
        with tempfile.TemporaryDirectory(prefix="roost-") as path:
            yield Path(path)

    @pytest.fixture
    async def engine_process(self, case: EngineCase, folder: Path) -> AsyncIterator[EngineProcess]:
        """The engine of the case, accepting connections."""
        process = await start_engine(case.engine.build(case.request), folder / "e.sock", PATIENCE_S)
        yield process
        await process.stop()

    # -- what it says

    def test_it_is_known_by_its_name(self, case: EngineCase) -> None:
        assert case.engine.name in names()

    def test_it_lacks_nothing_and_knows_its_version(self, case: EngineCase) -> None:
        assert case.engine.missing() is None
        assert case.engine.version()

    def test_its_capabilities_are_consistent(self, case: EngineCase) -> None:
        capabilities = case.engine.capabilities(case.request.model)
        assert capabilities.managed
        assert capabilities.slots is None or capabilities.slots >= 1
        assert capabilities.any_model_name or capabilities.served_model

    def test_options_are_checked_without_a_launch(self, case: EngineCase) -> None:
        case.engine.check_options(case.request.model)
        odd = replace(case.request.model, options={**case.request.model.options, "no_such_option": "1"})
        with pytest.raises(LaunchRefused) as refused:
            case.engine.check_options(odd)
        assert refused.value.code == "unknown_option"
        assert refused.value.message.endswith(".")

    # -- launch specs

    def test_a_launch_reserves_what_the_hardware_is(self, case: EngineCase) -> None:
        spec = case.engine.build(case.request)
        assert spec.endpoint_id == case.request.endpoint_id
        assert spec.resources == case.request.hardware.resources
        assert spec.accelerator == case.request.hardware.accelerator
        assert (spec.node_id, spec.zone) == (case.request.placement.node_id, case.request.placement.zone)
        assert spec.start_timeout.total_seconds() > 0
        assert spec.stop_grace.total_seconds() >= 0

    def test_a_launch_leaves_the_address_to_the_runtime(self, case: EngineCase) -> None:
        for process in case.engine.build(case.request).processes:
            assert sum(part.count(LISTEN) for part in (*process.argv, *process.env.values())) >= 1
            assert Path(process.argv[0]).is_absolute()

    def test_no_secret_is_an_argument(self, case: EngineCase) -> None:
        for process in case.engine.build(case.request).processes:
            shown = [*process.argv, *process.env.values()]
            assert not any(secret and secret in text for secret in process.secrets.values() for text in shown)
            options = {text.partition("=")[0] for text in process.argv}
            assert not options & {"--api-key", "--token", "--hf-token", "--password", "--secret"}

    def test_the_same_request_gives_the_same_launch(self, case: EngineCase) -> None:
        assert case.engine.build(case.request) == case.engine.build(case.request)

    # -- the process

    async def test_it_answers_the_probe(self, case: EngineCase, engine_process: EngineProcess) -> None:
        probe = case.engine.probe(case.request.model)
        async with engine_process.client(probe.timeout_s) as client:
            response = await client.request(probe.method, probe.path, json=dict(probe.body) or None)
        assert response.is_success, response.text

    async def test_it_chats(self, case: EngineCase, engine_process: EngineProcess) -> None:
        async with engine_process.client() as client:
            answer = (await client.post("/v1/chat/completions", json=_chat(case))).json()
        (choice,) = answer["choices"]
        assert answer["object"] == "chat.completion"
        assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", "length")
        assert choice["message"]["content"]
        assert answer["usage"]["completion_tokens"] == 4
        assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 4

    async def test_it_streams(self, case: EngineCase, engine_process: EngineProcess) -> None:
        body = {**_chat(case), "stream": True, "stream_options": {"include_usage": True}}
        async with engine_process.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            lines = [line async for line in reply.aiter_lines()]
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert data.pop() == "[DONE]"
        chunks = [json.loads(each) for each in data]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        assert "".join(choice["delta"].get("content") or "" for choice in choices)
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
        assert chunks[-1]["usage"]["completion_tokens"] == 4

    async def test_it_goes_on_from_the_beginning_of_an_answer(
        self, case: EngineCase, engine_process: EngineProcess
    ) -> None:
        if not case.engine.capabilities(case.request.model).can_continue:
            return  # it does not claim to
        asked = {**_chat(case), "max_tokens": 12}
        whole = await _pieces(engine_process, asked)
        counts = []
        for cut in range(1, len(whole)):
            text = "".join(whole[:cut])
            beginning = {"role": "assistant", "content": text}
            rest = {"messages": [*asked["messages"], beginning], "max_tokens": 12 - cut, "roost_emitted": len(text)}
            counts.append(shared_pieces([*whole[:cut], *await _pieces(engine_process, {**asked, **rest})], whole))
        # Greedy texts may part where an engine computes a prompt otherwise than what it generates; not at the joint.
        assert all(count > cut for cut, count in enumerate(counts, 1)) or counts.count(len(whole)) >= 0.8 * len(counts)

    async def test_only_this_user_may_connect(self, engine_process: EngineProcess) -> None:
        assert engine_process.socket.stat().st_mode & 0o077 == 0

    async def test_term_ends_it_within_the_grace(self, case: EngineCase, engine_process: EngineProcess) -> None:
        exit = await engine_process.stop(case.engine.build(case.request).stop_grace.total_seconds())
        assert exit.signal != 9

    async def test_term_ends_it_with_requests_in_flight(self, case: EngineCase, engine_process: EngineProcess) -> None:
        body = {**_chat(case), "stream": True, "max_tokens": 1000}
        async with engine_process.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as reply:
            data = reply.aiter_bytes()  # kept: what is let go closes the connection
            await anext(data)
            exit = await engine_process.stop(case.engine.build(case.request).stop_grace.total_seconds())
        assert exit.signal != 9

    # -- failures

    async def test_a_failed_start_is_explained(self, case: EngineCase, folder: Path) -> None:
        with pytest.raises(EngineEnded) as ended:
            await start_engine(case.engine.build(case.broken), folder / "e.sock", PATIENCE_S)
        failure = case.engine.explain(ended.value.exit)
        assert failure.code not in GENERIC
        assert failure.message
        assert "\n" not in failure.message

    @pytest.mark.parametrize(
        "exit",
        [
            ExitInfo(),
            ExitInfo(code=0),
            ExitInfo(code=1, log_tail=("",)),
            ExitInfo(signal=11),
            ExitInfo(signal=9),
            ExitInfo(signal=4096),
            ExitInfo(cause="its node was lost"),
        ],
        ids=repr,
    )
    def test_every_end_has_a_code_and_a_sentence(self, case: EngineCase, exit: ExitInfo) -> None:
        failure = case.engine.explain(exit)
        assert failure.code
        assert failure.code.replace("_", "").isalnum()
        assert failure.message

    def test_a_kill_is_told_without_a_guess_who_did_it(self, case: EngineCase) -> None:
        failure = case.engine.explain(ExitInfo(signal=9))
        assert failure.code == "engine_killed"
        assert failure.hint


def shared_pieces(one: Sequence[str], other: Sequence[str]) -> int:
    """How many pieces the two have in common from their start."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


async def _pieces(engine_process: EngineProcess, body: dict[str, Any]) -> list[str]:
    # Over a connection of its own: llama.cpp now and then closes one after a stream without a word.
    streamed = {**body, "stream": True}
    async with (
        engine_process.client() as client,
        client.stream("POST", "/v1/chat/completions", json=streamed) as reply,
    ):
        lines = [line.removeprefix("data: ") async for line in reply.aiter_lines() if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


def spec_arguments(spec: LaunchSpec) -> dict[str, str]:
    """The options of a launch's first process that take a value, by name."""
    argv = spec.processes[0].argv
    return {name: value for name, value in pairwise(argv) if name.startswith("--") and not value.startswith("--")}


def _chat(case: EngineCase) -> dict[str, Any]:
    served = case.engine.capabilities(case.request.model).served_model
    return {
        "model": served or case.request.endpoint_name,
        "messages": [{"role": "user", "content": "Count from one to one hundred"}],
        "max_tokens": 4,
        "temperature": 0,
    }
