"""What the shell offers, by the protocol between bash and the command line, before the real API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from tests.integration.cli_bench import MODEL, Bench
from typer.testing import CliRunner

from roost.cli.main import app


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with start_blocking_portal() as portal:
        yield Bench(portal, tmp_path)


def offered(bench: Bench, words: str) -> list[str]:
    """What bash is told for the words so far; the last one is being typed, a blank begins the next."""
    asked = {"_ROOST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    result = CliRunner(env={**bench.environment(), **asked}).invoke(app, [], obj=bench.world(), prog_name="roost")
    assert result.stderr == ""
    return result.stdout.split()


def test_commands_and_flags(bench: Bench) -> None:
    assert offered(bench, "roost end") == ["endpoints"]
    assert "retrieve" in offered(bench, "roost endpoints ")
    assert offered(bench, "roost endpoints create --hard") == ["--hardware"]
    assert offered(bench, "roost serve --gate") == ["--gateway-workers"]
    assert bench.transport.requests == []


def test_endpoints_by_id_and_name(bench: Bench) -> None:
    created = bench.create()
    for command in ("endpoints retrieve", "endpoints logs", "endpoints stop", "chat", "events --endpoint"):
        assert offered(bench, f"roost {command} ") == [created["id"], created["name"]]
    assert offered(bench, "roost endpoints retrieve endp") == [created["id"]]
    assert offered(bench, f"roost endpoints delete {created['name'][:3]}") == [created["name"]]


def test_models_hardware_and_zones(bench: Bench) -> None:
    assert MODEL in offered(bench, "roost endpoints create --model smol")
    assert offered(bench, f"roost endpoints create --model {MODEL} --hardware ") == ["1x_cpu", "2x_cpu"]
    assert bench.transport.requests[-1].url.params["model"] == MODEL
    assert offered(bench, "roost endpoints create --availability-zone ") == ["local"]


def test_a_server_that_does_not_answer_is_passed_over_in_silence(bench: Bench) -> None:
    bench.create()
    bench.transport.failures = [httpx.ConnectError("refused") for _ in range(9)]
    assert offered(bench, "roost endpoints retrieve ") == []
    bench.transport.failures = [httpx.Response(401, json={"error": {"message": "no"}})]
    assert offered(bench, "roost endpoints retrieve ") == []
    bench.transport.failures = [httpx.Response(200, json={"data": "nonsense"})]
    assert offered(bench, "roost endpoints retrieve ") == []
