"""``roost endpoints logs`` before the real API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from tests.integration.cli_bench import Bench

from roost.domain.log import ReplicaLog


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with start_blocking_portal() as portal:
        yield Bench(portal, tmp_path)


def test_the_output_is_the_engines_lines_and_nothing_else(bench: Bench) -> None:
    created = bench.create()
    bench.output = [ReplicaLog("replica-1", ("loading", "\x1b[31mready"))]
    result = bench.run("endpoints", "logs", created["name"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "loading\n\N{REPLACEMENT CHARACTER}[31mready\n", "")
    assert bench.run("endpoints", "logs", created["id"], "-n", "1").stdout.startswith("\N{REPLACEMENT CHARACTER}")


def test_several_replicas_are_told_apart_beside_the_output(bench: Bench) -> None:
    created = bench.create()
    bench.output = [ReplicaLog("replica-1", ("one", "two")), ReplicaLog("replica-2", ("eins",))]
    result = bench.run("endpoints", "logs", created["id"])
    assert result.stdout == "one\ntwo\neins\n"
    assert result.stderr == "==> replica-1 <==\n==> replica-2 <==\n"
    chosen = bench.run("endpoints", "logs", created["id"], "--replica", "replica-2")
    assert (chosen.stdout, chosen.stderr) == ("eins\n", "")
    unknown = bench.run("endpoints", "logs", created["id"], "--replica", "replica-3")
    assert unknown.exit_code == 3
    assert "replica-1, replica-2" in unknown.stderr


def test_json_is_what_the_api_says(bench: Bench) -> None:
    created = bench.create()
    bench.output = [ReplicaLog("replica-1", ("one",))]
    listed = bench.json("endpoints", "logs", created["id"])
    assert listed == {"object": "list", "data": [{"replica_id": "replica-1", "line": "one"}]}


def test_following_goes_on_until_the_endpoint_is_deleted(bench: Bench) -> None:
    created = bench.create()
    bench.output = [ReplicaLog("replica-1", ("one",))]
    result = bench.run("endpoints", "logs", "-f", created["id"])
    assert (result.exit_code, result.stdout) == (0, "one\nthe end\n")
    assert result.stderr == f"==> replica-1 <==\n{created['id']} was deleted.\n"


def test_following_with_json_prints_a_line_each(bench: Bench) -> None:
    created = bench.create()
    bench.output = [ReplicaLog("replica-1", ("one",))]
    result = bench.run("endpoints", "logs", created["id"], "--follow", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [{"replica_id": "replica-1", "line": text} for text in ("one", "the end")]


def test_silence_is_explained(bench: Bench) -> None:
    created = bench.create("--no-auto-start")
    result = bench.run("endpoints", "logs", created["id"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No output" in result.stderr
    assert "STOPPED" in result.stderr
    assert bench.run("endpoints", "logs", "endpoint-none").exit_code == 3
    assert bench.run("endpoints", "logs", created["id"], "--tail", "10001").exit_code == 2
