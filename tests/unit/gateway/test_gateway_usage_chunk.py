"""Usage that the gateway asks for and takes out of the stream again: the client gets exactly the rest."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fakes import (
    CHAT,
    ENDPOINT,
    LAST,
    STREAM_HEAD,
    USAGE,
    USAGE_CHUNK,
    Peer,
    Seen,
    World,
    chunked,
    delta,
    event,
    post,
    stream,
)

from roost.domain.routing import RouteEndpoint
from roost.gateway.answers import Refusal
from roost.gateway.classic import Adapted, adapt
from roost.gateway.http1 import RawChunks, Unchunked
from roost.gateway.request import CHAT as CHAT_KIND
from roost.gateway.request import Kind
from roost.gateway.usage_chunk import RawWithout, WithoutUsage, asking

ROUTE = RouteEndpoint("e", "n", "o", "STARTED", True, "echo", usage_on_request=True)
KEPT = [
    delta("", role="assistant"),
    delta('"choices":[],"usage":{}'),
    delta("lo", tool_calls=[]),
    {"choices": [], "prompt_filter_results": [], "usage": None},
    ": a comment",
    delta(finish="stop"),
]


def whole_stream(events: list[Any], ends: bytes = b"\n\n") -> bytes:
    texts = [e if isinstance(e, str) else "data: " + json.dumps(e, separators=(",", ":")) for e in events]
    return b"".join(text.encode() + ends for text in texts)


def adapted(body: dict[str, Any], route: RouteEndpoint = ROUTE, *, classic: bool = False) -> Adapted:
    found = adapt(body, CHAT_KIND, route, classic=classic)
    assert not isinstance(found, Refusal)
    return found


# ---- the asking


@pytest.mark.parametrize(
    "raw", [b'{"model":"e","stream":true}', b' {\n "stream": true, "model": "e"}', b'{"stream":true}']
)
def test_a_body_asks_without_being_encoded_anew(raw: bytes) -> None:
    body = json.loads(raw)
    found = adapted(body)
    assert (found.changed, found.asks_usage) == (False, True)
    sent = asking(raw, found.body)
    assert json.loads(sent) == body | {"stream_options": {"include_usage": True}}
    assert sent.endswith(raw[raw.find(b"{") + 1 :])


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"include_usage": False}, {"include_usage": True}),
        (None, {"include_usage": True}),
        ({"continuous_usage_stats": True}, {"continuous_usage_stats": False, "include_usage": True}),
    ],
)
def test_options_that_do_not_ask_are_completed(options: Any, sent: Any) -> None:
    found = adapted({"model": "e", "stream": True, "stream_options": options})
    assert found.asks_usage
    assert found.body["stream_options"] == sent
    assert asking(b"{}", found.body) == b"{}"


@pytest.mark.parametrize(
    ("body", "route", "kind"),
    [
        ({"stream": True, "stream_options": {"include_usage": True}}, {}, Kind.CHAT),
        ({"stream": False}, {}, Kind.CHAT),
        ({"stream": True}, {"usage_on_request": False}, Kind.CHAT),
        ({"stream": True}, {}, Kind.EMBEDDINGS),
    ],
    ids=["asked", "whole", "told anyway", "no text"],
)
def test_nothing_is_asked_where_it_is_not_needed(body: dict[str, Any], route: dict[str, Any], kind: Kind) -> None:
    fields = {"id": "e", "name": "n", "owner": "o", "state": "STARTED", "accepting": True, "engine": "echo"}
    found = adapt(body, kind, RouteEndpoint(**{**fields, "usage_on_request": True, **route}), classic=False)
    assert not isinstance(found, Refusal)
    assert (found.changed, found.asks_usage) == (False, False)


# ---- the taking out


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places) if end > start]


CUTS = st.lists(st.integers(0, 5000), max_size=30)
ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])


@given(wire=CUTS, http=CUTS, ends=ENDS, told=st.booleans(), done=st.booleans())
def test_any_split_of_a_stream_gives_exactly_the_stream_without_the_usage_chunk(
    wire: list[int], http: list[int], ends: bytes, told: bool, done: bool
) -> None:
    tail = ["data: [DONE]"] if done else []
    payload = whole_stream([*KEPT, *([USAGE_CHUNK] if told else []), *tail], ends)
    body = b"".join(chunked(part) for part in pieces_of(payload, http)) + LAST
    framing, without, got = RawChunks(), RawWithout(WithoutUsage()), Unchunked()
    sent = b""
    for piece in pieces_of(body, wire):
        part = without.feed(passed) if (passed := framing.feed(piece)) else b""
        sent += part
        got_now = Unchunked()
        got_now.feed(part)
        # Whatever goes out is whole chunks, so that an error frame can follow.
        assert not got_now.left
        assert not got_now.held
    assert framing.done
    assert without.end() == b""
    assert got.feed(sent) == whole_stream([*KEPT, *tail], ends)
    assert got.done
    assert without.tokens == ((3, 0, 2) if told else None)


@given(cuts=CUTS, ends=ENDS)
def test_so_does_any_split_of_the_events_alone(cuts: list[int], ends: bytes) -> None:
    without = WithoutUsage()
    payload = whole_stream([*KEPT, USAGE_CHUNK, "data: [DONE]"], ends)
    sent = b"".join(without.feed(piece) for piece in pieces_of(payload, cuts)) + without.end()
    assert sent == whole_stream([*KEPT, "data: [DONE]"], ends)
    assert without.tokens == (3, 0, 2)


def test_a_long_chunk_comes_through_whole() -> None:
    events = [delta("x" * 200_000), delta("\n\n\r\n" * 40_000), USAGE_CHUNK, "data: [DONE]"]
    body = chunked(whole_stream(events)) + LAST
    framing, without, got = RawChunks(), RawWithout(WithoutUsage()), Unchunked()
    sent = [got.feed(without.feed(framing.feed(body[at : at + 65536]))) for at in range(0, len(body), 65536)]
    assert b"".join(sent) == whole_stream([*events[:2], events[3]])
    assert got.done


def test_pieces_of_whole_events_pass_as_they_are() -> None:
    without = RawWithout(WithoutUsage())
    for piece in [chunked(event(part)) for part in CHAT[:-2]]:
        assert without.feed(piece) is piece
    both = chunked(event(CHAT[1])) + chunked(event(CHAT[2]))
    assert without.feed(both) is both


# ---- through the gateway


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_a_client_that_did_not_ask_gets_no_usage_and_it_is_counted(
    world: World, framing: str, apart: bool, continues: bool
) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        assert seen.json["stream_options"] == {"include_usage": True}
        payload = b"".join(event(each) for each in CHAT)
        if framing == "chunked":
            parts = [STREAM_HEAD, *(chunked(event(each)) for each in CHAT), LAST]
            await peer.send(*(parts if apart else [b"".join(parts)]))
            return
        size = f"content-length: {len(payload)}\r\n" if framing == "length" else "connection: close\r\n"
        await peer.send(f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{size}\r\n".encode())
        await peer.send(*([event(each) for each in CHAT] if apart else [payload]))
        if framing == "close":
            peer.close()

    world.upstream.handler = answer
    world.route(world.replica(), usage_on_request=True, continues=continues)
    got = await world.ask(post({"model": ENDPOINT, "stream": True}))
    assert got.complete
    assert got.body == b"".join(event(each) for each in CHAT if each is not USAGE_CHUNK)
    ((_, sums),) = world.gateway.usage.take().items()
    assert sums[:5] == [1, 0, USAGE["prompt_tokens"], 0, USAGE["completion_tokens"]]


@pytest.mark.parametrize("headers", [{}, {"User-Agent": "Together/1.5"}])
async def test_a_client_that_asked_gets_it(world: World, headers: dict[str, str]) -> None:
    world.route(world.replica(), usage_on_request=True)
    body = {"model": ENDPOINT, "stream": True, "stream_options": {"include_usage": True}}
    got = await world.ask(post(body, headers=headers))
    assert json.loads(got.events[-2])["usage"] == USAGE
    assert world.upstream.seen[0].json == body


async def test_the_classic_sdks_get_it_on_the_last_chunk(world: World) -> None:
    world.route(world.replica(), usage_on_request=True)
    got = await world.ask(post({"model": ENDPOINT, "stream": True}, headers={"User-Agent": "Together/1.5"}))
    last = json.loads(got.events[-2])
    assert (last["usage"], len(last["choices"])) == (USAGE, 1)


async def test_an_old_client_of_http_1_0_gets_no_usage(world: World) -> None:
    world.route(world.replica(), usage_on_request=True)
    got = await world.ask(post({"model": ENDPOINT, "stream": True}, version="1.0"))
    assert got.body == b"".join(event(each) for each in CHAT if each is not USAGE_CHUNK)


@pytest.mark.parametrize("temperature", [0, 1])
async def test_a_stream_that_goes_on_elsewhere_shows_no_usage_and_counts_it(world: World, temperature: int) -> None:
    lost = asyncio.Event()

    async def die(seen: Seen, peer: Peer) -> None:
        await peer.send(stream(*CHAT[:2]).removesuffix(LAST))
        await lost.wait()
        peer.reset()

    async def go_on(seen: Seen, peer: Peer) -> None:
        assert seen.json["stream_options"] == {"include_usage": True}
        usage = {**USAGE_CHUNK, "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}}
        events = CHAT if temperature == 0 else [CHAT[0], *CHAT[2:4], usage, "[DONE]"]
        await peer.send(stream(*events))

    world.upstream.handler = die
    other = await world.another(go_on)
    world.route(world.replica(1), usage_on_request=True, continues=True)
    client = await world.connect()
    await client.send(
        post(
            {
                "model": ENDPOINT,
                "stream": True,
                "temperature": temperature,
                "messages": [{"role": "user", "content": "Hi"}],
            }
        )
    )
    await client.answer(head_only=True)
    await client.reader.readuntil(b"Hel")
    world.route(world.replica(1), world.replica(2, other), usage_on_request=True, continues=True)
    lost.set()
    async with asyncio.timeout(5):
        rest = await client.reader.readuntil(b"[DONE]")
    assert b"usage" not in rest
    assert b'"content":"lo"' in rest
    await client.reader.readuntil(LAST)
    sums = [sums for key, sums in world.gateway.usage.take().items() if key[4] == "continued"]
    assert [each[:5] for each in sums] == [[1, 0, 3, 0, 2]]
