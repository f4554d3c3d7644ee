"""Where requests go and how they wait: slots, the queue, the pick, replicas that fail or are full."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    ENDPOINT,
    KEY,
    STREAM_HEAD,
    Client,
    FakeServer,
    Peer,
    Seen,
    World,
    chunked,
    delta,
    echo,
    event,
    no_files_left,
    post,
    silent,
    until,
    whole,
)

from roost.gateway import counters
from roost.gateway.board import Board
from roost.policy.ejection import GOOD, MOST_ERRORS


class Gate:
    """An engine that answers a request when it is let to."""

    def __init__(self) -> None:
        self.open = asyncio.Semaphore(0)
        self.working = self.most = 0

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            await self.open.acquire()
        finally:
            self.working -= 1
        await peer.send(whole(b"{}"))


def numbered(number: int, key: str = KEY, **headers: str) -> bytes:
    return post({"model": ENDPOINT, "x": number}, key=key, headers=headers)


async def sent(world: World, data: bytes) -> Client:
    client = await world.connect()
    await client.send(data)
    return client


def held(world: World) -> int:
    return world.gateway.books.endpoints[ENDPOINT].held.size


async def waiting(world: World, *numbers: int, key: str = KEY) -> list[Client]:
    """Clients whose requests have come into the queue in this order."""
    clients = []
    for number in numbers:
        before = held(world)
        clients.append(await sent(world, numbered(number, key)))
        await until(lambda count=before + 1: held(world) == count)  # type: ignore[misc]
    return clients


def says(text: str, status: str = "200 OK", headers: str = "") -> Callable[[Seen, Peer], Awaitable[None]]:
    async def handler(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(text.encode(), status, f"content-type: application/json\r\n{headers}"))

    return handler


FULL = says('{"error":{"message":"full"}}', "503 Service Unavailable")
BROKEN = says('{"error":{"message":"boom"}}', "500 Internal Server Error")


async def test_a_replica_gets_no_more_than_its_slots_and_the_next_the_moment_one_is_free(world: World) -> None:
    gate = world.upstream.handler = Gate()
    world.route(replace(world.replica(), slots=2))
    busy = [await sent(world, numbered(n)) for n in (1, 2)]
    await world.upstream.wait_for(2)
    queued = await waiting(world, 3, 4, 5)
    report = world.gateway.books.report()
    assert (report["held"], report["waiting_for_slot"]) == ({ENDPOINT: 3}, {ENDPOINT: 3})
    for _ in range(5):
        gate.open.release()
    for client in busy + queued:
        assert (await client.answer()).status == 200
    assert gate.most == 2
    assert [seen.json["x"] for seen in world.upstream.seen][2:] == [3, 4, 5]
    assert world.gateway.books.report()["waiting_for_slot"] == {}


async def test_two_hundred_streams_are_not_held_where_nobody_set_slots(world: World) -> None:
    go = asyncio.Event()

    async def streams(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD + chunked(event(delta("a"))))
        await go.wait()
        await peer.send(chunked(event("[DONE]")) + b"0\r\n\r\n")

    world.upstream.handler = streams
    clients = [await sent(world, post({"model": ENDPOINT, "stream": True})) for _ in range(200)]
    await world.upstream.wait_for(200)
    assert held(world) == 0
    go.set()
    for client in clients:
        assert (await client.answer()).events[-1] == "[DONE]"


async def test_a_hang_up_hands_its_slot_on(world: World) -> None:
    world.upstream.handler = silent
    world.route(replace(world.replica(), slots=1))
    first = await sent(world, numbered(1))
    await world.upstream.wait_for(1)
    await waiting(world, 2)
    first.hang_up()
    await world.upstream.wait_for(2)
    assert held(world) == 0


async def test_a_broken_answer_hands_its_slot_on(world: World) -> None:
    broken = asyncio.Event()

    async def breaks(seen: Seen, peer: Peer) -> None:
        if seen.json["x"] == 1:
            await broken.wait()
            await peer.send(whole(b"{}")[:-1])
            peer.close()
        else:
            await echo(seen, peer)

    world.upstream.handler = breaks
    world.route(replace(world.replica(), slots=1))
    first = await sent(world, numbered(1))
    await world.upstream.wait_for(1)
    (second,) = await waiting(world, 2)
    broken.set()
    assert not (await first.answer()).complete
    assert (await second.answer()).status == 200


async def test_a_key_that_floods_does_not_keep_another_waiting(world: World) -> None:
    gate = world.upstream.handler = Gate()
    world.route(replace(world.replica(), slots=1))
    await sent(world, numbered(0))
    await world.upstream.wait_for(1)
    await waiting(world, *range(1, 9))
    await waiting(world, 100, key=ADMIN_KEY)
    for _ in range(3):
        gate.open.release()
    await world.upstream.wait_for(4)
    assert 100 in [seen.json["x"] for seen in world.upstream.seen]


@pytest.mark.parametrize("world", [{"hold_limit": 4}], indirect=True)
async def test_a_full_queue_makes_room_for_a_polite_key(world: World) -> None:
    world.upstream.handler = silent
    world.route(replace(world.replica(), slots=1))
    await sent(world, numbered(0))
    await world.upstream.wait_for(1)
    flood = await waiting(world, 1, 2, 3, 4)
    refused = await world.ask(numbered(5))
    assert (refused.status, refused.error["code"]) == (429, "hold_queue_full")
    await sent(world, numbered(100, ADMIN_KEY))
    answer = await flood[3].answer()
    assert (answer.status, answer.error["code"], answer.headers["x-should-retry"]) == (429, "hold_queue_full", "true")
    assert [e.lane for e in world.gateway.books.endpoints[ENDPOINT].held].count("key-3") == 1


async def test_who_waits_for_a_slot_too_long_is_told_when_the_queue_will_have_drained(world: World) -> None:
    gate = world.upstream.handler = Gate()
    world.route(replace(world.replica(), slots=1))
    await sent(world, numbered(0))
    await world.upstream.wait_for(1)
    clients = await waiting(world, *range(1, 8))
    book = world.gateway.books.endpoints[ENDPOINT]
    began, clock = world.gateway.now(), world.gateway.now
    world.gateway.now = lambda: began + 12.0
    for served in range(2, 5):
        gate.open.release()
        await world.upstream.wait_for(served)
    assert book.held.size == 4
    world.gateway.now = lambda: began + 61.0
    world.gateway.sweep()
    answers = [await client.answer() for client in clients[3:]]
    for answer in answers:
        assert (answer.status, answer.error["code"], answer.headers["x-should-retry"]) == (429, "busy", "true")
    world.gateway.now = clock


async def test_the_retry_after_of_a_full_queue_is_its_measured_time_to_drain(world: World) -> None:
    book = world.gateway.books.endpoints[ENDPOINT]
    gate = world.upstream.handler = Gate()
    world.gateway.settings = replace(world.gateway.settings, hold_limit=6)
    world.route(replace(world.replica(), slots=1))
    await sent(world, numbered(0))
    await world.upstream.wait_for(1)
    await waiting(world, *range(1, 7))
    assert (await world.ask(numbered(99))).headers["retry-after"] == "10"
    began = world.gateway.now()
    book.held.measure_anew(began)
    world.gateway.now = lambda: began + 10.0
    gate.open.release()
    gate.open.release()
    await world.upstream.wait_for(3)
    await waiting(world, 7, 8)
    assert (await world.ask(numbered(99))).headers["retry-after"] == "30"


# ---- the pick


LONG = "In the beginning there was a prompt that everybody shared. " * 200


def chat(*texts: str) -> bytes:
    return post({"model": ENDPOINT, "messages": [{"role": "user", "content": text} for text in texts]})


async def test_a_conversation_goes_on_where_it_was_and_the_answer_says_why(world: World) -> None:
    other = await world.another(echo)
    world.route(world.replica(1), world.replica(2, other))
    first = await world.ask(chat(LONG))
    assert first.headers["x-roost-route"] == "least-outstanding"
    for turn in range(6):
        answer = await world.ask(chat(LONG, *["more"] * turn))
        assert answer.headers["x-roost-replica"] == first.headers["x-roost-replica"]
        assert answer.headers["x-roost-route"].startswith("prefix ")
    assert sorted((len(world.upstream.seen), len(other.seen))) == [0, 7]
    assert all(r.outstanding_tokens == 0 for r in world.gateway.books.replicas.values())


async def test_what_a_replica_has_to_compute_counts_until_its_first_byte(world: World) -> None:
    gate = world.upstream.handler = Gate()
    other = await world.another(gate)
    world.route(world.replica(1), world.replica(2, other))
    books = world.gateway.books.replicas
    await sent(world, chat(LONG))
    await until(lambda: len(world.upstream.seen) + len(other.seen) == 1)
    assert sorted(r.outstanding_tokens for r in books.values()) == [0, (len(LONG) + len("user") + 1) // 4]
    for n in range(5):
        await sent(world, chat(f"short {n}"))
    await until(lambda: len(world.upstream.seen) + len(other.seen) == 6)
    assert sorted((len(world.upstream.seen), len(other.seen))) == [1, 5]
    for _ in range(6):
        gate.open.release()
    await until(lambda: [r.outstanding_tokens for r in books.values()] == [0, 0])


@pytest.mark.parametrize("streamed", [False, True])
async def test_neither_pings_nor_progress_are_a_computed_prompt(world: World, streamed: bool) -> None:
    begin, text, last = asyncio.Event(), asyncio.Event(), asyncio.Event()
    progress = {**delta(), "prompt_progress": {"total": 9000, "cache": 0, "processed": 2048, "time_ms": 5}}

    async def computes(seen: Seen, peer: Peer) -> None:
        await peer.send(STREAM_HEAD)
        await begin.wait()
        await peer.send(chunked(b": ping\n\n") + chunked(event(progress)))
        await text.wait()
        await peer.send(chunked(event(delta("a"))))
        await last.wait()
        await peer.send(chunked(event(delta(finish="stop"))), chunked(event("[DONE]")), b"0\r\n\r\n")

    world.upstream.handler = computes
    other = await world.another(computes)
    llama: dict[str, Any] = {"dialect": "llama_cpp", "cancels_non_stream": False}
    world.route(world.replica(1), world.replica(2, other), **llama)
    messages = [{"role": "user", "content": LONG}]
    # Chunks of the classic SDKs are put in shape, whole answers put together.
    classic = {"user-agent": "Together/Python 1.5.35"} if streamed else {}
    client = await sent(world, post({"model": ENDPOINT, "messages": messages, "stream": streamed}, headers=classic))
    await until(lambda: len(world.upstream.seen) + len(other.seen) == 1)
    (front,) = world.gateway.fronts
    exchange: Any = front.active
    await until(lambda: exchange.attempt is not None and exchange.attempt.status == 200)
    pool = exchange.attempt.replica.pool
    pool.heard = False
    begin.set()
    await until(lambda: pool.heard)
    assert exchange.owed > 0
    text.set()
    await until(lambda: exchange.owed == 0)
    assert not exchange.done
    last.set()
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("world", [{"balancer": "least-in-flight"}], indirect=True)
async def test_least_in_flight_looks_at_no_prompt(world: World) -> None:
    other = await world.another(echo)
    world.route(world.replica(1), world.replica(2, other))
    for _ in range(4):
        assert (await world.ask(chat(LONG))).headers["x-roost-route"] == "least-in-flight"
    assert (len(world.upstream.seen), len(other.seen)) == (2, 2)


async def test_with_one_replica_no_prompt_is_hashed(world: World) -> None:
    answer = await world.ask(chat(LONG))
    assert (answer.headers["x-roost-replica"], answer.headers["x-roost-route"]) == ("replica-1", "only")
    assert len(world.gateway.books.replicas["replica-1"].prefix) == 0


async def test_errors_of_the_engine_say_where_they_come_from_and_ours_do_not(world: World) -> None:
    world.upstream.handler = says('{"error":{"message":"no"}}', "400 Bad Request")
    assert (await world.ask(post())).headers["x-roost-replica"] == "replica-1"
    world.route(state="STOPPED", accepting=False)
    assert "x-roost-replica" not in (await world.ask(post())).headers


async def test_what_an_upstream_says_of_its_own_replicas_is_dropped(world: World) -> None:
    world.upstream.handler = says("{}", headers="x-roost-replica: theirs\r\nx-roost-route: failover\r\n")
    client = await sent(world, post())
    head = (await client.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    assert [line for line in head if line.startswith(b"x-roost-")] == [
        b"x-roost-replica: replica-1",
        b"x-roost-route: only",
    ]


# ---- replicas that fail, hang, or are full


async def two(world: World, first: Any, second: Any) -> FakeServer:
    """Two replicas of which the first is the next one's."""
    world.upstream.handler = first
    other = await world.another(second)
    world.gateway.books.endpoints[ENDPOINT].turn = 1
    world.route(world.replica(1), world.replica(2, other))
    return other


