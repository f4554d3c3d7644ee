"""What ``policy.plan`` looks at and what it answers: plain values, gathered and carried out by ``roost.control``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from roost.domain.endpoint import Endpoint, EndpointStatus
from roost.domain.hardware import Hardware, Node, Placement
from roost.domain.model import Fetch
from roost.domain.replica import Failure, Replica, RuntimeStatus


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """The settings that planning depends on.

    ``stable_after``: a replica that has been ready this long starts a new count of failures when it dies.
    ``max_start_failures`` consecutive failures before ever being ready end in ERROR, and ``crash_factor`` times as
    many where replicas came up but did not last. ``unresponsive_deadline``: how long a replica may leave its health
    check unanswered. ``hurry``: do not wait for drains.
    """

    drain_deadline: timedelta = timedelta(seconds=300)
    stop_grace: timedelta = timedelta(seconds=10)
    unresponsive_deadline: timedelta = timedelta(seconds=30)
    max_start_failures: int = 5
    crash_factor: int = 4
    stable_after: timedelta = timedelta(seconds=10)
    pending_recheck: timedelta = timedelta(seconds=5)
    hurry: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """One replica: its row, what the runtime says (None: it does not know the replica), whether the probe has proven
    it (``probing``: the last answer that fell short) and whether it is looked after since, how long it has not
    answered its health check (None: nobody knows that it does not), how long ago a gateway had anything from it (None:
    none told), what went wrong (explained, if it exited), and its requests in flight (None: not all gateways have told
    since its drain was published)."""

    replica: Replica
    observed: RuntimeStatus | None
    proven: bool = False
    probing: str | None = None
    watched: bool = False
    unresponsive_for: timedelta | None = None
    heard_ago: timedelta | None = None
    failure: Failure | None = None
    in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """One endpoint as it is now.

    ``fetch`` is the condition of its model's weights; ``hardware`` None means that no node offers it any more;
    ``managed`` False an engine that Roost does not start; ``jitter`` a random number in [0, 1);
    ``shutting_down`` that the server is going down and takes its replicas along.
    """

    endpoint: Endpoint
    replicas: tuple[ReplicaFacts, ...]
    fetch: Fetch
    hardware: Hardware | None
    nodes: tuple[Node, ...]
    managed: bool = True
    jitter: float = 0.5
    shutting_down: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """An event to be: ``kind``, the reason, and the replica it is about."""

    kind: str
    reason: str
    replica_id: str | None = None
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell the runtime to end a replica: TERM, ``grace``, KILL."""

    replica_id: str
    grace: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass does, in this order: write ``status``, ``update`` and ``delete`` rows and ``notes`` in one
    transaction (launches add rows to it); then launch, relaunch, stop, probe, fetch; then forget what was deleted.

    ``requeue_after`` None means: nothing to wait for but news. ``finished``: a deleted endpoint has no remains.
    """

    status: EndpointStatus
    update: tuple[Replica, ...] = ()
    delete: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    launch: tuple[Placement, ...] = ()
    relaunch: tuple[Replica, ...] = ()
    stop: tuple[Stop, ...] = ()
    probe: tuple[Replica, ...] = ()
    fetch: bool = False
    finished: bool = False
    requeue_after: timedelta | None = None
    reason: str = ""

    def empty(self, current: EndpointStatus) -> bool:
        """Whether the plan changes nothing: the endpoint is converged."""
        orders = (self.update, self.delete, self.notes, self.launch, self.relaunch, self.stop, self.probe)
        return not any(orders) and not self.fetch and not self.finished and self.status == current
