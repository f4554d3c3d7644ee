"""Waiting for an endpoint, without I/O: what one look at it means for one who waits. Pure.

``step`` is called by the clients' ``endpoints.wait`` and by the command line with each sight of the endpoint, or with
the failure to get one; it says to stop, to fail, or when to look again. It imports no wire model at run time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from roost.client.errors import ApiError, ClientError, ConnectionFailed, EndpointFailed, WaitFailed, WaitTimeout

if TYPE_CHECKING:
    from roost.schemas import Endpoint

Target = Literal["STARTED", "STOPPED"]

POLL_S = 1.0
SETTLE_S = 5.0
"""How long an endpoint may still show the ERROR it had before it was started again, in seconds."""
UNMOVED_S = 30.0
"""How long an endpoint may show the opposite state with nothing under way, in seconds, before nobody asked for it."""
PATIENCE_S = 60.0
"""How long the server may be away while somebody waits (it is restarted, upgraded), in seconds."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is remembered between two looks.

    ``moved`` is True once the endpoint was on its way; ``last`` its last sight; ``away_since`` when the server went
    away (None: it is there); ``settled_from`` since when sights follow each other without a gap. All times are
    elapsed seconds of this waiting; ``timeout_s`` None waits without limit.
    """

    target: Target
    timeout_s: float | None = None
    poll_s: float = POLL_S
    moved: bool = False
    last: Endpoint | None = None
    away_since: float | None = None
    settled_from: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The endpoint has reached the state."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class PollAfter:
    """Look again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """It will not reach the state, or not in time; ``error`` is what to raise."""

    error: ClientError


Step: TypeAlias = Done | PollAfter | Fail


def step(waiting: Waiting, seen: Endpoint | ClientError, elapsed_s: float) -> tuple[Waiting, Step]:
    """What a sight of the endpoint, or the failure to get one, means ``elapsed_s`` after the waiting began.

    | target  | state                      | when                                     | step          |
    |---------|----------------------------|------------------------------------------|---------------|
    | any     | the target                 |                                          | Done          |
    | STARTED | ERROR                      | moved, or SETTLE_S over                  | EndpointFailed |
    | STARTED | STOPPED                    | moved, or UNMOVED_S over                 | WaitFailed    |
    | STOPPED | PENDING, STARTING, STARTED | moved, or UNMOVED_S over                 | WaitFailed    |
    | any     | the server is away         | less than PATIENCE_S                     | PollAfter     |
    | any     | a refusal, away for longer |                                          | that failure  |
    | any     | else                       | ``timeout_s`` over                       | WaitTimeout   |
    | any     | else                       |                                          | PollAfter     |

    Until it has moved, ERROR and STOPPED may be what it was before it was asked to start, and STARTED before it was
    asked to stop. STOPPING with STARTED wanted goes on: a stop that cannot be undone ends first. So does ERROR with
    STOPPED wanted.
    """
    if isinstance(seen, ClientError):
        return _away(waiting, seen, elapsed_s)
    if waiting.away_since is not None:
        waiting = replace(waiting, away_since=None, settled_from=elapsed_s)
    waiting = replace(waiting, last=seen, moved=waiting.moved or on_its_way(seen, waiting.target))
    settled_s = elapsed_s - waiting.settled_from
    if seen.state == waiting.target:
        return waiting, Done(seen)
    if waiting.target == "STARTED" and seen.state == "ERROR" and (waiting.moved or settled_s >= SETTLE_S):
        return waiting, Fail(EndpointFailed(seen))
    if seen.state in _OPPOSITE[waiting.target] and (waiting.moved or settled_s >= UNMOVED_S):
        return waiting, Fail(WaitFailed(_opposite(seen, waiting), seen))
    return waiting, _later(waiting, elapsed_s, waiting.poll_s) or PollAfter(waiting.poll_s)


_OPPOSITE: dict[Target, frozenset[str]] = {
    "STARTED": frozenset({"STOPPED"}),
    "STOPPED": frozenset({"PENDING", "STARTING", "STARTED"}),
}


def on_its_way(endpoint: Endpoint, target: Target) -> bool:
    """Whether the endpoint is in a state that only lies between the request and ``target``."""
    return endpoint.state in ({"PENDING", "STARTING"} if target == "STARTED" else {"STOPPING"})


def news_key(endpoint: Endpoint) -> str:
    """Changes when a sight is worth telling: another tenth of a download is, another percent is not."""
    progress, reason = endpoint.progress, endpoint.state_reason
    tenth = int(progress.percent // 10) if progress is not None and progress.percent is not None else None
    phase = progress.phase if progress is not None else None
    return f"{endpoint.state}/{phase}/{tenth}/{reason.code if reason is not None else None}"


def passing(error: ClientError) -> bool:
    """Whether a failure to look may be over soon: nobody there, or a server that cannot answer now."""
    return isinstance(error, ConnectionFailed) or (
        isinstance(error, ApiError) and (error.status >= 500 or error.status == 429)
    )


def _away(waiting: Waiting, error: ClientError, elapsed_s: float) -> tuple[Waiting, Step]:
    since = elapsed_s if waiting.away_since is None else waiting.away_since
    waiting = replace(waiting, away_since=since)
    if not passing(error) or elapsed_s - since >= PATIENCE_S:
        return waiting, Fail(error)
    named = error.retry_after if isinstance(error, ApiError) else None
    next_step = _later(waiting, elapsed_s, max(waiting.poll_s, min(named or 0.0, PATIENCE_S)))
    return waiting, Fail(error) if next_step is None else next_step


def _later(waiting: Waiting, elapsed_s: float, seconds: float) -> Step | None:
    """None when the time is over before the first sight."""
    left = None if waiting.timeout_s is None else waiting.timeout_s - elapsed_s
    if left is None or left > 0:
        return PollAfter(seconds if left is None else min(seconds, left))
    last = waiting.last
    if last is None:
        return None
    why = f": {last.state_reason.message}" if last.state_reason is not None else "."
    message = f"The endpoint is not {waiting.target} after {waiting.timeout_s:g} s, it is {last.state}{why}"
    return Fail(WaitTimeout(message, last))


def _opposite(endpoint: Endpoint, waiting: Waiting) -> str:
    if waiting.moved:
        return f"The endpoint is {endpoint.state}: something else wanted that meanwhile."
    verb = "start" if waiting.target == "STARTED" else "stop"
    return f"The endpoint is {endpoint.state} and nobody has asked it to {verb}: do that first."
