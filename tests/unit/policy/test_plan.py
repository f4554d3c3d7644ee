"""The plan: one case per rule, each a set of facts and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from roost.domain.endpoint import Autoscaling, Endpoint, EndpointSpec, EndpointStatus
from roost.domain.hardware import Node, Resources
from roost.domain.lifecycle import DesiredState, State
from roost.domain.model import Fetch, FetchState
from roost.domain.replica import (
    ExitInfo,
    Failure,
    PendingReason,
    Replica,
    ReplicaState,
    RuntimeState,
    RuntimeStatus,
)
from roost.policy.facts import Facts, Plan, PlanSettings, ReplicaFacts, Stop
from roost.policy.placement import configurations
from roost.policy.plan import plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = PlanSettings()
GIB = 1024**3
READY_WEIGHTS = Fetch("m", FetchState.READY, path="/weights")


def node(threads: int = 4, free: int | None = None) -> Node:
    room = threads if free is None else free
    return Node("n1", "local", "cpu", Resources(threads, threads * GIB), Resources(room, room * GIB))


def endpoint(
    state: State = State.PENDING,
    *,
    desired: DesiredState = DesiredState.STARTED,
    replicas: tuple[int, int] = (1, 1),
    deleted: bool = False,
    start_requests: int = 0,
    **status: object,
) -> Endpoint:
    spec = EndpointSpec("m", "1x_cpu", Autoscaling(*replicas), "m", desired, start_requests=start_requests)
    shown = replace(EndpointStatus(state), **status)  # type: ignore[arg-type]
    return Endpoint("e", "o/m-1", "o", spec, shown, NOW, NOW, deleted_at=NOW if deleted else None)


def replica(name: str = "r1", state: ReplicaState = ReplicaState.READY, **over: object) -> Replica:
    row = Replica(
        name,
        "e",
        state,
        "n1",
        "local",
        "1x_cpu",
        created_at=NOW - timedelta(minutes=5),
        ready_at=NOW - timedelta(minutes=4) if state is not ReplicaState.LAUNCHING else None,
        deadline=NOW + timedelta(minutes=1) if state is not ReplicaState.READY else None,
    )
    return replace(row, **over)  # type: ignore[arg-type]


def seen(row: Replica, state: RuntimeState | None = RuntimeState.READY, **over: object) -> ReplicaFacts:
    observed = None if state is None else RuntimeStatus(row.id, state, address="unix:/s", started_at=row.created_at)
    watched = row.state is ReplicaState.READY
    return replace(ReplicaFacts(row, observed, watched=watched), **over)  # type: ignore[arg-type]


def facts(it: Endpoint, *items: ReplicaFacts, nodes: tuple[Node, ...] | None = None, **over: object) -> Facts:
    there = nodes if nodes is not None else (node(),)
    offered = configurations([node()], {})
    return replace(Facts(it, items, READY_WEIGHTS, offered["1x_cpu"], there), **over)  # type: ignore[arg-type]


def decide(it: Facts, settings: PlanSettings = SETTINGS, now: datetime = NOW) -> Plan:
    return plan(it, settings, now)


def code(decision: Plan) -> str | None:
    return decision.status.reason.code if decision.status.reason else None


def test_a_new_endpoint_is_launched_at_once() -> None:
    decision = decide(facts(endpoint()))
    assert decision.status.state is State.STARTING
    assert [placed.node_id for placed in decision.launch] == ["n1"]
    assert code(decision) == "loading"


def test_without_weights_they_are_fetched_first() -> None:
    decision = decide(facts(endpoint(), fetch=Fetch("m", FetchState.ABSENT)))
    assert decision.fetch
    assert not decision.launch
    assert decision.status.state is State.STARTING
    assert code(decision) == "downloading"


def test_weights_that_are_all_here_are_checked_and_not_fetched() -> None:
    fetch = Fetch("m", FetchState.FETCHING, 1000, 1000)
    reason = decide(facts(endpoint(State.STARTING), fetch=fetch)).status.reason
    assert reason is not None
    assert reason.message == "The weights are here and are being checked."


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("HTTP 401: who?", "it last answered: HTTP 401: who?"),
        ("cannot connect: Connection refused", "no answer yet: cannot connect: Connection refused."),
    ],
)
def test_what_a_probe_found_is_a_whole_sentence(fault: str, told: str) -> None:
    row = replica(state=ReplicaState.LAUNCHING, node_id="external")
    decision = decide(facts(endpoint(State.STARTING), seen(row, probing=fault), managed=False))
    assert decision.status.reason is not None
    assert decision.status.reason.message == f"The server is being probed; {told}"
    late = replace(row, deadline=NOW - timedelta(seconds=1))
    failed = decide(facts(endpoint(State.STARTING), seen(late, probing=fault), managed=False)).status.last_failure
    assert failed is not None
    assert failed.message.endswith(("?", "."))


def test_fetch_progress_is_shown_in_whole_percent() -> None:
    fetch = Fetch("m", FetchState.FETCHING, 515, 1000)
    decision = decide(facts(endpoint(State.STARTING), fetch=fetch))
    assert decision.status.progress is not None
    assert (decision.status.progress.phase, decision.status.progress.percent) == ("fetching", 51.0)
    assert not decision.fetch


def test_a_fetch_that_failed_for_good_is_an_error_with_its_code() -> None:
    fetch = Fetch("m", FetchState.FAILED, error_code="digest_mismatch", error="Not the file.", retryable=False)
    decision = decide(facts(endpoint(State.STARTING), fetch=fetch))
    assert decision.status.state is State.ERROR
    assert code(decision) == "digest_mismatch"
    assert decide(facts(replace(endpoint(), status=decision.status), fetch=fetch)).empty(decision.status)


def test_weights_beyond_the_quota_are_an_error_at_once_that_names_the_setting() -> None:
    fetch = Fetch("m", FetchState.FAILED, error_code="quota_exceeded", error="Too large.", retryable=False)
    decision = decide(facts(endpoint(State.STARTING), fetch=fetch))
    assert decision.status.state is State.ERROR
    assert code(decision) == "quota_exceeded"
    assert decision.status.reason is not None
    assert "Raise models_quota_gb" in (decision.status.reason.hint or "")
    crowded = decide(facts(endpoint(State.STARTING), fetch=replace(fetch, retryable=True)))
    assert crowded.status.reason is not None
    assert (crowded.status.state, "Delete" in (crowded.status.reason.hint or "")) == (State.STARTING, True)


def test_a_fetch_that_failed_may_be_tried_again_and_gives_up_in_the_end() -> None:
    failed = Fetch("m", FetchState.FAILED, error_code="source_unreachable", error="No route.")
    it, now, fetches = endpoint(State.STARTING), NOW, 0
    for _ in range(60):
        decision = decide(facts(it, fetch=failed), now=now)
        fetches += decision.fetch
        if decision.status.state is State.ERROR:
            break
        it = replace(it, status=decision.status)
        now += decision.requeue_after or timedelta(0)
    assert decision.status.state is State.ERROR
    assert fetches == SETTINGS.max_start_failures - 1


def test_no_room_is_pending_and_says_who_lacks_what() -> None:
    decision = decide(facts(endpoint(State.STARTING), nodes=(node(free=0),)))
    assert decision.status.state is State.PENDING
    assert decision.status.reason is not None
    assert "node n1: CPU threads: 1 wanted, 0 free" in decision.status.reason.message
    assert decision.requeue_after == SETTINGS.pending_recheck


def test_two_replicas_are_not_placed_on_room_for_one() -> None:
    decision = decide(facts(endpoint(replicas=(2, 2)), nodes=(node(free=1),)))
    assert len(decision.launch) == 1


def test_a_launch_without_a_process_is_launched_again() -> None:
    row = replica(state=ReplicaState.LAUNCHING)
    decision = decide(facts(endpoint(State.STARTING), seen(row, None)))
    assert decision.relaunch == (row,)
    assert not decision.launch


def test_an_engine_that_accepts_is_probed_before_it_is_ready() -> None:
    row = replica(state=ReplicaState.LAUNCHING)
    decision = decide(facts(endpoint(State.STARTING), seen(row)))
    assert decision.probe == (row,)
    assert code(decision) == "warming"
    assert decision.status.state is State.STARTING
    again = decide(facts(replace(endpoint(), status=decision.status), seen(row, probing="")))
    assert not again.probe


def test_a_proven_replica_is_ready_and_the_endpoint_started() -> None:
    row = replica(state=ReplicaState.LAUNCHING)
    decision = decide(facts(endpoint(State.STARTING), seen(row, proven=True, probing="")))
    assert decision.status.state is State.STARTED
    assert decision.status.proven
    assert decision.update[0].state is ReplicaState.READY
    assert decision.update[0].address == "unix:/s"


def test_the_status_remembers_how_long_the_latest_starts_took() -> None:
    row = replica(state=ReplicaState.LAUNCHING, created_at=NOW - timedelta(seconds=2.5))
    before = endpoint(State.STARTING)
    before = replace(before, status=replace(before.status, start_seconds=(9.0,) * 20))
    decision = decide(facts(before, seen(row, proven=True, probing="")))
    assert decision.status.start_seconds == (*(9.0,) * 19, 2.5)


def test_converged_is_empty() -> None:
    first = decide(facts(endpoint(State.STARTED), seen(replica())))
    assert decide(facts(replace(endpoint(), status=first.status), seen(replica()))).empty(first.status)


def test_a_launch_past_its_deadline_is_killed_and_counted() -> None:
    row = replica(state=ReplicaState.LAUNCHING, deadline=NOW - timedelta(minutes=1))
    decision = decide(facts(endpoint(State.STARTING), seen(row, RuntimeState.STARTING)))
    assert [order.replica_id for order in decision.stop] == ["r1"]
    assert decision.status.failures == 1
    assert decision.status.state is State.STARTING
    assert decision.status.last_failure is not None
    assert decision.status.last_failure.code == "start_timeout"


def test_the_deadline_runs_from_the_process_not_from_waiting_for_hardware() -> None:
    row = replica(state=ReplicaState.LAUNCHING, deadline=NOW - timedelta(minutes=1))
    waiting = RuntimeStatus(row.id, RuntimeState.PENDING, pending_reason=PendingReason.NO_RESOURCES)
    decision = decide(facts(endpoint(State.STARTING), ReplicaFacts(row, waiting)))
    assert not decision.stop
    assert decision.status.state is State.PENDING
    late = RuntimeStatus(row.id, RuntimeState.STARTING, started_at=NOW)
    assert not decide(facts(endpoint(State.PENDING), ReplicaFacts(row, late))).stop


CRASH = Failure("engine_crashed", "Killed by signal 9.", log_tail=("last words",))


def crashed(row: Replica, failure: Failure = CRASH) -> ReplicaFacts:
    observed = RuntimeStatus(row.id, RuntimeState.EXITED, exit=ExitInfo(signal=9))
    return ReplicaFacts(row, observed, failure=failure)


def test_a_crashed_engine_is_replaced_in_the_same_pass_and_the_event_says_why() -> None:
    decision = decide(facts(endpoint(State.STARTED), crashed(replica())))
    assert decision.delete == ("r1",)
    assert len(decision.launch) == 1
    assert decision.status.state is State.STARTING
    failed = next(note for note in decision.notes if note.kind == "replica.failed")
    assert (failed.reason, failed.data["log_tail"]) == ("Killed by signal 9.", "last words")


def test_a_second_quick_crash_waits() -> None:
    row = replica(ready_at=NOW - timedelta(seconds=1))
    decision = decide(facts(endpoint(State.STARTED, failures=1), crashed(row)))
    assert not decision.launch
    assert decision.status.next_attempt_at == NOW + timedelta(seconds=1)
    assert decision.status.state is State.STARTING
    assert code(decision) == "backing_off"
    assert decision.requeue_after == timedelta(seconds=1)


def test_a_crash_after_a_long_life_counts_as_the_first() -> None:
    decision = decide(facts(endpoint(State.STARTED, failures=3), crashed(replica())))
    assert decision.status.failures == 1
    assert decision.launch


def test_repeated_failures_end_in_error_with_the_cause_and_start_tries_again() -> None:
    row = replica(state=ReplicaState.LAUNCHING)
    decision = decide(facts(endpoint(State.STARTING, failures=4), crashed(row)))
    assert decision.status.state is State.ERROR
    assert decision.status.reason is not None
    assert decision.status.reason.log_tail == ("last words",)
    assert not decision.launch
    again = decide(facts(replace(endpoint(start_requests=1), status=decision.status)))
    assert again.status.state is State.PENDING
    assert again.status.failures == 0
    assert again.launch
    assert again.requeue_after == timedelta(0)


def test_a_hopeless_failure_ends_at_once() -> None:
    row = replica(state=ReplicaState.LAUNCHING)
    failure = Failure("corrupt_weights", "Truncated.", retryable=False)
    decision = decide(facts(endpoint(State.STARTING), crashed(row, failure)))
    assert decision.status.state is State.ERROR
    assert code(decision) == "corrupt_weights"


def test_one_hopeless_replica_does_not_take_down_one_that_serves() -> None:
    failure = Failure("corrupt_weights", "Truncated.", retryable=False)
    it = endpoint(State.STARTED, replicas=(2, 2))
    decision = decide(facts(it, seen(replica("r1")), crashed(replica("r2", ReplicaState.LAUNCHING), failure)))
    assert decision.status.state is State.STARTED
    assert not decision.status.gave_up
    assert not decision.stop
    assert not decision.update


def test_a_refused_launch_is_counted_and_its_row_removed() -> None:
    row = replica(state=ReplicaState.FAILED, failure=Failure("launch_refused", "No such file.", retryable=False))
    decision = decide(facts(endpoint(State.STARTING), ReplicaFacts(row, None)))
    assert decision.delete == ("r1",)
    assert decision.status.state is State.ERROR


def test_stop_drains_then_terminates_then_stops() -> None:
    it = endpoint(State.STARTED, desired=DesiredState.STOPPED)
    first = decide(facts(it, seen(replica())))
    assert first.status.state is State.STOPPING
    assert first.update[0].state is ReplicaState.DRAINING
    assert not first.stop
    row = first.update[0]
    it = replace(it, status=first.status)
    assert not decide(facts(it, seen(row, in_flight=None))).stop
    assert not decide(facts(it, seen(row, in_flight=2))).stop
    second = decide(facts(it, seen(row, in_flight=0)))
    assert [order.replica_id for order in second.stop] == ["r1"]
    row = second.update[0]
    third = decide(facts(it, seen(row, RuntimeState.EXITED)))
    assert third.delete == ("r1",)
    assert third.status.state is State.STOPPED
    assert third.status.failures == 0


def test_a_drain_ends_at_its_deadline_or_in_a_hurry() -> None:
    it = endpoint(State.STOPPING, desired=DesiredState.STOPPED)
    row = replica(state=ReplicaState.DRAINING)
    assert not decide(facts(it, seen(row, in_flight=1))).stop
    assert decide(facts(it, seen(row, in_flight=1)), now=NOW + timedelta(minutes=1)).stop
    assert decide(facts(it, seen(row, in_flight=1)), replace(SETTINGS, hurry=True)).stop


def test_start_while_draining_cancels_the_stop() -> None:
    it = endpoint(State.STOPPING)
    decision = decide(facts(it, seen(replica(state=ReplicaState.DRAINING), in_flight=1)))
    assert decision.update[0].state is ReplicaState.READY
    assert decision.status.state is State.STARTED
    assert not decision.launch


def test_start_while_terminating_runs_the_stop_to_its_end_then_starts() -> None:
    it = endpoint(State.STOPPING)
    row = replica(state=ReplicaState.DRAINING, stop_requested_at=NOW)
    decision = decide(facts(it, seen(row, RuntimeState.STOPPING)))
    assert decision.status.state is State.STOPPING
    assert not decision.launch
    later = decide(facts(it, seen(row, RuntimeState.EXITED)))
    assert later.status.state is State.PENDING
    assert later.launch


def test_stop_while_launching_ends_the_launch_without_a_drain() -> None:
    it = endpoint(State.STARTING, desired=DesiredState.STOPPED)
    decision = decide(facts(it, seen(replica(state=ReplicaState.LAUNCHING), RuntimeState.STARTING)))
    assert decision.stop
    assert decision.status.state is State.STOPPING


def test_a_deleted_endpoint_is_torn_down_and_finished() -> None:
    it = endpoint(State.STARTED, deleted=True)
    decision = decide(facts(it, seen(replica())))
    assert decision.update[0].state is ReplicaState.DRAINING
    assert not decision.finished
    assert decide(facts(endpoint(State.STOPPING, deleted=True))).finished


def test_shutting_down_stops_replicas_and_says_that_they_come_back() -> None:
    decision = decide(facts(endpoint(State.STARTED), seen(replica()), shutting_down=True))
    assert decision.update[0].state is ReplicaState.DRAINING
    stopped = decide(facts(endpoint(State.STOPPING), shutting_down=True))
    assert stopped.status.state is State.STOPPED
    assert code(stopped) == "server_stopped"


def test_surplus_takes_launching_ones_first_then_the_least_loaded() -> None:
    it = endpoint(State.STARTED)
    decision = decide(
        facts(
            it,
            seen(replica("busy"), in_flight=3),
            seen(replica("idle"), in_flight=0),
            seen(replica("coming", ReplicaState.LAUNCHING), RuntimeState.STARTING),
        )
    )
    assert {row.id for row in decision.update} == {"coming", "idle"}
    assert [order.replica_id for order in decision.stop] == ["coming"]


def test_failures_are_forgotten_once_a_replica_has_lasted() -> None:
    decision = decide(facts(endpoint(State.STARTED, failures=2), seen(replica())))
    assert decision.status.failures == 0
    young = replica(ready_at=NOW - timedelta(seconds=1))
    waiting = decide(facts(endpoint(State.STARTED, failures=2), seen(young)))
    assert waiting.status.failures == 2
    assert waiting.requeue_after == timedelta(seconds=9)


def test_an_external_server_needs_no_room() -> None:
    decision = decide(facts(endpoint(), managed=False, nodes=(node(free=0),), hardware=None))
    assert [placed.node_id for placed in decision.launch] == ["external"]
    assert decision.requeue_after == timedelta(0)
    assert decision.status.state is State.STARTING


def test_an_external_server_that_answers_badly_says_what_it_answered() -> None:
    row = replica(state=ReplicaState.LAUNCHING, node_id="external")
    decision = decide(facts(endpoint(State.STARTING), seen(row, probing="HTTP 401: who?"), managed=False))
    assert decision.status.reason is not None
    assert "HTTP 401: who?" in decision.status.reason.message
    assert "served model" in (decision.status.reason.hint or "")
    late = replace(row, deadline=NOW - timedelta(seconds=1))
    decision = decide(facts(endpoint(State.STARTING), seen(late, probing="HTTP 401: who?"), managed=False))
    assert decision.status.last_failure is not None
    assert decision.status.last_failure.code == "external_unavailable"
    assert "HTTP 401: who?" in decision.status.last_failure.message


def test_an_external_server_that_serves_is_looked_after() -> None:
    row = replica(node_id="external")
    decision = decide(facts(endpoint(State.STARTED), seen(row, watched=False), managed=False))
    assert decision.probe == (row,)
    watched = seen(row, watched=True)
    assert not decide(facts(endpoint(State.STARTED), watched, managed=False)).probe
    assert not decide(facts(endpoint(State.STARTED), seen(row))).probe


def test_an_external_server_that_has_worked_is_waited_for() -> None:
    late = replica(state=ReplicaState.LAUNCHING, node_id="external", deadline=NOW - timedelta(seconds=1))
    for proven, state in ((True, State.STARTING), (False, State.ERROR)):
        it = endpoint(State.STARTING, failures=99, proven=proven)
        assert decide(facts(it, seen(late), managed=False)).status.state is state


def test_the_end_of_a_deleted_endpoint_is_no_shutdown() -> None:
    decision = decide(facts(endpoint(State.STOPPING, deleted=True)))
    assert code(decision) == "deleted"


def test_min_replicas_short_is_started_and_says_so() -> None:
    it = endpoint(State.STARTED, replicas=(2, 2))
    decision = decide(facts(it, seen(replica()), nodes=(node(free=0),)))
    assert decision.status.state is State.STARTED
    assert code(decision) == "no_capacity"
    assert "1 of 2 replicas are ready" in (decision.status.reason.message if decision.status.reason else "")


def test_a_replica_that_falls_silent_is_told_of_once_and_looked_at_when_its_time_is_up() -> None:
    row = replica()
    silent = timedelta(seconds=4)
    first = decide(facts(endpoint(State.STARTED), seen(row, unresponsive_for=silent)))
    assert [(note.kind, note.reason) for note in first.notes] == [
        ("replica.unresponsive", "has not answered its health check for 4 s")
    ]
    assert first.status.state is State.STARTED
    assert code(first) == "unresponsive"
    assert first.requeue_after == timedelta(seconds=26)
    assert not first.stop
    (noted,) = first.update
    again = decide(facts(endpoint(State.STARTED), seen(noted, unresponsive_for=silent)))
    assert (again.notes, again.update) == ((), ())


def test_a_replica_that_answers_again_just_goes_on() -> None:
    row = replica(reason="has not answered its health check for 4 s")
    decision = decide(facts(endpoint(State.STARTED), seen(row)))
    assert [note.kind for note in decision.notes] == ["replica.responsive"]
    assert (decision.stop, decision.launch, decision.status.reason) == ((), (), None)
    assert decide(facts(endpoint(State.STARTED), seen(decision.update[0]))).notes == ()


def test_a_replica_that_is_silent_for_too_long_is_killed_and_replaced_with_the_reason() -> None:
    row = replica(reason="has not answered its health check for 4 s")
    decision = decide(facts(endpoint(State.STARTED), seen(row, unresponsive_for=timedelta(seconds=30))))
    assert decision.stop == (Stop(row.id, timedelta(0)),)
    assert [note.kind for note in decision.notes if note.replica_id] == ["replica.failed", "replica.stopping"]
    assert decision.status.last_failure is not None
    assert decision.status.last_failure.code == "unresponsive"
    assert "for 30 s" in decision.status.last_failure.message
    assert decision.update[0].stop_requested_at == NOW


def test_a_replica_that_gives_output_is_not_killed_for_its_health_check() -> None:
    row = replica(reason="has not answered its health check for 4 s")
    long = timedelta(minutes=5)
    decision = decide(facts(endpoint(State.STARTED), seen(row, unresponsive_for=long, heard_ago=timedelta(seconds=2))))
    assert (decision.stop, decision.notes, decision.status.state) == ((), (), State.STARTED)
    assert decision.requeue_after == timedelta(seconds=28)
    decision = decide(facts(endpoint(State.STARTED), seen(row, unresponsive_for=long, heard_ago=timedelta(seconds=30))))
    assert decision.stop == (Stop(row.id, timedelta(0)),)


def test_a_replica_that_serves_is_looked_after() -> None:
    row = replica()
    assert decide(facts(endpoint(State.STARTED), seen(row, watched=False))).probe == (row,)
