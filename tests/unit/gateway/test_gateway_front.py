"""The client's side: parsing, limits, refusals, pipelining, drain."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    ELSEWHERE_KEY,
    ENDPOINT,
    EXPIRED,
    KEY,
    LISTED_KEY,
    NAME,
    OTHER_KEY,
    Client,
    Peer,
    Seen,
    World,
    post,
    silent,
    until,
    whole,
)

from roost.config import Settings
from roost.domain.routing import LLAMA_CPP
from roost.gateway.answers import REASONS
from roost.gateway.front import Front

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"

MALFORMED = {
    "garbage": (b"\x16\x03\x01 hello\r\n\r\n", 400),
    "bad method": (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "http/2": (b"GET / HTTP/2.0\r\n\r\n", 400),
    "preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "space in target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "ftp target": (b"GET ftp://h/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "length and coding": (
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "coding and length": (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", 400),
    "signed length": (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nab", 400),
    "listed length": (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nab", 400),
    "unknown coding": (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nab", 400),
    "chunked not last": (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\nab", 400),
    "coding in 1.0": (b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "folded": (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n", 400),
    "nul": (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x00b\r\n\r\n", 400),
    "bare line feeds": (b"GET / HTTP/1.1\nA: b\n\n", 400),
    "bad chunk": (
        b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        400,
    ),
    "endless head": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200_000, 431),
    "expectation": (b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", 417),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests_end_in_the_envelope_and_the_connection(world: World, name: str) -> None:
    data, status = MALFORMED[name]
    client = await world.connect()
    client.writer.write(data)
    answer = await client.answer()
    assert answer.status == status
    assert answer.error["type"] == "request_error"
    assert answer.headers["connection"] == "close"
    assert await client.closed()
    assert not world.upstream.seen


async def test_a_malformed_request_behind_a_good_one_does_not_harm_it(world: World) -> None:
    client = await world.connect()
    await client.send(post() + b"\x00\r\n\r\n")
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 400
    assert await client.closed()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/v1/chat/completions"])
async def test_aliases_of_a_path(world: World, path: str) -> None:
    assert (await world.ask(post(path=path))).status == 200
    assert world.upstream.seen[0].target == "/v1/chat/completions"


OTHERS = {"/v1/completions": "language", "/v1/embeddings": "embedding", "/v1/rerank": "rerank"}


@pytest.mark.parametrize("path", OTHERS)
async def test_other_kinds_of_inference(world: World, path: str) -> None:
    world.route(world.replica(), type=OTHERS[path])
    assert (await world.ask(post(path=path + "?x=1"))).status == 200
    assert world.upstream.seen[0].target == path


async def test_absolute_targets_and_offers_to_upgrade(world: World) -> None:
    client = await world.connect()
    await client.send(b"GET http://h/healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + GET)
    assert (await client.answer()).json == {"status": "ok"}
    assert (await client.answer()).json == {"status": "ok"}


KEYS = {
    "none": (None, 401, "missing_api_key"),
    "unknown": ("rk-nobody", 401, "unknown_api_key"),
    "expired": (EXPIRED, 401, "expired_api_key"),
    "foreign": (OTHER_KEY, 404, "model_not_found"),
    "not listed": (ELSEWHERE_KEY, 404, "model_not_found"),
}


async def test_a_list_opens_what_is_on_it(world: World) -> None:
    client = await world.connect()
    assert (await client.ask(post(key=LISTED_KEY))).status == 200


async def test_what_is_not_listed_reads_like_what_is_not_there(world: World) -> None:
    client = await world.connect()
    hidden = await client.ask(post(key=ELSEWHERE_KEY))
    absent = await client.ask(post({"model": "endpoint-none"}, key=ELSEWHERE_KEY))
    assert hidden.error["message"].replace(ENDPOINT, "endpoint-none") == absent.error["message"]


async def test_a_revoked_key_is_refused_at_the_next_request_of_an_open_connection(world: World) -> None:
    client = await world.connect()
    assert (await client.ask(post())).status == 200
    current = world.gateway.books.table
    assert current is not None
    world.gateway.apply(replace(current, version=current.version + 1, keys=current.keys[1:]))
    assert (await client.ask(post())).error["code"] == "unknown_api_key"
    assert (await client.ask(post(key=ADMIN_KEY))).status == 200


@pytest.mark.parametrize("name", KEYS)
async def test_who_may_not(world: World, name: str) -> None:
    key, status, code = KEYS[name]
    client = await world.connect()
    answer = await client.ask(post(key=key))
    assert (answer.status, answer.error["code"]) == (status, code)
    if status == 401:
        assert "authentication" in answer.error["message"]
    assert (await client.ask(post())).status == 200  # the connection goes on


@pytest.mark.parametrize("key", [KEY, ADMIN_KEY])
@pytest.mark.parametrize("model", ["endpoint-1", NAME])
async def test_who_may(world: World, key: str, model: str) -> None:
    assert (await world.ask(post({"model": model}, key=key))).status == 200
    assert "authorization" not in world.upstream.seen[0].headers


async def test_a_revoked_key_is_refused_as_soon_as_the_table_says_so(world: World) -> None:
    client = await world.connect()
    assert (await client.ask(post())).status == 200
    old = world.gateway.books.table
    assert old is not None
    world.gateway.apply(type(old)(old.installation, old.term, old.version + 1, old.endpoints, ()))
    assert (await client.ask(post())).status == 401


BODIES = {
    "empty": (b"", "invalid_json"),
    "not json": (b"{", "invalid_json"),
    "not utf-8": (b'{"model":"\xff"}', "invalid_json"),
    "list": (b"[]", "invalid_json"),
    "deep": (b"[" * 20_000 + b"]" * 20_000, "invalid_json"),
    "deep object": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "invalid_json"),
    "nan": (b'{"model":"endpoint-1","a":NaN}', "invalid_json"),
    "no model": (b"{}", "missing_field"),
    "model of a wrong type": (b'{"model":5}', "missing_field"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_bodies(world: World, name: str) -> None:
    raw, code = BODIES[name]
    answer = await world.ask(post(raw=raw))
    assert (answer.status, answer.error["code"]) == (400, code)


@pytest.mark.parametrize("model", ["nobody/none", "\ud800", "x" * 5000, "a\x00b"])
async def test_unknown_models(world: World, model: str) -> None:
    answer = await world.ask(post({"model": model}))
    assert answer.status == 404
    assert "endpoint" not in answer.error["message"]
    assert answer.error["type"] == "not_found_error"


async def test_lone_surrogates_and_wide_integers_pass(world: World) -> None:
    raw = b'{"model":"endpoint-1","a":"\\ud800","seed":123456789012345678901234567890}'
    assert (await world.ask(post(raw=raw))).status == 200
    assert world.upstream.seen[0].body == raw
    world.route(world.replica(), served_model="own")
    assert (await world.ask(post(raw=raw))).status == 200
    assert world.upstream.seen[1].json == {**json.loads(raw), "model": "own"}


@pytest.mark.parametrize("text", [b"\\ud800", b"x\\uDFFFy"])
@pytest.mark.parametrize("body", [b'"messages":[{"role":"user","content":"%b"}]', b'"seed":%d,"x":{"%%b":1}' % 10**30])
async def test_half_a_surrogate_pair_is_refused_where_the_engine_cannot_read_it(
    world: World, body: bytes, text: bytes
) -> None:
    world.route(world.replica(), dialect=LLAMA_CPP)
    answer = await world.ask(post(raw=b'{"model":"endpoint-1",' + body % text + b"}"))
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    assert "half a surrogate pair" in answer.error["message"]
    for pair in (b"\\ud83d\\ude00", b"\\\\ud800"):
        assert (await world.ask(post(raw=b'{"model":"endpoint-1",' + body % pair + b"}"))).status == 200


@pytest.mark.parametrize("world", [{"max_body_bytes": 2000}], indirect=True)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/endpoints"])
async def test_too_long_bodies(world: World, path: str) -> None:
    client = await world.connect()
    await client.send(
        b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000000\r\n\r\n" % path.encode() + b"x" * 3000
    )
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (413, "payload_too_large")
    assert await client.closed()
    client = await world.connect()
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    await client.send(head % (path.encode(), KEY.encode()) + b"9c4\r\n" + b"x" * 2500 + b"\r\n0\r\n\r\n")
    assert (await client.answer()).status == 413
    assert await client.closed()


async def test_expect_continue(world: World) -> None:
    client = await world.connect()
    head, _, body = post(headers={"Expect": "100-continue"}).partition(b"\r\n\r\n")
    await client.send(head + b"\r\n\r\n")
    assert (await client.answer()).status == 100
    assert (await client.ask(body)).status == 200
    client = await world.connect()
    head, _, body = post(headers={"Expect": "100-continue"}, key=None).partition(b"\r\n\r\n")
    assert (await client.ask(head + b"\r\n\r\n")).status == 401


async def test_a_chunked_request(world: World) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'a;x=y\r\n{"model":"\r\nc\r\nendpoint-1"}\r\n0\r\nTrailer: 1\r\n\r\n'
    assert (await world.ask(head % KEY.encode() + body)).status == 200
    assert world.upstream.seen[0].body == b'{"model":"endpoint-1"}'


async def test_http_1_0(world: World) -> None:
    client = await world.connect()
    answer = await client.ask(post(version="1.0", headers={"Connection": "keep-alive"}))
    assert answer.headers["connection"] == "keep-alive"
    answer = await client.ask(post({"model": "endpoint-1", "stream": True}, version="1.0"))
    assert answer.status == 200
    assert "transfer-encoding" not in answer.headers
    assert answer.events[-1] == "[DONE]"
    assert await client.closed()


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    client = await world.connect()
    many = b"".join(post({"model": "endpoint-1", "x": n}, headers={"x-request-id": f"r{n}"}) + GET for n in range(300))
    sending = asyncio.ensure_future(client.send(many))
    for n in range(300):
        answer = await client.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (200, f"r{n}")
        assert (await client.answer()).json == {"status": "ok"}
    await sending
    assert [seen.json["x"] for seen in world.upstream.seen] == list(range(300))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 600), max_size=12))
def test_requests_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    class Wire(asyncio.Transport):
        def __init__(self) -> None:
            self.out = b""

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.out += data

        def is_closing(self) -> bool:
            return False

    class Office:
        # What the front needs of a gateway, for requests that are refused.
        settings = Settings(Path("/"))
        max_clients = max_told = 10
        draining = leaving = False
        max_body_bytes = 1000
        marks = b""
        cells = [0] * 1000

        def __init__(self) -> None:
            self.fronts: set[Front] = set()

        def now(self) -> float:
            return 0.0

        def account(self, *told: object) -> None: ...

        def serve(self, front: Front, request: object) -> None:
            front.reply(request, 200, b"{}")  # type: ignore[arg-type]

    ids = (b"first", b"second", b"third")
    data = b"".join(GET.replace(b"Host: a", b"Host: a\r\nx-request-id: " + name) for name in ids)
    wire, front = Wire(), Front(Office())  # type: ignore[arg-type]
    front.connection_made(wire)
    at = 0
    for cut in [*cuts, len(data)]:
        if data[at : at + cut]:
            front.data_received(data[at : at + cut])
        at += cut
    assert wire.out.count(b"HTTP/1.1 200 OK") == 3
    assert [wire.out.index(name) for name in ids] == sorted(wire.out.index(name) for name in ids)


async def test_request_ids(world: World) -> None:
    client = await world.connect()
    answer = await client.ask(post(headers={"X-Request-Id": "abc.DEF_1-2"}))
    assert answer.headers["x-request-id"] == "abc.DEF_1-2"
    assert world.upstream.seen[0].headers["x-request-id"] == "abc.DEF_1-2"
    ids = {
        (await client.ask(post(headers={"X-Request-Id": bad}))).headers["x-request-id"] for bad in ("a b", "x" * 129)
    }
    assert len(ids) == 2
    assert all(given.startswith("req-") for given in ids)


async def test_methods(world: World) -> None:
    client = await world.connect()
    await client.send(b"GET /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
    assert answer.error["code"] == "method_not_allowed"
    await client.send(b"HEAD /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer(head_only=True)).status == 405
    assert (await client.ask(b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n")).status == 204
    await client.send(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    assert (await client.answer(head_only=True)).headers["content-length"] == "15"
    assert (await client.answer()).json == {"status": "ok"}
    assert (await client.ask(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).status == 405
    assert (await client.ask(b"OPTIONS /readyz HTTP/1.1\r\nHost: a\r\n\r\n")).status == 204


async def test_drain_finishes_what_is_in_flight_and_lets_idle_clients_go(world: World) -> None:
    finish = asyncio.Event()

    async def slowly(seen: Seen, peer: Peer) -> None:
        await finish.wait()
        await peer.send(whole(b"{}"))

    world.upstream.handler = slowly
    idle, busy = await world.connect(), await world.connect()
    assert (await idle.ask(GET)).status == 200
    await busy.send(post())
    await world.upstream.wait_for(1)
    world.gateway.drain()
    assert await idle.closed()
    assert not world.gateway.empty.is_set()
    finish.set()
    answer = await busy.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await busy.closed()
    await until(world.gateway.empty.is_set)


async def test_clients_that_idle_or_stall_are_let_go(world: World) -> None:
    now = world.gateway.now()
    idle, stalled, held = await world.connect(), await world.connect(), await world.connect()
    world.upstream.handler = silent
    await idle.ask(GET)
    await stalled.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    await held.send(post())
    await world.upstream.wait_for(1)
    await until(lambda: len(world.gateway.fronts) == 3)
    for later in (1, 2, 70):
        for front in list(world.gateway.fronts):
            front.sweep(now + later)
    assert (await stalled.answer()).status == 408
    for front in list(world.gateway.fronts):
        front.sweep(now + 80)
    assert await idle.closed()
    assert await stalled.closed()
    await until(lambda: len(world.gateway.fronts) == 1)
    held.hang_up()


async def test_the_log_and_the_counters_know_the_request_but_not_its_content(world: World) -> None:
    await world.ask(post({"model": "endpoint-1", "prompt": "SECRET"}, headers={"x-request-id": "r-9"}))
    answer = await world.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b'roost_gateway_requests_total{kind="chat",status="2xx"} 1\n' in answer.body
    assert b"roost_gateway_request_seconds_count 1\n" in answer.body
    world.gateway.sweep()
    text = (world.folder / "logs" / "gateway-0.access.log").read_text()
    line = json.loads(text.splitlines()[0])
    assert (line["request_id"], line["status"], line["endpoint"]) == ("r-9", 200, "endpoint-1")
    assert (line["replica"], line["key"], line["outcome"]) == ("replica-1", "key-1", "completed")
    assert "SECRET" not in text
    assert KEY not in text


def test_every_status_has_a_reason() -> None:
    assert REASONS[431] == b"Request Header Fields Too Large"


async def test_a_client_that_hangs_up_is_forgotten(world: World) -> None:
    client: Client = await world.connect()
    await client.ask(GET)
    client.hang_up()
    await until(lambda: not world.gateway.fronts)
