"""Streams whose replica is lost after the first byte: another one goes on, and the client sees one stream."""

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
    Answer,
    Client,
    Handler,
    Peer,
    Seen,
    World,
    chunked,
    post,
    until,
)

from roost.domain.routing import RouteEndpoint
from roost.engines import echo_reply
from roost.gateway.classic import adapt
from roost.gateway.continuation import Joined, continued, fit, in_a_stop, left
from roost.gateway.emitted import MOST_HELD, Emitted, Said
from roost.gateway.request import Kind

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
CLASSIC = {"user-agent": "Together/Python 1.5.35"}
TEXT = "one two three"
ASKS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "chat": (CHAT, {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 7}, {}),
    "chat, counted": (
        CHAT,
        {
            "messages": [{"role": "user", "content": TEXT}],
            "max_tokens": 7,
            "stream_options": {"include_usage": True},
        },
        {},
    ),
    "chat without a limit": (CHAT, {"messages": [{"role": "user", "content": TEXT}]}, {}),
    "chat, classic": (CHAT, {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 7}, CLASSIC),
    "chat that the client began": (
        CHAT,
        {
            "messages": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "Well,"}],
            "max_completion_tokens": 7,
        },
        {},
    ),
    "chat, greedy": (
        CHAT,
        {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 7, "temperature": 0},
        {},
    ),
    "chat, counted, greedy, classic": (
        CHAT,
        {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 7, "temperature": 0},
        CLASSIC,
    ),
    "completions, greedy": (COMPLETIONS, {"prompt": TEXT, "max_tokens": 7, "temperature": 0}, {}),
    "completions": (COMPLETIONS, {"prompt": TEXT, "max_tokens": 7}, {}),
    "completions, classic": (COMPLETIONS, {"prompt": TEXT, "max_tokens": 7}, CLASSIC),
}


def engine(number: int, *, cut: int | None = None, together: int = 1) -> Handler:
    """An engine that dies after ``cut`` events (None: never), ``together`` of them in each write."""

    async def handler(seen: Seen, peer: Peer) -> None:
        ask = echo_reply.understand(seen.body, chat="chat" in seen.target, model="m")
        events = [chunked(event) for event, _ in echo_reply.events(ask, number, 1000 + number)]
        sent = events if cut is None else events[:cut]
        pieces = [b"".join(sent[at : at + together]) for at in range(0, len(sent), together)]
        await peer.send(STREAM_HEAD, *pieces)
        if cut is None:
            await peer.send(LAST)
        else:
            peer.reset()

    return handler


def chunks_of(answer: Answer) -> list[dict[str, Any]]:
    assert answer.complete
    events = [event for event in answer.events if not event.startswith(":")]
    assert events[-1] == "[DONE]"
    assert events.count("[DONE]") == 1
    return [json.loads(event) for event in events[:-1]]


def facts(answer: Answer) -> dict[str, Any]:
    """What a client makes of a stream, but for the identity."""
    chunks = chunks_of(answer)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    deltas = [choice.get("delta") or {} for choice in choices]
    return {
        "texts": [choice["text"] for choice in choices if choice.get("text")],
        "contents": [delta["content"] for delta in deltas if delta.get("content")],
        "roles": [delta["role"] for delta in deltas if "role" in delta],
        "finish": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        "usage": [chunk["usage"] for chunk in chunks if chunk.get("usage")],
    }


def ask_of(name: str) -> bytes:
    path, body, headers = ASKS[name]
    return post({"model": ENDPOINT, "stream": True, **body}, path=path, headers=headers)


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("name", ASKS)
async def test_a_stream_cut_anywhere_is_the_undisturbed_one(world: World, name: str, together: int) -> None:
    other = await world.another(engine(2))
    world.upstream.handler = engine(1)
    # Each time with replicas of other ids: one that has failed is left alone for a while.
    world.route(world.replica(1), continues=True)
    whole = facts(await world.ask(ask_of(name)))
    if "classic" in name or "counted" in name:
        assert whole["usage"]
    counted = len([each for each in whole["contents"] + whole["texts"] if each]) + 5
    for cut in range(1, counted):
        world.upstream.handler = engine(1, cut=cut, together=together)
        world.route(world.replica(10 * cut), continues=True)
        client = await world.connect()
        await client.send(ask_of(name))
        await world.upstream.wait_for(1 + cut)
        world.route(world.replica(10 * cut), world.replica(10 * cut + 1, other), continues=True)
        found = facts(await client.answer())
        assert found == whole, cut


