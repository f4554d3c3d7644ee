"""The memory runtime: machines and replicas that exist only as numbers. For tests.

Deterministic: no tasks, no threads, no clock but the one it is given, no randomness. Nothing happens by itself; a
test makes it happen with the controls below the interface:

- nodes: ``set_nodes``, ``add_node``, ``lose_node`` (its replicas are LOST), ``find_node`` (a partition heals)
- launches: ``auto_ready=True`` makes them READY at once; else ``make_ready`` or ``advance`` does; ``fail_launch``
  makes the next launch end at once with the given exit
- ends: ``crash``; with ``hold_stops`` set, ``stop`` waits until ``finish_stop`` (or ``advance``)
- what a test may ask: ``launches`` (calls by id), ``starts`` (how often each id really started), ``held`` (what is
  reserved on a node), ``check_books``, ``spec``

The object is the world: a control plane that "crashed" is followed by another one with the same MemoryRuntime.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from roost.domain.hardware import Node, Resources
from roost.domain.launch import LaunchSpec
from roost.domain.replica import ExitInfo, RuntimeState, RuntimeStatus
from roost.runtimes.base import RuntimeSettings
from roost.runtimes.hints import Hints
from roost.runtimes.reservation import admit

GIB = 1024**3

_HOLDING = frozenset({RuntimeState.STARTING, RuntimeState.READY, RuntimeState.STOPPING, RuntimeState.LOST})


def one_node(settings: RuntimeSettings) -> Node:
    """The machine there is when a test names none: 4 threads and 16 GiB."""
    total = Resources(threads=int(4 * settings.cpu_overcommit), memory_bytes=16 * GIB)
    return Node("node-1", settings.zone, "cpu", total, total)


@dataclass(slots=True)
class _Replica:
    spec: LaunchSpec
    status: RuntimeStatus
    gone: asyncio.Event
    lines: list[str]
    before_loss: RuntimeState | None = None


class MemoryRuntime:
    """A runtime without processes. ``address`` gives a replica's address from its id; ``now`` stamps starts (None:
    no stamp)."""

    name = "memory"

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        nodes: Sequence[Node] | None = None,
        auto_ready: bool = False,
        address: Callable[[str], str] = lambda replica_id: f"unix:/memory/{replica_id}.sock",
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._nodes = {node.id: node for node in (nodes if nodes is not None else (one_node(settings),))}
        self._replicas: dict[str, _Replica] = {}
        self._hints = Hints()
        self._failures: list[ExitInfo] = []
        self._address = address
        self._now = now
        self.auto_ready = auto_ready
        self.hold_stops = False
        self.launches: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()

    # -- the runtime interface

    async def start(self) -> None:
        """Nothing to get ready."""

    async def close(self) -> None:
        """Nothing to let go of; replicas stay."""

    async def capacity(self) -> Sequence[Node]:
        """All nodes with what is free of them."""
        return self._snapshot()

    async def launch(self, spec: LaunchSpec, replica_id: str) -> None:
        """Queue ``spec`` and start what fits."""
        self.launches[replica_id] += 1
        if replica_id in self._replicas:
            return
        status = RuntimeStatus(replica_id, RuntimeState.PENDING)
        self._replicas[replica_id] = _Replica(spec, status, asyncio.Event(), [])
        self._hints.put(replica_id)
        self._admit()

    async def status(self, replica_id: str) -> RuntimeStatus | None:
        """What is known of the replica."""
        replica = self._replicas.get(replica_id)
        return None if replica is None else replica.status

    async def list(self) -> Sequence[RuntimeStatus]:
        """All replicas, oldest first."""
        return tuple(replica.status for replica in self._replicas.values())

    async def stop(self, replica_id: str, grace: timedelta) -> None:
        """End the replica: at once, or with ``hold_stops`` when ``finish_stop`` says so."""
        replica = self._replicas.get(replica_id)
        if replica is None:
            return
        state = replica.status.state
        if state is RuntimeState.PENDING:
            self._end(replica_id, ExitInfo(cause="stopped before it was started"))
        elif state is RuntimeState.LOST or (state in _HOLDING and not self.hold_stops):
            self._end(replica_id, ExitInfo(code=0, cause="stopped"))
        elif state in (RuntimeState.STARTING, RuntimeState.READY):
            self._become(replica_id, RuntimeState.STOPPING)
        await replica.gone.wait()

    async def forget(self, replica_id: str) -> None:
        """Drop an EXITED or LOST replica."""
        replica = self._replicas.get(replica_id)
        if replica is not None and replica.status.state in (RuntimeState.EXITED, RuntimeState.LOST):
            del self._replicas[replica_id]
            replica.gone.set()
            self._admit()

    async def logs(self, replica_id: str, tail: int = 200) -> Sequence[str]:
        """What ``write_log`` put there."""
        replica = self._replicas.get(replica_id)
        return tuple(replica.lines[-tail:]) if replica is not None and tail > 0 else ()

    async def changed(self) -> str:
        """The next hint."""
        return await self._hints.take()

    # -- controls for tests

    def set_nodes(self, nodes: Sequence[Node]) -> None:
        """Replace all nodes (their ``free`` is ignored: it follows from what replicas hold). Replicas on nodes that
        are no longer there become LOST."""
        self._nodes = {node.id: node for node in nodes}
        for replica_id, replica in self._replicas.items():
            if replica.status.state in _HOLDING and replica.status.node_id not in self._nodes:
                self._lose(replica_id)
        self._admit()

    def add_node(self, node: Node) -> None:
        """Add or replace one node."""
        self._nodes[node.id] = node
        self._admit()

    def lose_node(self, node_id: str) -> None:
        """The node no longer answers: unhealthy, its replicas LOST (what they hold stays held)."""
        self._nodes[node_id] = replace(self._nodes[node_id], healthy=False)
        for replica_id, replica in self._replicas.items():
            if replica.status.node_id == node_id and replica.status.state in _HOLDING:
                self._lose(replica_id)
        self._admit()

    def find_node(self, node_id: str) -> None:
        """The node answers again, and its LOST replicas are what they were before."""
        self._nodes[node_id] = replace(self._nodes[node_id], healthy=True)
        for replica_id, replica in self._replicas.items():
            if replica.status.node_id == node_id and replica.before_loss is not None:
                self._become(replica_id, replica.before_loss)
                replica.before_loss = None
        self._admit()

    def fail_launch(self, exit_: ExitInfo) -> None:
        """Make the next launch that gets its reservation end at once with ``exit_``. May be called repeatedly: the
        failures are used up in order."""
        self._failures.append(exit_)

    def make_ready(self, replica_id: str, address: str | None = None, *, pids: tuple[int, ...] = ()) -> None:
        """STARTING becomes READY. Raises ``ValueError`` in any other state."""
        self._require(replica_id, RuntimeState.STARTING)
        replica = self._replicas[replica_id]
        replica.status = replace(replica.status, pids=pids)
        self._become(replica_id, RuntimeState.READY, address or self._address(replica_id))

    def crash(self, replica_id: str, exit_: ExitInfo) -> None:
        """Its processes end by themselves. Raises ``ValueError`` when none run."""
        self._require(replica_id, RuntimeState.STARTING, RuntimeState.READY, RuntimeState.STOPPING)
        self._end(replica_id, exit_)

    def finish_stop(self, replica_id: str) -> None:
        """A held stop comes to its end. Raises ``ValueError`` unless STOPPING."""
        self._require(replica_id, RuntimeState.STOPPING)
        self._end(replica_id, ExitInfo(code=0, cause="stopped"))

    def advance(self, replica_id: str) -> RuntimeState:
        """The next natural step, if there is one (STARTING to READY, STOPPING to EXITED); the state after it."""
        state = self._replicas[replica_id].status.state
        if state is RuntimeState.STARTING:
            self.make_ready(replica_id)
        elif state is RuntimeState.STOPPING:
            self.finish_stop(replica_id)
        return self._replicas[replica_id].status.state

    def write_log(self, replica_id: str, *lines: str) -> None:
        """Lines of output of the replica's engine."""
        self._replicas[replica_id].lines.extend(lines)

    def spec(self, replica_id: str) -> LaunchSpec:
        """What the replica was launched with. Raises ``KeyError`` for unknown ids."""
        return self._replicas[replica_id].spec

    def held(self, node_id: str) -> Resources:
        """What replicas hold on a node."""
        total = Resources()
        for replica in self._replicas.values():
            if replica.status.node_id == node_id and replica.status.state in _HOLDING:
                total += replica.spec.resources
        return total

    def check_books(self) -> None:
        """Raise ``AssertionError`` when a node holds more than it has, an id was started twice, or room is left
        unused that the oldest waiting launch could have."""
        for node in self._nodes.values():
            held = self.held(node.id)
            if not held.fits(node.total):
                raise AssertionError(f"{node.id} is booked twice: {held} of {node.total}")
        if any(count > 1 for count in self.starts.values()):
            raise AssertionError(f"started more than once: {self.starts}")
        waiting = self._waiting()
        if admit(waiting, self._snapshot()).admitted:
            raise AssertionError(f"somebody waits although there is room: {list(waiting)}")

    # -- inside

    def _snapshot(self) -> tuple[Node, ...]:
        return tuple(
            replace(node, free=_at_least_nothing(node.total - self.held(i))) for i, node in self._nodes.items()
        )

    def _waiting(self) -> dict[str, LaunchSpec]:
        return {i: one.spec for i, one in self._replicas.items() if one.status.state is RuntimeState.PENDING}

    def _admit(self) -> None:
        decision = admit(self._waiting(), self._snapshot())
        for replica_id, node_id in decision.admitted.items():
            self._begin(replica_id, node_id)
        for replica_id, wait in decision.waiting.items():
            replica = self._replicas[replica_id]
            if replica.status.state is RuntimeState.PENDING and replica.status.pending_message != wait.message:
                replica.status = replace(replica.status, pending_reason=wait.reason, pending_message=wait.message)
                self._hints.put(replica_id)

    def _begin(self, replica_id: str, node_id: str) -> None:
        replica = self._replicas[replica_id]
        if replica.status.state is not RuntimeState.PENDING:
            return  # admitted already by a decision made inside this one
        self.starts[replica_id] += 1
        started = self._now() if self._now is not None else None
        replica.status = RuntimeStatus(replica_id, RuntimeState.STARTING, node_id=node_id, started_at=started)
        self._hints.put(replica_id)
        if self._failures:
            self._end(replica_id, self._failures.pop(0))
        elif self.auto_ready:
            self.make_ready(replica_id)

    def _end(self, replica_id: str, exit_: ExitInfo) -> None:
        replica = self._replicas[replica_id]
        tail = exit_.log_tail or tuple(replica.lines)
        replica.status = replace(
            replica.status,
            state=RuntimeState.EXITED,
            address=None,
            pids=(),
            pending_reason=None,
            pending_message=None,
            exit=replace(exit_, log_tail=tail),
            log_tail=tail,
        )
        replica.before_loss = None
        replica.gone.set()
        self._hints.put(replica_id)
        self._admit()

    def _lose(self, replica_id: str) -> None:
        replica = self._replicas[replica_id]
        if replica.status.state is not RuntimeState.LOST:
            replica.before_loss = replica.status.state
            self._become(replica_id, RuntimeState.LOST)

    def _become(self, replica_id: str, state: RuntimeState, address: str | None = None) -> None:
        replica = self._replicas[replica_id]
        replica.status = replace(replica.status, state=state, address=address or replica.status.address)
        self._hints.put(replica_id)

    def _require(self, replica_id: str, *states: RuntimeState) -> None:
        state = self._replicas[replica_id].status.state
        if state not in states:
            raise ValueError(f"{replica_id} is {state}, not {' or '.join(states)}")


def _at_least_nothing(amount: Resources) -> Resources:
    return Resources(max(0, amount.threads), max(0, amount.memory_bytes), max(0, amount.accelerators))
