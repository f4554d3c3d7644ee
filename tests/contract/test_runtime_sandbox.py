"""The sandbox's runtime passes the runtime contract; and what only it does: a declared fleet, few engines at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from tests.contract.local_world import LocalWorld

from roost.domain.hardware import Node, Resources
from roost.domain.launch import LaunchSpec
from roost.domain.replica import PendingReason, RuntimeState
from roost.runtimes.local import LocalRuntime
from roost.runtimes.memory import GIB
from roost.runtimes.sandbox import SandboxRuntime
from roost.testing.runtime_contract import UP, ZONE, RuntimeContract, RuntimeHarness, reach, spec

ACCELERATOR = "nvidia_h100_80gb_sxm"
WHOLE = Resources(threads=16, memory_bytes=64 * GIB, accelerators=8)
HALF = Resources(threads=8, memory_bytes=32 * GIB, accelerators=4)
FLEET = tuple(Node(f"h100-{zone}", zone, ACCELERATOR, WHOLE, WHOLE) for zone in ("east", "west"))
MOST = 2


class TestSandboxRuntime(RuntimeContract):
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[RuntimeHarness]:
        world = LocalWorld(tmp_path / "home")
        world.factory = partial(SandboxRuntime, fleet=())
        yield world
        await world.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LocalWorld]:
    made = LocalWorld(tmp_path / "home")
    made.factory = partial(SandboxRuntime, fleet=FLEET, most_engines=MOST)
    yield made
    await made.close()


def declared(resources: Resources = HALF, *, zone: str | None = None, node_id: str | None = None) -> LaunchSpec:
    """A launch on accelerators, whose program needs none."""
    return replace(spec(accelerator=ACCELERATOR), resources=resources, zone=zone, node_id=node_id)


async def free(runtime: LocalRuntime) -> dict[str, int]:
    return {node.id: node.free.accelerators for node in await runtime.capacity() if node.accelerator == ACCELERATOR}


async def waits(runtime: LocalRuntime, replica_id: str) -> tuple[PendingReason | None, str]:
    status = await runtime.status(replica_id)
    assert status is not None
    assert status.state is RuntimeState.PENDING
    return status.pending_reason, status.pending_message or ""


async def test_a_replica_holds_what_it_was_declared_to_need_on_its_node(world: LocalWorld) -> None:
    runtime = await world.open()
    await runtime.launch(declared(node_id="h100-west"), "replica-1")
    status = await reach(world, runtime, "replica-1", UP)
    assert status.node_id == "h100-west"
    assert await free(runtime) == {"h100-east": 8, "h100-west": 4}
    assert world.record("replica-1")["node_id"] == "h100-west"
    await runtime.stop("replica-1", timedelta(0))
    assert await free(runtime) == {"h100-east": 8, "h100-west": 8}


async def test_this_machine_is_one_more_node_of_threads(world: LocalWorld) -> None:
    runtime = await world.open()
    machine, *others = await runtime.capacity()
    assert (machine.zone, machine.accelerator, machine.total) == (ZONE, "cpu", world.resources)
    assert tuple(others) == FLEET


async def test_a_restarted_control_plane_knows_which_node_a_replica_is_on(world: LocalWorld) -> None:
    first = await world.open()
    await first.launch(declared(zone="west"), "replica-1")
    before = await reach(world, first, "replica-1", UP)
    await first.close()
    second = await world.open()
    assert await second.status("replica-1") == before
    assert await free(second) == {"h100-east": 8, "h100-west": 4}


async def test_a_declared_node_that_is_full_lets_launches_wait_with_its_own_reason(world: LocalWorld) -> None:
    runtime = await world.open()
    await runtime.launch(declared(WHOLE, zone="west"), "replica-1")
    await runtime.launch(declared(HALF, zone="west"), "replica-2")
    reason, message = await waits(runtime, "replica-2")
    assert reason is PendingReason.NO_RESOURCES
    assert "accelerators: 4 wanted, 0 free" in message
    assert "at most" not in message


async def test_more_engines_than_may_run_at_once_wait_though_the_fleet_has_room(world: LocalWorld) -> None:
    runtime = await world.open()
    for number in range(1, 5):
        await runtime.launch(declared(), f"replica-{number}")
    for number in (1, 2):
        await reach(world, runtime, f"replica-{number}", UP)
    for number in (3, 4):
        reason, message = await waits(runtime, f"replica-{number}")
        assert reason is PendingReason.NO_RESOURCES
        assert "The sandbox runs at most 2 engines at once" in message
    nodes = await runtime.capacity()
    assert {node.free for node in nodes} == {Resources()}
    assert all("at most 2 engines at once" in (node.notice or "") for node in nodes)

    await runtime.stop("replica-1", timedelta(0))
    await reach(world, runtime, "replica-3", UP)
    assert (await waits(runtime, "replica-4"))[0] is PendingReason.NO_RESOURCES
    await runtime.stop("replica-4", timedelta(0))
    await runtime.stop("replica-2", timedelta(0))
    assert {node.notice for node in await runtime.capacity()} == {None}


async def test_adopted_engines_count_among_those_that_may_run(world: LocalWorld) -> None:
    first = await world.open()
    for number in (1, 2):
        await first.launch(declared(), f"replica-{number}")
        await reach(world, first, f"replica-{number}", UP)
    await first.close()
    second = await world.open()
    await second.launch(declared(), "replica-3")
    assert "at most 2 engines" in (await waits(second, "replica-3"))[1]


async def test_what_no_node_could_hold_is_infeasible_also_when_all_engines_are_in_use(world: LocalWorld) -> None:
    runtime = await world.open()
    for number in (1, 2):
        await runtime.launch(declared(), f"replica-{number}")
    await runtime.launch(declared(replace(WHOLE, accelerators=16)), "replica-3")
    assert (await waits(runtime, "replica-3"))[0] is PendingReason.INFEASIBLE