async def test_the_other_replica_is_asked_for_the_rest_only(world: World) -> None:
    other = await world.another(engine(2))
    world.upstream.handler = engine(1, cut=4)
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await world.upstream.wait_for(1)
    world.route(world.replica(2, other), continues=True)
    await client.answer()
    asked = other.seen[0].json
    assert asked["messages"][-1] == {"role": "assistant", "content": "one two three"}
    assert asked["max_tokens"] == 4
    assert asked["roost_emitted"] == len("one two three")


async def test_a_greedy_answer_is_generated_again_unless_it_becomes_another_one(world: World) -> None:
    async def otherwise(seen: Seen, peer: Peer) -> None:
        body = seen.json
        if len(body["messages"]) == 1:
            body["messages"] = [{"role": "user", "content": "one two four"}]
        ask = echo_reply.understand(json.dumps(body).encode(), chat=True, model="m")
        await peer.send(STREAM_HEAD, *[chunked(event) for event, _ in echo_reply.events(ask, 2, 2)], LAST)

    world.upstream.handler = engine(1, cut=4)
    other = await world.another(otherwise)
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat, greedy"))
    await world.upstream.wait_for(1)
    world.route(world.replica(2, other), continues=True)
    found = facts(await client.answer())
    assert [len(seen.json["messages"]) for seen in other.seen] == [1, 2]
    assert found["contents"][:3] == ["one", " two", " three"]
    assert len(found["contents"]) == 7
    assert found["finish"] == ["length"]


async def test_a_stream_can_go_on_twice(world: World) -> None:
    body = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 80}
    asked = post({"model": ENDPOINT, "stream": True, **body})
    world.upstream.handler = engine(1, cut=20)
    second, third = await world.another(engine(2, cut=20)), await world.another(engine(3))
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(asked)
    await world.upstream.wait_for(1)
    world.route(world.replica(2, second), continues=True)
    await second.wait_for(1)
    world.route(world.replica(3, third), continues=True)
    found = facts(await client.answer())
    assert "".join(found["contents"]) == " ".join((TEXT.split() * 80)[:80])
    assert found["roles"] == ["assistant"]


async def test_what_crashes_two_replicas_at_the_same_place_ends_with_an_error_frame(world: World) -> None:
    world.upstream.handler = engine(1, cut=5)
    second, third = await world.another(engine(2, cut=1)), await world.another(engine(3))
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await world.upstream.wait_for(1)
    world.route(world.replica(2, second), continues=True)
    await second.wait_for(1)
    world.route(world.replica(3, third), continues=True)
    answer = await client.answer()
    assert answer.complete
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"
    assert not third.seen


@pytest.mark.parametrize(
    "extra",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"n": 2},
        {"stop": ["three four"]},
    ],
    ids=repr,
)
async def test_what_cannot_go_on_ends_with_an_error_frame(world: World, extra: dict[str, Any]) -> None:
    async def dying(seen: Seen, peer: Peer) -> None:
        body = json.dumps({name: value for name, value in seen.json.items() if name != "n"}).encode()
        ask = echo_reply.understand(body, chat=True, model="m")
        events = [chunked(event) for event, _ in echo_reply.events(ask, 1, 1)]
        await peer.send(STREAM_HEAD, *events[:4])
        peer.reset()

    world.upstream.handler = dying
    other = await world.another(engine(2))
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    path, body, _ = ASKS["chat"]
    await client.send(post({"model": ENDPOINT, "stream": True, **body, **extra}, path=path))
    await world.upstream.wait_for(1)
    world.route(world.replica(1), world.replica(2, other), continues=True)
    answer = await client.answer()
    assert answer.complete
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"
    assert not other.seen


