"""THE decision of the control plane: from the facts of one endpoint to one plan.

Pure and level-triggered: it never remembers, it looks. Called by ``control.reconciler`` (and by nobody else). It works
on a draft: harvest what ended, move what came up or goes down, adjust the number of replicas, derive the status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from roost.domain.endpoint import EndpointStatus
from roost.domain.hardware import Node, Placement
from roost.domain.lifecycle import DesiredState, State
from roost.domain.model import FetchState
from roost.domain.replica import Failure, Replica, ReplicaState, RuntimeState
from roost.policy import eviction
from roost.policy.backoff import delay
from roost.policy.facts import Facts, Note, Plan, PlanSettings, ReplicaFacts, Stop
from roost.policy.placement import NoRoom, place
from roost.policy.status import EXTERNAL_HINT, Outlook, derive_status, ended

LOST = Failure("replica_lost", "The runtime no longer knows this replica.", "It is replaced by a new one.")
GONE_STATES = (RuntimeState.EXITED, RuntimeState.LOST)
EXTERNAL_NODE = "external"
SILENT = "has not answered its health check"
ANSWERS = "answers its health check again"


@dataclass(slots=True)
class Draft:
    """The plan in the making. ``alive`` maps the ids of replicas that still exist to their facts, rows as they will
    be written."""

    facts: Facts
    settings: PlanSettings
    now: datetime
    alive: dict[str, ReplicaFacts] = field(default_factory=dict)
    changed: dict[str, Replica] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    launch: list[Placement] = field(default_factory=list)
    relaunch: list[Replica] = field(default_factory=list)
    stop: dict[str, Stop] = field(default_factory=dict)
    probe: list[Replica] = field(default_factory=list)
    fetch: bool = False
    no_room: NoRoom | None = None
    failures: int = 0
    next_attempt_at: datetime | None = None
    gave_up: bool = False
    last_failure: Failure | None = None
    started: list[float] = field(default_factory=list)
    wakes: list[timedelta] = field(default_factory=list)

    def write(self, replica: Replica) -> None:
        """Change the replica's row."""
        self.changed[replica.id] = replica
        self.alive[replica.id] = replace(self.alive[replica.id], replica=replica)

    def in_state(self, *states: ReplicaState) -> list[ReplicaFacts]:
        """The replicas whose rows are in one of the states."""
        return [facts for facts in self.alive.values() if facts.replica.state in states]

    def terminate(self, replica: Replica, reason: str) -> None:
        """Give the order to end a replica; from now on it cannot be un-drained."""
        self.stop[replica.id] = Stop(replica.id, self.settings.stop_grace)
        if replica.stop_requested_at is None:
            self.write(
                replace(replica, state=ReplicaState.DRAINING, stop_requested_at=self.now, deadline=None, reason=reason)
            )
            self.notes.append(Note("replica.stopping", reason, replica.id))

    def fail(self, failure: Failure, *, ready_at: datetime | None = None) -> None:
        """Count one failed attempt and decide when to try again, or to give up."""
        lasted = ready_at is not None and self.now - ready_at >= self.settings.stable_after
        self.failures = 1 if lasted else self.failures + 1
        self.last_failure = failure
        limit = self.settings.max_start_failures * (self.settings.crash_factor if ready_at is not None else 1)
        # A server that others run, and that has worked, comes back when they bring it back.
        patient = not self.facts.managed and self.facts.endpoint.status.proven
        if not patient and (not failure.retryable or self.failures >= limit):
            self.gave_up = True
        self.next_attempt_at = self.now + delay(self.failures, self.facts.jitter)


def plan(facts: Facts, settings: PlanSettings, now: datetime) -> Plan:
    """The plan for one endpoint at ``now``; an empty one when there is nothing to do."""
    status = facts.endpoint.status
    draft = Draft(facts, settings, now)
    restarted = facts.endpoint.spec.start_requests > status.failures_of
    if not restarted:
        draft.failures, draft.next_attempt_at = status.failures, status.next_attempt_at
        draft.gave_up, draft.last_failure = status.gave_up, status.last_failure
    _harvest(draft)
    wanted = _wanted(draft)
    _advance_launching(draft, wanted)
    if draft.in_state(ReplicaState.READY):
        draft.gave_up = False
    wanted = _wanted(draft)
    # No runtime tells that an engine hangs, nor of the end of a server that Roost does not run: the prober does.
    draft.probe += [item.replica for item in draft.in_state(ReplicaState.READY) if not item.watched]
    _watch_over(draft)
    _reduce(draft, wanted)
    _raise(draft, wanted, restarted=restarted)
    _advance_draining(draft)
    _settle(draft)
    return _finish(draft, wanted, status)


