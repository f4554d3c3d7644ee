"""Chat, completions, embeddings and reranking with the real llama.cpp behind the gateway: what only it can show."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import together
from tests.unit.gateway import fakes
from tests.unit.gateway.fakes import ENDPOINT, KEY

from roost.control.routes import traits_of
from roost.domain.routing import RouteReplica
from roost.engines.llama_cpp import LlamaCppEngine
from roost.models.catalog import SMOLLM2
from roost.testing.engine_contract import make_launch_request
from roost.testing.engine_process import running_engine
from roost.testing.weights import smollm2_path

CACHE = Path(os.environ.get("ROOST_TEST_CACHE") or Path(__file__).parents[2] / ".cache")
HI: list[Any] = [{"role": "user", "content": "Hi"}]
CLASSIC = {"User-Agent": "Together/v1 PythonBindings/1.5.35"}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {"type": "object", "properties": {"city": {"$ref": "#/$defs/City"}}, "required": ["city"],
                       "$defs": {"City": {"type": "string"}}},
    },
}  # fmt: skip
CLOCK: Any = {"type": "function", "function": {"name": "get_time"}}
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}


@dataclass
class Served:
    """A gateway with one replica, and clients of it."""

    http: httpx.AsyncClient
    modern: openai.AsyncOpenAI
    classic: together.AsyncTogether

    async def ask(self, path: str = "chat/completions", *, classic: bool = False, **body: Any) -> Any:
        """The JSON of an answer."""
        given = {"messages": HI, "max_tokens": 8} if path == "chat/completions" else {}
        answer = await self.http.post(path, json={**given, **body}, headers=CLASSIC if classic else None)
        return answer.json()

    async def stream(self, path: str = "chat/completions", *, classic: bool = False, **body: Any) -> list[Any]:
        """The chunks of a stream that ends as it should."""
        given = {"messages": HI, "max_tokens": 8} if path == "chat/completions" else {}
        body = {"stream": True, **given, **body}
        answer = await self.http.post(path, json=body, headers=CLASSIC if classic else None)
        assert answer.status_code == 200, answer.text
        lines = [line for line in answer.text.split("\n\n") if line and not line.startswith(":")]
        assert all(line.startswith("data: ") for line in lines)
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ri"))
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[Served]:
    engine = LlamaCppEngine()
    model = replace(SMOLLM2, **changes)
    spec = engine.build(make_launch_request(model, str(smollm2_path(CACHE))))
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(running_engine(spec, folder / "e.sock"))
        world = await stack.enter_async_context(fakes.world(folder))
        traits = traits_of(model)
        assert traits is not None
        world.route(
            RouteReplica("replica-1", process.address), engine=traits.engine, dialect=traits.dialect, type=traits.type,
            cancels_non_stream=traits.cancels_non_stream, context_length=traits.context_length,
            logprobs=not traits.speculation_spoils_logprobs,
        )  # fmt: skip
        base = f"http://127.0.0.1:{world.port}/v1/"

        class Named(httpx.AsyncClient):
            async def post(self, url: Any, *, json: Any = None, **rest: Any) -> httpx.Response:
                return await super().post(url, json={"model": ENDPOINT, "temperature": 0, **json}, **rest)

        http = Named(base_url=base, headers={"authorization": f"Bearer {KEY}"}, timeout=60)
        yield Served(
            await stack.enter_async_context(http),
            await stack.enter_async_context(openai.AsyncOpenAI(api_key=KEY, base_url=base, max_retries=0)),
            await stack.enter_async_context(together.AsyncTogether(api_key=KEY, base_url=base, max_retries=0)),
        )


@pytest.fixture
async def served(folder: Path) -> AsyncIterator[Served]:
    async with serving(folder) as it:
        yield it


async def test_the_usage_of_several_choices_counts_the_prompt_once_and_all_that_was_said(served: Served) -> None:
    one = (await served.ask())["usage"]
    chat = await served.ask(n=3)
    assert len(chat["choices"]) == 3
    assert (chat["usage"]["prompt_tokens"], chat["usage"]["completion_tokens"]) == (one["prompt_tokens"], 24)
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}}
    for classic in (True, False):
        chunks = await served.stream(n=3, classic=classic, **asked)
        assert [c["usage"]["completion_tokens"] for c in chunks if c.get("usage")] == [24] * (2 if classic else 1)
        assert chunks[-1]["choices"] == []
        assert {c["index"] for chunk in chunks for c in chunk["choices"]} == {0, 1, 2}
    unasked = await served.stream(n=3, classic=True)
    assert (unasked[-1]["usage"]["completion_tokens"], unasked[-1]["choices"][0]["finish_reason"]) == (24, "length")
    assert all("usage" not in chunk for chunk in await served.stream(n=2))


async def test_the_usage_of_several_prompts_counts_each_of_them_once(served: Served) -> None:
    prompts = ["The sky", "A much longer prompt is"]
    alone = [(await served.ask("completions", prompt=p, max_tokens=4))["usage"]["prompt_tokens"] for p in prompts]
    wanted = (sum(alone), 16)
    whole = await served.ask("completions", prompt=prompts, n=2, max_tokens=4)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == wanted
    chunks = await served.stream(
        "completions", prompt=prompts, n=2, max_tokens=4, stream_options={"include_usage": True}
    )
    (usage,) = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == wanted


async def test_logprobs_of_chat_in_the_shape_that_was_asked_for(served: Served) -> None:
    plain = (await served.ask(logprobs=True))["choices"][0]["logprobs"]["content"]
    assert len(plain) == 8
    assert all(item["logprob"] < 0 and item["top_logprobs"] == [] for item in plain)
    top = (await served.ask(logprobs=True, top_logprobs=3))["choices"][0]["logprobs"]["content"]
    assert all(len(item["top_logprobs"]) == 3 for item in top)
    # Greedy: what was said is what was likeliest.
    assert all(item["token"] == item["top_logprobs"][0]["token"] for item in top)
    count = (await served.ask(logprobs=2, classic=True))["choices"][0]["logprobs"]
    assert count["tokens"] == [item["token"] for item in plain]
    assert count["token_logprobs"] == pytest.approx([item["logprob"] for item in plain], abs=0.02)
    chunks = await served.stream(logprobs=2, classic=True)
    numbers = [c["choices"][0].get("logprobs") for c in chunks]
    assert [n for n in numbers if n is not None] == pytest.approx(count["token_logprobs"], abs=0.02)


async def test_logprobs_of_completions_are_openais_old_ones(served: Served) -> None:
    answer = await served.modern.completions.create(
        model=ENDPOINT, prompt="The sky is", max_tokens=4, logprobs=2, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.text_offset == [sum(map(len, logprobs.tokens[:at])) for at in range(4)]
    assert logprobs.top_logprobs is not None
    assert [len(each) for each in logprobs.top_logprobs] == [2] * 4


async def test_logprobs_with_tools_are_there(served: Served) -> None:
    answer = await served.ask(logprobs=True, top_logprobs=1, tools=[WEATHER])
    assert len(answer["choices"][0]["logprobs"]["content"]) == 8


async def test_a_tool_that_is_demanded_is_called(served: Served) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    body: Any = {"messages": question, "tools": [WEATHER, CLOCK], "max_tokens": 60}
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        answer = await served.ask(**body, tool_choice=choice)
        (said,) = answer["choices"]
        (call,) = said["message"]["tool_calls"]
        assert (said["finish_reason"], said["message"]["content"]) == ("tool_calls", None)
        assert call["function"]["name"] == "get_weather"
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    for classic in (True, False):
        chunks = await served.stream(**body, tool_choice=named, classic=classic)
        calls = [c["choices"][0]["delta"]["tool_calls"] for c in chunks if c["choices"][0]["delta"].get("tool_calls")]
        assert json.loads(calls[0][0]["function"]["arguments"]) == {"city": "Paris"}
        assert [c["choices"][0]["finish_reason"] for c in chunks][-1] == "tool_calls"
    refused = await served.ask(**body, tool_choice={"type": "function", "function": {"name": "nothing"}})
    assert refused["error"]["param"] == "tool_choice"


async def test_a_demanded_tool_keeps_to_its_own_definitions(served: Served) -> None:
    kinds: dict[str, Any] = {"red": {"const": "red"}, "blue": {"const": "blue"}}
    tools = [
        {"type": "function", "function": {"name": f"paint_{name}", "parameters": {
            "type": "object", "required": ["colour", "again", "parts"], "$defs": {"Colour": kind},
            "properties": {
                "colour": {"$ref": "#/$defs/Colour"},
                "again": {"$ref": "#/properties/colour"},
                "parts": {"type": "array", "items": {"$ref": "#"}, "maxItems": 0},
            }}}}
        for name, kind in kinds.items()
    ]  # fmt: skip
    painted = set()
    for choice in ("required", *({"type": "function", "function": {"name": f"paint_{name}"}} for name in kinds)):
        answer = await served.ask(tools=tools, tool_choice=choice, max_tokens=80)
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        name = call["function"]["name"].removeprefix("paint_")
        assert json.loads(call["function"]["arguments"]) == {"colour": name, "again": name, "parts": []}
        painted.add(name)
    assert painted == set(kinds)


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOUR}},
        {"type": "json_schema", "schema": COLOUR},
        {"type": "json_object", "schema": COLOUR},
    ],
    ids=["nested", "top-level", "json_object"],
)
async def test_a_schema_is_kept_wherever_it_stands(served: Served, response_format: Any) -> None:
    answer = await served.ask(response_format=response_format, max_tokens=60)
    assert json.loads(answer["choices"][0]["message"]["content"])["colour"] in ("red", "blue")


async def test_prompts_are_given_back(served: Served) -> None:
    prompts = ["The sky", "The sea"]
    plain = await served.ask("completions", prompt=prompts, max_tokens=4)
    answer = await served.ask("completions", prompt=prompts, max_tokens=4, echo=True)
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts == [p + c["text"] for p, c in zip(prompts, plain["choices"], strict=True)]
    chunks = await served.stream("completions", prompt=prompts, max_tokens=4, echo=True)
    for index, text in enumerate(texts):
        assert "".join(c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == index) == text
    chat = await served.ask(echo=True)
    assert chat["prompt"] == [{"text": "Hi", "logprobs": None}]


async def test_a_bias_a_seed_and_a_penalty_have_their_effect(served: Served) -> None:
    first = (await served.ask(logprobs=1))["choices"][0]["logprobs"]
    token = str(first["token_ids"][0])
    banned = await served.ask(logit_bias={token: -100}, logprobs=1)
    assert banned["choices"][0]["logprobs"]["token_ids"][0] != first["token_ids"][0]
    said = [(await served.ask(seed=7, temperature=1.5))["choices"][0]["message"]["content"] for _ in range(2)]
    assert said[0] == said[1]
    assert [(await served.ask(top_k=1, temperature=1.5))["choices"][0]["message"]["content"] for _ in range(1)]
    repeated: dict[str, Any] = {"prompt": "a a a a a a a a", "max_tokens": 4}
    free = (await served.ask("completions", **repeated))["choices"][0]["text"]
    assert (await served.ask("completions", **repeated, repetition_penalty=2.0))["choices"][0]["text"] != free


BAD: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "hot": ("chat/completions", {"temperature": "hot"}, "temperature"),
    "no choice": ("chat/completions", {"n": 0}, "n"),
    "a thousand choices": ("chat/completions", {"n": 1000}, "n"),
    "more choices than slots": ("chat/completions", {"n": 100}, "n"),
    "fewer tokens than none": ("chat/completions", {"max_tokens": -5}, "max_tokens"),
    "no messages": ("chat/completions", {"messages": []}, "messages"),
    "messages missing": ("chat/completions", {"messages": None}, "messages"),
    "messages of a wrong type": ("chat/completions", {"messages": "hi"}, "messages"),
    "a message without a role": ("chat/completions", {"messages": [{"content": "x"}]}, "messages"),
    "a message without content": ("chat/completions", {"messages": [{"role": "user"}]}, None),
    "an image": (
        "chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        None,
    ),
    "too many logprobs": ("chat/completions", {"logprobs": 99}, "logprobs"),
    "alternatives without logprobs": ("chat/completions", {"top_logprobs": 2}, None),
    "tools of a wrong type": ("chat/completions", {"tools": 5}, "tools"),
    "a strange tool": ("chat/completions", {"tools": [{"type": "x"}]}, "tools"),
    "a schema of a wrong type": ("chat/completions", {"response_format": {"type": "json_schema"}}, "response_format"),
    "a format of no type": ("chat/completions", {"response_format": {"type": "yaml"}}, None),
    "too long": ("chat/completions", {"messages": [{"role": "user", "content": "x " * 3000}]}, None),
    "prompt missing": ("completions", {}, "prompt"),
    "unknown tokens": ("completions", {"prompt": [99999999]}, None),
    "stop of a wrong type": ("completions", {"prompt": "x", "stop": 5}, "stop"),
    "another operation": ("embeddings", {"input": "x"}, "model"),
}  # fmt: skip


async def test_every_bad_value_is_a_400_in_the_envelope(served: Served) -> None:
    for name, (path, body, param) in BAD.items():
        for streamed in (False, True):
            given = {"messages": HI} if path == "chat/completions" else {}
            answer = await served.http.post(path, json={"max_tokens": 4, **given, **body, "stream": streamed})
            assert answer.status_code == 400, (name, answer.text)
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["param"] == param, (name, error)
            assert "json.exception" not in error["message"], name


async def test_a_prompt_beyond_the_context_has_a_code_of_its_own(served: Served) -> None:
    refused = await served.ask(messages=[{"role": "user", "content": "x " * 3000}])
    assert refused["error"]["code"] == "context_length_exceeded"
    error: dict[str, Any] = {"context_length_exceeded_behavior": "error"}
    truncate: dict[str, Any] = {"context_length_exceeded_behavior": "truncate"}
    assert (await served.ask(max_tokens=10**6, **error))["error"]["code"] == "context_length_exceeded"
    assert (await served.ask(max_tokens=10**6, **truncate, stop=["!"]))["choices"]


async def test_the_vendors_client_streams_completions(served: Served) -> None:
    chunks = [
        chunk
        async for chunk in await served.classic.completions.create(
            model=ENDPOINT, prompt="The sky is", max_tokens=4, temperature=0, stream=True
        )
    ]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert all(delta is not None and delta.role == "assistant" for delta in deltas)
    said = "".join(delta.content or "" for delta in deltas if delta is not None)
    assert said == "".join(chunk.choices[0].text or "" for chunk in chunks) != ""
    assert chunks[-1].usage is not None


async def test_logprobs_are_refused_while_it_speculates(folder: Path) -> None:
    async with serving(folder, options={"speculation": "on"}) as served:
        refused = await served.ask(logprobs=True)
        assert refused["error"]["code"] == "logprobs_unavailable"
        assert "--no-speculative-decoding" in refused["error"]["message"]
        assert (await served.ask(logprobs=False))["choices"]


async def test_embeddings(folder: Path) -> None:
    async with serving(folder, type="embedding", context_length=256) as served:
        texts = ["a cat", "a kitten", "tax law"]
        one = await served.classic.embeddings.create(model=ENDPOINT, input=texts)
        two = await served.modern.embeddings.create(model=ENDPOINT, input=texts)  # base64 on the wire
        assert [len(item.embedding) for item in two.data] == [576] * 3
        for index in range(3):
            assert one.data[index].embedding == pytest.approx(two.data[index].embedding, abs=1e-6)
        assert two.usage.prompt_tokens == two.usage.total_tokens > 0
        short = [
            (await served.ask("embeddings", input="a cat", dimensions=64, encoding_format=packed))["data"][0][
                "embedding"
            ]
            for packed in ("float", "base64")
        ]
        numbers = array("f", base64.b64decode(short[1]))
        assert numbers.tolist() == pytest.approx(short[0], abs=1e-6)
        assert len(numbers) == 64
        assert sum(number * number for number in numbers) == pytest.approx(1.0, abs=1e-5)
        assert (await served.ask("embeddings", input="x", dimensions=9999))["error"]["param"] == "dimensions"
        assert (await served.ask("embeddings", input="x " * 3000))["error"]["code"] == "context_length_exceeded"
        refused = await served.ask()
        assert refused["error"]["code"] == "unsupported_operation"


async def test_reranking(folder: Path) -> None:
    async with serving(folder, type="rerank", context_length=256) as served:
        texts = ["hi", "a bear", "the panda is a bear"]
        answer = await served.classic.rerank.create(
            model=ENDPOINT, query="what is a panda", documents=texts, top_n=2, return_documents=True
        )
        assert answer.object == "rerank"
        scores = [result.relevance_score for result in answer.results]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 2
        assert [result.document.text for result in answer.results] == [texts[r.index] for r in answer.results]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 0
        objects: list[dict[str, object]] = [{"title": "t", "text": text} for text in texts]
        ranked = await served.classic.rerank.create(
            model=ENDPOINT, query="what is a panda", documents=objects, rank_fields=["text"]
        )
        assert [result.relevance_score for result in ranked.results][:2] == pytest.approx(scores, abs=0.01)
        assert (await served.ask("rerank", query="x", documents=[]))["error"]["param"] == "documents"
        assert (await served.ask("rerank", query="x", documents=["a"], top_n=-1))["error"]["param"] == "top_n"