@pytest.mark.parametrize("content", [5, {"a": 1}, ["x"]], ids=repr)
async def test_a_beginning_that_is_no_text_is_not_written_on(world: World, content: object) -> None:
    async def dies(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD, chunked(chunk_of("Hel")))
        peer.reset()

    world.upstream.handler = dies
    world.route(world.replica(1), continues=True)
    messages = [{"role": "assistant", "content": content}]
    answer = await world.ask(post({"model": ENDPOINT, "stream": True, "messages": messages}))
    assert answer.complete
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"


@pytest.mark.parametrize("said", [True, False])
async def test_what_fails_while_a_loss_is_dealt_with_ends_the_request(world: World, said: bool) -> None:
    go = asyncio.Event()

    async def dies(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD, *[chunked(chunk_of("Hel"))] * said)
        await go.wait()
        peer.reset()

    world.upstream.handler = dies
    told = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.set())
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await world.upstream.wait_for(1)
    (front,) = world.gateway.fronts
    exchange: Any = front.active
    if said:
        await until(lambda: exchange.first is not None)
        exchange.adapted.body["messages"] = None
    else:
        exchange.crashes = None
    go.set()
    answer = await client.answer()
    if said:
        assert answer.complete
        assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"
    else:
        assert (answer.status, answer.error["code"]) == (502, "engine_failed")
    await asyncio.wait_for(told.wait(), 5)
    assert not any(world.gateway.books.report()["in_flight"].values())
    assert world.gateway.books.endpoints[ENDPOINT].failed == 1


async def test_a_loss_before_the_next_answers_head_ends_with_an_error_frame_too(world: World) -> None:
    async def dies_at_once(seen: Seen, peer: Peer) -> None:
        peer.reset()

    world.upstream.handler = engine(1, cut=5)
    second = await world.another(dies_at_once)
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await world.upstream.wait_for(1)
    world.route(world.replica(2, second), continues=True)
    answer = await client.answer()
    assert answer.complete
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"


async def cut_and_held(world: World) -> Client:
    """The client of a stream whose only replica was lost, and that waits for another one."""
    world.upstream.handler = engine(1, cut=4)
    world.route(world.replica(1), continues=True)
    client = await world.connect()
    await client.send(ask_of("chat"))
    await world.upstream.wait_for(1)
    world.route(continues=True)
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 1)
    return client


async def test_a_stream_waits_for_a_replica_to_go_on_and_the_client_hears_of_it(world: World) -> None:
    client = await cut_and_held(world)
    world.gateway.sweep()
    world.upstream.handler = engine(2)
    world.route(world.replica(2), continues=True)
    answer = await client.answer()
    assert any(event.startswith(": waiting") for event in answer.events)
    assert facts(answer)["contents"] == ["one", " two", " three", " one", " two", " three", " one"]


async def test_a_wait_in_vain_ends_with_an_error_frame(world: World) -> None:
    client = await cut_and_held(world)
    world.route(continues=True, state="STOPPED", accepting=False)
    answer = await client.answer()
    assert answer.complete
    assert json.loads(answer.events[-1])["error"]["code"] == "endpoint_stopped"


@pytest.mark.parametrize("world", [{"hold_timeout_s": 10.0}], indirect=True)
async def test_a_stream_waits_so_long_after_its_replica_was_lost_however_often_another_cannot_be_reached(
    world: World,
) -> None:
    client = await cut_and_held(world)
    (exchange,) = world.gateway.books.endpoints[ENDPOINT].held
    lost_at = exchange.lost_at
    await world.upstream.stop()
    world.route(world.replica(2), continues=True)
    for second in range(0, 9, 2):
        world.gateway.now = lambda at=lost_at + second: at  # type: ignore[misc]
        world.gateway.sweep()
        await until(lambda: not any(world.gateway.books.report()["in_flight"].values()))
        assert (exchange.done, exchange.deadline) == (False, lost_at + 10.0)
    world.gateway.now = lambda: lost_at + 12.0
    world.gateway.sweep()
    answer = await client.answer()
    assert answer.complete
    assert json.loads(answer.events[-1])["error"]["code"] == "not_ready"