def _stopping(draft: Draft) -> bool:
    endpoint = draft.facts.endpoint
    stopped = endpoint.spec.desired_state is DesiredState.STOPPED
    return stopped or endpoint.deleted_at is not None or draft.facts.shutting_down


def _wanted(draft: Draft) -> int:
    if _stopping(draft) or draft.gave_up:
        return 0
    return max(1, draft.facts.endpoint.spec.autoscaling.min_replicas)


def _harvest(draft: Draft) -> None:
    """Remove what ended; what was not told to end is a failure."""
    for item in draft.facts.replicas:
        replica, observed = item.replica, item.observed
        over = replica.state in (ReplicaState.EXITED, ReplicaState.FAILED)
        refused = item.failure is not None
        unknown = observed is None and (refused or replica.state is not ReplicaState.LAUNCHING)
        gone = observed is not None and observed.state in GONE_STATES
        if not (over or unknown or gone):
            draft.alive[replica.id] = item
            continue
        draft.delete.append(replica.id)
        if replica.state is ReplicaState.DRAINING or replica.state is ReplicaState.EXITED:
            draft.notes.append(Note("replica.stopped", replica.reason or "told to stop", replica.id))
            continue
        failure = replica.failure or item.failure or LOST
        draft.fail(failure, ready_at=replica.ready_at)
        detail = {"code": failure.code, "log_tail": "\n".join(failure.log_tail[-20:])}
        draft.notes.append(Note("replica.failed", failure.message, replica.id, detail))


def _advance_launching(draft: Draft, wanted: int) -> None:
    for item in draft.in_state(ReplicaState.LAUNCHING):
        replica, observed = item.replica, item.observed
        if wanted == 0:
            draft.terminate(replica, "no longer wanted")
        elif replica.failure is not None:
            # Its engine could not say how to prove it.
            _end_failed(draft, replica, replica.failure)
        elif observed is None:
            draft.relaunch.append(replica)
        elif observed.state is RuntimeState.READY and item.proven:
            draft.write(
                replace(
                    replica,
                    state=ReplicaState.READY,
                    address=observed.address,
                    ready_at=draft.now,
                    deadline=None,
                    reason="answered the readiness probe",
                )
            )
            seconds = (draft.now - replica.created_at).total_seconds()
            draft.started.append(round(seconds, 3))
            detail = {"start_seconds": f"{seconds:.2f}"}
            draft.notes.append(Note("replica.ready", "answered the readiness probe", replica.id, detail))
        else:
            if observed.state is RuntimeState.READY and item.probing is None:
                draft.probe.append(replica)
            _check_deadline(draft, item)


def _check_deadline(draft: Draft, item: ReplicaFacts) -> None:
    replica, observed = item.replica, item.observed
    if observed is None or observed.state is RuntimeState.PENDING or replica.deadline is None:
        return
    began = max(replica.created_at, observed.started_at or replica.created_at)
    left = began + (replica.deadline - replica.created_at) - draft.now
    if left > timedelta(0):
        draft.wakes.append(left)
        return
    _end_failed(draft, replica, _late(draft, item, replica.deadline - replica.created_at, observed.log_tail))


def _watch_over(draft: Draft) -> None:
    """Note which replicas stopped answering, or answer again; end those that are silent for too long. One that still
    gives output to a gateway is not: some engines answer nothing else while they work."""
    allowed = draft.settings.unresponsive_deadline
    for item in draft.in_state(ReplicaState.READY):
        replica, silence = item.replica, item.unresponsive_for
        known = replica.reason.startswith(SILENT)
        if silence is None:
            if known:
                draft.write(replace(replica, reason=ANSWERS))
                draft.notes.append(Note("replica.responsive", ANSWERS, replica.id))
            continue
        silent = f"{SILENT} for {round(silence.total_seconds())} s"
        mute = silence if item.heard_ago is None else min(silence, item.heard_ago)
        if mute >= allowed:
            failure = Failure("unresponsive", f"The replica {silent}.", "Look at the engine's last log lines.")
            draft.fail(failure, ready_at=replica.ready_at)
            draft.notes.append(Note("replica.failed", failure.message, replica.id, {"code": failure.code}))
            draft.terminate(replica, silent)
            # What hangs does nothing with a grace.
            draft.stop[replica.id] = Stop(replica.id, timedelta(0))
            continue
        draft.wakes.append(allowed - mute)
        if not known:
            draft.write(replace(replica, reason=silent))
            draft.notes.append(Note("replica.unresponsive", silent, replica.id))


