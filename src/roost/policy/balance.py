"""Which replica takes a request. Pure; called by the gateway."""

from __future__ import annotations

from collections.abc import Sequence


def least_in_flight(loads: Sequence[int], turn: int) -> int:
    """The index of the smallest of ``loads`` (requests in flight, one entry per candidate, at least one).

    Ties go round: ``turn`` (any integer that rises from pick to pick, or a random one) chooses among the equal ones.
    Raises ``ValueError`` when there is no candidate.
    """
    least = min(loads)
    if len(loads) == 1:
        return 0
    equal = [index for index, load in enumerate(loads) if load == least]
    return equal[turn % len(equal)]
