"""The sans-I/O parts: framing of responses, server-sent events, aggregation, request bodies' adaptation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fakes import CHAT, USAGE, USAGE_CHUNK, delta, event

from roost.domain.routing import RouteEndpoint
from roost.gateway.aggregate import Aggregator
from roost.gateway.body import decode, encode
from roost.gateway.classic import Adapted, adapt
from roost.gateway.http1 import (
    LAST_CHUNK,
    MAX_HELD_CHUNK,
    Body,
    BrokenResponse,
    LengthBody,
    RawChunks,
    ResponseHead,
    Unchunked,
    chunk,
)
from roost.gateway.request import Kind
from roost.gateway.shape import Logprobs, classic_logprobs
from roost.gateway.sse import ClassicStream, Splitter, data_of, usage_of, with_roles, with_usage
from roost.gateway.upstream import parse_address

PAYLOADS = st.lists(st.binary(min_size=1, max_size=300), max_size=8)
CUTS = st.lists(st.integers(1, 80), max_size=30)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    return [piece for piece in [*pieces, data[at:]] if piece]


def feed(body: Body, pieces: list[bytes]) -> list[bytes]:
    return [body.feed(piece) for piece in pieces]


@given(PAYLOADS, CUTS, st.sampled_from([b"", b"T: v\r\n"]))
def test_chunks_are_passed_on_whole_and_unchanged(payloads: list[bytes], cuts: list[int], trailer: bytes) -> None:
    data = b"".join(map(chunk, payloads)) + b"0\r\n" + trailer + b"\r\n"
    body = RawChunks()
    out = b""
    whole = b"".join(map(chunk, payloads)) + LAST_CHUNK
    for piece in feed(body, pieces_of(data, cuts)):
        out += piece
        ends = {len(b"".join(map(chunk, payloads[:n]))) for n in range(len(payloads) + 1)} | {len(whole)}
        assert len(out) in ends
    assert out == whole, "without the trailer"
    assert body.done
    assert not body.excess


@given(PAYLOADS, CUTS)
def test_payloads_come_out_of_their_chunks(payloads: list[bytes], cuts: list[int]) -> None:
    body = Unchunked()
    assert b"".join(feed(body, pieces_of(b"".join(map(chunk, payloads)) + LAST_CHUNK, cuts))) == b"".join(payloads)
    assert body.done
    assert not body.excess


@given(CUTS)
def test_a_long_chunk_is_passed_on_in_pieces(cuts: list[int]) -> None:
    data = chunk(b"x" * (3 * MAX_HELD_CHUNK)) + chunk(b"y") + LAST_CHUNK
    cuts = [cut * 3000 for cut in cuts]
    body = RawChunks()
    assert b"".join(feed(body, pieces_of(data, cuts))) == data
    assert body.done


@pytest.mark.parametrize("kind", [RawChunks, Unchunked])
@pytest.mark.parametrize(
    "data", [b"1_0\r\n", b"g\r\n", b"\r\n", b"1" * 300, b"1\r\nabc\r\n", b"1\r\naX\r\n", b"+1\r\na\r\n"]
)
def test_broken_chunks(kind: type[RawChunks | Unchunked], data: bytes) -> None:
    with pytest.raises(BrokenResponse):
        kind().feed(data)


@given(CUTS, st.sampled_from([b"XX", b"\rX", b"X\n", b"\n\r"]))
def test_a_long_chunk_ends_where_it_says(cuts: list[int], end: bytes) -> None:
    data = chunk(b"x" * (3 * MAX_HELD_CHUNK))[:-2] + end + LAST_CHUNK
    with pytest.raises(BrokenResponse):
        feed(RawChunks(), pieces_of(data, [cut * 3000 for cut in cuts]))


@pytest.mark.parametrize("kind", [RawChunks, Unchunked])
@pytest.mark.parametrize("trailer", [b"a b: c", b"a", b" a: b", b"a: b\nc: d", b"a: b\0"])
def test_trailers_are_header_lines(kind: type[RawChunks | Unchunked], trailer: bytes) -> None:
    with pytest.raises(BrokenResponse):
        kind().feed(b"1\r\na\r\n0\r\n" + trailer + b"\r\n\r\n")


def test_what_follows_the_end_is_noticed() -> None:
    for body, data in ((RawChunks(), LAST_CHUNK), (Unchunked(), LAST_CHUNK), (LengthBody(2), b"ab")):
        body.feed(data + b"HTTP/1.1 200 OK\r\n")
        assert (body.done, body.excess) == (True, True)


def test_a_head_seen_twice_is_read_the_same() -> None:
    for _ in range(2):
        head = ResponseHead(b"HTTP/1.1 200 OK\r\nContent-Type:  Text/Event-Stream \r\nContent-Length: 5\r\nX: y")
        assert (head.status, head.length, head.chunked, head.keep_alive) == (200, 5, False, True)
        assert head.value(b"content-type") == b"text/event-stream"
        assert head.relayed(framed=False) == b" 200 OK\r\nContent-Type:  Text/Event-Stream \r\nX: y"
    old = ResponseHead(b"HTTP/1.0 204\r\nConnection: keep-alive\r\nX: y")
    assert (old.status, old.keep_alive, old.relayed(framed=True)) == (204, True, b" 204\r\nX: y")
    assert not ResponseHead(b"HTTP/1.0 200 OK").keep_alive


ADDRESSES = {
    "unix:/run/a b.sock": ("/run/a b.sock", 0, "/v1/x"),
    "http://h:81": (None, 81, "/v1/x"),
    "https://h/api/": (None, 443, "/api/v1/x"),
    "http://h/v1": (None, 80, "/v1/x"),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses(text: str) -> None:
    address = parse_address(text)
    assert (address.path, address.port, address.target("/x")) == ADDRESSES[text]


@pytest.mark.parametrize("text", ["", "unix:", "ftp://h", "http://", "/run/x", "http://h:99999"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


TRAPS = ['"role":', '"delta":{', "\n\n", '"usage":{}', '"finish_reason":"stop"', "data: "]
TEXTS = st.text(max_size=20) | st.sampled_from(TRAPS)


@given(st.lists(TEXTS, max_size=5), CUTS, st.sampled_from([b"\n\n", b"\r\n\r\n"]), st.booleans())
def test_classic_streams(texts: list[str], cuts: list[int], end: bytes, asked: bool) -> None:
    sent = [delta("", role="assistant"), *map(delta, texts), delta(finish="stop"), USAGE_CHUNK, "[DONE]"]
    data = b"".join(event(item)[:-2] + end for item in sent)
    shaping = ClassicStream(asked)
    out = b"".join(shaping.feed(piece) for piece in pieces_of(data, cuts)) + shaping.end()
    got = [data_of(item) for item in Splitter().feed(out)]
    assert got.pop() == b"[DONE]"
    chunks = [json.loads(item) for item in got]
    if asked:
        assert chunks.pop() == USAGE_CHUNK
    assert [c["choices"][0]["delta"].get("content") for c in chunks] == ["", *texts, None]
    assert {c["choices"][0]["delta"]["role"] for c in chunks} == {"assistant"}
    assert chunks[-1]["usage"] == USAGE
    assert all("usage" not in c for c in chunks[:-1])


def test_roles_in_every_shape() -> None:
    two = {"choices": [{"delta": {"role": "tool"}}, {"delta": {}}, {"delta": {"role": None, "content": "x"}}]}
    for text in (json.dumps(two), json.dumps(two, separators=(",", ":"))):
        got = json.loads(data_of(with_roles(event(text))))
        assert [choice["delta"]["role"] for choice in got["choices"]] == ["tool", "assistant", "assistant"]


def test_usage_is_found_and_put_in_place_of_null() -> None:
    nested = event({"a": 1, "usage": {"x": {"y": 2}}})
    assert usage_of(nested) == b'{"x":{"y":2}}'
    assert usage_of(event({"usage": None})) is None
    assert json.loads(data_of(with_usage(event({"a": 1, "usage": None}), b'{"x":1}'))) == {"a": 1, "usage": {"x": 1}}


def test_comments_do_not_come_between_the_last_chunk_and_its_usage() -> None:
    shaping = ClassicStream(False)
    out = shaping.feed(event(delta(finish="stop")) + b":\n\n" + event(USAGE_CHUNK)) + shaping.end()
    assert out.startswith(b":\n\n")
    assert usage_of(out) == json.dumps(USAGE, separators=(",", ":")).encode()


@given(st.binary(max_size=200), CUTS)
def test_splitting_loses_nothing(data: bytes, cuts: list[int]) -> None:
    splitter = Splitter()
    events = [item for piece in pieces_of(data, cuts) for item in splitter.feed(piece)]
    assert b"".join(events) + splitter.rest() == data


def aggregate(*chunks: Any, chat: bool = True, choices: int = 1, per_prompt: int = 1) -> dict[str, Any]:
    aggregator = Aggregator(chat=chat, choices=choices, per_prompt=per_prompt)
    for item in chunks:
        aggregator.add(item)
    assert aggregator.finished()
    return aggregator.result()


def test_a_stream_becomes_an_answer() -> None:
    answer = aggregate(*CHAT[:-1], {"choices": [], "timings": {"ms": 1}, "usage": None})
    assert answer == {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "timings": {"ms": 1},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
        "usage": USAGE,
    }


def test_tool_calls_and_reasoning_are_put_together() -> None:
    def call(index: int, **fields: Any) -> dict[str, Any]:
        return delta(tool_calls=[{"index": index, **fields}])

    answer = aggregate(
        delta(role="assistant", reasoning_content="I "),
        delta(reasoning_content="think"),
        call(1, id="b", type="function", function={"name": "g", "arguments": ""}),
        call(0, id="a", type="function", function={"name": "f", "arguments": '{"x"'}),
        call(0, function={"arguments": ":1}"}),
        delta(finish="tool_calls"),
    )
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I think",
        "tool_calls": [
            {"type": "function", "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"type": "function", "id": "b", "function": {"name": "g", "arguments": ""}},
        ],
    }


def test_several_choices_each_with_its_logprobs_and_usage() -> None:
    def part(index: int, text: str, finish: str | None = None, **extra: Any) -> dict[str, Any]:
        chunk = {**delta(text, finish=finish, index=index), **extra}
        chunk["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -1.0}]}
        return chunk

    answer = aggregate(
        None,
        part(1, "b"),
        part(0, "a"),
        part(0, "c", "stop", usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
        part(1, "d", "length", usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
        choices=2,
        per_prompt=2,
    )
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["ac", "bd"]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]
    assert [item["token"] for item in answer["choices"][1]["logprobs"]["content"]] == ["b", "d"]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}


def test_text_completions() -> None:
    def part(text: str, finish: str | None) -> dict[str, Any]:
        return {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}

    answer = aggregate(part("a", None), part("b", "stop"), chat=False)
    assert answer["choices"] == [{"index": 0, "text": "ab", "finish_reason": "stop"}]


def endpoint(**changes: Any) -> RouteEndpoint:
    fields = {"id": "e", "name": "n", "owner": "o", "state": "STARTED", "accepting": True, "engine": "x"}
    return RouteEndpoint(**{**fields, **changes})


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Kind, bool, dict[str, Any]]] = {
    "untouched": ({"model": "e"}, {}, Kind.CHAT, False, {}),
    "aggregated": (
        {"model": "e"}, {"cancels_non_stream": False}, Kind.CHAT, False,
        {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "embeddings are not": ({"model": "e"}, {"cancels_non_stream": False}, Kind.EMBEDDINGS, False, {}),
    "a stream is not": ({"model": "e", "stream": True}, {"cancels_non_stream": False}, Kind.CHAT, False, {}),
    "usage for the classic": (
        {"model": "e", "stream": True}, {}, Kind.CHAT, True, {"stream_options": {"include_usage": True}},
    ),
    "integer logprobs": ({"model": "e", "logprobs": 2}, {}, Kind.CHAT, False, {"logprobs": True, "top_logprobs": 2}),
    "no logprobs": ({"model": "e", "logprobs": 0}, {}, Kind.CHAT, False, {"logprobs": False}),
    "bool logprobs": ({"model": "e", "logprobs": True}, {}, Kind.CHAT, False, {}),
    "completions' own logprobs": ({"model": "e", "logprobs": 2}, {}, Kind.COMPLETIONS, False, {}),
    "repetition": (
        {"model": "e", "repetition_penalty": 1.1}, {"dialect": "llama_cpp"}, Kind.CHAT, False, {"repeat_penalty": 1.1},
    ),
}  # fmt: skip


def adapted(body: dict[str, Any], kind: Kind, route: RouteEndpoint, *, classic: bool = False) -> Adapted:
    got = adapt(body, kind, route, classic=classic)
    assert isinstance(got, Adapted)
    return got


@pytest.mark.parametrize("name", CASES)
def test_how_requests_go_upstream(name: str) -> None:
    body, changes, kind, classic, added = CASES[name]
    before = json.dumps(body)
    got = adapted(body, kind, endpoint(**changes), classic=classic)
    assert got.body == {**body, **added}
    assert got.changed == bool(added)
    assert json.dumps(body) == before


def test_integer_logprobs_of_llama_completions_are_put_in_shape() -> None:
    body = {"model": "e", "logprobs": 1}
    llama = adapted(body, Kind.COMPLETIONS, endpoint(dialect="llama_cpp"))
    assert llama.shape is not None
    assert llama.shape.logprobs is Logprobs.CLASSIC
    assert adapted(body, Kind.COMPLETIONS, endpoint()).shape is None


def test_classic_logprobs() -> None:
    top = [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -2.0}]
    items = [{"id": 7, "token": "a", "logprob": -0.1, "top_logprobs": top}, {"token": " bc", "logprob": -1.0}]
    assert classic_logprobs(items, 5) == {
        "tokens": ["a", " bc"],
        "token_ids": [7, None],
        "token_logprobs": [-0.1, -1.0],
        "top_logprobs": [{"a": -0.1, "b": -2.0}, {}],
        "text_offset": [5, 6],
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_decoded_or_refused(raw: bytes) -> None:
    value = decode(raw)
    if isinstance(value, dict):
        encoded = encode(value)
        assert isinstance(encoded, bytes)
        assert isinstance(json.loads(encoded), dict)
    else:
        assert value.status == 400
