"""The memory runtime's controls, and its books under any sequence of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.domain.hardware import Node, Resources
from roost.domain.launch import LaunchSpec
from roost.domain.replica import ExitInfo, RuntimeState, RuntimeStatus
from roost.runtimes.base import RuntimeSettings
from roost.runtimes.memory import MemoryRuntime
from roost.runtimes.registry import runtime as by_name

SETTINGS = RuntimeSettings(Path("/nonexistent"), "installation-1")
NO_GRACE = timedelta(0)


def want(threads: int = 1) -> LaunchSpec:
    return LaunchSpec("endpoint-1", (), Resources(threads=threads), "cpu")


def node(name: str, threads: int = 2) -> Node:
    total = Resources(threads=threads)
    return Node(name, "local", "cpu", total, total)


async def status(runtime: MemoryRuntime, replica_id: str) -> RuntimeStatus:
    found = await runtime.status(replica_id)
    assert found is not None
    return found


async def test_the_registry_makes_one_with_a_default_node() -> None:
    (one,) = await by_name("memory", SETTINGS).capacity()
    assert (one.zone, one.accelerator, one.total.threads) == ("local", "cpu", 4)


async def test_launches_are_ready_at_once_when_asked_for() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    runtime = MemoryRuntime(SETTINGS, auto_ready=True, address=lambda i: f"http://{i}", now=lambda: now)
    await runtime.launch(want(), "replica-1")
    seen = await status(runtime, "replica-1")
    assert (seen.state, seen.address, seen.started_at) == (RuntimeState.READY, "http://replica-1", now)


async def test_advance_takes_the_next_natural_step() -> None:
    runtime = MemoryRuntime(SETTINGS)
    runtime.hold_stops = True
    await runtime.launch(want(), "replica-1")
    assert runtime.advance("replica-1") is RuntimeState.READY
    assert runtime.advance("replica-1") is RuntimeState.READY
    stop = asyncio.create_task(runtime.stop("replica-1", NO_GRACE))
    await asyncio.sleep(0)
    assert (await status(runtime, "replica-1")).state is RuntimeState.STOPPING
    assert not stop.done()
    assert runtime.advance("replica-1") is RuntimeState.EXITED
    await stop


async def test_failures_are_used_up_in_order() -> None:
    runtime = MemoryRuntime(SETTINGS)
    runtime.fail_launch(ExitInfo(code=1))
    runtime.fail_launch(ExitInfo(cause="bad"))
    for number in (1, 2, 3):
        await runtime.launch(want(), f"replica-{number}")
    assert (await status(runtime, "replica-1")).exit == ExitInfo(code=1)
    assert (await status(runtime, "replica-2")).exit == ExitInfo(cause="bad")
    assert (await status(runtime, "replica-3")).state is RuntimeState.STARTING


async def test_a_lost_node_loses_its_replicas_until_it_is_found() -> None:
    runtime = MemoryRuntime(SETTINGS, nodes=[node("node-1")], auto_ready=True)
    await runtime.launch(want(2), "replica-1")
    runtime.lose_node("node-1")
    assert (await status(runtime, "replica-1")).state is RuntimeState.LOST
    assert not (await runtime.capacity())[0].healthy
    await runtime.launch(want(), "replica-2")
    runtime.find_node("node-1")
    assert (await status(runtime, "replica-1")).state is RuntimeState.READY
    assert (await status(runtime, "replica-2")).state is RuntimeState.PENDING
    runtime.add_node(node("node-2"))
    assert (await status(runtime, "replica-2")).node_id == "node-2"


async def test_a_lost_replica_can_be_stopped_and_never_comes_back() -> None:
    runtime = MemoryRuntime(SETTINGS, nodes=[node("node-1")], auto_ready=True)
    await runtime.launch(want(), "replica-1")
    runtime.set_nodes([node("node-2")])
    assert (await status(runtime, "replica-1")).state is RuntimeState.LOST
    await runtime.stop("replica-1", NO_GRACE)
    runtime.set_nodes([node("node-1")])
    assert (await status(runtime, "replica-1")).state is RuntimeState.EXITED


async def test_calls_and_real_starts_are_counted() -> None:
    runtime = MemoryRuntime(SETTINGS)
    for _ in range(3):
        await runtime.launch(want(), "replica-1")
    assert (runtime.launches["replica-1"], runtime.starts["replica-1"]) == (3, 1)


async def test_impossible_steps_are_refused() -> None:
    runtime = MemoryRuntime(SETTINGS, auto_ready=True)
    await runtime.launch(want(), "replica-1")
    with pytest.raises(ValueError, match="READY, not STARTING"):
        runtime.make_ready("replica-1")
    with pytest.raises(ValueError, match="READY, not STOPPING"):
        runtime.finish_stop("replica-1")


async def test_the_books_show_a_double_booking() -> None:
    runtime = MemoryRuntime(SETTINGS, nodes=[node("node-1", 2)], auto_ready=True)
    await runtime.launch(want(2), "replica-1")
    runtime.check_books()
    runtime.add_node(node("node-1", 1))
    with pytest.raises(AssertionError, match="booked twice"):
        runtime.check_books()


names = st.sampled_from([f"replica-{i}" for i in range(6)])


class Books(RuleBasedStateMachine):
    """Any sequence of controls: the books stay right, and an id that has ended stays so."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime = MemoryRuntime(SETTINGS, nodes=[node("node-1"), node("node-2", 3)])
        self.ended: dict[str, RuntimeStatus] = {}

    def run(self, replica_id: str) -> RuntimeStatus | None:
        return asyncio.run(self.runtime.status(replica_id))

    @rule(replica_id=names, threads=st.integers(0, 4))
    def launch(self, replica_id: str, threads: int) -> None:
        asyncio.run(self.runtime.launch(want(threads), replica_id))

    @rule(replica_id=names)
    def stop(self, replica_id: str) -> None:
        asyncio.run(self.runtime.stop(replica_id, NO_GRACE))
        found = self.run(replica_id)
        assert found is None or found.state is RuntimeState.EXITED

    @precondition(lambda self: asyncio.run(self.runtime.list()))
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.runtime.advance(data.draw(st.sampled_from([one.replica_id for one in asyncio.run(self.runtime.list())])))

    @rule(replica_id=names)
    def crash(self, replica_id: str) -> None:
        found = self.run(replica_id)
        if found is not None and found.state in (RuntimeState.STARTING, RuntimeState.READY):
            self.runtime.crash(replica_id, ExitInfo(signal=9))

    @rule(node_id=st.sampled_from(["node-1", "node-2"]))
    def lose(self, node_id: str) -> None:
        self.runtime.lose_node(node_id)

    @rule(node_id=st.sampled_from(["node-1", "node-2"]))
    def find(self, node_id: str) -> None:
        self.runtime.find_node(node_id)

    @invariant()
    def books_are_right(self) -> None:
        self.runtime.check_books()

    @invariant()
    def ends_are_final(self) -> None:
        now = {one.replica_id: one for one in asyncio.run(self.runtime.list())}
        for replica_id, before in self.ended.items():
            assert now[replica_id] == before
        self.ended = {i: replace(one) for i, one in now.items() if one.state is RuntimeState.EXITED}


Books.TestCase.settings = hypothesis_settings(max_examples=30, stateful_step_count=25, deadline=None)
TestBooks = Books.TestCase
