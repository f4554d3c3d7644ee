"""Replicas: one launch of an engine for an endpoint, and what a runtime says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class ReplicaState(StrEnum):
    """The replica's row in the store. LAUNCHING is written before the runtime is asked (intent before effect)."""

    LAUNCHING = "LAUNCHING"
    READY = "READY"
    DRAINING = "DRAINING"
    EXITED = "EXITED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of an endpoint.

    ``id`` is its fencing token. ``address`` is ``unix:<path>`` or ``http://host:port`` once known. ``deadline`` bounds
    the current phase: readiness while LAUNCHING, the drain while DRAINING. ``stop_requested_at`` is set once the
    runtime was told to end it: from then on it can no longer be un-drained.
    """

    id: str
    endpoint_id: str
    state: ReplicaState
    node_id: str
    zone: str
    hardware: str
    created_at: datetime
    address: str | None = None
    slots: int | None = None
    ready_at: datetime | None = None
    deadline: datetime | None = None
    stop_requested_at: datetime | None = None
    reason: str = ""
    failure: Failure | None = None


class RuntimeState(StrEnum):
    """What a runtime knows of a replica's processes."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    READY = "READY"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    LOST = "LOST"


class PendingReason(StrEnum):
    """Why a runtime has not started a replica yet."""

    NO_RESOURCES = "no_resources"
    INFEASIBLE = "infeasible"
    NODE_STARTING = "node_starting"


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """How a replica's processes ended: exit ``code`` or ``signal`` number (None: unknown), the runtime's own
    ``cause`` when it ended them or could not start them, and the engine's last log lines."""

    code: int | None = None
    signal: int | None = None
    cause: str | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """A runtime's answer about one replica. READY means its address accepts connections, not that it answers well:
    that is proven by a probe."""

    replica_id: str
    state: RuntimeState
    address: str | None = None
    node_id: str | None = None
    pending_reason: PendingReason | None = None
    pending_message: str | None = None
    exit: ExitInfo | None = None
    pids: tuple[int, ...] = ()
    started_at: datetime | None = None
    log_tail: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Failure:
    """An engine's failure explained: stable ``code``, one sentence, a hint, whether trying again may help."""

    code: str
    message: str
    hint: str | None = None
    retryable: bool = True
    log_tail: tuple[str, ...] = ()
