"""The published clients, unchanged, against the gateway and an engine that answers like llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import together
from tests.unit.gateway.fakes import (
    CHAT,
    ENDPOINT,
    KEY,
    OTHER_KEY,
    STREAM_HEAD,
    USAGE,
    Peer,
    Seen,
    World,
    chunked,
    delta,
    event,
    stream,
)

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


async def llama(seen: Seen, peer: Peer) -> None:
    """Streams only, a role on the first chunk only, usage only when asked for."""
    asked = seen.json.get("stream_options", {}).get("include_usage")
    assert seen.json["stream"] is True
    chunks: list[Any] = CHAT if asked else [item for item in CHAT if not (isinstance(item, dict) and "usage" in item)]
    if seen.json.get("logprobs"):
        told = delta("Hel")
        told["choices"][0]["logprobs"] = {"content": [{"token": "Hel", "logprob": -0.5, "top_logprobs": []}]}
        chunks = [CHAT[0], told, *CHAT[2:]]
    await peer.send(stream(*chunks))


async def breaks(seen: Seen, peer: Peer) -> None:
    await peer.send(STREAM_HEAD + chunked(event(delta("a", role="assistant"))))
    peer.close()


@pytest.fixture
def llama_world(world: World) -> World:
    world.upstream.handler = llama
    world.route(world.replica(), dialect="llama_cpp", cancels_non_stream=False)
    return world


@pytest.fixture
async def classic(llama_world: World) -> AsyncIterator[together.AsyncTogether]:
    base = f"http://127.0.0.1:{llama_world.port}/v1"
    async with together.AsyncTogether(api_key=KEY, base_url=base, max_retries=0) as client:
        yield client


@pytest.fixture
async def modern(llama_world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    base = f"http://127.0.0.1:{llama_world.port}/v1"
    async with openai.AsyncOpenAI(api_key=KEY, base_url=base, max_retries=0) as client:
        yield client


async def test_together_chat(classic: together.AsyncTogether) -> None:
    answer = await classic.chat.completions.create(model=ENDPOINT, messages=MESSAGES)
    message = answer.choices[0].message
    assert message is not None
    assert (message.content, message.role, answer.choices[0].finish_reason) == ("Hello", "assistant", "stop")
    assert answer.object == "chat.completion"
    assert answer.prompt == []
    assert answer.usage is not None
    assert answer.usage.model_dump() == USAGE


async def test_together_stream(classic: together.AsyncTogether) -> None:
    got = [c async for c in await classic.chat.completions.create(model=ENDPOINT, messages=MESSAGES, stream=True)]
    assert "".join(c.choices[0].delta.content or "" for c in got) == "Hello"
    assert {c.choices[0].delta.role for c in got} == {"assistant"}
    assert {c.object for c in got} == {"chat.completion.chunk"}
    assert got[-1].choices[0].finish_reason == "stop"
    assert got[-1].usage is not None
    assert got[-1].usage.model_dump() == USAGE


async def test_together_logprobs(classic: together.AsyncTogether) -> None:
    answer = await classic.chat.completions.create(model=ENDPOINT, messages=MESSAGES, logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.token_logprobs) == (["Hel"], [-0.5])
    streaming = await classic.chat.completions.create(model=ENDPOINT, messages=MESSAGES, logprobs=1, stream=True)
    numbers = [c.choices[0].logprobs async for c in streaming]
    assert -0.5 in numbers


async def test_together_errors(llama_world: World, classic: together.AsyncTogether) -> None:
    with pytest.raises(together.NotFoundError, match="does not exist"):
        await classic.chat.completions.create(model="nobody/none", messages=MESSAGES)
    with pytest.raises(together.AuthenticationError, match="authentication"):
        await classic.with_options(api_key="rk-wrong").chat.completions.create(model=ENDPOINT, messages=MESSAGES)
    llama_world.upstream.handler = breaks
    streaming = await classic.chat.completions.create(model=ENDPOINT, messages=MESSAGES, stream=True)
    with pytest.raises(together.APIError, match="failed before the end"):
        _ = [c async for c in streaming]


async def test_openai_chat(modern: openai.AsyncOpenAI) -> None:
    answer = await modern.chat.completions.create(model=ENDPOINT, messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    assert not hasattr(answer, "prompt")


@pytest.mark.parametrize("asked", [True, False])
async def test_openai_stream(modern: openai.AsyncOpenAI, asked: bool) -> None:
    options: Any = {"include_usage": True} if asked else openai.omit
    streaming = await modern.chat.completions.create(
        model=ENDPOINT, messages=MESSAGES, stream=True, stream_options=options
    )
    got = [c async for c in streaming]
    assert "".join(c.choices[0].delta.content or "" for c in got if c.choices) == "Hello"
    assert [c.choices[0].delta.role for c in got if c.choices] == ["assistant", None, None, None]
    assert bool(got[-1].usage) == asked


async def test_openai_errors(llama_world: World, modern: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await modern.with_options(api_key=OTHER_KEY).chat.completions.create(model=ENDPOINT, messages=MESSAGES)
    llama_world.upstream.handler = breaks
    streaming = await modern.chat.completions.create(model=ENDPOINT, messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="failed before the end"):
        _ = [c async for c in streaming]
    llama_world.route(state="STOPPED", accepting=False)
    with pytest.raises(openai.BadRequestError) as caught:
        await modern.with_options(max_retries=2).chat.completions.create(model=ENDPOINT, messages=MESSAGES)
    assert caught.value.code == "endpoint_stopped"


async def test_a_client_that_stops_reading_stops_the_engine(llama_world: World, modern: openai.AsyncOpenAI) -> None:
    async def endless(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD)
        while not peer.gone.is_set():
            await peer.send(chunked(event(delta("a"))))

    llama_world.upstream.handler = endless
    streaming = await modern.chat.completions.create(model=ENDPOINT, messages=MESSAGES, stream=True)
    async for _ in streaming:
        break
    await streaming.close()
    async with asyncio.timeout(5):
        await llama_world.upstream.peers[-1].gone.wait()
