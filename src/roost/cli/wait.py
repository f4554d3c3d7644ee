"""What a command tells of an endpoint that somebody waits for. Pure; the loop is in ``cli.watch``, and the decision to
go on or to stop in ``client.waiting``, which programs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.cli.format import in_bytes

if TYPE_CHECKING:
    from roost.schemas import Endpoint


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
