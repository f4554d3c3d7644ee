"""THE state machine of endpoints: the states, the legal transitions, and how a state follows from facts.

Pure. ``policy.plan`` asks it which state an endpoint is heading for and which single step leads there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The six states of the wire; no other value is ever sent."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    STARTED = "STARTED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


class DesiredState(StrEnum):
    """What a user may ask for."""

    STARTED = "STARTED"
    STOPPED = "STOPPED"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.STARTING, State.STARTED, State.STOPPING, State.ERROR}),
    State.STARTING: frozenset({State.STARTED, State.PENDING, State.STOPPING, State.ERROR}),
    State.STARTED: frozenset({State.STARTING, State.PENDING, State.STOPPING, State.ERROR}),
    State.STOPPING: frozenset({State.STOPPED, State.STARTED, State.PENDING}),
    State.STOPPED: frozenset({State.PENDING}),
    State.ERROR: frozenset({State.PENDING, State.STOPPING}),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What the decision table looks at.

    ``ready``, ``launching``, ``leaving`` count replicas that serve, come up, and go down (draining or terminating);
    ``coming`` is True when a launch is under way or ordered (weights being fetched, a backoff running), though no
    replica exists yet; ``room`` is False when no hardware is free for a first replica; ``gave_up`` that repeated or
    hopeless failures ended the attempts; ``scaled_to_zero`` that no replica is wanted although STARTED.
    """

    desired: DesiredState
    current: State
    ready: int = 0
    launching: int = 0
    leaving: int = 0
    coming: bool = False
    room: bool = True
    gave_up: bool = False
    scaled_to_zero: bool = False


def derive_state(summary: Summary) -> State:
    """The state that follows from the facts. The first row that matches decides:

    | # | desired | current  | ready | launching | leaving | coming | room | gave_up | zero | state    |
    |---|---------|----------|-------|-----------|---------|--------|------|---------|------|----------|
    | 1 | STOPPED |          | any > 0 of ready, launching, leaving |  |      |         |      | STOPPING |
    | 2 | STOPPED |          | 0     | 0         | 0       |        |      |         |      | STOPPED  |
    | 3 | STARTED |          | > 0   |           |         |        |      |         |      | STARTED  |
    | 4 | STARTED | STOPPING | 0     |           | > 0     |        |      |         |      | STOPPING |
    | 5 | STARTED |          | 0     |           |         |        |      | yes     |      | ERROR    |
    | 6 | STARTED |          | 0     | > 0       |         |        |      |         |      | STARTING |
    | 7 | STARTED |          | 0     | 0         |         |        |      |         | yes  | STARTED  |
    | 8 | STARTED |          | 0     | 0         |         |        | no   |         |      | PENDING  |
    | 9 | STARTED |          | 0     | 0         |         | yes    | yes  |         |      | STARTING |
    |10 | STARTED |          | 0     | 0         |         | no     | yes  |         |      | PENDING  |

    Row 4 is a stop that can no longer be undone: it runs to its end, then the endpoint starts again by itself. A
    replica that goes down while the endpoint is coming up (a hung launch being killed) is not a stop.
    """
    if summary.desired is DesiredState.STOPPED:
        alive = summary.ready + summary.launching + summary.leaving
        return State.STOPPING if alive else State.STOPPED
    if summary.ready:
        return State.STARTED
    if summary.leaving and summary.current is State.STOPPING:
        return State.STOPPING
    if summary.gave_up:
        return State.ERROR
    if summary.launching:
        return State.STARTING
    if summary.scaled_to_zero:
        return State.STARTED
    if not summary.room:
        return State.PENDING
    return State.STARTING if summary.coming else State.PENDING


def next_state(current: State, target: State) -> State:
    """The first step of the shortest legal path from ``current`` to ``target`` (``current`` itself when equal)."""
    if current is target:
        return current
    queue: deque[tuple[State, State]] = deque((step, step) for step in State if step in TRANSITIONS[current])
    seen = {current}
    while queue:
        first, at = queue.popleft()
        if at is target:
            return first
        if at not in seen:
            seen.add(at)
            queue.extend((first, step) for step in State if step in TRANSITIONS[at])
    raise ValueError(f"no legal path from {current} to {target}")
