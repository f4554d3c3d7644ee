"""What clients hear while their request waits for a replica."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.unit.gateway.fakes import (
    ENDPOINT,
    STREAM_HEAD,
    Peer,
    Seen,
    World,
    chunked,
    delta,
    post,
    stream,
    until,
    whole,
)

from roost.gateway import waiting
from roost.gateway.usage_reports import Reports

STREAM = {"model": ENDPOINT, "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def streams(seen: Seen, peer: Peer) -> None:
    await peer.send(stream(delta("a"), delta("b", finish="stop"), "[DONE]"))


async def held(world: World, body: dict[str, Any], **more: Any) -> Any:
    client = await world.connect()
    await client.send(post(body, **more))
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 1)
    return client


def later(world: World, seconds: float) -> None:
    now = world.gateway.now()
    world.gateway.now = lambda: now + seconds
    world.gateway.sweep()


async def test_a_stream_that_waits_hears_what_it_waits_for_and_is_then_served(world: World) -> None:
    world.upstream.handler = streams
    wall = world.gateway.wall()
    world.route(state="STARTING", phase="loading", retry_after_s=30.0, ready_at=wall + 30)
    client = await held(world, STREAM)
    later(world, 6.0)
    later(world, 1.0)
    world.route(world.replica())
    answer = await client.answer()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.body.startswith(b": waiting for a replica (STARTING, loading, about 30 s left)\n\n: waiting")
    assert answer.body.count(b": waiting") == 2
    assert [event for event in answer.events if event][-1] == "[DONE]"
    assert '"content":"a"' in answer.body.decode().replace(" ", "")


async def test_a_short_wait_leaves_no_trace_and_whole_answers_hear_nothing(world: World) -> None:
    world.route(state="STARTING")
    stream_client = await held(world, STREAM)
    later(world, 4.0)
    assert [exchange.begun for exchange in world.gateway.books.endpoints[ENDPOINT].held] == [False]
    stream_client.hang_up()
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 0)
    await held(world, {**STREAM, "stream": False})
    later(world, 6.0)
    assert [exchange.begun for exchange in world.gateway.books.endpoints[ENDPOINT].held] == [False]


async def test_with_comments_a_stream_waits_beyond_the_timeout_its_client_announced(world: World) -> None:
    world.upstream.handler = streams
    world.route(state="STARTING")
    client = await held(world, STREAM, headers={"x-stainless-read-timeout": "10"})
    later(world, 6.0)
    later(world, 60.0)
    world.route(world.replica())
    assert b"[DONE]" in (await client.answer()).body


@pytest.mark.parametrize("world", [{"hold_stream_timeout_s": 20.0, "hold_timeout_s": 10.0}], indirect=True)
async def test_a_stream_that_waited_in_vain_ends_with_an_error_frame(world: World) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)
    later(world, 16.0)
    answer = await client.answer()
    assert answer.status == 200
    assert '"code":"not_ready"' in answer.events[-1].replace(" ", "")


async def no_slot(world: World) -> None:
    """Until no request is on its way to a replica."""
    await until(lambda: not any(world.gateway.books.report()["in_flight"].values()))


@pytest.mark.parametrize("world", [{"hold_stream_timeout_s": 20.0, "hold_timeout_s": 10.0}], indirect=True)
async def test_a_stream_whose_replica_can_never_be_reached_ends_when_its_time_is_over(world: World) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)
    await world.upstream.stop()
    world.route(world.replica())
    for _ in range(6):
        await no_slot(world)
        assert world.gateway.books.report()["held"][ENDPOINT] == 1
        later(world, 2.0)
    for _ in range(4):
        await no_slot(world)
        later(world, 2.0)
    answer = await client.answer()
    assert (answer.status, answer.complete) == (200, True)
    assert '"code":"not_ready"' in answer.events[-1].replace(" ", "")


async def test_a_crash_takes_nothing_of_the_time_that_a_stream_may_wait(world: World) -> None:
    async def dies(seen: Seen, peer: Peer) -> None:
        world.route(state="STARTING")
        peer.reset()

    world.upstream.handler = dies
    world.route(state="STARTING")
    await held(world, STREAM, headers={"x-stainless-read-timeout": "10"})
    later(world, 6.0)
    (exchange,) = world.gateway.books.endpoints[ENDPOINT].held
    began, longest = exchange.request.started, world.gateway.settings.hold_stream_timeout_s
    assert exchange.deadline == began + longest
    world.route(world.replica())
    await world.upstream.wait_for(1)
    await until(lambda: world.gateway.books.report()["held"][ENDPOINT] == 1)
    assert (exchange.crashes, exchange.deadline) == (1, began + longest)


async def test_a_replica_that_answers_with_an_error_after_comments_gives_an_error_frame(world: World) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)

    async def refuses(seen: Seen, peer: Peer) -> None:
        body = b'{"error":{"message":"no such thing"}}'
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    world.upstream.handler = refuses
    world.route(world.replica())
    answer = await client.answer()
    assert answer.status == 200
    assert "no such thing" in answer.events[-1]


# ---- what is told of them


@pytest.fixture
def reports(world: World) -> Reports:
    world.gateway.reports = made = Reports(world.folder, "g")
    return made


def told(world: World, reports: Reports) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last line of the access log, and the row of usage of each outcome."""
    world.gateway.sweep()
    report = reports.due()
    assert report is not None
    sums = {row["outcome"]: row for row in report["rows"]}
    path = next(world.gateway.settings.logs_dir.glob("*.access.log"))
    line: dict[str, Any] = json.loads(path.read_bytes().splitlines()[-1])
    return line, sums