async def test_a_client_that_hangs_up_while_its_stream_waits_leaves_nothing(world: World) -> None:
    client = await cut_and_held(world)
    client.hang_up()
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 0)
    assert not any(world.gateway.books.report()["in_flight"].values())


# ---- the record


def chunk_of(text: str, spaced: bool = False) -> bytes:
    value = {
        "id": "c",
        "object": "o",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}}],
    }
    value["choices"][0]["finish_reason"] = None  # type: ignore[index]
    separators = (", ", ": ") if spaced else (",", ":")
    return b"data: " + json.dumps(value, separators=separators, ensure_ascii=spaced).encode() + b"\n\n"


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=40),
    st.lists(st.integers(1, 5), min_size=1),
    st.booleans(),
)
def test_what_was_passed_on_is_what_was_said(texts: list[str], sizes: list[int], spaced: bool) -> None:
    emitted = Emitted(chat=True)
    frames = [chunked(chunk_of(text, spaced)) for text in texts]
    at = turn = 0
    while at < len(frames):
        size = sizes[turn % len(sizes)]
        data = b"".join(frames[at : at + size])
        assert emitted.take(data) == data
        at, turn = at + size, turn + 1
    said = emitted.said()
    assert said is not None
    assert said.text == "".join(texts)
    assert said.tokens == sum(bool(text) for text in texts)
    assert said.start == ({"id": "c", "object": "o", "created": 1, "model": "m"} if texts else {})
    assert not said.finished


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["", " token", "\\", '"', '\\"', "\n\n", '"content":"', "x" * 150, "é" * 150, '"}}]}\n\n']),
)


@given(
    st.lists(st.tuples(TEXTS, st.integers(1, 40)), min_size=1, max_size=12),
    st.lists(st.integers(1, 3), min_size=1, max_size=40),
    st.booleans(),
)
def test_what_passes_without_a_look_is_told_too(
    runs: list[tuple[str, int]], sizes: list[int], start_unlike: bool
) -> None:
    emitted = Emitted(chat=True)
    texts = [text for text, times in runs for _ in range(times)]
    frames = [chunked(chunk_of(text)) for text in texts]
    if start_unlike:
        frames[0] = chunked(chunk_of(texts[0], True))
    looked_at = at = unboiled = 0
    while at < len(frames):
        # Mostly one event in a piece, as engines do.
        size = sizes[at % len(sizes)] if at % 7 == 0 else 1
        data = b"".join(frames[at : at + size])
        at += size
        if not data.endswith(emitted.usual):
            assert emitted.take(data) == data
            looked_at += 1
            continue
        emitted.pieces.append(data)
        unboiled += len(data)
        if unboiled > 1000:
            emitted.boil_down()
            unboiled = 0
    said = emitted.said()
    assert said is not None
    assert said.text == "".join(texts)
    assert said.tokens == sum(bool(text) for text in texts)
    assert looked_at <= start_unlike
    assert len(emitted.pieces) <= 4
    assert emitted.said() == said


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=20), st.integers(1, 60), st.integers(0, 400))
def test_events_in_pieces_are_held_back_until_they_are_whole(texts: list[str], size: int, cut: int) -> None:
    payload = b"".join(chunk_of(text, True) for text in texts)
    frames = [chunked(payload[at : at + size]) for at in range(0, len(payload), size)][:cut]
    emitted = Emitted(chat=True)
    passed = b"".join(emitted.take(frame) for frame in frames)
    said = emitted.said()
    assert said is not None
    whole = sum(len(chunk_of(text, True)) for text in texts[: said.tokens])
    assert said.text == "".join(texts[: said.tokens])
    assert passed == b"".join(frames)[: len(passed)]
    assert sum(len(frame.split(b"\r\n", 1)[1]) - 2 for frame in frames[: passed.count(b"\r\n") // 2]) == whole


def test_a_chunk_that_is_the_first_of_two_line_ends_is_no_border() -> None:
    emitted = Emitted(chat=True)
    event = chunk_of("a", True)
    assert emitted.take(chunked(event[:-2])) == b""
    assert emitted.take(chunked(b"\n")) == b""
    assert emitted.take(chunked(b"\n")) == chunked(event[:-2]) + chunked(b"\n") * 2


def test_an_event_that_is_too_long_to_hold_back_is_passed_on_and_ends_the_record() -> None:
    emitted = Emitted(chat=True)
    data = chunked(b"data: " + b"x" * MOST_HELD)
    assert emitted.take(data) == data
    assert emitted.said() is None


def test_thoughts_are_not_continued() -> None:
    emitted = Emitted(chat=True)
    emitted.take(
        chunked(b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"Hm"},"finish_reason":null}]}\n\n')
    )
    assert emitted.said() is None


