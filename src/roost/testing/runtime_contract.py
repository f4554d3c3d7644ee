"""The contract of runtimes: subclass ``RuntimeContract``, give it a ``harness`` fixture, and pytest does the rest.

::

    class TestMyRuntime(RuntimeContract):
        @pytest.fixture
        async def harness(self, tmp_path):
            async with MyHarness(tmp_path) as harness:
                yield harness

The cases need an asyncio mode of ``auto``. They wait for states, never for time; every wait is bounded.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from roost.domain.hardware import Resources
from roost.domain.launch import LISTEN, LaunchSpec, ProcessSpec
from roost.domain.replica import PendingReason, RuntimeState, RuntimeStatus
from roost.runtimes.base import Runtime

PROGRAM = Path(__file__).parent / "replica_program.py"
"""What the replicas of these cases run."""

MIB = 1024**2
THREADS = 4
"""Threads of the one node that a harness offers."""
ZONE = "zone-a"
"""The zone of that node."""
PATIENCE_S = 20.0
"""A case that waits longer than this has failed."""

NO_GRACE = timedelta(0)
GRACE = timedelta(seconds=10)
ALL_STATES = tuple(RuntimeState)
UP = (RuntimeState.READY,)
GONE = (RuntimeState.EXITED,)


class RuntimeHarness(ABC):
    """One world of machines and processes, and the runtimes that look at it.

    The world has one node with ``THREADS`` threads, at least 1 GiB, accelerator ``cpu``, in ``ZONE``. Leaving the
    harness (``close``) ends everything in it.
    """

    @abstractmethod
    async def open(self) -> Runtime:
        """A started runtime over this world, as a new control plane would have it."""

    @abstractmethod
    async def close(self) -> None:
        """End all replicas and runtimes. Raises ``AssertionError`` when a process is left behind."""

    @abstractmethod
    async def unfold(self, runtime: Runtime, replica_id: str) -> None:
        """Let a launched replica do what its program does; nothing where programs really run."""

    @abstractmethod
    async def answer(self, address: str) -> Mapping[str, Any]:
        """What the program at ``address`` says: ``{"pid", "name", "child"}``."""

    @abstractmethod
    async def kill_engine(self, runtime: Runtime, replica_id: str) -> None:
        """SIGKILL the engine."""

    @abstractmethod
    async def kill_supervisor(self, runtime: Runtime, replica_id: str) -> None:
        """SIGKILL whatever watches over the engine."""

    @abstractmethod
    async def launch_and_die(self, spec: LaunchSpec, replica_id: str) -> None:
        """A control plane of its own launches the replica, sees it READY and is killed."""

    @abstractmethod
    async def processes(self, replica_id: str) -> int:
        """How many processes of the replica live, supervisors not counted."""


def spec(
    *arguments: str, threads: int = 1, zone: str | None = None, program: str | None = None, accelerator: str = "cpu"
) -> LaunchSpec:
    """A launch of ``replica_program`` with ``arguments`` (or of another ``program``)."""
    argv = (program,) if program else (sys.executable, "-I", "-S", str(PROGRAM), "--listen", LISTEN, *arguments)
    return LaunchSpec(
        endpoint_id="endpoint-1",
        processes=(ProcessSpec(argv=argv),),
        resources=Resources(threads=threads, memory_bytes=64 * MIB),
        accelerator=accelerator,
        zone=zone,
    )


async def reach(
    harness: RuntimeHarness, runtime: Runtime, replica_id: str, states: tuple[RuntimeState, ...]
) -> RuntimeStatus:
    """Wait until the replica is in one of ``states``. Raises ``TimeoutError``."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await harness.unfold(runtime, replica_id)
            status = await runtime.status(replica_id)
            if status is not None and status.state in states:
                return status
            try:
                await asyncio.wait_for(runtime.changed(), 0.5)
            except TimeoutError:
                continue  # hints may be lost


async def free_threads(runtime: Runtime) -> int:
    """Threads free on the world's node."""
    (node,) = await runtime.capacity()
    return node.free.threads


