"""llama.cpp is asked for its progress with long prompts, so that it notices clients that are gone; nobody sees it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fakes import (
    ENDPOINT,
    LAST,
    STREAM_HEAD,
    Peer,
    Seen,
    World,
    chunked,
    delta,
    event,
    post,
    stream,
)

from roost.domain.routing import LLAMA_CPP
from roost.gateway.http1 import RawChunks, Unchunked
from roost.gateway.usage_chunk import LONG_PROMPT, RawWithout, WithoutProgress

LONG: list[Any] = [{"role": "user", "content": "word " * (LONG_PROMPT // 4)}]
PROGRESS = delta(role="assistant") | {"prompt_progress": {"total": 900, "cache": 0, "processed": 64, "time_ms": 9}}
SAYS = delta('{"prompt_progress":1}')
END = delta(finish="stop") | {"timings": {"prompt_n": 900, "predicted_n": 2}}
REST = [delta(role="assistant"), SAYS, delta("lo"), END, "[DONE]"]


async def answer(seen: Seen, peer: Peer) -> None:
    progress = [PROGRESS, PROGRESS] if seen.json.get("return_progress") else []
    await peer.send(stream(*progress, *REST))


@given(cuts=st.lists(st.integers(0, 3000), max_size=20), http=st.lists(st.integers(0, 3000), max_size=20))
def test_any_split_of_a_stream_gives_comments_in_the_place_of_progress(cuts: list[int], http: list[int]) -> None:
    payload = b"".join(event(each) for each in (PROGRESS, PROGRESS, *REST))
    places = sorted({0, *(cut % len(payload) for cut in http), len(payload)})
    body = b"".join(chunked(payload[start:end]) for start, end in pairwise(places)) + LAST
    places = sorted({0, *(cut % len(body) for cut in cuts), len(body)})
    framing, without, got = RawChunks(), RawWithout(WithoutProgress()), Unchunked()
    sent = b"".join(got.feed(without.feed(framing.feed(body[start:end]))) for start, end in pairwise(places))
    assert sent == b":\n\n:\n\n" + b"".join(map(event, REST))
    assert got.done


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_stream_with_a_long_prompt_shows_none_of_it(world: World, version: str) -> None:
    world.upstream.handler = answer
    world.route(world.replica(), dialect=LLAMA_CPP, continues=True)
    body = {"model": ENDPOINT, "stream": True, "messages": LONG}
    got = await world.ask(post(body, version=version))
    assert world.upstream.seen[0].json == body | {"return_progress": True}
    assert got.body.replace(b":\n\n", b"") == b"".join(map(event, REST))
    ((_, sums),) = world.gateway.usage.take().items()
    assert sums[:5] == [1, 0, 900, 0, 2]


async def test_progress_is_no_output_for_retries(world: World) -> None:
    async def dies(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(event(PROGRESS)) + chunked(event(PROGRESS)))
        peer.reset()

    world.upstream.handler = dies
    other = await world.another(answer)
    world.gateway.books.endpoints[ENDPOINT].turn = 1
    world.route(world.replica(1), world.replica(2, other), dialect=LLAMA_CPP, continues=True)
    got = await world.ask(post({"model": ENDPOINT, "stream": True, "messages": LONG}))
    assert got.events[-1] == "[DONE]"
    assert len(world.upstream.seen) == 1


async def test_a_classic_client_and_a_whole_answer_show_none_either(world: World) -> None:
    world.upstream.handler = answer
    world.route(world.replica(), dialect=LLAMA_CPP, cancels_non_stream=False)
    body = {"model": ENDPOINT, "messages": LONG}
    got = await world.ask(post({**body, "stream": True}, headers={"User-Agent": "Together/1.5"}))
    assert b'"prompt_progress":{' not in got.body
    assert [json.loads(each)["choices"][0]["delta"].get("content") for each in got.events if each[0] == "{"][1:3] == [
        '{"prompt_progress":1}',
        "lo",
    ]
    whole = await world.ask(post(body))
    assert "prompt_progress" not in whole.json
    assert whole.json["choices"][0]["message"]["content"] == '{"prompt_progress":1}lo'
    assert [seen.json["return_progress"] for seen in world.upstream.seen] == [True, True]


@pytest.mark.parametrize(
    "body",
    [
        {"stream": True, "messages": [{"role": "user", "content": "hi"}]},
        {"stream": True, "messages": LONG, "return_progress": False},
    ],
    ids=["short", "the client's own choice"],
)
async def test_it_is_not_asked_for(world: World, body: dict[str, Any]) -> None:
    world.upstream.handler = answer
    world.route(world.replica(), dialect=LLAMA_CPP)
    body = {"model": ENDPOINT, **body}
    assert (await world.ask(post(body))).body == b"".join(map(event, REST))
    assert world.upstream.seen[0].json == body