def _end_failed(draft: Draft, replica: Replica, failure: Failure) -> None:
    draft.fail(failure)
    draft.notes.append(Note("replica.failed", failure.message, replica.id, {"code": failure.code}))
    draft.terminate(replica, failure.message)


def _late(draft: Draft, item: ReplicaFacts, allowed: timedelta, log_tail: tuple[str, ...]) -> Failure:
    if not draft.facts.managed:
        return Failure(
            "external_unavailable",
            f"The server did not answer a one-token request: {ended(item.probing or 'nothing came')}",
            EXTERNAL_HINT,
        )
    detail = f" Its last answer to the probe: {item.probing}" if item.probing else ""
    return Failure(
        "start_timeout",
        f"The engine was not ready within {allowed.total_seconds():g} s.{detail}",
        "Look at the engine's last lines.",
        log_tail=log_tail,
    )


def _reduce(draft: Draft, wanted: int) -> None:
    """Take down what is too much: launching ones first, then the least loaded ready ones."""
    launching = draft.in_state(ReplicaState.LAUNCHING)
    ready = draft.in_state(ReplicaState.READY)
    surplus = len(launching) + len(ready) - wanted
    for item in sorted(launching, key=lambda f: f.replica.created_at, reverse=True)[: max(surplus, 0)]:
        draft.terminate(item.replica, "more replicas than wanted")
    surplus = len(ready) + len(draft.in_state(ReplicaState.LAUNCHING)) - wanted
    reason = "the endpoint is stopping" if wanted == 0 else "more replicas than wanted"
    for item in sorted(ready, key=lambda f: (f.in_flight or 0, f.replica.id))[: max(surplus, 0)]:
        deadline = draft.now + draft.settings.drain_deadline
        draft.write(replace(item.replica, state=ReplicaState.DRAINING, deadline=deadline, reason=reason))
        # What was known of its requests is from before the drain was published: it has to be told anew.
        draft.alive[item.replica.id] = replace(draft.alive[item.replica.id], in_flight=None)
        draft.notes.append(Note("replica.draining", reason, item.replica.id))


def _raise(draft: Draft, wanted: int, *, restarted: bool) -> None:
    """Bring up what is missing: un-drain first, then launch where hardware, weights and backoff allow."""
    missing = wanted - len(draft.in_state(ReplicaState.LAUNCHING, ReplicaState.READY))
    for item in draft.in_state(ReplicaState.DRAINING):
        if missing > 0 and item.replica.stop_requested_at is None:
            draft.write(replace(item.replica, state=ReplicaState.READY, deadline=None, reason="wanted again"))
            draft.notes.append(Note("replica.undrained", "wanted again", item.replica.id))
            missing -= 1
    stop_runs = draft.facts.endpoint.status.state is State.STOPPING and draft.in_state(ReplicaState.DRAINING)
    if missing <= 0 or (stop_runs and not draft.in_state(ReplicaState.READY)):
        return
    if not draft.facts.managed:
        zone = draft.facts.endpoint.spec.availability_zone or EXTERNAL_NODE
        if _may_try(draft):
            draft.launch.append(Placement(EXTERNAL_NODE, zone, "the server runs already"))
            # No runtime tells that it is there: look at once, and probe.
            draft.wakes.append(timedelta(0))
        return
    _launch(draft, missing, restarted=restarted)


def _launch(draft: Draft, missing: int, *, restarted: bool) -> None:
    spec, nodes = draft.facts.endpoint.spec, list(draft.facts.nodes)
    hardware = draft.facts.hardware
    weights = _weights(draft, restarted=restarted)
    if hardware is None:
        draft.no_room = NoRoom("infeasible", f"No node offers the hardware {spec.hardware} at present.")
        return
    for _ in range(missing):
        placed = place(hardware, nodes, spec.availability_zone, spec.zone_required)
        if isinstance(placed, NoRoom):
            draft.no_room = placed
            return
        nodes = _occupied(nodes, placed, draft)
        if weights and _may_try(draft):
            draft.launch.append(placed)


def _occupied(nodes: Sequence[Node], placed: Placement, draft: Draft) -> list[Node]:
    hardware = draft.facts.hardware
    return [
        replace(node, free=node.free - hardware.resources) if hardware and node.id == placed.node_id else node
        for node in nodes
    ]