# ---- what is asked, and the joint

ASKED = [{"role": "user", "content": "x"}]
ROUTE = RouteEndpoint("e", "n", "o", "STARTED", True, "echo", continues=True)
FITS: dict[str, tuple[dict[str, Any], Kind, bool]] = {
    "chat": ({"messages": ASKED}, Kind.CHAT, True),
    "sampled": ({"messages": ASKED, "temperature": 1.5, "seed": 3, "stop": ["x"]}, Kind.CHAT, True),
    "plain text": ({"messages": ASKED, "response_format": {"type": "text"}, "tools": [], "n": 1}, Kind.CHAT, True),
    "a grammar": ({"messages": ASKED, "grammar": "root ::= x"}, Kind.CHAT, False),
    "no messages": ({}, Kind.CHAT, False),
    "begun": ({"messages": [{"role": "assistant", "content": "Well,"}]}, Kind.CHAT, True),
    "begun with nothing": ({"messages": [{"role": "assistant", "content": None}]}, Kind.CHAT, True),
    "begun in parts": (
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "W"}]}]},
        Kind.CHAT,
        True,
    ),
    "begun with a number": ({"messages": [{"role": "assistant", "content": 5}]}, Kind.CHAT, False),
    "begun with an object": ({"messages": [{"role": "assistant", "content": {"a": 1}}]}, Kind.CHAT, False),
    "begun with a list": ({"messages": [{"role": "assistant", "content": ["x"]}]}, Kind.CHAT, False),
    "asked with a number": ({"messages": [{"role": "user", "content": 5}]}, Kind.CHAT, True),
    "one prompt": ({"prompt": "x"}, Kind.COMPLETIONS, True),
    "tokens": ({"prompt": [1, 2]}, Kind.COMPLETIONS, True),
    "prompts": ({"prompt": ["x", "y"]}, Kind.COMPLETIONS, False),
    "an echo": ({"prompt": "x", "echo": True}, Kind.COMPLETIONS, False),
    "embeddings": ({"input": "x"}, Kind.EMBEDDINGS, False),
}


@pytest.mark.parametrize("name", FITS)
def test_which_streams_can_go_on(name: str) -> None:
    body, kind, fits = FITS[name]
    adapted: Any = adapt({"stream": True, **body}, kind, ROUTE, classic=False)
    assert fit(kind, adapted) is fits


def test_what_was_said_counts_towards_the_limits() -> None:
    said = Said("a b c", 3, {})
    assert left({"max_tokens": 5, "max_completion_tokens": 4}, said) == 1
    assert left({"max_tokens": 2}, said) == 0
    assert left({}, said) is None
    assert continued({"prompt": "p", "max_tokens": 5}, Kind.COMPLETIONS, said) == {
        "prompt": "pa b c", "max_tokens": 2, "roost_emitted": 5,
    }  # fmt: skip
    assert continued({"prompt": [1, 2]}, Kind.COMPLETIONS, said)["prompt"] == [1, 2, "a b c"]


def test_a_text_that_may_be_within_a_stop_string() -> None:
    said = Said("so far EN", 3, {})
    assert in_a_stop({"stop": "END"}, said)
    assert in_a_stop({"stop": ["x", "far END"]}, said)
    assert not in_a_stop({"stop": ["EN", "x"]}, said)
    assert not in_a_stop({"stop": ["D"]}, said)
    assert not in_a_stop({}, said)


def test_an_engines_error_passes_the_joint() -> None:
    joined = Joined(Said("x", 1, {"id": "c"}), chat=True, complete=False)
    event = b'data: {"error":{"message":"no"}}\n\n'
    assert joined.feed(event) == event