async def test_the_first_token_is_the_first_output_and_not_a_comment(world: World, reports: Reports) -> None:
    world.upstream.handler = streams
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)
    later(world, 20.0)
    world.route(world.replica())
    assert b"[DONE]" in (await client.answer()).body
    line, sums = told(world, reports)
    assert (line["status"], line["outcome"], line["tries"]) == (200, "completed", 1)
    assert line["first_byte_seconds"] > 20
    assert sums["completed"]["first_tokens"] == 1
    assert sums["completed"]["first_token_s"] > 20


@pytest.mark.parametrize("world", [{"hold_stream_timeout_s": 20.0, "hold_timeout_s": 10.0}], indirect=True)
async def test_a_refusal_after_comments_is_logged_and_counted_as_one(world: World, reports: Reports) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)
    later(world, 16.0)
    await client.answer()
    line, sums = told(world, reports)
    assert (line["status"], line["outcome"], line["first_byte_seconds"], line["tries"]) == (200, "not_ready", None, 0)
    assert list(sums) == ["failed"]
    assert sums["failed"].keys().isdisjoint(("first_tokens", "estimated"))
    assert world.gateway.books.endpoints[ENDPOINT].failed == 1


async def test_a_callers_fault_after_comments_is_a_refusal(world: World, reports: Reports) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)

    async def refuses(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(b'{"error":{"message":"no","code":"bad_value"}}', "400 Bad Request"))

    world.upstream.handler = refuses
    world.route(world.replica())
    await client.answer()
    line, sums = told(world, reports)
    assert (line["status"], line["outcome"], line["completion_tokens"]) == (200, "bad_value", None)
    assert list(sums) == ["refused"]


async def test_a_client_that_leaves_after_comments_has_hung_up(world: World, reports: Reports) -> None:
    world.route(state="STARTING")
    client = await held(world, STREAM)
    later(world, 6.0)
    client.hang_up()
    await until(lambda: not world.gateway.fronts)
    line, sums = told(world, reports)
    assert (line["status"], line["outcome"], line["first_byte_seconds"]) == (499, "client_hung_up", None)
    assert list(sums) == ["client_hung_up"]


@pytest.mark.parametrize("headers", [{}, {"User-Agent": "Together/1.5"}])
async def test_an_engines_own_comments_are_no_output_however_long_they_go_on(
    world: World, reports: Reports, headers: dict[str, str]
) -> None:
    go_on = asyncio.Event()

    async def pings(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(b": ping\n\n"))
        await go_on.wait()
        await peer.send(chunked(b": late\n\n"))
        await peer.gone.wait()

    world.upstream.handler = pings
    other = await world.another(streams)
    world.gateway.books.endpoints[ENDPOINT].turn = 1
    world.route(world.replica(1), world.replica(2, other))
    client = await world.connect()
    await client.send(post(STREAM, headers=headers))
    await world.upstream.wait_for(1)
    now = world.gateway.now()
    world.gateway.now = lambda: now + 20.0
    go_on.set()
    answer = await client.answer(head_only=True)
    assert answer.status == 200
    await client.reader.readuntil(b": late\n\n\r\n")
    # The replica is lost before any output: another try goes on in the same stream.
    world.gateway.now = lambda: now + 30.0
    world.upstream.peers[0].reset()
    async with asyncio.timeout(5):
        await client.reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
    line, sums = told(world, reports)
    assert (line["outcome"], line["tries"]) == ("completed", 2)
    assert line["first_byte_seconds"] > 29
    assert sums["completed"]["first_tokens"] == 1


async def test_a_start_that_is_late_is_said_to_take_longer_than_usual(world: World) -> None:
    wall = world.gateway.wall()
    world.route(state="STARTING", phase="warming", retry_after_s=30.0, ready_at=wall - 1)
    assert waiting.told(world.gateway, world.gateway.books.endpoints[ENDPOINT]) == (
        b": waiting for a replica (STARTING, warming, longer than usual)\n\n"
    )