async def dies(seen: Seen, peer: Peer) -> None:
    peer.reset()


async def test_a_retry_elsewhere_is_called_failover(world: World) -> None:
    await two(world, dies, echo)
    answer = await world.ask(post())
    assert (answer.headers["x-roost-replica"], answer.headers["x-roost-route"]) == ("replica-2", "failover")


async def test_a_failed_replica_comes_back_by_one_request(world: World) -> None:
    other = await two(world, dies, echo)
    gate = Gate()
    assert (await world.ask(post())).status == 200
    clock, began = world.gateway.now, world.gateway.now()
    replica = world.gateway.books.replicas["replica-1"]
    world.upstream.handler = gate
    world.gateway.now = lambda: began + 5.0
    for _ in range(6):
        await sent(world, post())
    await until(lambda: len(other.seen) + len(world.upstream.seen) == 8)
    assert len(world.upstream.seen) == 2  # the one that died, and the one that decides
    gate.open.release()
    await until(lambda: replica.standing is GOOD)
    world.gateway.now = clock
    gate.open.release()
    gate.open.release()
    for _ in range(3):
        assert (await world.ask(post())).status == 200
    assert len(world.upstream.seen) > 2


async def test_errors_in_a_row_eject_a_replica_only_where_there_is_another(world: World) -> None:
    other = await two(world, BROKEN, echo)
    answers = [(await world.ask(post())).status for _ in range(12)]
    assert answers.count(500) == MOST_ERRORS
    assert len(other.seen) == 12 - MOST_ERRORS
    world.route(world.replica(1))
    assert [(await world.ask(post())).status for _ in range(5)] == [500] * 5


