"""The llama.cpp engine keeps the contract of engines, with real weights; and what only it promises."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from roost.domain.model import Footprint
from roost.domain.replica import ExitInfo
from roost.engines import gguf_shape
from roost.engines.base import LaunchRequest
from roost.engines.llama_cpp import LlamaCppEngine
from roost.models import gguf
from roost.models.catalog import SMOLLM2
from roost.runtimes.supervision.log_filter import LogFilter
from roost.testing.engine_contract import EngineCase, EngineContract, make_launch_request
from roost.testing.engine_process import EngineEnded, EngineProcess, running_engine, spawn_engine, start_engine
from roost.testing.weights import smollm2_path

CACHE = Path(os.environ.get("ROOST_TEST_CACHE") or Path(__file__).parents[2] / ".cache")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def weights() -> Path:
    return smollm2_path(CACHE)


@pytest.fixture(scope="module")
def truncated(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "truncated.gguf"
    with weights.open("rb") as file:
        path.write_bytes(file.read(50_000_000))
    return path


def unsized(request: LaunchRequest) -> LaunchRequest:
    """The same request of a user who told nobody how large the file is."""
    return replace(request, model=replace(request.model, source=None))


class TestLlamaCppEngine(EngineContract):
    @pytest.fixture
    def case(self, weights: Path, truncated: Path) -> EngineCase:
        return EngineCase(
            LlamaCppEngine(),
            make_launch_request(SMOLLM2, str(weights)),
            broken=unsized(make_launch_request(SMOLLM2, str(truncated))),
        )

    async def test_it_listens_only_once_it_can_answer(self, case: EngineCase, folder: Path) -> None:
        engine = await spawn_engine(case.engine.build(case.request), folder / "e.sock")
        try:
            await engine.ready(PATIENCE_S)
            async with engine.client() as client:
                first = await client.get("/health")
            assert first.status_code == 200
            assert [entry.name for entry in folder.iterdir()] == ["e.sock"]
        finally:
            await engine.stop()
        assert list(folder.iterdir()) == []

    async def test_answers_carry_the_endpoints_name(self, case: EngineCase, engine_process: EngineProcess) -> None:
        body = {"model": "anything", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        async with engine_process.client() as client:
            answer = (await client.post("/v1/chat/completions", json=body)).json()
        assert answer["model"] == case.request.endpoint_name

    async def test_every_slot_has_the_whole_context(self, case: EngineCase, engine_process: EngineProcess) -> None:
        async with engine_process.client() as client:
            slots = (await client.get("/slots")).json()
        assert [slot["n_ctx"] for slot in slots] == [case.request.model.context_length] * 4
        assert {slot["speculative"] for slot in slots} == {False}

    async def test_metrics_are_there(self, engine_process: EngineProcess) -> None:
        async with engine_process.client() as client:
            text = (await client.get("/metrics")).text
        assert "llamacpp:requests_processing 0" in text

    async def test_what_is_kept_of_its_output_holds_nothing_of_requests(
        self, case: EngineCase, engine_process: EngineProcess
    ) -> None:
        forged = "\n0.09.496.959 E hush-hush"
        hi = '"messages":[{"role":"user","content":"Hi"}],"max_tokens":1'
        schema = {"type": "string", "pattern": f"\\q{forged}\n"}
        bodies = [
            '{"messages":[{"role":"user","content":"hush-hush \\ud800"}]}',
            f'{{{hi},"grammar":{json.dumps(f"root ::= hush-hush{forged}{forged}")}}}',
            f'{{{hi},"response_format":{{"type":"json_schema","json_schema":{{"schema":{json.dumps(schema)}}}}}}}',
            f'{{{hi},"samplers":[{json.dumps(f"hush-hush{forged}")}]}}',
            '{"messages":[{"role":"user","content":[{"type":"hush-hush"}]}]}',
            '{"last":"hush-last',
        ]
        async with engine_process.client() as client:
            for body in bodies:
                await client.post("/v1/chat/completions", content=body)
        async with asyncio.timeout(PATIENCE_S):
            while "hush-last" not in "\n".join(engine_process.log()):  # noqa: ASYNC110 (output sends no event)
                await asyncio.sleep(0.01)
        written = "\n".join(engine_process.log())
        assert written.count("hush-hush") > len(bodies)
        rule = case.engine.build(case.request).processes[0].output
        assert rule is not None
        kept = LogFilter(rule.open_until, rule.keep).feed(written.encode()).decode()
        assert "hush" not in kept
        assert "failed to parse grammar" in kept
        assert 'got exception: {"error":{"code":400' in kept

    async def test_more_requests_than_slots_wait_their_turn(self, engine_process: EngineProcess) -> None:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        async with engine_process.client() as client:
            asked = [client.post("/v1/chat/completions", json=body) for _ in range(9)]
            answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}

    async def test_an_entry_may_turn_speculation_on_and_an_endpoint_off(self, case: EngineCase, folder: Path) -> None:
        model = replace(case.request.model, options={"speculation": "on"})
        for asked in (True, False):
            spec = case.engine.build(replace(case.request, model=model, speculative_decoding=asked))
            async with running_engine(spec, folder / "e.sock", PATIENCE_S) as engine, engine.client() as client:
                slots = (await client.get("/slots")).json()
            assert {slot["speculative"] for slot in slots} == {asked}

    async def test_logprobs_are_whole(self, engine_process: EngineProcess) -> None:
        body = {"messages": [{"role": "user", "content": "a b a b a b a b"}], "max_tokens": 24, "temperature": 0}
        async with engine_process.client() as client:
            answer = await client.post("/v1/chat/completions", json={**body, "logprobs": True, "top_logprobs": 2})
        tokens = answer.json()["choices"][0]["logprobs"]["content"]
        assert len(tokens) == answer.json()["usage"]["completion_tokens"]
        assert all(len(token["top_logprobs"]) == 2 and token["logprob"] < 0 for token in tokens)

    @pytest.mark.parametrize(("kind", "key"), [("embedding", "data"), ("rerank", "results")])
    async def test_models_that_do_not_generate_answer_their_probe(
        self, case: EngineCase, folder: Path, kind: str, key: str
    ) -> None:
        model = replace(case.request.model, type=kind, context_length=256)
        probe = case.engine.probe(model)
        spec = case.engine.build(replace(case.request, model=model))
        async with running_engine(spec, folder / "e.sock", PATIENCE_S) as engine, engine.client() as client:
            answer = await client.request(probe.method, probe.path, json=dict(probe.body))
        assert answer.status_code == 200
        assert len(answer.json()[key]) == 1

    async def test_tools_reach_a_chatml_model_whose_template_knows_none(self, engine_process: EngineProcess) -> None:
        messages = [{"role": "user", "content": "Weather in Paris?"}]
        tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
        async with engine_process.client() as client:
            with_tools = await client.post("/apply-template", json={"messages": messages, "tools": [tool]})
            without = await client.post("/apply-template", json={"messages": messages})
        assert "get_weather" in with_tools.json()["prompt"]
        assert without.json()["prompt"] == (
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nWeather in Paris?<|im_end|>\n<|im_start|>assistant\n"
        )

    async def test_a_file_cut_short_is_called_corrupt(self, case: EngineCase, folder: Path) -> None:
        exit = await self.failed(case, case.broken, folder)
        failure = case.engine.explain(exit)
        assert (failure.code, failure.retryable) == ("corrupt_weights", False)
        assert "not within the file bounds" in failure.message
        assert not any("Traceback" in line for line in exit.log_tail)
        assert list(folder.iterdir()) == []

    async def test_a_file_of_an_unknown_architecture(self, case: EngineCase, weights: Path, folder: Path) -> None:
        other = bytearray(weights.read_bytes())
        at = other.index(b"general.architecture") + len(b"general.architecture") + 12
        other[at : at + 5] = b"zzzzz"
        (folder / "other.gguf").write_bytes(other)
        request = unsized(make_launch_request(SMOLLM2, str(folder / "other.gguf")))
        failure = case.engine.explain(await self.failed(case, request, folder))
        assert (failure.code, failure.retryable) == ("wrong_format", False)

    async def test_a_context_that_memory_does_not_hold(self, case: EngineCase, weights: Path, folder: Path) -> None:
        model = replace(SMOLLM2, context_length=400_000)
        spec = case.engine.build(make_launch_request(model, str(weights), memory_bytes=1 << 40))
        (process,) = spec.processes
        limited = ("/bin/sh", "-c", 'ulimit -v 4000000; exec "$@"', "sh", *process.argv)
        spec = replace(spec, processes=(replace(process, argv=limited),))
        with pytest.raises(EngineEnded) as ended:
            await start_engine(spec, folder / "e.sock", PATIENCE_S)
        failure = case.engine.explain(ended.value.exit)
        assert (failure.code, failure.retryable) == ("out_of_memory", True)
        assert "insufficient memory" in failure.message
        assert failure.hint

    async def test_an_address_that_cannot_be_used(self, case: EngineCase, folder: Path) -> None:
        with pytest.raises(EngineEnded) as ended:
            await start_engine(case.engine.build(case.request), folder / "nowhere" / "e.sock", PATIENCE_S)
        failure = case.engine.explain(ended.value.exit)
        assert (failure.code, failure.retryable) == ("port_in_use", True)

    async def test_a_reserved_accelerator_that_is_not_there(self, case: EngineCase, folder: Path) -> None:
        hardware = case.request.hardware
        resources = replace(hardware.resources, accelerators=1)
        request = replace(case.request, hardware=replace(hardware, resources=resources))
        failure = case.engine.explain(await self.failed(case, request, folder))
        assert failure.code == "missing_accelerator"

    async def failed(self, case: EngineCase, request: LaunchRequest, folder: Path) -> ExitInfo:
        with pytest.raises(EngineEnded) as ended:
            await start_engine(case.engine.build(request), folder / "e.sock", PATIENCE_S)
        return ended.value.exit


def test_the_default_model_declares_what_its_header_tells(weights: Path) -> None:
    told = gguf.kv_bytes_per_token(weights)
    assert Footprint(weights.stat().st_size, told) == SMOLLM2.footprint
    assert gguf_shape.kv_bytes_per_token(weights) == told, "the engine reads the same"
