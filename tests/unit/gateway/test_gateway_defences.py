"""What must never leave a client without an answer: nonsense from engines, deep bodies, endpoints that go meanwhile."""

from __future__ import annotations

import asyncio
import json
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
    table,
    whole,
)

from roost.gateway.answers import Refusal
from roost.gateway.body import MAX_DEPTH, decode, encode
from roost.gateway.chunks import DecodedStream
from roost.gateway.classic import adapt
from roost.gateway.http1 import BrokenResponse, ResponseHead
from roost.gateway.request import Kind
from roost.gateway.shape import Logprobs, Shape
from roost.gateway.shaping import Collected, Reframed, Spliced
from roost.gateway.sse import ClassicStream
from roost.gateway.upstream import default_tls

TOGETHER = {"User-Agent": "Together/Python 2.0"}
LOGPROBS = {"model": ENDPOINT, "logprobs": 2}
GONE: dict[str, tuple[dict[str, Any], int]] = {
    "deleted": ({"id": "endpoint-2", "name": "x/y"}, 404),
    "stopping": ({"state": "STOPPING", "accepting": False}, 400),
}


@pytest.mark.parametrize("name", GONE)
async def test_a_request_that_loses_its_replica_after_its_endpoint_went_is_answered(world: World, name: str) -> None:
    change, status = GONE[name]
    die = asyncio.Event()

    async def dies_when_told(seen: Seen, peer: Peer) -> None:
        await die.wait()
        peer.reset()

    world.upstream.handler = dies_when_told
    client = await world.connect()
    await client.send(post())
    await world.upstream.wait_for(1)
    world.route(**change)
    die.set()
    assert (await client.answer()).status == status


def with_logprobs(value: Any) -> dict[str, Any]:
    content = [{"token": "a", "logprob": -0.5, "top_logprobs": value}]
    return {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": content}}]}


async def test_logprobs_whose_alternatives_are_no_list_have_none(world: World) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        strange = with_logprobs(5)
        if seen.json.get("stream"):
            await peer.send(STREAM_HEAD + chunked(event(strange)) + chunked(event("[DONE]")) + LAST)
        else:
            await peer.send(whole(json.dumps(strange).encode()))

    world.upstream.handler = answers
    answer = await world.ask(post(LOGPROBS, headers=TOGETHER))
    assert (answer.status, answer.json["choices"][0]["logprobs"]["top_logprobs"]) == (200, [{}])
    streamed = await world.ask(post({**LOGPROBS, "stream": True}, headers=TOGETHER))
    choice = json.loads(streamed.events[0])["choices"][0]
    assert (choice["logprobs"], choice["top_logprobs"]) == (-0.5, {})


TOO_DEEP = b'{"choices":[],"logprobs":' + b"[" * 1010 + b"]" * 1010 + b"}"
NONSENSE = {
    "choices": event({"choices": 5}),
    "index": event({"choices": [{"index": [], "delta": {}}]}),
    "delta": event({"choices": [{"index": 0, "delta": "x"}]}),
    "text": event({"choices": [{"index": 0, "text": "a"}, {"index": 0, "text": 5}]}),
    "calls": event(delta(tool_calls=5)),
    "object": event({**delta(finish="stop"), "object": []}) + event("[DONE]"),
    "mixed": event({"choices": [{"index": 0, "delta": {}}, {"index": "1", "delta": {}}]}) + event("[DONE]"),
    "deep": b"data: " + TOO_DEEP + b"\n\n" + event(delta(finish="stop")) + event("[DONE]"),
    "surrogate": b'data: {"error":{"message":"\\ud800","code":"\\udfff","param":"\\ud800"}}\n\n',
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_a_nonsensical_stream_for_one_answer_ends_in_the_envelope(world: World, name: str) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(NONSENSE[name]) + LAST)

    world.upstream.handler = answers
    world.route(world.replica(1), world.replica(2, await world.another(answers)), cancels_non_stream=False)
    answer = await world.ask(post())
    assert answer.status == (500 if name == "surrogate" else 502)
    assert answer.error["message"]


HALF = b'{"id":"c","choices":[{"index":0,"message":{"content":"\\ud83d"},"logprobs":{"content":[]}}]}'


@pytest.mark.parametrize(
    ("body", "headers"),
    [({"model": ENDPOINT}, TOGETHER), (LOGPROBS, None), (LOGPROBS, TOGETHER)],
    ids=["classic", "shaped", "both"],
)
async def test_half_a_surrogate_pair_in_one_answer_is_given_on(world: World, body: Any, headers: Any) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(HALF), HALF))

    world.upstream.handler = answers
    answer = await world.ask(post(body, headers=headers))
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == "\ud83d"


async def test_half_a_surrogate_pair_in_an_error_is_replaced(world: World) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        error = b'{"error":{"message":"What is \\ud83d?"}}'
        await peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(error), error))

    world.upstream.handler = answers
    answer = await world.ask(post())
    assert (answer.status, answer.error["message"]) == (400, "What is ??")


async def test_a_nonsensical_event_of_a_shaped_stream_ends_it_with_an_error_event(world: World) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(event(delta("a"))), chunked(b"data: " + TOO_DEEP + b"\n\n"), LAST)

    world.upstream.handler = answers
    answer = await world.ask(post({**LOGPROBS, "stream": True}, headers=TOGETHER))
    assert (answer.status, answer.complete) == (200, True)
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"


