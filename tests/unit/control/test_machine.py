"""The state machine of the whole control plane: any order of wishes, faults, crashes and passes.

Held at every step: no illegal transition, never more live replicas than ``max_replicas``, hardware never
double-booked. Held at the end, when faults have stopped: every endpoint converges, and then its plan is empty.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from tests.unit.control.world import EXTERNAL, WEIGHTLESS, WEIGHTY, World, cpu_node

from roost.domain.hardware import Resources
from roost.domain.lifecycle import TRANSITIONS, DesiredState, State
from roost.domain.model import Model
from roost.domain.replica import ExitInfo, ReplicaState, RuntimeState, RuntimeStatus

ALIVE = (RuntimeState.STARTING, RuntimeState.READY, RuntimeState.STOPPING)


class ControlPlaneMachine(RuleBasedStateMachine):
    """Rules are what users, machines and time do; passes come whenever they come."""

    endpoints = Bundle("endpoints")

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self.world = World(seed, (cpu_node("n1", 2), cpu_node("n2", 1, zone="b")))
        self.in_flight: dict[str, int] = {}
        self.cut = False

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.faults_stop()
            self.world.close()

    # What users do

    @rule(
        target=endpoints,
        model=st.sampled_from([WEIGHTLESS, WEIGHTY, EXTERNAL]),
        hardware=st.sampled_from(["1x_cpu", "2x_cpu"]),
        low=st.integers(0, 3),
        more=st.integers(0, 2),
    )
    def create(self, model: Model, hardware: str, low: int, more: int) -> str:
        return self.world.create(model, hardware, (low, max(1, low + more)))

    @rule(endpoint=endpoints, desired=st.sampled_from(DesiredState))
    def wish(self, endpoint: str, desired: DesiredState) -> None:
        self.world.wish(endpoint, desired)

    @rule(endpoint=consumes(endpoints))
    def delete(self, endpoint: str) -> None:
        self.world.delete(endpoint)

    # What control does

    @rule(endpoint=endpoints)
    def look(self, endpoint: str) -> None:
        self.one_pass(endpoint)

    @rule()
    def look_at_all(self) -> None:
        for it in self.world.endpoints():
            self.one_pass(it.id)

    @rule()
    def control_crashes(self) -> None:
        self.world.crash_control()

    @rule(endpoint=endpoints)
    def control_crashes_between_intent_and_effect(self, endpoint: str) -> None:
        before = self.world.state(endpoint)
        self.cut = True
        self.world.pass_cut_short(endpoint)
        self.note_state(endpoint, before)

    # What machines and gateways do

    @rule(data=st.data())
    def engine_ready(self, data: st.DataObject) -> None:
        starting = [s.replica_id for s in self.statuses() if s.state is RuntimeState.STARTING]
        if starting:
            self.world.runtime.make_ready(data.draw(st.sampled_from(sorted(starting))))

    @rule(data=st.data())
    def engine_dies(self, data: st.DataObject) -> None:
        alive = [s.replica_id for s in self.statuses() if s.state in (RuntimeState.STARTING, RuntimeState.READY)]
        if alive:
            self.world.runtime.crash(data.draw(st.sampled_from(sorted(alive))), ExitInfo(signal=9))

    @rule(data=st.data())
    def probe_answered(self, data: st.DataObject) -> None:
        probing = self.world.prober.probing()
        if probing:
            self.world.prober.prove(data.draw(st.sampled_from(sorted(probing))))

    @rule(data=st.data())
    def external_server_goes_away(self, data: st.DataObject) -> None:
        watching = self.world.prober.watching()
        if watching:
            self.world.prober.lose(data.draw(st.sampled_from(sorted(watching))), "cannot connect")

    @rule(fine=st.booleans())
    def fetch_ends(self, fine: bool) -> None:
        for name in self.world.cache.fetching():
            self.world.cache.finish(name) if fine else self.world.cache.fail(name)

    @rule(busy=st.integers(0, 2))
    def gateway_reports(self, busy: int) -> None:
        rows = self.world.rows()
        self.in_flight = {row.id: busy for row in rows if row.state in (ReplicaState.READY, ReplicaState.DRAINING)}
        self.world.gateway_reports(self.in_flight)

    @rule(seconds=st.sampled_from([0.1, 1, 5, 60, 400]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(timedelta(seconds=seconds))

    # What must hold

    def one_pass(self, endpoint_id: str) -> timedelta | None:
        before = self.world.state(endpoint_id)
        again = self.world.one_pass(endpoint_id)
        self.note_state(endpoint_id, before)
        return again

    def note_state(self, endpoint_id: str, before: State) -> None:
        state = self.world.state(endpoint_id)
        assert state is before or state in TRANSITIONS[before], f"{before} -> {state}"

    def statuses(self) -> list[RuntimeStatus]:
        return list(self.world.run(self.world.runtime.list()))

    @invariant()
    def never_above_max_replicas(self) -> None:
        if not hasattr(self, "world"):
            return
        for it in self.world.endpoints():
            live = [row for row in self.world.rows(it.id) if row.state in (ReplicaState.LAUNCHING, ReplicaState.READY)]
            assert len(live) <= it.spec.autoscaling.max_replicas

    @invariant()
    def hardware_is_never_double_booked(self) -> None:
        if not hasattr(self, "world"):
            return
        for node in self.world.run(self.world.runtime.capacity()):
            assert Resources().fits(node.free), f"{node.id} is overbooked: {node.free}"
        self.world.runtime.check_books()

    @invariant()
    def nothing_is_launched_without_room(self) -> None:
        # After a crash between intent and effect another endpoint may have taken the room: then the runtime queues it.
        if hasattr(self, "world") and not self.cut:
            assert not [s for s in self.statuses() if s.state is RuntimeState.PENDING]

    @invariant()
    def nothing_starts_twice(self) -> None:
        if hasattr(self, "world"):
            assert all(count == 1 for count in self.world.runtime.starts.values())

    def faults_stop(self) -> None:
        """Everything goes well from here on: each endpoint reaches a state of rest, and its plan is then empty."""
        world = self.world
        for turn in range(240):
            if turn % 3 == 0:
                world.clock.advance(timedelta(seconds=30))
            for name in world.cache.fetching():
                world.cache.finish(name)
            for status in world.run(world.runtime.list()):
                if status.state is RuntimeState.STARTING:
                    world.runtime.make_ready(status.replica_id)
            for replica_id in world.prober.probing():
                world.prober.prove(replica_id)
            world.gateway_reports()
            before = len(world.changes)
            again = [self.one_pass(it.id) for it in world.endpoints()]
            if len(world.changes) == before and turn > 3 and timedelta(0) not in again:
                break
        else:
            raise AssertionError(f"no rest: {world.changes[-1]}")
        for it in world.endpoints():
            assert it.deleted_at is None, "a tombstone was not cleared away"
            rest = {State.STARTED, State.ERROR, State.PENDING}
            wanted = {State.STOPPED} if it.spec.desired_state is DesiredState.STOPPED else rest
            assert it.status.state in wanted, it.status
        self.everyone_has_a_row()

    def everyone_has_a_row(self) -> None:
        known = {row.id for row in self.world.rows()}
        for status in self.world.run(self.world.runtime.list()):
            assert status.state not in ALIVE or status.replica_id in known, "a process that no row speaks of"


ControlPlaneMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_order_of_events = ControlPlaneMachine.TestCase
