"""Heads seen before: what is recognised, and that nothing is taken which the strict parser would refuse."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.fakes import ENDPOINT, EXPIRED, KEY, Client, World, post, table

from roost.domain.routing import RouteKey
from roost.gateway.known_head import KnownHead, learn
from roost.gateway.request import Request

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\n"
    b"Content-Length: %b\r\nUser-Agent: x-content-length: 4\r\n\r\n"
)
SEEN = HEAD % b"2" + b"{}"
OTHER_HEADS = {
    "another path": SEEN.replace(b"/chat", b"/other"),
    "another key": SEEN.replace(b"Bearer k", b"Bearer j"),
    "another case": SEEN.replace(b"Host", b"host"),
    "another header": SEEN.replace(b"\r\n\r\n", b"\r\nA: b\r\n\r\n"),
    "half a head": SEEN[:60],
    "half a length": HEAD.partition(b"%b")[0] + b"2",
    "no length": HEAD % b"" + b"{}",
    "signed length": HEAD % b"+2" + b"{}",
    "spaced length": HEAD % b" 2" + b"{}",
    "grouped length": HEAD % b"0_2" + b"{}",
    "listed length": HEAD % b"2, 2" + b"{}",
    "wide digits": HEAD % "\u0662".encode() + b"{}",
    "endless length": HEAD % (b"0" * 30 + b"2") + b"{}",
    "half a body": HEAD % b"3" + b"{}",
    "two requests": SEEN + SEEN,
    "more than the body": SEEN + b"\r\n",
}
UNPLAIN = {
    "an id": b"X-Request-Id: a\r\n",
    "an expectation": b"Expect: 100-continue\r\n",
    "an offer": b"Upgrade: h2c\r\n",
    "the end": b"Connection: close\r\n",
}


class Parsed(Request):
    """What the strict parser makes of some bytes; ``complete`` counts as in the front."""

    __slots__ = ("count", "parser")

    def __init__(self, data: bytes) -> None:
        super().__init__(0.0)
        self.count = 0
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.method = self.parser.get_method()
        self.close = not self.parser.should_keep_alive()
        self.length = int(self.headers.get(b"content-length", b"0"))
        self.classify()
        self.key = RouteKey("", "key-1", "alice", "member")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.count += 1
        self.complete = True


def known() -> KnownHead:
    head = learn(Parsed(SEEN), SEEN)
    assert head is not None
    return head


@pytest.mark.parametrize("length", [0, 1, 2, 10, 70_000])
def test_the_same_head_with_another_body_is_recognised(length: int) -> None:
    body = b"x" * length
    data = HEAD % str(length).encode() + body
    request = known().request(data, 7.0)
    assert request is not None
    assert (request.method, request.target, request.path) == (b"POST", b"/v1/chat/completions", b"/v1/chat/completions")
    assert (request.length, b"".join(request.body), request.started) == (length, body, 7.0)
    assert request.complete
    assert not request.close
    assert request.key is None, "the key is looked up each time"
    assert request.headers[b"authorization"] == b"Bearer k" == known().authorization


@pytest.mark.parametrize("name", OTHER_HEADS)
def test_anything_else_is_left_to_the_parser(name: str) -> None:
    assert known().request(OTHER_HEADS[name], 0.0) is None


@pytest.mark.parametrize("name", UNPLAIN)
def test_a_head_that_asks_for_more_is_not_learnt(name: str) -> None:
    data = SEEN.replace(b"Host: a\r\n", b"Host: a\r\n" + UNPLAIN[name])
    assert learn(Parsed(data), data) is None


def test_a_head_that_came_in_pieces_or_behind_another_is_not_learnt() -> None:
    request = Parsed(SEEN)
    assert learn(request, SEEN[10:]) is None
    assert learn(request, SEEN + SEEN) is None
    assert learn(request, b"\r\n" + SEEN) is None


@given(
    at=st.integers(0, len(SEEN)),
    cut=st.integers(0, 4),
    put=st.one_of(st.binary(max_size=4), st.sampled_from([b"\r\n", b"\n", b"0", b"2", b"+", b" ", b"\t", b":", b"\0"])),
)
def test_what_is_recognised_is_what_the_parser_would_have_read(at: int, cut: int, put: bytes) -> None:
    data = SEEN[:at] + put + SEEN[at + cut :]
    request = known().request(data, 0.0)
    if request is None:
        return
    parsed = Parsed(data)
    assert parsed.complete
    assert parsed.count == 1
    assert (request.method, request.target, request.path) == (parsed.method, parsed.target, parsed.path)
    assert (request.kind, request.length) == (parsed.kind, parsed.length)
    assert b"".join(request.body) == b"".join(parsed.body)
    same = {name: value for name, value in parsed.headers.items() if name != b"content-length"}
    assert {name: value for name, value in request.headers.items() if name != b"content-length"} == same


# ---- on a connection


async def warm(world: World) -> Client:
    """A connection whose head is known."""
    client = await world.connect()
    for _ in range(2):
        assert (await client.ask(post())).status == 200
    return client


async def test_each_request_goes_upstream_with_its_own_body_and_id(world: World) -> None:
    client = await warm(world)
    ids = set()
    for number in (1, 20, 300):
        answer = await client.ask(post({"model": ENDPOINT, "x": number}))
        assert answer.status == 200
        ids.add(answer.headers["x-request-id"])
        assert world.upstream.seen[-1].json["x"] == number
    assert len(ids) == 3


async def test_a_revoked_key_is_refused_although_its_head_is_known(world: World) -> None:
    client = await warm(world)
    old = table(world.version + 1, world.replica())
    world.gateway.apply(replace(old, keys=old.keys[1:]))
    answer = await client.ask(post())
    assert (answer.status, answer.error["code"]) == (401, "unknown_api_key")


async def test_a_key_that_expires_is_refused_although_its_head_is_known(world: World) -> None:
    new = table(world.version + 2, world.replica())
    endless = tuple(replace(key, expires_at=None) for key in new.keys)
    world.gateway.apply(replace(new, version=world.version + 1, keys=endless))
    client = await world.connect()
    for _ in range(2):
        assert (await client.ask(post(key=EXPIRED))).status == 200
    world.gateway.apply(new)
    answer = await client.ask(post(key=EXPIRED))
    assert (answer.status, answer.error["code"]) == (401, "expired_api_key")


async def test_a_body_in_pieces_and_pipelined_requests_after_a_known_head(world: World) -> None:
    client = await warm(world)
    whole = post({"model": ENDPOINT, "x": 4})
    await client.send(whole[:-3])
    await asyncio.sleep(0)
    assert (await client.ask(whole[-3:])).status == 200
    await client.send(whole * 3)
    for _ in range(3):
        assert (await client.answer()).status == 200
    assert [seen.json.get("x") for seen in world.upstream.seen] == [None, None, 4, 4, 4, 4]


async def test_a_known_head_waits_for_its_turn(world: World) -> None:
    client = await warm(world)
    world.route(world.replica(draining=True))
    await client.send(post({"model": ENDPOINT, "x": 1}))
    await client.send(post({"model": ENDPOINT, "x": 2}))
    world.route(world.replica())
    for _ in range(2):
        assert (await client.answer()).status == 200
    assert [seen.json.get("x") for seen in world.upstream.seen] == [None, None, 1, 2]


@pytest.mark.parametrize("data", [b"\0", b"POST", OTHER_HEADS["signed length"], OTHER_HEADS["grouped length"]])
async def test_a_malformed_request_after_a_known_head_ends_the_connection(world: World, data: bytes) -> None:
    client = await warm(world)
    answer = await client.ask(data.replace(b"Bearer k", f"Bearer {KEY}".encode()) + b" \0\r\n\r\n")
    assert answer.status == 400
    assert await client.closed()


@pytest.mark.parametrize("world", [{"max_body_bytes": 40}], indirect=True)
async def test_a_body_over_the_limit_is_refused_although_its_head_is_known(world: World) -> None:
    client = await warm(world)
    answer = await client.ask(post({"model": ENDPOINT, "x": "x" * 40}))
    assert answer.status == 413