@pytest.mark.parametrize("part", [b"", b'data: {"cho', b'data: {"x":1}\n'])
async def test_a_shaped_stream_that_breaks_inside_an_event_ends_with_a_readable_one(world: World, part: bytes) -> None:
    async def breaks(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(event(delta("a")) + event(delta(finish="stop")) + part))
        peer.close()

    world.upstream.handler = breaks
    answer = await world.ask(post({"model": ENDPOINT, "stream": True}, headers=TOGETHER))
    first, last, error = map(json.loads, answer.events)
    assert (first["choices"][0]["delta"]["content"], last["choices"][0]["finish_reason"]) == ("a", "stop")
    assert error["error"]["code"] == "engine_failed"


async def test_a_stream_in_new_framing_that_breaks_inside_an_event_still_tells_the_error(world: World) -> None:
    async def breaks(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(event(delta("a")) + b'data: {"cho'))
        peer.close()

    world.upstream.handler = breaks
    answer = await world.ask(post({"model": ENDPOINT, "stream": True}, version="1.0"))
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"


async def test_an_answer_too_deep_to_be_shaped_ends_in_the_envelope(world: World) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(b'{"a":' + b"[" * 1010 + b"]" * 1010 + b"}"))

    world.upstream.handler = answers
    answer = await world.ask(post(headers=TOGETHER))
    assert (answer.status, answer.error["code"]) == (502, "bad_upstream_answer")


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2)
NAMES = st.sampled_from(
    [
        *("choices", "index", "delta", "logprobs", "content", "top_logprobs", "token", "tool_calls", "function"),
        *("arguments", "text", "role", "usage", "object", "error", "message", "code", "finish_reason"),
        "completion_tokens",
    ]
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
HEADS = {
    True: ResponseHead(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream"),
    False: ResponseHead(b"HTTP/1.1 200 OK\r\ncontent-type: application/json"),
}


@given(st.lists(ANYTHING, max_size=4), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(Logprobs))
def test_whatever_an_engine_says_it_is_shaped_or_broken(
    values: list[Any], chat: bool, streamed: bool, forced: bool, logprobs: Logprobs
) -> None:
    route = table(1, cancels_non_stream=not streamed).endpoints[0]
    adapted = adapt(dict(LOGPROBS), Kind.CHAT if chat else Kind.COMPLETIONS, route, classic=True)
    assert not isinstance(adapted, Refusal)
    adapted.shape = shape = Shape(chat, True, logprobs, choices=2, echoed=("a",), forced=forced)
    events = [event(json.dumps(value)) for value in values]
    collected = Collected(HEADS[streamed], adapted, chat=chat, classic=True)
    try:
        for item in [*events, event("[DONE]")] if streamed else [json.dumps(values[:1]).encode()[1:-1]]:
            collected.feed(item)
        answer = collected.answer()
        assert answer.body() if isinstance(answer, Refusal) else json.loads(answer[1]) is not ...
    except BrokenResponse:
        assert streamed
    reframed = Reframed(chunked=True, splice=Spliced(DecodedStream(shape), ClassicStream(False)))
    try:
        sent = b"".join(reframed.feed(item) for item in events) + reframed.end()
    except BrokenResponse:
        return
    assert sent.endswith(LAST)


def nested(depth: int) -> bytes:
    """A chat request whose value is nested so deep, itself included."""
    return b'{"model":"%b","a":' % ENDPOINT.encode() + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 990, 1000, 1010, 1023])
@pytest.mark.parametrize("tail", [b"", b',"b":"\\ud800"'])
async def test_a_body_too_deep_to_be_rewritten_is_refused(world: World, depth: int, tail: bytes) -> None:
    world.route(world.replica(), served_model="own")
    client = await world.connect()
    answer = await client.ask(post(raw=nested(depth)[:-1] + tail + b"}"))
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    assert "deep" in answer.error["message"]
    assert (await client.ask(post())).status == 200
    assert len(world.upstream.seen) == 1


async def test_a_body_not_too_deep_is_rewritten_and_an_untouched_one_passes(world: World) -> None:
    world.route(world.replica(), served_model="own")
    for tail in (b"", b',"b":"\\ud800"'):
        raw = nested(MAX_DEPTH)[:-1] + tail + b"}"
        assert (await world.ask(post(raw=raw))).status == 200
        assert world.upstream.seen[-1].json == {**json.loads(raw), "model": "own"}
    world.route(world.replica())
    assert (await world.ask(post(raw=nested(900)))).status == 200


@given(st.integers(2, 1023), st.booleans())
def test_the_depth_alone_decides(depth: int, wide: bool) -> None:
    body = decode(nested(depth))
    assert isinstance(body, dict)
    if wide:
        body["b"] = 1 << 80  # not for the fast encoder
    assert isinstance(encode(body), Refusal) == (depth > MAX_DEPTH)


@pytest.mark.parametrize("status", ["600", "999", "099", "000"])
async def test_a_status_that_is_none_is_a_broken_answer(world: World, status: str) -> None:
    async def answers(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(b"{}", f"{status} What"))

    world.upstream.handler = answers
    world.route(world.replica(1), world.replica(2, await world.another(answers)))
    answer = await world.ask(post())
    assert (answer.status, answer.error["code"]) == (502, "engine_failed")


def test_certificates_are_read_once_per_process() -> None:
    assert default_tls() is default_tls()
    assert default_tls().check_hostname
