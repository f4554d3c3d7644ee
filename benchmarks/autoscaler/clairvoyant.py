"""A plan made with knowledge of all requests: what a scaler could come to at best, by a heuristic. Called by ``runs``.

It is a bound for people to compare with, no proven optimum: of a small grid of plans, the cheapest that keeps the bound
on 99 % of the requests, else the one that keeps it most often.
"""

from __future__ import annotations

from math import ceil

from benchmarks.autoscaler.fleet import Setup, View

GRID = tuple((ahead_s, load) for ahead_s in (5, 15, 45) for load in (0.6, 0.8, 1.0, 1.2))
"""The plans that are tried: seconds looked ahead, and the load of a replica (1: as many requests as suit it)."""
RUNNING_SHARE = 0.7
"""The share of a replica's slots that decode when it is well used."""


class Plan:
    """Replicas by the second: the work that arrives within ``ahead_s`` over ``load``, ordered a start time early, and
    kept where stopping would not pay for the next start."""

    interval_s = 1.0
    undrains = True

    def __init__(self, setup: Setup, ahead_s: int, load: float) -> None:
        seconds = ceil(max(setup.length_s, setup.requests[-1][0])) + 1
        engine = setup.engine
        work = [0.0] * (seconds + 1)
        for at, prompt, output in setup.requests:
            work[int(at)] += engine.work_s(prompt, output, engine.slots * RUNNING_SHARE)
        sums = [0.0]
        for each in work:
            sums.append(sums[-1] + each)
        lead = ceil(1.4 * setup.start_s) + 1
        needs = [ceil((sums[min(at + ahead_s, seconds)] - sums[at]) / ahead_s / load) for at in range(seconds)]
        self.counts = [max(needs[max(0, at - lead) : at + lead + 1]) for at in range(seconds)]

    def desired(self, view: View, now: float) -> int:
        """What the plan says; a request in hand always has a replica."""
        return max(1, self.counts[min(int(now), len(self.counts) - 1)])
