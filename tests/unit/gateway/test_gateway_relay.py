"""What is not inference goes to the control plane and back; the gateway's own pages."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    EXPIRED,
    KEY,
    LAST,
    OTHER_KEY,
    Peer,
    Seen,
    World,
    chunked,
    page,
    silent,
    until,
    whole,
)

from roost.gateway import counters
from roost.gateway.relay import unreachable
from roost.gateway.relay_room import CROWDED, MOST, MOST_IDLE, MOST_OF_KEY, RelayRoom

HEAD = b"Host: h\r\nAuthorization: Bearer x\r\nCookie: a=1\r\nCookie: b=2\r\nConnection: keep-alive, x\r\n"


async def test_a_request_reaches_the_control_plane_as_it_is(world: World) -> None:
    client = await world.connect()
    answer = await client.ask(b"GET /v1/endpoints?mine=True&q=%2F HTTP/1.1\r\nX-Request-Id: r1\r\n" + HEAD + b"\r\n")
    told = answer.json
    assert (told["method"], told["target"]) == ("GET", "/v1/endpoints?mine=True&q=%2F")
    assert told["headers"] == {"host": "h", "authorization": "Bearer x", "cookie": "a=1; b=2", "x-request-id": "r1"}
    assert answer.headers["x-request-id"] == "r1"
    await client.send(b"HEAD /v1/models HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert (await client.answer(head_only=True)).headers["content-length"] == "0"
    assert (await client.ask(b"DELETE /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).json[
        "method"
    ] == "DELETE"
    assert (await client.ask(b"OPTIONS /v1/x HTTP/1.1\r\nHost: a\r\n\r\n")).json["method"] == "OPTIONS"


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_bodies_stream_both_ways(world: World, framing: str) -> None:
    body = b"x" * 3_000_000

    async def mirror(seen: Seen, peer: Peer) -> None:
        pieces = [chunked(seen.body[at : at + 50_000]) for at in range(0, len(seen.body), 50_000)]
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *pieces, LAST)

    world.control.handler = mirror
    client = await world.connect()
    if framing == "length":
        data = b"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    else:
        pieces = [chunked(body[at : at + 9_999]) for at in range(0, len(body), 9_999)]
        data = b"POST /v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(pieces) + LAST
    for _ in range(2):
        sending = asyncio.ensure_future(client.send(data))
        assert (await client.answer()).body == body
        await sending
    assert world.control.seen[0].headers.get("content-length") == (str(len(body)) if framing == "length" else None)


async def test_an_answer_before_the_bodys_end(world: World) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(b"{}", "401 Unauthorized"))

    await world.control.stop()
    server = await asyncio.start_unix_server(early, world.control.path)
    client = await world.connect()
    await client.send(b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert await client.closed()
    server.close()


async def test_an_unreachable_control_plane(world: World) -> None:
    await world.control.stop()
    client = await world.connect()
    for method in (b"GET", b"POST"):
        answer = await client.ask(method + b" /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "control plane is restarting" in answer.error["message"]
        assert answer.error["type"] == "overloaded_error"
    await world.control.start()
    assert (await client.ask(b"GET /v1/endpoints HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200


@pytest.mark.parametrize(
    ("away_s", "told"),
    [(-5, 1), (0, 1), (1.9, 1), (2, 2), (4.9, 2), (5, 5), (9.9, 5), (10, 10), (29, 10), (30, 30), (86400, 30)],
)
def test_a_control_plane_that_stays_away_is_to_be_asked_after_longer_pauses(away_s: float, told: int) -> None:
    assert unreachable(away_s).headers() == b"retry-after: %d\r\nx-should-retry: true\r\n" % told


async def test_how_long_the_control_plane_has_been_away_is_told_by_its_last_word_to_this_gateway(world: World) -> None:
    await world.control.stop()
    client = await world.connect()
    cases = ((7200, 0, "1"), (7200, 12, "10"), (7200, 3600, "30"), (0, 3600, "1"), (6, None, "5"))
    for began_s, confirmed_s, told in cases:
        world.gateway.began_at = world.gateway.wall() - began_s
        world.gateway.confirmed_at = None if confirmed_s is None else world.gateway.wall() - confirmed_s
        answer = await client.ask(b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert (answer.status, answer.headers["retry-after"]) == (503, told)


async def test_only_harmless_requests_are_repeated(world: World) -> None:
    async def once(seen: Seen, peer: Peer) -> None:
        if len(world.control.seen) % 2:
            peer.reset()
        else:
            await page(seen, peer)

    world.control.handler = once
    client = await world.connect()
    assert (await client.ask(b"GET /v1/endpoints HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    assert len(world.control.seen) == 2
    answer = await client.ask(b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
    assert (answer.status, len(world.control.seen)) == (502, 3)


async def test_an_answer_that_breaks_off_is_cut_off(world: World) -> None:
    async def half(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(b"{}" * 100)[:-5])
        peer.close()

    world.control.handler = half
    assert not (await world.ask(b"GET /v1/endpoints HTTP/1.1\r\nHost: a\r\n\r\n")).complete


async def test_a_hang_up_reaches_the_control_plane(world: World) -> None:
    world.control.handler = silent
    client = await world.connect()
    await client.send(b"GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n")
    await world.control.wait_for(1)
    client.hang_up()
    async with asyncio.timeout(5):
        await world.control.peers[0].gone.wait()


async def test_http_1_0_gets_no_chunks(world: World) -> None:
    async def streams(seen: Seen, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunked(b"ab"), chunked(b"c"), LAST)

    world.control.handler = streams
    client = await world.connect()
    answer = await client.ask(b"GET /v1/x HTTP/1.0\r\n\r\n")
    assert (answer.body, answer.headers["connection"]) == (b"abc", "close")


async def test_readiness(world: World) -> None:
    gateway = world.gateway
    client = await world.connect()
    ask = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"
    assert (await client.ask(ask)).status == 503  # the table was never confirmed
    gateway.confirmed_at = gateway.wall() - 100
    answer = await client.ask(ask)
    assert (answer.status, answer.json["status"], answer.json["control_connected"]) == (200, "ok", False)
    assert answer.json["table"]["version"] == 1
    assert 100 <= answer.json["table"]["age_seconds"] < 200
    gateway.confirmed_at -= 24 * 3600
    answer = await client.ask(ask)
    assert (answer.status, "stale" in answer.json["reason"]) == (503, True)
    gateway.draining = True
    assert (await client.ask(ask)).json["reason"] == "draining"


async def test_metrics_do_not_wait_for_a_control_plane_that_is_stuck(world: World) -> None:
    world.gateway.metrics_patience_s = 0.05
    world.control.handler = silent
    answer = await world.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 200
    assert b"roost_gateway_requests_total" in answer.body


async def test_metrics_of_all_workers_then_those_of_the_control_plane(world: World) -> None:
    run = world.folder / "run"
    dead = counters.Counters(run / "counters-1")
    dead.cells[counters.RETRIES] += 5
    dead.cells[counters.IN_FLIGHT] += 7
    dead.publish()
    cells = bytearray((run / "counters-1").read_bytes())
    cells[8:16] = (2**22 + 1).to_bytes(8, "little")  # nobody's pid
    (run / "counters-1").write_bytes(cells)
    (run / "counters-2").write_bytes(b"not counters")
    world.gateway.cells[counters.RETRIES] += 1

    async def control_metrics(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(b"roost_endpoints 3\n", headers="content-type: text/plain\r\n"))

    world.control.handler = control_metrics
    text = (await world.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")).body.decode()
    assert "roost_gateway_retries_total 6\n" in text
    assert "roost_gateway_in_flight 0\n" in text
    assert text.endswith("roost_endpoints 3\n")
    assert 'le="+Inf"' in text
    await world.control.stop()
    text = (await world.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")).body.decode()
    assert "roost_gateway_retries_total 6\n" in text
    assert "roost_endpoints" not in text


async def test_counters_go_on_after_a_restart_and_gauges_do_not(world: World) -> None:
    path = world.folder / "run" / "counters-7"
    first = counters.Counters(path)
    first.requests(0, 200, (0.5,))
    first.cells[counters.CONNECTIONS] = 3
    first.publish()
    # As when it is killed: its file is free, and nobody has tidied up.
    first._map.close()
    os.close(first._file)
    second = counters.Counters(path)
    assert second.cells[counters.CONNECTIONS] == 0
    assert b'kind="chat",status="2xx"} 1' in counters.render([second.cells])
    second.close()


async def test_a_full_disk_loses_log_lines_not_requests(world: World) -> None:
    full = world.folder / "full"
    full.symlink_to("/dev/full")
    world.gateway.log = type(world.gateway.log)(full)
    client = await world.connect()
    for _ in range(2):
        assert (await client.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
        world.gateway.sweep()


async def test_the_log_is_rotated(world: World) -> None:
    await world.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    world.gateway.sweep()
    world.gateway.log.max_bytes = 10
    await world.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    world.gateway.sweep()
    lines = [json.loads(path.read_text())["path"] for path in sorted((world.folder / "logs").iterdir())]
    assert lines == ["/readyz", "/healthz"]


@pytest.mark.parametrize("key", [None, KEY, OTHER_KEY])
async def test_numbers_by_endpoint_are_for_an_admins_key_and_others_get_their_sums(
    world: World, key: str | None
) -> None:
    def metrics(key: str | None) -> bytes:
        line = "" if key is None else f"Authorization: Bearer {key}\r\n"
        return f"GET /metrics HTTP/1.1\r\nHost: a\r\n{line}\r\n".encode()

    for endpoint in ("endpoint-1", "endpoint-of-bob"):
        world.gateway.meters.held(endpoint, 0.1)
        world.gateway.meters.stream(endpoint, 0.1, 0.01)
    text = (await world.ask(metrics(key))).body.decode()
    assert "endpoint-" not in text
    assert "roost_gateway_held_seconds_count 2\n" in text
    assert 'roost_gateway_first_token_seconds_bucket{le="+Inf"} 2\n' in text
    text = (await world.ask(metrics(ADMIN_KEY))).body.decode()
    assert 'roost_gateway_held_seconds_count{endpoint="endpoint-of-bob"} 1\n' in text


@pytest.mark.parametrize("key", ["nobody", EXPIRED])
async def test_metrics_with_a_key_that_is_not_valid_are_refused(world: World, key: str) -> None:
    client = await world.connect()
    asked = f"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    assert (await client.ask(asked)).status == 401
    assert (await client.ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200


def unfinished(key: str | None) -> bytes:
    line = "" if key is None else f"Authorization: Bearer {key}\r\n"
    return f"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\n{line}Content-Length: 100\r\n\r\n{{".encode()


@pytest.mark.parametrize("key", [KEY, "nobody", None])
async def test_a_key_has_room_for_so_many_requests_to_the_control_plane_and_leaves_the_others_theirs(
    world: World, key: str | None
) -> None:
    slow = [await world.connect() for _ in range(MOST_OF_KEY)]
    for client in slow:
        await client.send(unfinished(key))
    await until(lambda: world.gateway.relay_room.total == MOST_OF_KEY)
    refused = await world.ask(unfinished(key))
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.error["code"] == "control_plane_busy"
    other = f"GET /v1/endpoints HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OTHER_KEY}\r\n\r\n".encode()
    assert (await world.ask(other)).status == 200
    slow[0].hang_up()
    await slow[1].send(b"x" * 99)
    assert (await slow[1].answer()).status == 200
    await until(lambda: world.gateway.relay_room.total == MOST_OF_KEY - 2)
    client = await world.connect()
    await client.send(unfinished(key) + b"x" * 99)
    assert (await client.answer()).status == 200


def test_a_worker_has_room_for_so_many_requests_to_the_control_plane() -> None:
    room = RelayRoom()
    for number in range(MOST):
        assert room.enter(f"key-{number // MOST_OF_KEY}") is None
    assert room.enter("another") is CROWDED
    room.leave("key-0")
    assert room.enter("another") is None


async def test_few_connections_to_the_control_plane_are_kept_after_a_burst(world: World) -> None:
    clients = [await world.connect() for _ in range(MOST_IDLE + 8)]
    for client in clients:
        await client.send(unfinished(KEY))
    await until(lambda: len(world.control.peers) == len(clients))
    for client in clients:
        await client.send(b"x" * 99)
        assert (await client.answer()).status == 200
    # None of them at once, since an answer is not to look as if nobody had waited for it.
    world.gateway.sweep()
    assert sum(not peer.gone.is_set() for peer in world.control.peers) == MOST_IDLE + 8
    now = world.gateway.now()
    world.gateway.now = lambda: now + 1.0
    world.gateway.sweep()
    await until(lambda: sum(not peer.gone.is_set() for peer in world.control.peers) == MOST_IDLE)


async def test_the_log_names_the_key_of_what_is_relayed_too(world: World) -> None:
    lines = b"GET /v1/endpoints HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n"
    await world.ask(lines % KEY.encode())
    await world.ask(lines % b"unknown")
    world.gateway.sweep()
    logged = [json.loads(line) for path in (world.folder / "logs").iterdir() for line in path.read_text().splitlines()]
    assert [entry["key"] is not None for entry in logged if entry["path"] == "/v1/endpoints"] == [True, False]
