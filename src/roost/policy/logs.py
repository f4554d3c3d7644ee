"""Which replicas' output is shown, and what of it is new. Pure. Called by ``services.logs``."""

from __future__ import annotations

from collections.abc import Sequence

from roost.domain.log import ReplicaLog

GAP = "[roost] lines are missing here: more came at once than can be followed"


def chosen(logs: Sequence[ReplicaLog], replica_id: str | None) -> list[ReplicaLog]:
    """The logs to show, of ``logs`` in the order in which the replicas began.

    A named replica is shown whether it has ended or not. Without a name it is those that run, and when none runs, the
    one that ended last.
    """
    if replica_id is not None:
        return [log for log in logs if log.replica_id == replica_id]
    return [log for log in logs if not log.ended] or list(logs[-1:])


def fresh(shown: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """The lines of ``now`` that come after those of ``shown``; both are the end of one output, ``now`` the later one.

    The two overlap as far as they can. A last line that was still being written when it was shown is repeated once it
    has grown. Where nothing overlaps, ``GAP`` stands in front: more came than ``now`` could hold.
    """
    if not shown:
        return now
    for size in range(min(len(shown), len(now)), 0, -1):
        if list(now[: size - 1]) == list(shown[len(shown) - size : -1]):
            if now[size - 1] == shown[-1]:
                return now[size:]
            if now[size - 1].startswith(shown[-1]):
                return now[size - 1 :]
    return [GAP, *now] if now else ()