class RuntimeContract:
    """Every runtime passes these."""

    # -- launching

    async def test_a_launched_replica_becomes_ready_and_answers(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--name", "hello"), "replica-1")
        status = await reach(harness, runtime, "replica-1", UP)
        assert status.address is not None
        assert status.node_id == (await runtime.capacity())[0].id
        answer = await harness.answer(status.address)
        assert answer["name"] == "hello"
        assert status.pids == (answer["pid"],)
        assert await harness.processes("replica-1") == 1

    async def test_the_same_id_twice_is_one_process(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await asyncio.gather(*(runtime.launch(spec(), "replica-1") for _ in range(5)))
        await reach(harness, runtime, "replica-1", UP)
        await runtime.launch(spec(), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        assert await harness.processes("replica-1") == 1
        assert len(await runtime.list()) == 1
        assert await free_threads(runtime) == THREADS - 1

    async def test_an_id_that_has_ended_never_runs_again(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--exit", "3"), "replica-1")
        before = await reach(harness, runtime, "replica-1", GONE)
        await runtime.launch(spec(), "replica-1")
        assert await runtime.status("replica-1") == before

    async def test_a_program_that_ends_shows_its_status_and_last_words(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        words = "E tensor not within the file bounds"
        await runtime.launch(spec("--say", words, "--exit", "3"), "replica-1")
        status = await reach(harness, runtime, "replica-1", GONE)
        assert status.exit is not None
        assert (status.exit.code, status.exit.signal, status.exit.cause) == (3, None, None)
        assert status.exit.log_tail == (words,)
        assert status.pids == ()
        assert await free_threads(runtime) == THREADS

    async def test_a_launch_that_cannot_be_carried_out_says_why(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec(program="/nonexistent/engine"), "replica-1")
        status = await reach(harness, runtime, "replica-1", GONE)
        assert status.exit is not None
        assert "/nonexistent/engine" in (status.exit.cause or "")
        assert await free_threads(runtime) == THREADS

    # -- room

    async def test_what_no_node_could_hold_stays_pending_and_blocks_nobody(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec(threads=THREADS + 1), "replica-large")
        await runtime.launch(spec(accelerator="nvidia_h100_80gb_sxm"), "replica-gpu")
        await runtime.launch(spec(), "replica-1")
        for replica_id, words in (("replica-large", "CPU threads"), ("replica-gpu", "nvidia_h100_80gb_sxm")):
            status = await runtime.status(replica_id)
            assert status is not None
            assert (status.state, status.pending_reason) == (RuntimeState.PENDING, PendingReason.INFEASIBLE)
            assert words in (status.pending_message or "")
            assert (status.node_id, status.address, status.pids) == (None, None, ())
        await reach(harness, runtime, "replica-1", UP)

    async def test_a_busy_node_lets_launches_wait_in_order(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec(threads=THREADS - 1), "replica-1")
        await runtime.launch(spec(threads=2), "replica-2")
        await runtime.launch(spec(threads=1), "replica-3")
        await reach(harness, runtime, "replica-1", UP)
        for replica_id in ("replica-2", "replica-3"):
            status = await runtime.status(replica_id)
            assert status is not None
            assert (status.state, status.pending_reason) == (RuntimeState.PENDING, PendingReason.NO_RESOURCES)
            assert status.pending_message
        assert await free_threads(runtime) == 1
        await runtime.stop("replica-1", NO_GRACE)
        for replica_id in ("replica-2", "replica-3"):
            status = await reach(harness, runtime, replica_id, UP)
            assert (status.pending_reason, status.pending_message) == (None, None)
        assert await free_threads(runtime) == THREADS - 3

    async def test_nothing_is_given_away_twice(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        ids = [f"replica-{i}" for i in range(6)]
        await asyncio.gather(*(runtime.launch(spec(), replica_id) for replica_id in ids))
        states = Counter(status.state for status in await runtime.list())
        assert states[RuntimeState.PENDING] == len(ids) - THREADS
        assert await free_threads(runtime) == 0
        (node,) = await runtime.capacity()
        assert node.total.memory_bytes - node.free.memory_bytes == THREADS * 64 * MIB

    async def test_zones_are_respected(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec(zone="zone-elsewhere"), "replica-1")
        await runtime.launch(spec(zone=ZONE), "replica-2")
        status = await runtime.status("replica-1")
        assert status is not None
        assert (status.state, status.pending_reason) == (RuntimeState.PENDING, PendingReason.INFEASIBLE)
        assert "zone-elsewhere" in (status.pending_message or "")
        await reach(harness, runtime, "replica-2", UP)

    # -- death

    async def test_a_killed_engine_is_seen_and_its_resources_are_free(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--child"), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        await harness.kill_engine(runtime, "replica-1")
        status = await reach(harness, runtime, "replica-1", GONE)
        assert status.exit is not None
        assert (status.exit.code, status.exit.signal) == (None, 9)
        assert await harness.processes("replica-1") == 0
        assert await free_threads(runtime) == THREADS

    async def test_a_killed_supervisor_leaves_no_engine(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--child", "--deaf", "--say", "last words"), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        await harness.kill_supervisor(runtime, "replica-1")
        status = await reach(harness, runtime, "replica-1", GONE)
        assert status.exit is not None
        assert status.exit.cause is not None
        assert tuple(await runtime.logs("replica-1")) == ("last words",)
        assert await harness.processes("replica-1") == 0
        assert await free_threads(runtime) == THREADS

    async def test_a_killed_control_plane_finds_its_replicas_again(self, harness: RuntimeHarness) -> None:
        await harness.launch_and_die(spec("--name", "survivor", threads=2), "replica-1")
        runtime = await harness.open()
        assert [status.replica_id for status in await runtime.list()] == ["replica-1"]
        before = await reach(harness, runtime, "replica-1", UP)
        assert before.address is not None
        answer = await harness.answer(before.address)
        assert (answer["name"], (answer["pid"],)) == ("survivor", before.pids)
        assert await free_threads(runtime) == THREADS - 2
        await runtime.launch(spec("--name", "duplicate", threads=2), "replica-1")
        assert await runtime.status("replica-1") == before
        assert await harness.processes("replica-1") == 1
        await runtime.stop("replica-1", GRACE)
        assert await harness.processes("replica-1") == 0
        assert await free_threads(runtime) == THREADS

    async def test_a_control_plane_that_closes_leaves_replicas_running(self, harness: RuntimeHarness) -> None:
        first = await harness.open()
        await first.launch(spec(), "replica-1")
        before = await reach(harness, first, "replica-1", UP)
        await first.close()
        second = await harness.open()
        assert await reach(harness, second, "replica-1", UP) == before

    # -- stopping

    async def test_a_stop_ends_everything_and_frees_the_reservation(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--child"), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        await runtime.stop("replica-1", GRACE)
        status = await runtime.status("replica-1")
        assert status is not None
        assert status.state is RuntimeState.EXITED
        assert status.address is None
        assert status.exit is not None
        assert status.exit.cause == "stopped"
        assert await harness.processes("replica-1") == 0
        assert await free_threads(runtime) == THREADS

    async def test_a_program_that_ignores_term_is_killed(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--deaf", "--child"), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        await runtime.stop("replica-1", timedelta(milliseconds=100))
        assert await reach(harness, runtime, "replica-1", GONE)
        assert await harness.processes("replica-1") == 0

    async def test_a_second_stop_may_be_less_patient(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--deaf"), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        async with asyncio.timeout(PATIENCE_S):
            patient = asyncio.create_task(runtime.stop("replica-1", timedelta(hours=1)))
            await reach(harness, runtime, "replica-1", (RuntimeState.STOPPING, RuntimeState.EXITED))
            await runtime.stop("replica-1", NO_GRACE)
            await patient
        assert await harness.processes("replica-1") == 0

    async def test_a_stop_while_starting(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec("--hang"), "replica-1")
        await runtime.launch(spec("--hang"), "replica-2")
        await reach(harness, runtime, "replica-2", (RuntimeState.STARTING,))
        await runtime.stop("replica-1", GRACE)
        await runtime.stop("replica-2", GRACE)
        for replica_id in ("replica-1", "replica-2"):
            await reach(harness, runtime, replica_id, GONE)
            assert await harness.processes(replica_id) == 0
        assert await free_threads(runtime) == THREADS

    async def test_a_stop_while_pending(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec(threads=THREADS), "replica-1")
        await runtime.launch(spec(threads=THREADS), "replica-2")
        await runtime.launch(spec(threads=1), "replica-3")
        await runtime.stop("replica-2", GRACE)
        await runtime.stop("replica-1", GRACE)
        await reach(harness, runtime, "replica-3", UP)
        status = await reach(harness, runtime, "replica-2", GONE)
        assert status.exit is not None
        assert status.exit.cause == "stopped before it was started"

    async def test_stops_repeat_and_unknown_ids_do_nothing(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.stop("replica-unknown", GRACE)
        await runtime.launch(spec(), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        await asyncio.gather(*(runtime.stop("replica-1", GRACE) for _ in range(3)))
        before = await runtime.status("replica-1")
        await runtime.stop("replica-1", GRACE)
        assert await runtime.status("replica-1") == before
        assert await runtime.status("replica-unknown") is None

    # -- what is left

    async def test_logs_keep_the_last_lines_after_death(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        assert tuple(await runtime.logs("replica-unknown")) == ()
        await runtime.launch(spec("--say", "one", "--say", "two", "--say", "three"), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        assert tuple(await runtime.logs("replica-1", 2)) == ("two", "three")
        await runtime.stop("replica-1", GRACE)
        assert tuple(await runtime.logs("replica-1")) == ("one", "two", "three")
        assert tuple(await runtime.logs("replica-1", 1)) == ("three",)

    async def test_forgetting_drops_only_what_has_ended(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.forget("replica-unknown")
        await runtime.launch(spec("--say", "words"), "replica-1")
        await reach(harness, runtime, "replica-1", UP)
        await runtime.forget("replica-1")
        await reach(harness, runtime, "replica-1", UP)
        await runtime.stop("replica-1", GRACE)
        await runtime.forget("replica-1")
        assert await runtime.status("replica-1") is None
        assert tuple(await runtime.list()) == ()
        assert tuple(await runtime.logs("replica-1")) == ()

    async def test_ends_are_known_to_the_next_control_plane(self, harness: RuntimeHarness) -> None:
        first = await harness.open()
        await first.launch(spec("--say", "why", "--exit", "7"), "replica-1")
        before = await reach(harness, first, "replica-1", GONE)
        await first.close()
        second = await harness.open()
        after = await reach(harness, second, "replica-1", GONE)
        assert after.exit == before.exit
        assert tuple(await second.logs("replica-1")) == ("why",)

    async def test_changes_are_hinted_at(self, harness: RuntimeHarness) -> None:
        runtime = await harness.open()
        await runtime.launch(spec(), "replica-1")
        async with asyncio.timeout(PATIENCE_S):
            assert await runtime.changed() == "replica-1"
        await reach(harness, runtime, "replica-1", UP)
        await harness.kill_engine(runtime, "replica-1")
        async with asyncio.timeout(PATIENCE_S):
            assert await runtime.changed() == "replica-1"
