"""An inference request on its way: routing, holding, retries, hang-ups, backpressure, accounting."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.gateway.fakes import (
    CHAT,
    ENDPOINT,
    STREAM_HEAD,
    USAGE,
    Peer,
    Seen,
    World,
    chunked,
    delta,
    echo,
    event,
    post,
    silent,
    stream,
    until,
    whole,
)

from roost.domain.creation import Delivery
from roost.gateway.attempt import Attempt
from roost.gateway.classic import Adapted
from roost.gateway.exchange import Exchange
from roost.gateway.http1 import LAST_CHUNK

STREAMED = {"model": ENDPOINT, "stream": True}


async def test_the_body_passes_untouched_unless_the_engine_has_its_own_name_for_the_model(world: World) -> None:
    raw = b'{ "model" : "endpoint-1",  "x":1 }'
    assert (await world.ask(post(raw=raw))).status == 200
    assert world.upstream.seen[0].body == raw
    world.route(world.replica(), served_model="own")
    await world.ask(post(raw=raw))
    assert world.upstream.seen[1].json == {"model": "own", "x": 1}


async def test_a_stream_passes_byte_for_byte(world: World) -> None:
    answer = await world.ask(post(STREAMED))
    assert answer.body == b"".join(map(event, CHAT))
    assert answer.headers["content-type"] == "text/event-stream"


async def test_connections_to_the_upstream_are_kept_and_let_go_when_idle(world: World) -> None:
    client = await world.connect()
    for _ in range(3):
        await client.ask(post())
    assert len(world.upstream.peers) == 1
    pool = world.gateway.books.replicas["replica-1"].pool
    pool.sweep(world.gateway.now())
    pool.sweep(world.gateway.now() + 60)
    async with asyncio.timeout(5):
        await world.upstream.peers[0].gone.wait()
    assert (await client.ask(post())).status == 200


async def test_requests_go_to_the_replica_with_the_least_in_flight(world: World) -> None:
    world.upstream.handler = silent
    other = await world.another(silent)
    drained = await world.another(silent)
    world.route(world.replica(1), world.replica(2, other), world.replica(3, drained, draining=True))
    for _ in range(4):
        await (await world.connect()).send(post())
    await world.upstream.wait_for(2)
    await other.wait_for(2)
    assert not drained.seen
    assert world.gateway.books.report()["in_flight"] == {"replica-1": 2, "replica-2": 2, "replica-3": 0}


STOPPED = {
    "stopped": ("STOPPED", "endpoint_stopped"),
    "stopping": ("STOPPING", "endpoint_stopped"),
    "failed": ("ERROR", "endpoint_failed"),
}


@pytest.mark.parametrize("name", STOPPED)
async def test_endpoints_that_do_not_accept(world: World, name: str) -> None:
    state, code = STOPPED[name]
    world.route(state=state, accepting=False, message="No memory.")
    answer = await world.ask(post())
    assert (answer.status, answer.error["code"], answer.headers["x-should-retry"]) == (400, code, "false")
    assert f"roost endpoints start {ENDPOINT}" in answer.error["message"]


async def test_requests_are_held_until_a_replica_is_ready(world: World) -> None:
    world.route(state="STARTING")
    clients = [await world.connect() for _ in range(3)]
    for n, client in enumerate(clients):
        await client.send(post({"model": ENDPOINT, "x": n}))
        await until(lambda count=n + 1: world.gateway.books.report()["held"][ENDPOINT] == count)  # type: ignore[misc]
    world.route(world.replica())
    for client in clients:
        assert (await client.answer()).status == 200
    assert world.gateway.books.report()["held"] == {ENDPOINT: 0}
    assert sorted(seen.json["x"] for seen in world.upstream.seen) == [0, 1, 2]


async def test_held_requests_end_when_the_endpoint_stops_or_goes(world: World) -> None:
    for change, status in (({"state": "STOPPED", "accepting": False}, 400), ({"id": "endpoint-2", "name": "x/y"}, 404)):
        world.route(state="STARTING")
        client = await world.connect()
        await client.send(post())
        await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 1)
        world.route(**change)
        assert (await client.answer()).status == status


@pytest.mark.parametrize("world", [{"hold_limit": 1}], indirect=True)
async def test_the_queue_is_bounded(world: World) -> None:
    world.route(state="STARTING", retry_after_s=7.2)
    first = await world.connect()
    await first.send(post())
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 1)
    answer = await world.ask(post())
    assert (answer.status, answer.headers["retry-after"], answer.error["type"]) == (429, "8", "rate_limit_error")


HOLDS = {
    "python": ({"x-stainless-read-timeout": "10.0"}, 9.0),
    "typescript": ({"X-Stainless-Timeout": "20"}, 18.0),
    "none": ({}, 60.0),
    "nonsense": ({"x-stainless-read-timeout": "nan"}, 60.0),
    "negative": ({"x-stainless-read-timeout": "-5"}, 60.0),
}


@pytest.mark.parametrize("name", HOLDS)
async def test_how_long_a_request_is_held(world: World, name: str) -> None:
    headers, seconds = HOLDS[name]
    world.route(state="STARTING")
    client = await world.connect()
    await client.send(post(headers=headers))
    book = world.gateway.books.endpoints[ENDPOINT]
    await until(lambda: len(book.held) == 1)
    (exchange,) = book.held
    assert exchange.deadline - exchange.request.started == pytest.approx(seconds)
    world.gateway.now = lambda: exchange.deadline
    world.gateway.sweep()
    answer = await client.answer()
    assert (answer.status, answer.headers["retry-after"], answer.headers["x-should-retry"]) == (503, "60", "true")


async def dies(seen: Seen, peer: Peer) -> None:
    peer.reset()


async def dies_inside_the_head(seen: Seen, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-le")
    peer.close()


@pytest.mark.parametrize("handler", [dies, dies_inside_the_head])
async def test_a_crash_before_the_first_byte_is_retried_elsewhere(world: World, handler: object) -> None:
    world.upstream.handler = handler  # type: ignore[assignment]
    other = await world.another(echo)
    world.gateway.books.endpoints[ENDPOINT].turn = 1
    world.route(world.replica(1), world.replica(2, other))
    for _ in range(2):
        assert (await world.ask(post())).status == 200
    assert len(world.upstream.seen) == 1  # and it is left alone for a moment
    assert len(other.seen) == 2


async def test_a_replica_that_refuses_connections_is_no_crash(world: World) -> None:
    await world.upstream.stop()
    client = await world.connect()
    await client.send(post())
    book = world.gateway.books.endpoints[ENDPOINT]
    await until(lambda: len(book.held) == 1)
    other = await world.another(echo)
    world.route(world.replica(2, other))
    assert (await client.answer()).status == 200


async def test_a_request_present_at_two_crashes_is_not_tried_again(world: World) -> None:
    world.upstream.handler = dies
    other = await world.another(dies)
    third = await world.another(echo)
    world.route(world.replica(1), world.replica(2, other))
    client = await world.connect()
    answer = await client.ask(post())
    assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
    assert (len(world.upstream.seen), len(other.seen)) == (1, 1)
    world.route(world.replica(3, third))
    assert (await client.ask(post())).status == 200


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_crash(world: World) -> None:
    client = await world.connect()
    assert (await client.ask(post())).status == 200

    async def close_unless_fresh(seen: Seen, peer: Peer) -> None:
        if peer is world.upstream.peers[0]:
            peer.reset()
        else:
            await echo(seen, peer)

    world.upstream.handler = close_unless_fresh
    assert (await client.ask(post())).status == 200
    assert len(world.upstream.peers) == 2


async def test_a_stream_that_breaks_ends_with_an_error_event(world: World) -> None:
    async def breaks(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(event(delta("a"))) + chunked(event(delta("b")))[:20])
        peer.close()

    world.upstream.handler = breaks
    client = await world.connect()
    answer = await client.ask(post(STREAMED))
    assert (answer.status, answer.complete) == (200, True)
    first, error = answer.events
    assert json.loads(first) == delta("a")
    assert json.loads(error)["error"]["code"] == "engine_failed"
    world.upstream.handler = echo
    assert (await client.ask(post())).status == 200
    assert world.gateway.books.report()["requests"][ENDPOINT]["failed"] == 1


async def test_an_answer_that_breaks_is_cut_off(world: World) -> None:
    async def breaks(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(b'{"a":1}')[:-2])
        peer.close()

    world.upstream.handler = breaks
    answer = await world.ask(post())
    assert (answer.status, answer.complete) == (200, False)


PINGS = STREAM_HEAD + chunked(b": ping\n\n") + chunked(b":\n\n")


async def test_a_crash_after_nothing_but_comments_is_retried(world: World) -> None:
    async def pings_and_dies(seen: Seen, peer: Peer) -> None:
        await peer.send(PINGS)
        peer.reset()

    world.upstream.handler = pings_and_dies
    other = await world.another(echo)
    world.gateway.books.endpoints[ENDPOINT].turn = 1
    world.route(world.replica(1), world.replica(2, other))
    answer = await world.ask(post(STREAMED))
    assert answer.body == b"".join(map(event, CHAT))
    assert len(world.upstream.seen) == 1


BROKEN = {
    "not http": b"SSH-2.0-x\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "length and coding": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n",
    "gzip coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nab",
    "folded": b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
    "bare line feed": b"HTTP/1.1 200 OK\r\na: b\nc: d\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
    "switches": b"HTTP/1.1 101 Switching\r\n\r\n",
    "endless": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "spaced chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_not_http_is_a_bad_gateway(world: World, name: str) -> None:
    async def broken(seen: Seen, peer: Peer) -> None:
        await peer.send(BROKEN[name])
        peer.close()

    world.upstream.handler = broken
    other = await world.another(broken)
    world.route(world.replica(1), world.replica(2, other))
    answer = await world.ask(post())
    assert (answer.status, answer.error["code"]) == (502, "engine_failed")


async def test_informational_responses_are_passed_over(world: World) -> None:
    async def early(seen: Seen, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + whole(b"{}"))

    world.upstream.handler = early
    assert (await world.ask(post())).json == {}


async def test_headers_of_one_connection_stay_there(world: World) -> None:
    async def closing(seen: Seen, peer: Peer) -> None:
        headers = "Connection: close\r\nKeep-Alive: timeout=5\r\nX-Request-Id: theirs\r\nX-Own: 1\r\n"
        await peer.send(whole(b"{}", headers=headers))
        await peer.gone.wait()  # it is the gateway's to close

    world.upstream.handler = closing
    client = await world.connect()
    for _ in range(2):
        answer = await client.ask(post(headers={"x-request-id": "ours"}))
        where = {"x-roost-replica": "replica-1", "x-roost-route": "only"}
        assert answer.headers == {"x-own": "1", "content-length": "2", "x-request-id": "ours", **where}


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_body_that_ends_with_the_connection(world: World, streamed: bool) -> None:
    kind = b"text/event-stream" if streamed else b"application/json"

    async def until_close(seen: Seen, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\n\r\n", b'data: {"a"', b":1}\n\n")
        peer.close()

    world.upstream.handler = until_close
    client = await world.connect()
    for _ in range(2):
        answer = await client.ask(post({"model": ENDPOINT, "stream": streamed}))
        assert (answer.body, answer.headers["transfer-encoding"]) == (b'data: {"a":1}\n\n', "chunked")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 150), min_size=1, max_size=8), aggregate=st.booleans(), classic=st.booleans())
async def test_answers_may_arrive_in_any_pieces(world: World, cuts: list[int], aggregate: bool, classic: bool) -> None:
    data = stream(*CHAT)

    async def cut_up(seen: Seen, peer: Peer) -> None:
        at = 0
        for cut in cuts:
            await peer.send(data[at : at + cut])
            at += cut
        await peer.send(data[at:])

    world.upstream.handler = cut_up
    world.route(world.replica(), cancels_non_stream=not aggregate)
    headers = {"User-Agent": "Together/Python 2.42.0"} if classic else {}
    answer = await world.ask(post({"model": ENDPOINT, "stream": not aggregate}, headers=headers))
    if aggregate:
        assert answer.json["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
        assert answer.json["usage"] == USAGE
        assert answer.json.get("prompt", "none") == ([] if classic else "none")
    elif classic:
        chunks = [json.loads(text) for text in answer.events[:-1]]
        assert answer.events[-1] == "[DONE]"
        assert all(chunk["choices"][0]["delta"]["role"] == "assistant" for chunk in chunks)
        assert chunks[-1]["usage"] == USAGE
    else:
        assert answer.body == b"".join(map(event, CHAT))


ERRORS = {
    "own envelope": (
        400,
        b'{"error":{"message":"too long","type":"x","param":"p","code":400}}',
        400,
        "too long",
    ),
    "llama.cpp": (500, b'{"error":{"code":500,"message":"boom","type":"server_error"}}', 500, "boom"),
    "plain text": (400, b"Bad Request", 400, "The engine answered with status 400."),
    "detail": (422, b'{"detail":"no field"}', 400, "no field"),
    "string": (400, b'{"error":"no"}', 400, "no"),
    "not there": (404, b"{}", 400, "The engine answered with status 404."),
    "its key": (401, b'{"error":{"message":"bad key sk-1"}}', 502, "The engine refused the request with status 401."),
    "elsewhere": (302, b"", 502, "The engine refused the request with status 302."),
    "not offered": (501, b'{"error":{"message":"no embeddings"}}', 400, "no embeddings"),
    "busy": (503, b'{"error":{"message":"busy","code":"insufficient_quota"}}', 503, "busy"),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("streamed", [True, False])
async def test_errors_of_the_engine_come_in_the_envelope(world: World, name: str, streamed: bool) -> None:
    status, body, expected, message = ERRORS[name]

    async def fails(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(body, f"{status} Whatever"))

    world.upstream.handler = fails
    client = await world.connect()
    answer = await client.ask(post({"model": ENDPOINT, "stream": streamed}))
    assert (answer.status, answer.error["message"]) == (expected, message)
    if status == 503:
        assert answer.headers["retry-after"] == "1"
    assert (await client.ask(post({"model": ENDPOINT}))).status == expected


async def held_back(seen: Seen, peer: Peer) -> None:
    await peer.send(STREAM_HEAD + chunked(event(delta("a"))))
    await asyncio.Event().wait()


async def only_head(seen: Seen, peer: Peer) -> None:
    await peer.send(STREAM_HEAD)
    await asyncio.Event().wait()


@pytest.mark.parametrize("handler", [silent, only_head, held_back])
@pytest.mark.parametrize("polite", [True, False])
async def test_a_hang_up_aborts_the_upstream_at_once(world: World, handler: object, polite: bool) -> None:
    world.upstream.handler = handler  # type: ignore[assignment]
    world.route(world.replica(), cancels_non_stream=False)
    client = await world.connect()
    await client.send(post({"model": ENDPOINT, "stream": handler is held_back}))
    await world.upstream.wait_for(1)
    if handler is held_back:
        async with asyncio.timeout(5):
            await client.reader.readuntil(b"\n\n")
    if polite:
        client.writer.write_eof()
    else:
        client.hang_up()
    async with asyncio.timeout(5):
        await world.upstream.peers[0].gone.wait()
    await until(lambda: world.gateway.books.report()["in_flight"] == {"replica-1": 0})
    counts = world.gateway.books.report()["requests"][ENDPOINT]
    assert (counts["completed"], counts["failed"]) == (0, 0)


async def test_a_hang_up_in_the_loops_turn_of_its_notice(world: World) -> None:
    world.upstream.handler = silent
    client = await world.connect()
    await client.send(post())
    await world.upstream.wait_for(1)
    (front,) = world.gateway.fronts
    pool = world.gateway.books.replicas["replica-1"].pool
    (connection,) = pool._all
    front.eof_received()
    assert not connection.usable


async def test_a_hang_up_while_held(world: World) -> None:
    world.route(state="STARTING")
    client = await world.connect()
    await client.send(post())
    await until(lambda: world.gateway.books.report()["held"] == {ENDPOINT: 1})
    client.hang_up()
    await until(lambda: world.gateway.books.report()["held"] == {ENDPOINT: 0})


async def test_a_slow_client_slows_the_upstream_down(world: World) -> None:
    sent = 0
    size = 1 << 20
    piece = chunked(b"x" * 65_000)

    async def flood(seen: Seen, peer: Peer) -> None:
        nonlocal sent
        await peer.send(STREAM_HEAD)
        for _ in range(400):
            await peer.send(piece)
            sent += len(piece)
        await peer.send(LAST_CHUNK)

    world.upstream.handler = flood
    client = await world.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(post(STREAMED))
    await until(lambda: any(front.full for front in world.gateway.fronts))
    (connection,) = world.gateway.books.replicas["replica-1"].pool._all
    await until(lambda: connection._paused)
    assert sent < 16 * size < 400 * len(piece)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len((await client.answer()).body) == 400 * 65_000


async def test_draining_replicas_are_reported_when_their_last_request_ends(world: World) -> None:
    class Link:
        connected = True
        reports = 0

        def report_soon(self) -> None:
            self.reports += 1

        def tell(self, answer: str, delivery: Delivery) -> None: ...

    finish = asyncio.Event()

    async def waits(seen: Seen, peer: Peer) -> None:
        await finish.wait()
        await peer.send(whole(b"{}"))

    world.upstream.handler = waits
    client = await world.connect()
    await client.send(post())
    await world.upstream.wait_for(1)
    link = world.gateway.link = Link()
    world.route(world.replica(draining=True))
    assert (link.reports, world.gateway.books.report()["in_flight"]) == (1, {"replica-1": 1})
    finish.set()
    assert (await client.answer()).status == 200
    assert (link.reports, world.gateway.books.report()["in_flight"]) == (2, {"replica-1": 0})


async def test_a_replica_that_left_the_table_is_kept_in_the_books_until_its_last_request_ends(world: World) -> None:
    world.upstream.handler = held_back
    client = await world.connect()
    await client.send(post(STREAMED))
    await world.upstream.wait_for(1)
    world.route()
    assert world.gateway.books.report()["in_flight"] == {"replica-1": 1}
    client.hang_up()
    await until(lambda: world.gateway.books.report()["in_flight"] == {})


async def test_an_unreadable_address_costs_that_replica_only(world: World) -> None:
    bad = world.replica(2)
    world.route(world.replica(1), type(bad)("replica-2", "ftp://x"))
    assert world.gateway.books.unreadable == ["replica-2"]
    assert (await world.ask(post())).status == 200


async def test_external_servers_by_url(world: World) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, host, *_ = head.decode().split("\r\n")
        writer.write(whole(json.dumps({"line": line, "host": host}).encode()))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    route = world.replica(2)
    for number, (prefix, target) in enumerate((("", "/v1"), ("/api", "/api/v1"), ("/api/v1/", "/api/v1"))):
        world.route(type(route)(f"replica-x{number}", f"http://127.0.0.1:{port}{prefix}"))
        answer = await world.ask(post())
        assert answer.json == {"line": f"POST {target}/chat/completions HTTP/1.1", "host": f"host: 127.0.0.1:{port}"}
    server.close()


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
async def test_an_address_that_is_no_host_is_one_that_cannot_be_reached(world: World, host: str) -> None:
    route = world.replica(2)
    world.route(type(route)("replica-2", f"http://{host}:80"))
    client = await world.connect()
    await client.send(post())
    replica = world.gateway.books.replicas["replica-2"]
    await until(lambda: replica.standing.failures > 0)
    assert (replica.in_flight, world.gateway.books.report()["held"]) == (0, {ENDPOINT: 1})
    world.route(world.replica())
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_that_is_over_is_freed_without_a_garbage_collection(world: World, streamed: bool) -> None:
    # Its body and its answer's record would fill memory until the next one, and caches miss what is never used again.
    gc.collect()
    gc.disable()
    try:
        client = await world.connect()
        for _ in range(3):
            await client.ask(post(STREAMED if streamed else {"model": ENDPOINT}))
        assert [each for each in gc.get_objects() if isinstance(each, (Exchange, Attempt, Adapted))] == []
    finally:
        gc.enable()
