"""Replicas without a server: found by their supervisors' locks, and ended. Real supervisors, real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.local_world import LocalWorld
from typer.testing import CliRunner

from roost.cli.examination import examine
from roost.cli.main import app
from roost.testing.runtime_contract import GONE, UP, reach, spec
from roost.wiring import left_replicas


@pytest.fixture
async def world(short_folder: Path) -> AsyncIterator[LocalWorld]:
    world = LocalWorld(short_folder / "home")
    yield world
    await world.close()


async def left(world: LocalWorld) -> None:
    """One replica that runs and one that has ended, and nobody who watches them."""
    runtime = await world.open()
    await runtime.launch(spec(), "replica-1")
    await runtime.launch(spec("--exit", "3"), "replica-2")
    await reach(world, runtime, "replica-1", UP)
    await reach(world, runtime, "replica-2", GONE)
    await runtime.close()


async def run_stop(world: LocalWorld, *flags: str) -> tuple[int, str, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["stop", "--home", str(world.home), *flags])
    return result.exit_code, result.stdout, result.stderr


async def test_only_what_runs_is_found(world: LocalWorld) -> None:
    assert left_replicas.running(world.home) == ()
    await left(world)
    assert left_replicas.running(world.home) == ("replica-1",)
    assert (await asyncio.to_thread(examine, world.home, online=False)).left == 1


async def test_stop_without_a_server_ends_what_was_left(world: LocalWorld) -> None:
    await left(world)
    code, said, noted = await run_stop(world)
    assert (code, said) == (0, "Ended 1 replica: replica-1.\n")
    assert f"No server is running from {world.home}, but an earlier one left 1 replica" in noted
    assert world.record("replica-1")["exit"]["cause"] == "stopped"
    assert await world.processes("replica-1") == 0
    assert not (world.home / "run" / "serve.pid").exists()
    assert (await run_stop(world))[0] == 1, "nothing is left to stop"


async def test_now_does_not_wait_for_a_deaf_engine(world: LocalWorld) -> None:
    runtime = await world.open()
    await runtime.launch(spec("--deaf"), "replica-1")
    await reach(world, runtime, "replica-1", UP)
    await runtime.close()
    assert (await run_stop(world, "--now"))[0] == 0
    assert "killed" in world.record("replica-1")["exit"]["cause"]


async def test_kept_replicas_are_only_told_of(world: LocalWorld) -> None:
    await left(world)
    code, _, said = await run_stop(world, "--keep-replicas")
    assert code == 1
    assert "What an earlier one left, 1 replica, keeps running" in said
    assert left_replicas.running(world.home) == ("replica-1",)
