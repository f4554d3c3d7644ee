"""Waiting for an endpoint: what its condition means for one who waits. Pure; the loop is in ``cli.watch``.

``next_wait_step`` looks at one answer of the API and says whether to go on, and what to show meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from roost.cli.format import in_bytes

if TYPE_CHECKING:
    from roost.schemas import Endpoint

Target = Literal["STARTED", "STOPPED"]

SETTLE_S = 5.0
"""How long an endpoint may still show the ERROR it had before it was started again, in seconds."""


class Outcome(Enum):
    """What the waiting has come to."""

    GOES_ON = "goes on"
    REACHED = "reached"
    FAILED = "failed"
    TURNED = "turned"
    """Somebody or something else wants the opposite by now."""


@dataclass(frozen=True, slots=True)
class WaitStep:
    """``line`` tells the endpoint's condition; ``key`` changes when a log of lines should get another one."""

    outcome: Outcome
    line: str
    key: str


def next_wait_step(endpoint: Endpoint, target: Target, *, moved: bool, waited_s: float) -> WaitStep:
    """What an endpoint's condition means for one who waits for ``target``.

    ``moved`` is True once the endpoint has been seen on its way. Before that, ERROR and STOPPED may be what it was
    before the request to start it, and STARTED before the one to stop it; an ERROR that stays is believed after
    ``SETTLE_S``.

    | target  | state                      | when                    | outcome |
    |---------|----------------------------|-------------------------|---------|
    | STARTED | STARTED                    |                         | REACHED |
    | STARTED | ERROR                      | moved, or SETTLE_S over | FAILED  |
    | STARTED | STOPPED                    | moved                   | TURNED  |
    | STOPPED | STOPPED                    |                         | REACHED |
    | STOPPED | PENDING, STARTING, STARTED | moved                   | TURNED  |
    | any     | else                       |                         | GOES_ON |

    STOPPING with STARTED wanted goes on: a stop that cannot be undone ends first. So does ERROR with STOPPED wanted.
    """
    outcome = Outcome.GOES_ON
    if endpoint.state == target:
        outcome = Outcome.REACHED
    elif target == "STARTED" and endpoint.state == "ERROR" and (moved or waited_s >= SETTLE_S):
        outcome = Outcome.FAILED
    elif moved and endpoint.state in _TURNED[target]:
        outcome = Outcome.TURNED
    return WaitStep(outcome, condition(endpoint), _key(endpoint))


_TURNED: dict[Target, frozenset[str]] = {
    "STARTED": frozenset({"STOPPED"}),
    "STOPPED": frozenset({"PENDING", "STARTING", "STARTED"}),
}


def on_its_way(endpoint: Endpoint, target: Target) -> bool:
    """Whether the endpoint is in a state that only lies between the request and ``target``."""
    return endpoint.state in ({"PENDING", "STARTING"} if target == "STARTED" else {"STOPPING"})


def condition(endpoint: Endpoint) -> str:
    """One line: the state, how far it is, and why."""
    parts: list[str] = [endpoint.state]
    progress = endpoint.progress
    if progress is not None:
        amount = [progress.phase]
        if progress.percent is not None:
            amount.append(f"{progress.percent:.0f} %")
        if progress.done_bytes is not None and progress.total_bytes is not None:
            amount.append(f"({in_bytes(progress.done_bytes)} of {in_bytes(progress.total_bytes)})")
        parts.append(" ".join(amount))
    if endpoint.state_reason is not None:
        parts.append(endpoint.state_reason.message)
    return " · ".join(parts)


def queued_hint(endpoint: Endpoint) -> str | None:
    """What helps an endpoint that is on its way to STARTED and cannot get on; None when there is nothing to do."""
    reason = endpoint.state_reason
    return reason.hint or None if reason is not None and endpoint.state in ("PENDING", "STARTING") else None


def failure_lines(endpoint: Endpoint) -> tuple[str, ...]:
    """What helps to mend an endpoint in ERROR: the hint and the engine's last words."""
    reason = endpoint.state_reason
    if reason is None:
        return ()
    lines = [f"Hint: {reason.hint}"] if reason.hint else []
    if reason.log_tail:
        lines += ["Last lines of the engine's log:", *(f"  {line}" for line in reason.log_tail)]
    return tuple(lines)


def _key(endpoint: Endpoint) -> str:
    """Another tenth of a download is worth a line in a log, another percent is not."""
    progress, reason = endpoint.progress, endpoint.state_reason
    tenth = int(progress.percent // 10) if progress is not None and progress.percent is not None else None
    phase = progress.phase if progress is not None else None
    return f"{endpoint.state}/{phase}/{tenth}/{reason.code if reason is not None else None}"
