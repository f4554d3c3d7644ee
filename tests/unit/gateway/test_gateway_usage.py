"""What answers took: counted, logged, shown, and reported once."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.gateway.fakes import ENDPOINT, Peer, Seen, World, delta, post, stream, table, until, whole

from roost.domain.key import digest_of
from roost.domain.routing import RouteKey
from roost.gateway import meters
from roost.gateway.usage import OUTCOMES
from roost.gateway.usage_reports import MOST_ROWS, SPOOL_S, Reports
from roost.services.usage import UsageService
from roost.store import registry

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
NOW = 1_700_000_040.0
KEY = (ENDPOINT, "alice", "replica-1", "key-1", "completed")


def sums(world: World) -> dict[str, dict[str, Any]]:
    """What was counted, by outcome."""
    reports = Reports(Path(), "g")
    reports.add(world.gateway.usage.take().items(), NOW)
    report = reports.due()
    return {row["outcome"]: row for row in report["rows"]} if report is not None else {}


def logged(world: World) -> list[dict[str, Any]]:
    world.gateway.sweep()
    path = next(world.gateway.settings.logs_dir.glob("*.access.log"))
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_a_whole_answer_is_counted_and_logged(world: World) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(json.dumps({"choices": [], "usage": USAGE}).encode()))

    world.upstream.handler = answer
    await world.ask(post({"model": ENDPOINT}))
    (row,) = sums(world).values()
    assert row["requests"] == 1
    assert row["endpoint"] == ENDPOINT
    assert row["outcome"] == "completed"
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (12, 5, 3)
    assert "estimated" not in row
    assert "first_tokens" not in row
    (line,) = logged(world)
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (12, 5, 3)
    assert line["tries"] == 1
    assert line["outcome"] == "completed"


async def test_a_stream_is_counted_with_its_times(world: World) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        end = {
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "timings": {"prompt_n": 9, "predicted_n": 3},
        }
        await peer.send(stream(delta(role="assistant"), delta("a"), delta("b"), delta("c"), end))

    world.upstream.handler = answer
    await world.ask(post({"model": ENDPOINT, "stream": True}))
    (row,) = sums(world).values()
    assert (row["prompt_tokens"], row["completion_tokens"], row["first_tokens"], row["gaps"]) == (9, 3, 1, 2)
    assert row.get("first_token_s", 0.0) <= row.get("duration_s", 0.0)


async def test_a_stream_whose_client_hangs_up_counts_what_it_had(world: World) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        head = stream(delta(role="assistant"), *(delta(letter) for letter in "abcdefgh"))
        await peer.send(head.removesuffix(b"0\r\n\r\n"))
        await peer.gone.wait()

    world.upstream.handler = answer
    client = await world.connect()
    await client.send(post({"model": ENDPOINT, "stream": True}))
    await until(
        lambda: bool(world.gateway.books.replicas) and any(f.active and f.active.sent for f in world.gateway.fronts)
    )
    client.hang_up()
    await until(lambda: not world.gateway.fronts)
    row = sums(world)["client_hung_up"]
    assert row["estimated"] == 1
    assert row["prompt_tokens"] == len(json.dumps({"model": ENDPOINT, "stream": True})) // 4
    assert 6 <= row["completion_tokens"] <= 10
    assert logged(world)[-1]["prompt_tokens"] is None


async def test_refusals_cost_no_tokens_and_their_words_are_few(world: World) -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        body = json.dumps({"error": {"message": "no", "code": "its own word"}, "usage": USAGE}).encode()
        await peer.send(whole(body, "400 Bad Request"))

    world.upstream.handler = refuse
    await world.ask(post({"model": ENDPOINT}))
    rows = sums(world)
    assert list(rows) == ["refused"]
    assert set(rows) <= set(OUTCOMES)
    assert rows["refused"]["requests"] == 1
    assert "estimated" not in rows["refused"]


async def test_a_retried_request_is_one(world: World) -> None:
    tries: list[Seen] = []

    async def fail_once(seen: Seen, peer: Peer) -> None:
        tries.append(seen)
        if len(tries) == 1:
            peer.reset()
        else:
            await peer.send(whole(json.dumps({"choices": [], "usage": USAGE}).encode()))

    other = await world.another(fail_once)
    world.upstream.handler = fail_once
    world.route(world.replica(1), world.replica(2, other))
    await world.ask(post({"model": ENDPOINT}))
    (row,) = sums(world).values()
    assert row["requests"] == 1
    assert row["completion_tokens"] == 3
    assert logged(world)[-1]["tries"] == 2


async def test_the_metrics_tell_it_by_the_endpoint_and_never_by_the_key(world: World) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        await peer.send(stream(delta("a"), {"choices": [], "usage": USAGE}))

    world.upstream.handler = answer
    await world.ask(post({"model": ENDPOINT, "stream": True}))
    world.gateway.sweep()
    page = meters.render(meters.read_all(world.gateway.settings.run_dir)).decode()
    assert f'roost_gateway_prompt_tokens_total{{endpoint="{ENDPOINT}"}} 12' in page
    assert f'roost_gateway_answers_total{{endpoint="{ENDPOINT}",outcome="completed"}} 1' in page
    assert f'roost_gateway_first_token_seconds_count{{endpoint="{ENDPOINT}"}} 1' in page
    assert f'roost_gateway_inter_token_seconds_bucket{{endpoint="{ENDPOINT}",le="+Inf"}} 1' in page
    assert "key" not in page.replace("roost_gateway", "")


def test_endpoints_beyond_the_room_share_a_label(tmp_path: Path) -> None:
    made = meters.Meters(tmp_path / "endpoints-0")
    for number in range(meters.MOST_ENDPOINTS + 10):
        made.stream(f"endpoint-{number}", 0.1, None)
    made.publish()
    total = meters.read_all(tmp_path)
    assert len(total) == meters.MOST_ENDPOINTS
    assert f'first_token_seconds_count{{endpoint="{meters.OTHERS}"}} 11' in meters.render(total).decode()
    made.close()


def test_numbers_go_on_over_a_restart_and_add_up_over_workers(tmp_path: Path) -> None:
    for _ in range(2):
        made = meters.Meters(tmp_path / "endpoints-0")
        made.held("e", 0.1)
        made.close()
    beside = meters.Meters(tmp_path / "endpoints-1")
    beside.held("e", 0.1)
    beside.close()
    assert 'roost_gateway_held_seconds_count{endpoint="e"} 3' in meters.render(meters.read_all(tmp_path)).decode()


# ---- reports


def counted(requests: float = 1) -> Any:
    values = [0.0] * 11
    values[0] = requests
    return {KEY: values}.items()


def test_a_report_is_the_same_until_it_is_taken(tmp_path: Path) -> None:
    reports = Reports(tmp_path, "g")
    assert reports.due() is None
    reports.add(counted(), NOW)
    first = reports.due()
    assert first is not None
    assert first["sequence"] == 1
    assert first["rows"][0]["minute"] == 1_700_000_040
    reports.add(counted(2), NOW)
    reports.add(counted(3), NOW + 1)
    assert reports.due() is first
    assert len(first["rows"]) == 1
    assert first["rows"][0]["requests"] == 1
    reports.taken(first)
    second = reports.due()
    assert second is not None
    assert second["sequence"] == 2
    assert [row["requests"] for row in second["rows"]] == [5]


def test_rows_stay_few_however_long_the_control_plane_is_away(tmp_path: Path) -> None:
    reports = Reports(tmp_path, "g")
    for minute in range(MOST_ROWS * 2):
        reports.add(counted(), NOW + minute * 60)
    report = reports.due()
    assert report is not None
    assert len(report["rows"]) <= MOST_ROWS
    assert sum(row["requests"] for row in report["rows"]) == MOST_ROWS * 2


@pytest.mark.parametrize("sent", [False, True])
def test_what_a_worker_leaves_another_sends_under_its_name(tmp_path: Path, sent: bool) -> None:
    first = Reports(tmp_path, "old")
    first.add(counted(), NOW)
    if sent:
        first.due()
        first.add(counted(4), NOW)
    first.close()
    second = Reports(tmp_path, "new")
    second.keep(NOW)
    third = Reports(tmp_path, "third")
    third.keep(NOW)  # while another has it
    assert third.due() is None
    got = []
    while (report := second.due()) is not None:
        got.append((report["gateway"], report["sequence"], report["rows"][0]["requests"]))
        second.taken(report)
    assert got == ([("old", 1, 1), ("old", 2, 4)] if sent else [("old", 1, 1)])
    assert not list(tmp_path.glob("usage-*"))


def test_what_waits_long_is_on_disk_and_gone_from_it_once_taken(tmp_path: Path) -> None:
    reports = Reports(tmp_path, "g")
    reports.add(counted(), NOW)
    report = reports.due()
    assert report is not None
    reports.keep(NOW)
    reports.keep(NOW + SPOOL_S)
    assert len(list(tmp_path.glob("usage-*.json"))) == 1
    reports.taken(report)
    assert not list(tmp_path.glob("usage-*"))


async def test_reports_before_and_after_a_commit_that_nobody_heard_of_count_once(tmp_path: Path) -> None:
    store = registry.store(f"sqlite:///{tmp_path / 'roost.db'}")
    await store.open()
    service = UsageService(store, lambda: datetime.fromtimestamp(NOW, UTC))
    reports = Reports(tmp_path, "g")
    reports.add(counted(), NOW)
    report = reports.due()
    assert report is not None
    assert await service.take(report) is True  # committed, and the answer was lost with the control plane
    reports.close()
    later = Reports(tmp_path, "h")
    later.keep(NOW)
    again = later.due()
    assert again is not None
    assert again["sequence"] == report["sequence"]
    assert await service.take(again) is False
    later.taken(again)
    found = await store.usage(datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(NOW + 60, UTC))
    assert [row.sums.requests for row in found] == [1]
    await store.close()


async def test_taking_begins_anew(world: World) -> None:
    await world.ask(post({"model": ENDPOINT}))
    assert len(world.gateway.usage.take()) == 1
    assert world.gateway.usage.take() == {}


async def test_a_key_with_a_budget_pays_for_the_answer(world: World) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        await peer.send(whole(json.dumps({"choices": [], "usage": USAGE}).encode()))

    world.upstream.handler = answer
    key = RouteKey(digest_of("rk-poor"), "key-poor", "alice", "member", tokens_per_minute=15)
    world.version += 1
    world.gateway.apply(replace(table(world.version, world.replica(1)), keys=(key,)))
    assert (await world.ask(post({"model": ENDPOINT}, key="rk-poor"))).status == 200
    world.gateway.sweep()
    assert (await world.ask(post({"model": ENDPOINT}, key="rk-poor"))).status == 429


@pytest.mark.parametrize("begun", [True, False])
async def test_a_prompt_is_paid_for_though_its_client_hangs_up(world: World, begun: bool) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        if begun:
            await peer.send(stream(delta(role="assistant"), delta("a")).removesuffix(b"0\r\n\r\n"))
        await peer.gone.wait()

    world.upstream.handler = answer
    key = RouteKey(digest_of("rk-poor"), "key-poor", "alice", "member", tokens_per_minute=2000)
    made = table(world.version + 1, world.replica(1), context_length=3000)
    world.gateway.apply(replace(made, keys=(key,)))
    body = {"model": ENDPOINT, "stream": True, "messages": [{"role": "user", "content": "word " * 4000}]}
    client = await world.connect()
    await client.send(post(body, key="rk-poor"))
    await world.upstream.wait_for(1)
    if begun:
        await until(lambda: any(f.active and f.active.sent for f in world.gateway.fronts))
    client.hang_up()
    await until(lambda: not world.gateway.fronts)
    assert sums(world)["client_hung_up"]["prompt_tokens"] == 3000
    refused = await world.ask(post({"model": ENDPOINT}, key="rk-poor"))
    assert (refused.status, refused.error["code"]) == (429, "token_rate_limited")


async def test_a_prompt_that_no_replica_took_costs_nothing(world: World) -> None:
    await world.connect()
    await until(lambda: bool(world.gateway.fronts))
    (front,) = world.gateway.fronts
    front.data_received(post())
    front.eof_received()  # before the connection to the replica can be there
    assert "prompt_tokens" not in sums(world)["client_hung_up"]


async def test_the_autoscaler_is_told_what_came_and_what_waits(world: World) -> None:
    async def answer(seen: Seen, peer: Peer) -> None:
        if seen.json.get("stream"):
            await peer.send(stream(delta("a"), {"choices": [], "usage": USAGE}))
        else:
            await peer.gone.wait()

    world.upstream.handler = answer
    gateway = world.gateway
    await world.ask(post({"model": ENDPOINT, "stream": True}))
    client = await world.connect()
    await client.send(post({"model": ENDPOINT, "prompt": "x" * 400}))
    await world.upstream.wait_for(2)
    told = gateway.demand.report(gateway)[ENDPOINT]
    assert (told["requests"], told["finished"], told["unserved"]) == (2, 1, 1)
    assert (told["prompt_tokens"], told["output_tokens"], sum(told["first_tokens"])) == (12, 3, 1)
    assert told["unserved_prompt_tokens"] > 90
    client.hang_up()
    await until(lambda: not any(replica.in_flight for replica in gateway.books.replicas.values()))
    told = gateway.demand.report(gateway)[ENDPOINT]
    assert (told["requests"], told["finished"], told["unserved"]) == (2, 2, 0)


async def test_short_of_files_a_sweep_counts_and_logs_all_the_same(world: World) -> None:
    await world.ask(post())
    gateway = world.gateway
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with capture_logs() as said:
            for _ in range(3):
                gateway.sweep()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [entry["part"] for entry in said] == ["the board"]
    assert gateway.settings.logs_dir.joinpath("gateway-0.access.log").stat().st_size
    assert sum(meters.read_all(gateway.settings.run_dir)[ENDPOINT])
