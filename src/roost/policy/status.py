"""From what a pass found and ordered to the status that the endpoint shows. Pure; called by ``policy.plan`` only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from roost.domain.endpoint import EndpointStatus, Progress, StateReason
from roost.domain.lifecycle import DesiredState, State, Summary, derive_state, next_state
from roost.domain.model import FetchState
from roost.domain.replica import Failure, Replica, RuntimeState
from roost.policy.calibration import KEPT_STARTS
from roost.policy.facts import Facts, Note, ReplicaFacts
from roost.policy.placement import NoRoom

EXTERNAL_HINT = "Check that the server runs, its URL, the variable with its key, and the served model's name."


@dataclass(frozen=True, slots=True)
class Outlook:
    """The counts after the pass, as ``plan`` has drafted them."""

    stopping: bool
    ready: int
    launching: Sequence[ReplicaFacts]
    ordered: int
    leaving: Sequence[ReplicaFacts]
    silent: Sequence[Replica]
    wanted: int
    no_room: NoRoom | None
    failures: int
    next_attempt_at: datetime | None
    gave_up: bool
    last_failure: Failure | None
    fetching: bool
    started: tuple[float, ...] = ()
    """How long the starts took, in seconds, that have just ended."""


def derive_status(facts: Facts, outlook: Outlook, now: datetime) -> tuple[EndpointStatus, tuple[Note, ...], bool]:
    """The new status, the event of a state change (if any), and whether another step is due at once."""
    old = facts.endpoint.status
    target = derive_state(
        Summary(
            desired=DesiredState.STOPPED if outlook.stopping else DesiredState.STARTED,
            current=old.state,
            ready=outlook.ready,
            launching=len(outlook.launching) + outlook.ordered,
            leaving=len(outlook.leaving),
            coming=outlook.fetching or outlook.next_attempt_at is not None,
            room=outlook.no_room is None,
            gave_up=outlook.gave_up,
        )
    )
    state = next_state(old.state, target)
    reason = _reason(facts, outlook, state)
    if reason is not None and old.reason is not None and old.reason.code == reason.code and old.state is state:
        reason = replace(reason, since=old.reason.since)
    elif reason is not None:
        reason = replace(reason, since=now)
    new = EndpointStatus(
        state=state,
        reason=reason,
        progress=_progress(facts, outlook, state),
        failures=outlook.failures,
        failures_of=facts.endpoint.spec.start_requests,
        next_attempt_at=outlook.next_attempt_at,
        gave_up=outlook.gave_up,
        proven=old.proven or outlook.ready > 0,
        changed_at=old.changed_at if old.state is state else now,
        last_failure=outlook.last_failure,
        start_seconds=(*old.start_seconds, *outlook.started)[-KEPT_STARTS:],
    )
    notes: tuple[Note, ...] = ()
    if state is not old.state:
        why = reason.message if reason else "a replica is ready"
        notes = (Note("endpoint.state", why, None, {"from": old.state.value, "to": state.value}),)
    return new, notes, state is not target


def _reason(facts: Facts, outlook: Outlook, state: State) -> StateReason | None:
    """Why the endpoint is not simply serving."""
    if state is State.ERROR:
        return _failed(outlook, "It will not be tried again by itself.")
    if state is State.STOPPED:
        return _stopped(facts)
    if state is State.STOPPING:
        count = len(outlook.leaving)
        return StateReason("draining", f"{count} replica{'s' if count != 1 else ''} finishing requests and ending.")
    if state is State.STARTED and outlook.ready >= outlook.wanted:
        return _silent(outlook)
    return _coming(facts, outlook, state)


def _silent(outlook: Outlook) -> StateReason | None:
    if not outlook.silent:
        return None
    count, first = len(outlook.silent), outlook.silent[0]
    message = f"{count} of {outlook.ready} replicas gets no requests: {first.id} {first.reason}."
    return StateReason("unresponsive", message, "It is replaced by itself if it does not answer soon.")


def _coming(facts: Facts, outlook: Outlook, state: State) -> StateReason:
    short = f" {outlook.ready} of {outlook.wanted} replicas are ready." if state is State.STARTED else ""
    fetch = facts.fetch
    if outlook.no_room is not None and not outlook.launching and not outlook.ordered:
        hint = "It starts by itself when hardware becomes free; stop another endpoint or choose other hardware."
        return StateReason(outlook.no_room.code, outlook.no_room.reason + short, hint, "queued")
    if outlook.next_attempt_at is not None and not outlook.launching and not outlook.ordered:
        reason = _failed(outlook, f"Attempt {outlook.failures + 1} follows shortly.")
        return replace(reason, code="backing_off", deadline=outlook.next_attempt_at)
    if outlook.fetching and fetch.state is not FetchState.READY:
        there = fetch.state is FetchState.FETCHING and fetch.percent == 100.0
        doing = "The weights are here and are being checked." if there else "The weights are being fetched."
        return StateReason("downloading", f"{doing}{short}", None, "fetching")
    if not facts.managed:
        fault = next((item.probing for item in outlook.launching if item.probing), None)
        return StateReason("warming", f"{_probed(fault)}{short}", EXTERNAL_HINT if fault else None, "warming")
    if any(item.observed is not None and item.observed.state is RuntimeState.READY for item in outlook.launching):
        return StateReason("warming", f"The engine has loaded and is being probed.{short}", None, "warming")
    if outlook.launching or outlook.ordered:
        return StateReason("loading", f"The engine is loading the weights.{short}", None, "loading")
    return StateReason("queued", f"A replica is about to be launched.{short}", None, "queued")


def _probed(fault: str | None) -> str:
    """What is told of a server elsewhere that has not served yet: its last answer, or why there is none."""
    if fault is None:
        return "The server is being probed."
    what = "it last answered" if fault.startswith("HTTP ") else "no answer yet"
    return f"The server is being probed; {what}: {ended(fault)}"


def ended(fault: str) -> str:
    """What a probe found wrong, with a full stop."""
    return fault if fault.endswith((".", "!", "?")) else f"{fault}."


def _failed(outlook: Outlook, what_next: str) -> StateReason:
    failure = outlook.last_failure or Failure("start_failed", "The endpoint failed to start.")
    count = f" ({outlook.failures} attempts)" if outlook.failures > 1 else ""
    hint = failure.hint or "Mend the cause, then start the endpoint again."
    return StateReason(
        failure.code, f"{failure.message}{count} {what_next}", hint, "failed", log_tail=failure.log_tail[-20:]
    )


def _stopped(facts: Facts) -> StateReason:
    if facts.endpoint.deleted_at is not None:
        return StateReason("deleted", "The endpoint was deleted.")
    if facts.endpoint.spec.desired_state is DesiredState.STARTED:
        return StateReason("server_stopped", "The server was shut down; the endpoint starts again with it.")
    return StateReason("stopped_by_user", "The endpoint is stopped.", "Start it to use it.")


def _progress(facts: Facts, outlook: Outlook, state: State) -> Progress | None:
    if state not in (State.PENDING, State.STARTING):
        return None
    reason = _coming(facts, outlook, state)
    phase = reason.phase if reason.phase in ("queued", "fetching", "loading", "warming") else "queued"
    if phase == "fetching":
        fetch = facts.fetch
        percent = None if fetch.percent is None else float(int(fetch.percent))
        done = None if percent is None or fetch.total_bytes is None else int(fetch.total_bytes * percent / 100)
        return Progress(phase, percent, done, fetch.total_bytes)
    return Progress(phase)