def _weights(draft: Draft, *, restarted: bool) -> bool:
    """Whether the weights are here; orders the fetch when it is time, counts a fetch that failed."""
    fetch = draft.facts.fetch
    if fetch.state is FetchState.READY:
        return True
    if fetch.state is FetchState.ABSENT:
        draft.fetch = True
    elif fetch.state is FetchState.FAILED:
        if restarted or (draft.next_attempt_at is not None and draft.next_attempt_at <= draft.now):
            draft.fetch, draft.next_attempt_at = True, None
        elif draft.next_attempt_at is None:
            message = fetch.error or "The weights could not be fetched."
            hint = None
            if fetch.error_code == eviction.EXCEEDED:
                hint = eviction.HINT_CROWDED if fetch.retryable else eviction.HINT_TOO_LARGE
            failure = Failure(fetch.error_code or "model_unavailable", message, hint, fetch.retryable)
            draft.fail(failure)
            draft.wakes.append(timedelta(0))
            draft.notes.append(Note("model.fetch_failed", failure.message, None, {"code": failure.code}))
    return False


def _may_try(draft: Draft) -> bool:
    if draft.gave_up:
        return False
    return draft.next_attempt_at is None or draft.next_attempt_at <= draft.now


def _advance_draining(draft: Draft) -> None:
    for item in draft.in_state(ReplicaState.DRAINING):
        replica = item.replica
        if replica.stop_requested_at is not None:
            draft.stop.setdefault(replica.id, Stop(replica.id, draft.settings.stop_grace))
        elif item.in_flight == 0 or draft.settings.hurry:
            draft.terminate(replica, replica.reason)
        elif replica.deadline is not None and replica.deadline <= draft.now:
            draft.terminate(replica, f"{replica.reason}; its drain deadline passed")
        elif replica.deadline is not None:
            draft.wakes.append(replica.deadline - draft.now)


def _settle(draft: Draft) -> None:
    """Forget failures once a replica has lasted, and a backoff once it is over; who serves has not given up."""
    ready = [item.replica for item in draft.in_state(ReplicaState.READY)]
    if ready:
        draft.gave_up = False
    if ready and draft.failures:
        lasting = [draft.now - (replica.ready_at or draft.now) for replica in ready]
        if max(lasting) >= draft.settings.stable_after and not _missing(draft):
            draft.failures, draft.last_failure = 0, None
        else:
            draft.wakes.append(max(draft.settings.stable_after - max(lasting), timedelta(seconds=1)))
    if draft.next_attempt_at is not None:
        waiting = draft.next_attempt_at - draft.now
        if draft.gave_up or draft.launch or (not _missing(draft)):
            draft.next_attempt_at = None
        elif waiting > timedelta(0):
            draft.wakes.append(waiting)


def _missing(draft: Draft) -> bool:
    coming = len(draft.in_state(ReplicaState.READY, ReplicaState.LAUNCHING)) + len(draft.launch)
    return coming < _wanted(draft)


def _finish(draft: Draft, wanted: int, status: EndpointStatus) -> Plan:
    facts = draft.facts
    launching = draft.in_state(ReplicaState.LAUNCHING)
    queued = [f for f in launching if f.observed is not None and f.observed.state is RuntimeState.PENDING]
    no_room = draft.no_room
    if queued and no_room is None:
        observed = queued[0].observed
        message = observed.pending_message if observed is not None else None
        no_room = NoRoom("no_capacity", message or "The runtime has no room yet.")
    outlook = Outlook(
        stopping=_stopping(draft),
        ready=len(draft.in_state(ReplicaState.READY)),
        launching=[f for f in launching if f not in queued],
        ordered=len(draft.launch),
        leaving=draft.in_state(ReplicaState.DRAINING),
        silent=[item.replica for item in draft.in_state(ReplicaState.READY) if item.unresponsive_for is not None],
        wanted=wanted,
        no_room=no_room,
        failures=draft.failures,
        next_attempt_at=draft.next_attempt_at,
        gave_up=draft.gave_up,
        last_failure=draft.last_failure,
        fetching=draft.fetch or facts.fetch.state is FetchState.FETCHING,
        started=tuple(draft.started),
    )
    new, step_note, again = derive_status(facts, outlook, draft.now)
    wakes = list(draft.wakes)
    if again:
        wakes.append(timedelta(0))
    if no_room is not None:
        wakes.append(draft.settings.pending_recheck)
    finished = facts.endpoint.deleted_at is not None and not draft.alive
    return Plan(
        status=new,
        update=tuple(draft.changed.values()),
        delete=tuple(draft.delete),
        notes=(*draft.notes, *step_note),
        launch=tuple(draft.launch),
        relaunch=tuple(draft.relaunch),
        stop=tuple(draft.stop.values()),
        probe=tuple(draft.probe),
        fetch=draft.fetch,
        finished=finished,
        requeue_after=min(wakes) if wakes else None,
        reason=new.reason.message if new.reason else "serving",
    )