async def test_a_full_engine_is_left_for_another(world: World) -> None:
    await two(world, FULL, echo)
    answers = [await world.ask(post()) for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert answers[0].headers["x-roost-route"] == "failover"
    assert len(world.upstream.seen) == 1


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_full_engine_without_another_is_waited_for(world: World, streamed: bool) -> None:
    async def full_at_first(seen: Seen, peer: Peer) -> None:
        await (FULL if len(world.upstream.seen) < 3 else echo)(seen, peer)

    world.upstream.handler = full_at_first
    answer = await world.ask(post({"model": ENDPOINT, "stream": streamed}))
    assert (answer.status, len(world.upstream.seen)) == (200, 3)


async def test_a_full_engine_that_names_a_time_beyond_the_clients_is_passed_on(world: World) -> None:
    world.upstream.handler = says('{"error":{"message":"full"}}', "429 Too Many Requests", "retry-after: 30\r\n")
    answer = await world.ask(post(headers={"x-stainless-read-timeout": "20"}))
    assert (answer.status, answer.headers["retry-after"], answer.error["message"]) == (429, "30", "full")


async def test_a_hung_replica_loses_the_requests_without_an_answer(world: World) -> None:
    other = await two(world, silent, echo)
    client = await sent(world, post())
    await world.upstream.wait_for(1)
    replica = world.gateway.books.replicas["replica-1"]
    replica.healthy = False
    world.gateway.unresponsive(replica)
    answer = await client.answer()
    assert (answer.status, answer.headers["x-roost-route"], len(other.seen)) == (200, "failover", 1)
    await until(lambda: replica.in_flight == 0)
    for _ in range(4):
        assert (await world.ask(post())).headers["x-roost-replica"] == "replica-2"


async def test_a_request_that_two_hung_replicas_had_may_be_sent_again_by_its_client(world: World) -> None:
    other = await two(world, silent, silent)
    client = await sent(world, post())
    for server, name in ((world.upstream, "replica-1"), (other, "replica-2")):
        await server.wait_for(1)
        replica = world.gateway.books.replicas[name]
        replica.healthy = False
        world.gateway.unresponsive(replica)
        replica.healthy = True
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (503, "engine_unresponsive")
    assert (answer.headers["x-should-retry"], answer.headers["retry-after"]) == ("true", "5")
    assert not any(world.gateway.books.report()["in_flight"].values())


async def test_a_hung_replica_without_another_keeps_its_requests(world: World) -> None:
    gate = world.upstream.handler = Gate()
    client = await sent(world, post())
    await world.upstream.wait_for(1)
    world.gateway.unresponsive(world.gateway.books.replicas["replica-1"])
    gate.open.release()
    assert (await client.answer()).status == 200


async def test_a_gateway_short_of_files_blames_no_replica_and_lets_the_request_wait(world: World) -> None:
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context["exception"]))
    client = await world.connect()
    assert (await client.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    with no_files_left():
        await client.send(post())
        await until(lambda: held(world) == 1)
        world.gateway.sweep()
        await until(lambda: len(said) == 2 and held(world) == 1)
    replica = world.gateway.books.replicas["replica-1"]
    assert (replica.standing, replica.in_flight) == (GOOD, 0)
    assert [each.errno for each in said] == [errno.EMFILE] * 2
    world.gateway.sweep()
    assert (await client.answer()).status == 200


# ---- several workers


async def test_slots_are_counted_over_all_workers(world: World, folder: Path) -> None:
    gateway = world.gateway
    other = Board(gateway.settings.run_dir, 7, workers=2)
    try:
        gateway.sweep()
        assert gateway.board.shared
        world.route(replace(world.replica(), slots=2))
        name = gateway.books.replicas["replica-1"].shown
        other.refresh()
        other.put(name, 2)
        (client,) = await waiting(world, 1)
        assert other.others(gateway.books.endpoints[ENDPOINT].waits) == 1
        other.put(name, 1)
        assert (await client.answer()).status == 200
        await until(lambda: other.others(name) == 0)
        assert other.others(gateway.books.endpoints[ENDPOINT].waits) == 0
    finally:
        other.close()


async def test_a_successor_counts_what_ran_before_it_came(world: World) -> None:
    gateway = world.gateway
    world.upstream.handler = silent
    world.route(replace(world.replica(), slots=2))
    for _ in range(2):
        await (await world.connect()).send(post())
    await world.upstream.wait_for(2)
    successor = Board(gateway.settings.run_dir, 7)
    try:
        gateway.sweep()
        assert successor.others(gateway.books.replicas["replica-1"].shown) == 2
    finally:
        successor.close()


async def test_who_hands_over_shows_what_runs_at_once(world: World) -> None:
    gateway = world.gateway
    world.upstream.handler = silent
    world.route(replace(world.replica(), slots=2))
    await (await world.connect()).send(post())
    await world.upstream.wait_for(1)
    successor = Board(gateway.settings.run_dir, 7)
    try:
        gateway.hand_over()
        assert successor.others(gateway.books.replicas["replica-1"].shown) == 1
    finally:
        successor.close()


async def test_slots_that_come_with_a_table_count_what_runs(world: World) -> None:
    gateway = world.gateway
    other = Board(gateway.settings.run_dir, 7)
    try:
        gateway.sweep()
        world.upstream.handler = silent
        await (await world.connect()).send(post())
        await world.upstream.wait_for(1)
        world.route(replace(world.replica(), slots=2))
        assert other.others(gateway.books.replicas["replica-1"].shown) == 1
    finally:
        other.close()


async def test_the_last_slot_goes_to_those_who_wait_elsewhere_first(world: World) -> None:
    gateway = world.gateway
    other = Board(gateway.settings.run_dir, 7, workers=2)
    try:
        gateway.sweep()
        world.route(replace(world.replica(), slots=1))
        other.put(gateway.books.endpoints[ENDPOINT].waits, 1)
        assert (await world.ask(numbered(1))).status == 200
        assert gateway.cells[counters.HELD] == 1  # it has looked again, instead of taking the slot at once
    finally:
        other.close()
